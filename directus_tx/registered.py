"""Collects what plugins register, and checks it."""

import contextlib
import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

from attrs import frozen

from directus_tx.http.custom import CustomRoute, check_places, custom_routes
from directus_tx.http.endpoints import all_routes
from directus_tx.plugins.manager import Plugins


class RegistrationError(Exception):
    """What a plugin registers cannot be used. The message names the plugin and says why."""

    def __init__(self, plugin: str, reason: str) -> None:
        super().__init__(f"the plugin {plugin}: {reason}")
        self.plugin = plugin
        self.reason = reason


@frozen
class Registered:
    """What the plugins of a server have registered."""

    routes: tuple[CustomRoute, ...] = ()


def collect(plugins: Plugins) -> Registered:
    """Returns what plugins register. A plugin that registers something wrong is refused (`Plugins.refuse`). Raises PluginError."""
    while True:
        try:
            return _collected(plugins)
        except RegistrationError as error:
            plugins.refuse(error.plugin, error.reason)


def _collected(plugins: Plugins) -> Registered:
    return Registered(routes=tuple(_routes(plugins)))


def _routes(plugins: Plugins) -> Iterator[CustomRoute]:
    for plugin, given in _values(plugins, "register_routes"):
        with _named(plugin, "register_routes"):
            found = list(custom_routes(plugin, given, partial(plugins.enabled, plugin)))
            check_places([*all_routes(), *found])
        yield from found


def _values(plugins: Plugins, hook: str, **arguments: Any) -> Iterator[tuple[str, Any]]:
    """Yields what the implementations of a hook return, with the names of their plugins. None is left out: it registers nothing."""
    for plugin, call in plugins.implementations(hook):
        with _named(plugin, hook):
            found = call(**arguments)
            if inspect.iscoroutine(found):
                found.close()
                raise ValueError("it must be a plain function, not a coroutine function")
        if found is not None:
            yield plugin, found


@contextlib.contextmanager
def _named(plugin: str, hook: str) -> Iterator[None]:
    """A context that raises RegistrationError for every exception."""
    try:
        yield
    except Exception as error:
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise RegistrationError(plugin, f"{hook}: {reason}") from error
