"""What the programs import, and that they do so without collections of garbage. Each in a process of its own."""

import gc
import importlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

from directus_tx.config import Settings
from directus_tx.importing import without_collections

SERVER = {
    "directus_tx.http",
    "directus_tx.graphql",
    "directus_tx.scim",
    "directus_tx.service",
    "klein",
    "werkzeug",
    "graphql",
    "PIL",
}
"""What only a server needs."""

DATABASE = {"directus_tx.backend", "directus_tx.items", "directus_tx.plugins.manager", "psycopg2", "twisted.internet", "jinja2"}
"""What commands need that use projects."""

TERMINAL = {"rich"}


def python(code: str, *arguments: str, directory: pathlib.Path, environment: dict[str, str] | None = None) -> list[str]:
    """Runs code in a process of its own. Returns the lines that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=directory,
        timeout=60,
        env=os.environ | (environment or {}),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def imported_by(directory: pathlib.Path, *arguments: str, environment: dict[str, str] | None = None) -> set[str]:
    """Returns the modules that the command has imported when it ends with success."""
    code = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print('\\n' + json.dumps(list(sys.modules))))\n"
        "from directus_tx.cli import main\n"
        "main()\n"
    )
    *_, modules = python(code, *arguments, directory=directory, environment=environment)
    return set(json.loads(modules))


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    """The environment of commands that use the database server of the tests, in a data directory without projects."""
    (pathlib.Path(settings.server.data_dir) / "projects").mkdir(parents=True)
    return {"DIRECTUS_DATABASE_URL": settings.database.url, "DIRECTUS_SUPER_ADMIN_TOKEN": "token"}


@pytest.mark.parametrize("arguments", [("--help",), ("--version",)])
def test_help_and_version_import_nothing_that_works(tmp_path: pathlib.Path, arguments: tuple[str, ...]) -> None:
    assert imported_by(tmp_path, *arguments) & (SERVER | DATABASE | TERMINAL) == set()


def test_the_completion_of_commands_imports_none_of_them(tmp_path: pathlib.Path) -> None:
    words = {"_DIRECTUS_COMPLETE": "bash_complete", "COMP_WORDS": "directus pro", "COMP_CWORD": "1"}
    assert imported_by(tmp_path, environment=words) & (SERVER | DATABASE | TERMINAL) == set()


@pytest.mark.parametrize("arguments", [("project", "list"), ("migrate",)])
def test_commands_do_not_import_the_server(
    tmp_path: pathlib.Path, environment: dict[str, str], arguments: tuple[str, ...]
) -> None:
    found = imported_by(tmp_path, *arguments, environment=environment)
    assert found & SERVER == set()
    assert found >= DATABASE
    # The progress of migrations is shown at a terminal.
    assert (found & TERMINAL == set()) == (arguments != ("migrate",))


def test_a_command_does_not_import_the_others(tmp_path: pathlib.Path, environment: dict[str, str]) -> None:
    groups = {path.stem for path in pathlib.Path("directus_tx/cli").glob("*.py")} - {"__init__", "main", "command", "output"}
    assert len(groups) > 10
    found = {name.removeprefix("directus_tx.cli.") for name in imported_by(tmp_path, "project", "list", environment=environment)}
    assert found & groups == {"projects", "passwords"}


def test_the_first_of_several_processes_does_not_import_what_answers_requests(tmp_path: pathlib.Path) -> None:
    code = (
        "import json, sys\n"
        "from directus_tx import tap\n"
        "options = tap.Options()\n"
        "options.parseOptions(sys.argv[1:])\n"
        "tap.makeService(options)\n"
        "print(json.dumps(list(sys.modules)))\n"
    )
    answering = {"directus_tx.service", "directus_tx.http.app", "directus_tx.graphql", "graphql", "klein", "PIL"}
    for number, expected in ((2, set()), (1, answering)):
        (modules,) = python(code, f"--processes={number}", directory=tmp_path)
        assert set(json.loads(modules)) & answering == expected


@pytest.mark.parametrize("module", ["directus_tx.tap", "directus_tx.cli"])
@pytest.mark.parametrize("running", [True, False])
def test_the_collector_is_as_it_was_after_imports(tmp_path: pathlib.Path, module: str, running: bool) -> None:
    code = (
        f"import gc; {'gc.enable()' if running else 'gc.disable()'}\n"
        "import directus_tx.importing\n"
        "runs = []\n"
        "gc.callbacks.append(lambda phase, info: runs.append(phase))\n"
        f"import {module}\n"
        "print(len(runs) < 20, gc.isenabled(), gc.get_freeze_count() > 10_000)\n"
    )
    # Without the context there are hundreds of collections.
    assert python(code, directory=tmp_path) == [f"True {running} True"]


def test_the_collector_runs_again_after_an_import_that_fails() -> None:
    with pytest.raises(ModuleNotFoundError), without_collections():
        importlib.import_module("directus_tx.nothing")
    assert gc.isenabled()
