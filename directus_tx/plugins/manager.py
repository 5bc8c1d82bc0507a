"""Finds plugins, checks that they match `hookspecs`, and calls their hooks."""

import inspect
from collections.abc import Callable
from typing import Any

import pluggy
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from directus_tx.plugins import hookspecs, registrations

log = Logger()


class Plugins:
    """The plugins of a server. `find` registers those of installed packages, `register` a single one."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._manager.add_hookspecs(registrations)

    def find(self) -> list[str]:
        """Registers the entry points of the group "directus_tx" in installed packages and returns their names. Raises
        pluggy.PluginValidationError if an implementation does not match its hook."""
        self._manager.load_setuptools_entrypoints(hookspecs.PROJECT)
        self._manager.check_pending()
        return sorted(name for name, _ in self._manager.list_name_plugin())

    def register(self, plugin: object, name: str | None = None) -> None:
        """Adds a plugin. Raises pluggy.PluginValidationError."""
        self._manager.register(plugin, name)
        self._manager.check_pending()

    def remove(self, name: str) -> None:
        """Removes a plugin."""
        self._manager.unregister(name=name)

    def implementations(self, hook: str) -> list[tuple[str, Callable[..., Any]]]:
        """Returns the names of the plugins that implement a hook, sorted, each with a function that calls only its implementation, with
        the arguments that it declares."""

        def calling(found: pluggy.HookImpl) -> Callable[..., Any]:
            return lambda **arguments: found.function(*(arguments[name] for name in found.argnames))

        found = getattr(self._manager.hook, hook).get_hookimpls()
        return sorted(((each.plugin_name, calling(each)) for each in found), key=lambda each: each[0])

    def enabled(self, name: str, project: Any) -> bool:
        """Whether a plugin is enabled in a project (`projects.project.Project`)."""
        return True

    def has(self, hook: str) -> bool:
        """Whether a plugin implements a hook."""
        return bool(getattr(self._manager.hook, hook).get_hookimpls())

    async def call(self, hook: str, **arguments: Any) -> None:
        """Calls the implementations of a hook and awaits their results one after the other."""
        for result in getattr(self._manager.hook, hook)(**arguments):
            if inspect.isawaitable(result) or isinstance(result, Deferred):
                await result

    async def tell(self, hook: str, **arguments: Any) -> None:
        """Calls an `after` hook. Errors are logged."""
        try:
            await self.call(hook, **arguments)
        except Exception:
            log.failure("a plugin failed in {hook}", hook=hook)
