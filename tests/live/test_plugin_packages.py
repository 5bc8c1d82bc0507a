"""The plugins of this repository, and one that `directus plugin new` has written, installed with pip in a clean environment. Their own
tests run there, with live servers."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from types import SimpleNamespace

import pytest

from tests.daemon import free_port
from tests.live.test_documents import run as run_documented

ROOT = pathlib.Path(__file__).parents[2]
PLUGINS = ROOT / "plugins"


class Environment:
    """A virtual environment with a copy of directus_tx, installed with pip. It sees the libraries of the environment that runs this test,
    but not the source of directus_tx that is installed there for development."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.bin = directory / "environment" / "bin"
        venv.create(directory / "environment", with_pip=False)
        (site,) = (directory / "environment" / "lib").glob("python*/site-packages")
        (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
        self.environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        self.environ["PATH"] = f"{self.bin}{os.pathsep}{os.environ['PATH']}"

    def run(self, *command: str, cwd: pathlib.Path | None = None, succeeds: bool = True) -> str:
        """Runs a program of the environment and returns what it prints."""
        done = subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=cwd or self.directory,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert not succeeds or done.returncode == 0, done.stdout
        return done.stdout

    def install(self, *projects: pathlib.Path) -> None:
        """Installs copies of projects, because building leaves files behind."""
        copies = []
        for project in projects:
            copy = self.directory / "sources" / project.name
            ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "var", "node_modules")
            shutil.copytree(project, copy, ignore=ignored, dirs_exist_ok=True)
            copies.append(str(copy))
        pip = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "--disable-pip-version-check"]
        # The libraries that they need are there already.
        options = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
        done = subprocess.run([*pip, *options, *copies], capture_output=True, text=True, env=self.environ, timeout=300)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """With directus_tx and all plugins."""
    found = Environment(tmp_path_factory.mktemp("packages"))
    source = found.directory / "directus_tx_source"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.rst", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    for name in ("directus_tx", "twisted"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    found.install(source)
    found.install(*(PLUGINS / name for name in names_of_plugins()))
    return found


def names_of_plugins() -> list[str]:
    return sorted(path.parent.name for path in PLUGINS.glob("*/pyproject.toml"))


def test_the_environment_is_clean(environment: Environment) -> None:
    program = "import directus_tx, directus_tx_slugs; print(directus_tx.__file__, directus_tx_slugs.__file__)"
    for file in environment.run("python", "-c", program).split():
        assert file.startswith(str(environment.directory))


def test_the_plugins_work_as_their_tests_say(environment: Environment) -> None:
    """The server of the tests has all plugins. None of them disturbs another."""
    copy = environment.directory / "plugin_tests"
    for name in names_of_plugins():
        shutil.copytree(PLUGINS / name / "tests", copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    printed = environment.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:twisted", str(copy))
    assert re.search(r"^\d+ passed", printed.splitlines()[-1]), printed


def test_the_guide_for_authors_tells_the_truth(environment: Environment) -> None:
    """From nothing to a plugin that `directus plugin new` has written, installed with pip, and seen over HTTP in a server."""
    directory = environment.directory / "guide"
    directory.mkdir()
    port = free_port()
    place = SimpleNamespace(base=f"http://127.0.0.1:{port}", directory=directory)
    # pip installs no dependencies, and builds with what is there.
    offline = {"PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    pytest_options = {"PYTEST_ADDOPTS": "-p no:twisted -p no:cacheprovider"}
    environ = {"PATH": environment.environ["PATH"], "PYTHONPATH": "", **offline, **pytest_options}
    replaced = {"tcp:8080": f"tcp:{port}"}
    assert run_documented("docs/plugins.rst", place, environ, replaced) == 10
