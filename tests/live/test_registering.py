"""What plugins register, in real processes: the examples of the documentation in a directory of plugins."""

import json
import os
import pathlib
import subprocess
import urllib.error
from collections.abc import Iterator
from typing import Any

import pytest
import tomli_w

from tests.daemon import BIN, Daemon, free_port, wait_for
from tests.plugged import examples

NAMES = {
    "register_routes": "reports",
    "register_settings": "polite",
    "register_storages": "share",
    "register_migrations": "hits",
    "register_services": "census_service",
    "register_commands": "census",
    "register_field_types": "prices",
    "register_operators": "finding",
}
BROKEN = "from directus_tx.api import hookimpl\ndirectus_tx_api = 1\n@hookimpl\ndef register_routes():\n    return 5\n"


def provide(directory: pathlib.Path, **settings: Any) -> pathlib.Path:
    """Writes the plugins and a configuration with them, whose file is returned."""
    plugins = directory / "plugins"
    plugins.mkdir()
    for hook, name in NAMES.items():
        code = examples()[hook]
        if hook == "register_migrations":
            package = plugins / name
            (package / "migrations").mkdir(parents=True)
            (package / "__init__.py").write_text(code.replace("_reports_", "_hits_"))
            (package / "migrations" / "0001_state.sql").write_text(
                "CREATE TABLE directus_plugin_hits_state (hits bigint NOT NULL);\nINSERT INTO directus_plugin_hits_state VALUES (0);"
            )
        else:
            (plugins / f"{name}.py").write_text(code)
    file = directory / "directus.toml"
    (directory / "share").mkdir()
    own = {"polite": {"greeting": "Good day"}, "share": {"share": str(directory / "share")}}
    file.write_text(tomli_w.dumps({"plugins": {"directory": str(plugins), **own, **settings}}))
    return file


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def daemon(directory: pathlib.Path) -> Iterator[Daemon]:
    found = Daemon(directory, "--config", str(provide(directory))).start()
    found.create_project("p")
    yield found
    assert found.stop() == 0
    assert "cannot stop" not in found.output


def run(directory: pathlib.Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(BIN / "directus"), *arguments], capture_output=True, text=True, cwd=directory, timeout=60, env=dict(os.environ)
    )


def test_a_server_has_what_plugins_register(daemon: Daemon) -> None:
    assert daemon.call("GET", "/custom/polite/greeting/Ada", token=None)["data"] == {"text": "Good day, Ada"}
    assert daemon.call("GET", "/p/custom/reports/totals/directus_users")["data"] == {"total": 1}
    assert daemon.call("POST", "/p/custom/hits/hits", {}, None)["data"] == {"hits": 1}
    assert "/custom/hits/hits" in daemon.call("GET", "/p/specs/oas", token=None)["paths"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        daemon.call("GET", "/p/custom/nothing")
    refused.value.close()
    assert refused.value.code == 404
    for name in NAMES.values():
        assert name in daemon.output


def test_the_command_has_the_commands_of_plugins(daemon: Daemon, directory: pathlib.Path) -> None:
    listed = run(directory, "census", "p", "-c", "directus.toml")
    assert (listed.returncode, listed.stdout) == (0, "users: 1\n"), listed.stderr
    found = run(directory, "census", "p", "--config", "directus.toml", "--json")
    assert json.loads(found.stdout) == {"users": 1}
    unknown = run(directory, "census", "q", "--config", "directus.toml")
    assert (unknown.returncode, "there is no project q" in unknown.stderr) == (1, True)
    assert run(directory, "census", "p").returncode == 2
    assert run(directory, "config", "check", "--config", "directus.toml").returncode == 0


def test_a_registration_that_is_wrong_keeps_the_server_from_starting_or_is_left_out(tmp_path: pathlib.Path) -> None:
    file = provide(tmp_path)
    (tmp_path / "plugins" / "broken.py").write_text(BROKEN)
    listen = f"tcp:{free_port()}:interface=127.0.0.1"
    done = subprocess.run(
        [str(BIN / "twistd"), "-n", "--pidfile=", "directus", "--config", str(file), "--listen", listen],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.returncode == 1
    said = "register_routes: routes must be a Routes or a list of them, not int"
    assert "the plugin broken" in done.stderr + done.stdout
    assert said in done.stderr + done.stdout
    checked = run(tmp_path, "config", "check", "--config", str(file))
    assert (checked.returncode, said in checked.stdout) == (2, True), checked
    file.write_text(file.read_text().replace("[plugins]\n", '[plugins]\non_error = "skip"\n'))
    found = Daemon(tmp_path, "--config", str(file)).start()
    try:
        assert found.call("GET", "/custom/reports/version", token=None)["data"] == {"version": "1.0"}
        assert said in found.output
    finally:
        assert found.stop() == 0


def test_mistakes_in_the_settings_of_plugins_are_named(directory: pathlib.Path, daemon: Daemon, tmp_path: pathlib.Path) -> None:
    text = (directory / "directus.toml").read_text().replace("greeting =", "greting =")
    (tmp_path / "wrong.toml").write_text(text)
    checked = run(directory, "config", "check", "--config", str(tmp_path / "wrong.toml"))
    assert checked.returncode == 2
    assert 'there is no setting plugins.polite.greting; did you mean "greeting"?' in checked.stdout


def test_services_run_in_each_process(tmp_path: pathlib.Path) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "noting.py").write_text(
        """
import pathlib
from directus_tx.api import hookimpl
from twisted.application.service import Service
directus_tx_api = 1

class Noting(Service):
    def __init__(self, server):
        self.server = server

    def startService(self):
        super().startService()
        pathlib.Path(f"worker-{self.server.worker}").touch()

    def stopService(self):
        pathlib.Path(f"worker-{self.server.worker}").unlink()

@hookimpl
def register_services(server):
    return [Noting(server)]
"""
    )
    (tmp_path / "directus.toml").write_text(tomli_w.dumps({"plugins": {"directory": str(plugins)}}))
    found = Daemon(tmp_path, "--config", str(tmp_path / "directus.toml"), "--processes", "2").start()
    try:
        wait_for(lambda: sorted(path.name for path in tmp_path.glob("worker-*")) == ["worker-1", "worker-2"])
    finally:
        assert found.stop() == 0
    assert list(tmp_path.glob("worker-*")) == []
