"""Servers with plugins, as real processes: what is loaded, what is refused at the start, and plugins that fail, block, hang and leak."""

import json
import os
import pathlib
import subprocess
import textwrap
import urllib.error
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import KEY, field
from tests.daemon import BIN, SUPER_ADMIN_TOKEN, Daemon, free_port, wait_for

GOOD = """
from directus_tx.api import hookimpl
directus_tx_api = 1
__version__ = "1.5"

@hookimpl
def item_create(collection, payload):
    if collection == "things":
        payload["name"] = payload.get("name", "") + "!"
"""

HOSTILE = """
import signal, sys, time
from twisted.internet import defer
from directus_tx.api import errors, hookimpl, plain
directus_tx_api = 1

def act(how):
    if how == "raise":
        raise RuntimeError("a secret of the plugin")
    if how == "leave":
        sys.exit(3)
    if how == "return":
        return {"wrong": "type"}
    if how == "hang":
        return defer.Deferred()
    if how == "block":
        time.sleep(0.9)
    if how == "swallow":
        return stubborn()

async def stubborn():
    while True:
        try:
            await defer.Deferred()
        except BaseException:
            pass

def name_of(payload):
    return str(payload.get("name"))

@hookimpl
def item_create(ctx, payload):
    how, _, hook = name_of(payload).partition(" in ")
    if hook == "filter":
        return act(how)

@hookimpl
def item_create_before(payload):
    how, _, hook = name_of(payload).partition(" in ")
    if hook == "before":
        return act(how)

@hookimpl
def item_create_after(payload):
    how, _, hook = name_of(payload).partition(" in ")
    if hook == "after":
        return act(how)

@hookimpl
def item_read(items):
    for item in items:
        how, _, hook = name_of(item).partition(" in ")
        if hook == "read":
            return act(how)

@hookimpl
def response(ctx, response):
    if response.method == "GET" and isinstance(response.data, list):
        for item in response.data:
            how, _, hook = name_of(item).partition(" in ")
            if hook == "response":
                return act(how)
            if hook == "data":
                response.data = object()

@hookimpl
def auth_fail(email):
    act("raise")

@hookimpl
def application_boot():
    act("raise")

# Take connections and do not give them back.

@hookimpl
async def item_update(ctx, payload):
    if name_of(payload) == "leak":
        await ctx.transaction(lambda ctx: defer.Deferred())

@hookimpl
async def item_read_before(ctx, query):
    if query.q == "leak":
        await ctx.transaction(lambda ctx: defer.Deferred())
    if query.q == "forget":
        defer.Deferred.fromCoroutine(ctx.transaction(lambda ctx: defer.Deferred()))
"""


def place(directory: pathlib.Path, **files: str) -> pathlib.Path:
    found = directory / "plugins"
    found.mkdir(exist_ok=True)
    for name, text in files.items():
        (found / f"{name}.py").write_text(textwrap.dedent(text))
    return found


