"""Plugins for tests: those of the documentation, and what servers log."""

import pathlib
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from twisted.internet import reactor
from twisted.logger import formatEvent, globalLogPublisher

from directus_tx.plugins.manager import Plugins

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "registering.rst"


def examples() -> dict[str, str]:
    """Returns the plugins on the page, by the registering hook that each implements. Each is a code block with an implementation."""
    found: dict[str, str] = {}
    for part in PAGE.read_text().split(".. code-block:: python\n\n")[1:]:
        lines = []
        for line in part.splitlines():
            if line and not line.startswith("    "):
                break
            lines.append(line)
        code = textwrap.dedent("\n".join(lines))
        name = code.rpartition("\ndef register_")[2].partition("(")[0]
        found[f"register_{name}"] = code
    return found


def documented(hook: str) -> ModuleType:
    """Returns the plugin that the page has as the example of a hook, as a module."""
    module = ModuleType(f"example_of_{hook}")
    exec(compile(examples()[hook], f"{PAGE.name}: {hook}", "exec"), module.__dict__)
    return module


def plugins_of(**plugins: Any) -> Plugins:
    """Returns plugins by their names."""
    found = Plugins(reactor)
    for name, plugin in plugins.items():
        found.register(plugin, name)
    return found


@contextmanager
def logged() -> Iterator[list[str]]:
    """Collects the lines that are logged."""
    lines: list[str] = []

    def observe(event: Any) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        yield lines
    finally:
        globalLogPublisher.removeObserver(observe)
