"""The daemon as a real process: started, used, stopped, killed, and two at once."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import KEY, field
from tests.daemon import BIN, TOKEN, Daemon, wait_for

THINGS = {"collection": "things", "fields": [KEY, field("name")]}


@pytest.fixture
def daemon(tmp_path: pathlib.Path) -> Iterator[Daemon]:
    """A running daemon on an embedded database, with a project `p`."""
    found = Daemon(tmp_path, first=True).start()
    found.create_project("p")
    yield found
    if found.process is not None and found.process.poll() is None:
        found.stop()


def embedded_pid(daemon: Daemon) -> int | None:
    file = daemon.directory / "var" / "postgres" / "postmaster.pid"
    return int(file.read_text().splitlines()[0]) if file.exists() else None


def memory(pid: int) -> float:
    """The resident memory of a process in MB."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found is not None
    return int(found[1]) / 1024


def is_running(pid: int) -> bool:
    """Whether a process runs; one that is dead but not yet collected does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def status_of(daemon: Daemon, *request: Any) -> int:
    """The status of the answer to a request."""
    try:
        daemon.call(*request)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    return 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_and_takes_the_embedded_database_along(daemon: Daemon, number: int) -> None:
    pid = embedded_pid(daemon)
    assert pid is not None
    assert is_running(pid)
    assert daemon.stop(number) == 0
    assert not is_running(pid)
    assert "Traceback" not in daemon.output


def test_after_a_kill_nothing_acknowledged_is_lost(daemon: Daemon) -> None:
    daemon.call("POST", "/p/collections", THINGS)
    acknowledged: list[int] = []
    stopped = threading.Event()

    def write() -> None:
        while not stopped.is_set():
            try:
                acknowledged.append(daemon.call("POST", "/p/items/things", {"name": "n"})["data"]["id"])
            except OSError:
                return

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    wait_for(lambda: len(acknowledged) > 20)
    daemon.stop(signal.SIGKILL)
    stopped.set()
    for writer in writers:
        writer.join()
    daemon.start()
    stored = {item["id"] for item in daemon.call("GET", "/p/items/things?limit=-1&fields=id")["data"]}
    assert set(acknowledged) <= stored
    revised = {row["item"] for row in daemon.call("GET", "/p/revisions?filter[collection]=things&limit=-1&fields=item")["data"]}
    assert revised == {str(key) for key in stored}


def test_after_its_database_was_killed_too_it_recovers(daemon: Daemon) -> None:
    daemon.call("POST", "/p/collections", THINGS)
    daemon.call("POST", "/p/items/things", {"name": "kept"})
    pid = embedded_pid(daemon)
    assert pid is not None
    daemon.stop(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    # To PostgreSQL a dead process that nobody has collected yet is still there.
    wait_for(lambda: not pathlib.Path(f"/proc/{pid}").exists())
    daemon.start()
    assert daemon.call("GET", "/p/items/things?fields=name")["data"] == [{"name": "kept"}]


def test_a_running_request_is_finished_before_it_stops(daemon: Daemon) -> None:
    daemon.call("POST", "/p/collections", THINGS)
    daemon.call("POST", "/p/items/things", {"name": "first"})
    answers: list[Any] = []
    statuses: list[int] = []
    rows = [{"name": f"n{n}"} for n in range(2000)]
    holder, watcher = daemon.connect("p"), daemon.connect("p")
    watcher.autocommit = True
    holder.cursor().execute("LOCK TABLE things")

    def waits() -> bool:
        cursor = watcher.cursor()
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])

    request = threading.Thread(target=lambda: answers.append(daemon.call("POST", "/p/items/things?fields=id", rows)))
    request.start()
    wait_for(waits)
    stopping = threading.Thread(target=lambda: statuses.append(daemon.stop()))
    stopping.start()
    wait_for(lambda: not daemon.listens())
    assert (answers, statuses) == ([], [])
    holder.rollback()
    holder.close()
    watcher.close()
    request.join()
    stopping.join()
    assert statuses == [0]
    assert len(answers[0]["data"]) == 2000


def test_two_on_one_database_see_each_others_schema_and_accounts(tmp_path: pathlib.Path, postgres: dict[str, Any]) -> None:
    url = f"postgresql://{postgres['user']}@/{postgres['dbname']}?host={postgres['host']}"
    one = Daemon(tmp_path, url=url).start()
    other = Daemon(tmp_path, url=url).start()
    try:
        one.create_project("p")
        assert other.call("GET", "/p/collections?limit=0")["data"] == []
        one.call("POST", "/p/collections", THINGS)
        wait_for(lambda: status_of(other, "POST", "/p/items/things", {"name": "seen"}) == 200)
        one.call("PATCH", "/p/users/1", {"token": "another-token"})
        wait_for(lambda: status_of(other, "GET", "/p/items/things") == 401)
        assert len(other.call("GET", "/p/items/things", token="another-token")["data"]) == 1
        one.call("DELETE", "/server/projects/p?super_admin_token=daemon-super-admin")
    finally:
        assert {one.stop(), other.stop()} == {0}


def test_what_is_wrong_with_the_configuration_is_said_all_at_once(tmp_path: pathlib.Path) -> None:
    (tmp_path / "wrong.toml").write_text('colour = "red"\n[server]\nlog_format = "xml"\n[database]\npool_size = "ten"\n')
    environment = {**os.environ, "DIRECTUS_SERVER_NOPE": "1"}
    command = [str(BIN / "twistd"), "-n", "--pidfile=", "directus", "--config", str(tmp_path / "wrong.toml")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode != 0
    for name in ("colour", "server.log_format", "database.pool_size", "DIRECTUS_SERVER_NOPE"):
        assert name in done.stdout + done.stderr


def test_a_port_that_is_taken_ends_it_with_a_status(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    listen = f"tcp:{daemon.port}:interface=127.0.0.1"
    (tmp_path / "other").mkdir()
    command = [str(BIN / "twistd"), "-n", "--pidfile=", "directus", "-d", str(tmp_path / "other"), "--listen", listen]
    assert subprocess.run(command, capture_output=True, cwd=tmp_path, timeout=60).returncode == 1


def test_the_log_has_a_line_a_request_and_no_secret(tmp_path: pathlib.Path) -> None:
    config = tmp_path / "directus.toml"
    config.write_text('[server]\nlog_format = "json"\n')
    daemon = Daemon(tmp_path, "--config", str(config)).start()
    try:
        daemon.create_project("p")
        daemon.call("GET", "/p/users/me?access_token=daemon-token&fields=id", token=None)
        daemon.call("POST", "/p/auth/authenticate", {"email": "admin@example.com", "password": "password"}, token=None)
    finally:
        daemon.stop()
    lines = [json.loads(line) for line in daemon.output.splitlines() if line.startswith("{")]
    request = next(line for line in lines if line.get("path") == "/p/users/me")
    assert (request["project"], request["user"], request["status"], request["method"]) == ("p", 1, 200, "GET")
    assert re.fullmatch(r"[0-9a-f]{16}", request["request_id"])
    for secret in ("daemon-token", "daemon-super-admin", '"password"'):
        assert secret not in daemon.output


def test_memory_does_not_grow_with_a_list(daemon: Daemon) -> None:
    """200,000 items of 1 kB, some 220 MB of JSON, to a client that takes its time at first."""
    body = {"field": "body", "type": "string", "datatype": "TEXT"}
    daemon.call("POST", "/p/collections", {"collection": "pages", "fields": [KEY, body]})
    connection = daemon.connect("p")
    connection.cursor().execute("INSERT INTO pages (body) SELECT repeat(md5(n::text), 32) FROM generate_series(1, 200000) AS n")
    connection.commit()
    connection.close()
    before = most = memory(daemon.pid)
    request = urllib.request.Request(f"{daemon.base}/p/items/pages?limit=-1", headers={"Authorization": f"bearer {TOKEN}"})
    size = 0
    with urllib.request.urlopen(request, timeout=120) as answer:
        time.sleep(1)
        while chunk := answer.read(1_000_000):
            size += len(chunk)
            most = max(most, memory(daemon.pid))
            last = chunk
    assert size > 200_000_000
    assert last.endswith(b"}]}")
    assert most - before < 100, f"{before:.0f} MB before, {most:.0f} MB at most"
    assert daemon.call("GET", "/p/users/me?fields=id")["data"] == {"id": 1}


def test_the_demo_is_made_once(tmp_path: pathlib.Path) -> None:
    daemon = Daemon(tmp_path, "--demo").start()
    # The last that it says of its start, after it has announced the demo.
    wait_for(lambda: "the server is ready" in daemon.output)
    assert daemon.stop() == 0
    assert "(shown this once)" in daemon.output
    daemon.log.write_text("")
    daemon.start()
    wait_for(lambda: "the server is ready" in daemon.output)
    assert daemon.stop() == 0
    assert "(shown this once)" not in daemon.output


def test_a_fresh_server_prints_the_super_admin_token_once(tmp_path: pathlib.Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.environment.pop("DIRECTUS_SUPER_ADMIN_TOKEN")
    daemon.start()
    # A thread writes to the console.
    wait_for(lambda: "(shown this once)" in daemon.output)
    (token,) = re.findall(r"super admin token  (\S{32,})   \(shown this once\)", daemon.output)
    file = tmp_path / "var" / "super_admin_token"
    assert (file.read_text(), file.stat().st_mode & 0o777) == (f"{token}\n", 0o600)
    project = {"project": "p", "user_email": "a@example.com", "user_password": "password", "user_token": TOKEN}
    for wrong in ("anything", token.swapcase()):
        with pytest.raises(urllib.error.HTTPError) as caught:
            daemon.call("POST", "/server/projects", {**project, "super_admin_token": wrong}, token=None)
        assert (caught.value.code, json.loads(caught.value.read())["error"]["code"]) == (401, 3)
    daemon.call("POST", "/server/projects", {**project, "super_admin_token": token}, token=None)
    assert daemon.call("GET", "/p/users/me?fields=id")["data"] == {"id": 1}
    assert daemon.output.count(token) == 1
    assert daemon.stop() == 0
    daemon.log.write_text("")
    daemon.start()
    assert daemon.call("GET", f"/server/info?super_admin_token={token}", token=None)["data"]
    assert daemon.stop() == 0
    assert token not in daemon.output


def test_history_past_its_retention_is_removed_while_the_server_runs(tmp_path: pathlib.Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.environment |= {"DIRECTUS_HISTORY_RETENTION": "things=2", "DIRECTUS_HISTORY_PRUNE_INTERVAL": "0.1"}
    daemon.start()
    try:
        daemon.create_project("p")
        daemon.call("POST", "/p/collections", {"collection": "things", "fields": [KEY, field("name")]})
        daemon.call("POST", "/p/items/things", [{"name": str(n)} for n in range(9)])
        path = "/p/revisions?filter[collection]=things&fields=item"
        wait_for(lambda: len(daemon.call("GET", path)["data"]) <= 2)
        assert daemon.call("GET", path)["data"] == [{"item": "8"}, {"item": "9"}]
        wait_for(lambda: "7 records of the activity and 7 revisions" in daemon.output)
    finally:
        assert daemon.stop() == 0


def test_a_wheel_holds_all_that_the_server_needs(tmp_path: pathlib.Path) -> None:
    """Builds a wheel and runs the server from it, in an environment that has only the libraries besides."""
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "-q", ".", str(source)], check=True)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(tmp_path), str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "installed"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True, capture_output=True)
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    start = tmp_path / "twistd"
    # -S: neither this checkout nor what else the environment adds to the path.
    start.write_text(
        f"#!{sys.executable} -S\nimport sys\nsys.path[:0] = [{str(target)!r}, {libraries!r}]\n"
        "from twisted.scripts.twistd import run\nimport directus_tx\n"
        f"assert directus_tx.__file__.startswith({str(target)!r}), directus_tx.__file__\nrun()\n"
    )
    start.chmod(0o755)
    daemon = Daemon(tmp_path, command=str(start)).start()
    daemon.create_project("p")
    assert len(daemon.call("GET", "/p/collections")["data"]) == 15
    assert daemon.stop() == 0


def test_further_signals_while_it_stops_lose_no_request_and_leave_the_status_0(daemon: Daemon) -> None:
    """Supervisors repeat SIGTERM, and people press Ctrl-C again. Signals arrive until the process has ended, also while Python ends."""
    assert daemon.process is not None
    daemon.call("POST", "/p/collections", THINGS)
    answers: list[Any] = []

    def write() -> None:
        answers.append(daemon.call("POST", "/p/items/things", {"name": "written while it stops"}))

    with daemon.connect("p") as blocker, blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE things IN ACCESS EXCLUSIVE MODE")
        writer = threading.Thread(target=write)
        writer.start()
        wait_for(lambda: _waiting(cursor))
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            daemon.process.send_signal(number)
        wait_for(lambda: not daemon.listens())
        for number in (signal.SIGTERM, signal.SIGINT):
            daemon.process.send_signal(number)
        assert daemon.runs()
        blocker.rollback()
        writer.join(60)
    assert [answer["data"]["name"] for answer in answers] == ["written while it stops"]

    until = time.monotonic() + 60
    while daemon.process.poll() is None:
        assert time.monotonic() < until, "the server does not end"
        daemon.process.send_signal(signal.SIGTERM)
        time.sleep(0.002)
    assert daemon.process.wait() == 0, daemon.output
    assert "Traceback" not in daemon.output


def _waiting(cursor: Any) -> bool:
    """Whether a statement waits for a lock."""
    cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
    return bool(cursor.fetchone()[0])