def prepared(directory: pathlib.Path, files: dict[str, str], **settings: str) -> Daemon:
    daemon = Daemon(directory)
    daemon.environment["DIRECTUS_PLUGINS_DIRECTORY"] = str(place(directory, **files))
    daemon.environment |= {f"DIRECTUS_PLUGINS_{name.upper()}": value for name, value in settings.items()}
    return daemon


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A server with a hostile plugin and a good one."""
    files = {"good": GOOD.replace('+ "!"', ""), "hostile": HOSTILE}
    found = prepared(tmp_path_factory.mktemp("hostile"), files, hook_timeout="0.1", slow_hook="0.5", block_limit="0.2")
    found.environment["DIRECTUS_DATABASE_POOL_SIZE"] = "2"
    found.start()
    try:
        found.create_project("p")
        found.call("POST", "/p/collections", {"collection": "things", "fields": [KEY, field("name")]})
        yield found
    finally:
        status = found.stop()
    assert status == 0


def status_of(daemon: Daemon, method: str, path: str, body: Any = None) -> int:
    """The status of an answer."""
    try:
        daemon.call(method, path, body)
    except urllib.error.HTTPError as error:
        answered = error.read()
        assert b"secret" not in answered
        assert b"hostile" not in answered
        return error.code
    return 200


def clean(daemon: Daemon) -> None:
    """Deletes all items, whose names cause faults when they are read."""
    with daemon.connect("p") as connection:
        connection.cursor().execute("DELETE FROM things")
    connection.close()


def logged_since(daemon: Daemon, start: int, text: str) -> None:
    wait_for(lambda: text in daemon.output[start:])


@pytest.mark.parametrize("how", ["raise", "leave", "return", "hang", "swallow"])
@pytest.mark.parametrize("hook", ["filter", "before", "after", "read", "response"])
def test_a_fault_in_a_hook_is_named_and_the_server_answers_on(hostile: Daemon, how: str, hook: str) -> None:
    names = {"filter": "item_create", "before": "item_create_before", "after": "item_create_after", "read": "item_read"}
    start = len(hostile.output)
    name = f"{how} in {hook}"
    refused = 503 if how in ("hang", "swallow") else 500
    if hook in ("filter", "before"):
        assert status_of(hostile, "POST", "/p/items/things?fields=id", {"name": name}) == refused
        assert hostile.call("GET", "/p/items/things")["data"] == []
    else:
        assert status_of(hostile, "POST", "/p/items/things?fields=id", {"name": name}) == 200
        if hook != "after":
            assert status_of(hostile, "GET", "/p/items/things") == refused
    said = "is cut off: {}" if refused == 503 else "failed in {}"
    logged_since(hostile, start, f"the plugin hostile {said.format(names.get(hook, hook))}")
    clean(hostile)
    assert hostile.call("POST", "/p/items/things", {"name": "fine"})["data"]["name"] == "fine"
    assert hostile.call("GET", "/p/items/things")["data"][0]["name"] == "fine"
    clean(hostile)


def test_a_value_that_cannot_be_sent_names_the_filters_of_answers(hostile: Daemon) -> None:
    start = len(hostile.output)
    hostile.call("POST", "/p/items/things?fields=id", {"name": "x in data"})
    assert status_of(hostile, "GET", "/p/items/things") == 500
    logged_since(hostile, start, ": plugins that filter answers: hostile")
    clean(hostile)


def test_a_hook_that_blocks_the_process_is_named_with_its_stack(hostile: Daemon) -> None:
    start = len(hostile.output)
    assert status_of(hostile, "POST", "/p/items/things", {"name": "block in filter"}) == 200
    logged_since(hostile, start, " by the plugin hostile (plugins.block_limit). It is at")
    logged_since(hostile, start, "in act: time.sleep(0.9)")
    logged_since(hostile, start, "the server is no longer blocked")
    logged_since(hostile, start, "the plugin hostile took ")
    assert hostile.output[start:].count("(plugins.block_limit)") == 1
    clean(hostile)


def test_a_hook_that_keeps_connections_loses_them(hostile: Daemon) -> None:
    """More often than there are connections."""
    hostile.call("POST", "/p/items/things", {"name": "a"})
    (item,) = hostile.call("GET", "/p/items/things")["data"]
    for _ in range(5):
        assert status_of(hostile, "PATCH", f"/p/items/things/{item['id']}", {"name": "leak"}) == 503
        assert status_of(hostile, "GET", "/p/items/things?q=leak") == 503
        assert status_of(hostile, "GET", "/p/items/things?q=forget") == 200
    assert "the plugin hostile has left transactions open in item_read_before; 1 are rolled back" in hostile.output
    assert hostile.call("GET", "/p/items/things")["data"] == [item]
    assert hostile.call("PATCH", f"/p/items/things/{item['id']}", {"name": "b"})["data"]["name"] == "b"
    clean(hostile)


def test_other_hooks_that_fail_are_named(hostile: Daemon) -> None:
    assert "the plugin hostile failed in application_boot" in hostile.output
    body = {"email": "admin@example.com", "password": "wrong"}
    assert status_of(hostile, "POST", "/p/auth/authenticate", body) == 404
    wait_for(lambda: "the plugin hostile failed in auth_fail" in hostile.output)


# --- the start


REFUSED = {
    "raises": ("raise RuntimeError('no')", "RuntimeError: no"),
    "leaves": ("import sys; sys.exit()", "SystemExit"),
    "no plugin": ("x = 1", "it does not say for which version of directus_tx.api it is made"),
    "unknown hook": (GOOD + "@hookimpl\ndef item_made(payload): pass\n", "there is no hook item_made"),
    "registers what is no route": (GOOD + "@hookimpl\ndef register_routes(): return 5\n", "register_routes: "),
    "raises when it registers": (GOOD + "@hookimpl\ndef register_routes(): raise KeyError('r')\n", "KeyError: 'r'"),
}


def test_a_server_does_not_start_with_plugins_that_cannot_be_used(tmp_path: pathlib.Path) -> None:
    """All that cannot be loaded are named at once."""
    early = {f"bad{place}": text for place, (text, _) in enumerate(REFUSED.values()) if place < 4}
    for files in (early, {"late": REFUSED["registers what is no route"][0]}, {"last": REFUSED["raises when it registers"][0]}):
        directory = tmp_path / next(iter(files))
        directory.mkdir()
        daemon = prepared(directory, {"good": GOOD, **files})
        listen = f"tcp:{free_port()}:interface=127.0.0.1"
        done = subprocess.run(
            [daemon.command, "-n", "--pidfile=", "directus", "--data-dir", str(directory / "var"), "--listen", listen],
            env=daemon.environment,
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1
        said = done.stdout + done.stderr
        assert "the server cannot start: " in said
        for name, text in files.items():
            assert f"the plugin {name} ({directory / 'plugins' / name}.py) cannot be " in said
            reason = next(reason for each, reason in REFUSED.values() if each == text)
            assert reason in said
        assert "Traceback" not in said


def test_a_server_starts_without_them_if_it_is_told_to(tmp_path: pathlib.Path) -> None:
    files = {f"bad{place}": text for place, (text, _) in enumerate(REFUSED.values())}
    daemon = prepared(tmp_path, {"good": GOOD, **files}, on_error="skip").start()
    try:
        daemon.create_project("p")
        daemon.call("POST", "/p/collections", {"collection": "things", "fields": [KEY, field("name")]})
        assert daemon.call("POST", "/p/items/things", {"name": "a"})["data"]["name"] == "a!"
        for place, (_, reason) in enumerate(REFUSED.values()):
            assert f"the plugin bad{place} (" in daemon.output
            assert reason in daemon.output
        answer = daemon.call("GET", f"/server/plugins?super_admin_token={SUPER_ADMIN_TOKEN}")["data"]
        found = {each["name"]: each for each in answer["plugins"]}
        assert sorted(found) == ["bad0", "bad1", "bad2", "bad3", "bad4", "bad5", "good"]
        (hook,) = found["good"]["hooks"]
        assert (hook["hook"], hook["calls"], hook["failures"]) == ("item_create", len(daemon.output) and hook["calls"], 0)
        assert hook["calls"] >= 1
        assert all(each["error"] for name, each in found.items() if name != "good")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            daemon.call("GET", "/server/plugins?super_admin_token=wrong")
        listed(daemon, found)
    finally:
        assert daemon.stop() == 0


def listed(daemon: Daemon, found: dict[str, Any]) -> None:
    """`directus plugins` beside a running server, without one, and with a wrong token."""

    def directus(*arguments: str, **environment: str) -> Any:
        return subprocess.run(
            [str(BIN / "directus"), "plugins", *arguments],
            env={**daemon.environment, **environment},
            cwd=daemon.directory,
            capture_output=True,
            text=True,
            timeout=60,
        )

    asked = directus("--url", daemon.base, "--json")
    assert asked.returncode == 1
    assert "bad0: RuntimeError: no" in asked.stderr
    shown = {each["name"]: each for each in json.loads(asked.stdout)["plugins"]}
    assert {name: each["error"] for name, each in shown.items()} == {name: each["error"] for name, each in found.items()}
    table = directus("--url", daemon.base).stdout.splitlines()
    (line,) = [line for line in table if line.startswith("good\t")]
    assert line.split("\t")[:4] == ["good", "1.5", str(daemon.directory / "plugins" / "good.py"), "item_create"]
    refused = directus("--url", daemon.base, DIRECTUS_SUPER_ADMIN_TOKEN="wrong")
    assert (refused.returncode, "401" in refused.stderr) == (1, True)
    alone = directus("--url", f"http://127.0.0.1:{free_port()}")
    assert "no server answers" in alone.stderr
    without = directus("--json", DIRECTUS_SERVER_LISTEN=f"tcp:{free_port()}:interface=127.0.0.1", DIRECTUS_PLUGINS_ENABLED="good")
    assert without.returncode == 0, without.stderr
    ((good,), process) = (json.loads(without.stdout)[name] for name in ("plugins", "process"))
    assert (good["name"], good["hooks"][0]["calls"], process) == ("good", 0, None)
    assert os.environ.get("DIRECTUS_PLUGINS_DIRECTORY") is None
