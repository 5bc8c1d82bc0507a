"""Plugins for tests: those of the documentation, and what servers log."""

import pathlib
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from twisted.internet import reactor
from twisted.logger import formatEvent, globalLogPublisher

from directus_tx.plugins.manager import API_VERSION, Plugins

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "registering.rst"


def examples() -> dict[str, str]:
    """Returns the plugins on the page, by the hook that each implements first. Each is a code block."""
    found: dict[str, str] = {}
    for part in PAGE.read_text().split(".. code-block:: python\n\n")[1:]:
        lines = []
        for line in part.splitlines():
            if line and not line.startswith("    "):
                break
            lines.append(line)
        code = textwrap.dedent("\n".join(lines))
        name = re.findall(r"@hookimpl\n *def (\w+)", code)[0]
        assert name not in found
        found[name] = code
    return found


def documented(hook: str, directory: str = "") -> Any:
    """Returns the plugin that the page has as the example of a hook: its object `plugin`, or the module, which is in a directory."""
    module = ModuleType(f"example_of_{hook}")
    module.__file__ = f"{directory}/plugin.py"
    exec(compile(examples()[hook], f"{PAGE.name}: {hook}", "exec"), module.__dict__)
    return getattr(module, "plugin", module)


def plugins_of(**plugins: Any) -> Plugins:
    """Returns plugins by their names. Those of tests need not say which version of the API they are made for."""
    found = Plugins(reactor)
    for name, plugin in plugins.items():
        if not isinstance(plugin, ModuleType) and not hasattr(plugin, "directus_tx_api"):
            type(plugin).directus_tx_api = API_VERSION
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
