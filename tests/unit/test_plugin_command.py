"""directus plugin new: the names and the directories that it takes."""

import pathlib

import click
import pytest
from click.testing import CliRunner, Result

from directus_tx.cli.command import Failed
from directus_tx.cli.plugin import plugin


def new(*arguments: str) -> Result:
    return CliRunner().invoke(plugin, ["new", *arguments])


@pytest.fixture(autouse=True)
def directory(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    ["", "A", "hello_world", "hello world", "-hello", "hello-", "he--llo", "1st", "ü", "../x", "a/b", "a\n", "x" * 41, "--x"],
)
def test_names_that_cannot_be_used_are_refused(directory: pathlib.Path, name: str) -> None:
    done = new("--", name)
    assert done.exit_code == 1
    assert "cannot be the name of a plugin" in done.output
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "x" * 40, "hello-world-2", "import", "site-packages"])
def test_the_module_and_the_distribution_are_named_after_it(directory: pathlib.Path, name: str) -> None:
    assert new(name).exit_code == 0
    target = directory / f"directus-tx-{name}"
    module = f"directus_tx_{name.replace('-', '_')}"
    assert (target / module / "__init__.py").is_file()
    assert f'{name} = "{module}"' in (target / "pyproject.toml").read_text()
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()) == [
        ".github/workflows/tests.yml",
        ".gitignore",
        "README.rst",
        f"{module}/__init__.py",
        "pyproject.toml",
        f"tests/test_{module}.py",
    ]
    assert target.stat().st_mode & 0o777 == 0o755
    for path in target.rglob("*"):
        assert "{{" not in path.name
        assert path.is_dir() or "{%" not in path.read_text()
    assert [path.name for path in directory.iterdir()] == [target.name]


def test_nothing_that_exists_is_overwritten(directory: pathlib.Path) -> None:
    (directory / "directus-tx-one").mkdir()
    (directory / "file").write_text("mine")
    (directory / "link").symlink_to("nowhere")
    for options in ((), ("--directory", "file"), ("--directory", "link"), ("--directory", "file/below")):
        done = new("one", *options)
        assert done.exit_code == 1, options
        assert isinstance(done.exception, (SystemExit, Failed, click.ClickException)), options
    assert (directory / "file").read_text() == "mine"
    assert sorted(path.name for path in directory.iterdir()) == ["directus-tx-one", "file", "link"]
    assert new("one", "--directory", "made/below/here").exit_code == 0
    assert (directory / "made" / "below" / "here" / "pyproject.toml").is_file()


def test_what_cannot_be_written_leaves_nothing(directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk."""
    written = pathlib.Path.write_text

    def full(self: pathlib.Path, text: str, **more: str) -> int:
        if self.name == "README.rst":
            raise OSError(28, "No space left on device", str(self))
        return written(self, text, **more)

    monkeypatch.setattr(pathlib.Path, "write_text", full)
    done = new("one")
    assert (done.exit_code, "No space left on device" in done.output) == (1, True)
    assert list(directory.iterdir()) == []
