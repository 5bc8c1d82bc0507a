"""Finds plugins: entry points of installed packages, and files and packages in a directory."""

import importlib.metadata
import importlib.util
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from types import ModuleType

from attrs import frozen

GROUP = "directus_tx"
"""The group of entry points."""

NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,39}")
"""The names that a plugin can have: they are parts of settings and of paths."""

MODULE = "directus_tx_plugin_"
"""What the names of modules begin with that are loaded from a directory, so that they hide no installed module."""


@frozen
class Found:
    """A plugin that has been found and is not loaded yet. `source` says where: a package with its version, or a file."""

    name: str
    source: str
    version: str
    load: Callable[[], object]
    """Returns the plugin, a module or another object. Raises what its code raises."""


def find_installed() -> Iterator[Found]:
    """Yields the plugins of installed packages."""
    for each in importlib.metadata.entry_points(group=GROUP):
        package = each.dist
        version = "" if package is None else package.version
        source = each.value if package is None else f"package {package.name} {version}"
        yield Found(each.name, source, version, each.load)


def find_in_directory(directory: pathlib.Path) -> Iterator[Found]:
    """Yields the plugins of a directory: its files NAME.py, and its packages NAME/__init__.py. Names that begin with a dot or an underscore
    are left out. Raises OSError if the directory cannot be read."""
    for path in sorted(directory.iterdir()):
        if path.name.startswith((".", "_")):
            continue
        if path.suffix == ".py" and path.is_file():
            yield _found(path.stem, path)
        elif (path / "__init__.py").is_file():
            yield _found(path.name, path / "__init__.py")


def _found(name: str, file: pathlib.Path) -> Found:
    module: list[ModuleType] = []

    def load() -> object:
        module.append(_loaded(name, file))
        return module[0]

    return Found(name, str(file), "", load)


def _loaded(name: str, file: pathlib.Path) -> ModuleType:
    """Returns the module of a file, or of the package whose __init__.py it is. Raises what its code raises."""
    full = MODULE + re.sub(r"\W", "_", name)
    below = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(full, file, submodule_search_locations=below)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[full]
        raise
    return module


def files_of(plugin: object) -> str:
    """Returns what the names of the files of a plugin begin with: its package's directory, or its file. Empty if it has none."""
    name = plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__module__
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return ""
    return str(pathlib.Path(file).parent) + "/" if pathlib.Path(file).name == "__init__.py" else file


def reason_of(error: BaseException) -> str:
    """Returns an exception of a plugin as one line, with the place in its code."""
    text = " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)
    place = ""
    if frames and not frames[-1].filename.startswith("<"):
        place = f" ({frames[-1].filename}, line {frames[-1].lineno})"
    if isinstance(error, SyntaxError):
        place = ""
    return f"{type(error).__name__}{': ' if text else ''}{text}{place}"
