"""Loads plugins, checks that they match the specifications of hooks, and calls their hooks."""

import contextlib
import pathlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import pluggy
from attrs import evolve, field, frozen
from twisted.internet import defer
from twisted.logger import Logger

from directus_tx import context
from directus_tx.config import PluginSettings
from directus_tx.context import ALL_PLUGINS, EnabledPlugins
from directus_tx.db.session import REPEATING
from directus_tx.errors import ApiError, ClientGone, InternalError, ServiceUnavailable
from directus_tx.items.service import Items
from directus_tx.plugins import hookspecs, registrations
from directus_tx.plugins.context import Context, end_transactions
from directus_tx.plugins.costs import Costs
from directus_tx.plugins.discovery import NAME, Found, files_of, find_in_directory, find_installed, reason_of
from directus_tx.plugins.time_limits import within
from directus_tx.plugins.watchdog import Watchdog
from directus_tx.suggestions import suggestion

log = Logger()

API_VERSION = 1
"""The version of `directus_tx.api`. It changes when something is removed from it, or gets another meaning."""

VERSION = "directus_tx_api"
"""The attribute with which a plugin says for which version it is made."""

MAX_DEPTH = 8
"""How deep calls of hooks can be nested: a hook that writes an item causes hooks."""

MAX_REPORTS = 100
"""The number of calls of `Plugins.report` that are running at most."""

_PASSED = (ApiError, ClientGone, *REPEATING)
"""Exceptions of hooks that are raised as they are."""


class PluginError(Exception):
    """Plugins cannot be used; the message has a line for each, with its name."""


class PluginFailed(InternalError):
    """A hook of a plugin has raised an exception that is no error of the API, or has returned something."""

    logged = True


class HookTimeout(ServiceUnavailable):
    """A hook of a plugin has not ended in time."""


@frozen
class LoadedPlugin:
    """A plugin that is used. `source` is a package or a file, `files` what the names of its files begin with, empty if it has none."""

    name: str
    source: str
    version: str
    files: str
    hooks: tuple[str, ...]


@frozen
class Implementation:
    """A function of a plugin that implements a hook. A *wrapper* is a generator that is run around the implementations after it; one of the
    older kind, `old`, is sent a pluggy.Result."""

    plugin: str
    hook: str
    function: Callable[..., Any]
    arguments: tuple[str, ...]
    wrapper: bool
    old: bool
    costs: Costs = field(eq=False, repr=False)

    def __call__(self, arguments: Mapping[str, Any]) -> Any:
        return self.function(*[arguments[name] for name in self.arguments])


Table = Mapping[str, tuple[Implementation, ...]]
"""The implementations of hooks, by hook, in the order in which they are called. Wrappers come first."""


class Plugins:
    """The plugins of a server. `named` are the hooks that any of them implements. `items` is the service that plugins read and write
    items with; set it before a hook is called."""

    def __init__(self, reactor: Any, settings: PluginSettings | None = None) -> None:
        self.reactor = reactor
        self.settings = settings = settings or PluginSettings()
        self.watchdog = Watchdog(reactor, settings.block_limit, self._blocker)
        self.items: Items = None  # type: ignore[assignment]
        self.loaded: dict[str, LoadedPlugin] = {}
        self.failed: dict[str, str] = {}
        """What is wrong with the plugins that are not used, by name."""
        self.named: frozenset[str] = frozenset()
        self._manager = _new_manager()
        self._costs: dict[tuple[str, str], Costs] = {}
        self._tables: dict[EnabledPlugins, Table] = {}
        self._reports = 0

    # loading

    def load(self) -> None:
        """Loads the plugins of installed packages and of plugins.directory, as far as the settings enable them. Raises PluginError, unless
        the settings say that the server starts without those that cannot be used."""
        wanted, mistakes = self._wanted()
        objects: list[tuple[Found, object]] = []
        for found in wanted:
            with self.watchdog.expecting(f"loading the plugin {found.name}"), self._naming(found):
                objects.append((found, found.load()))
        # twistd may make another process of this one, which has no threads.
        self.watchdog.stop()
        # pluggy calls the implementation first that is registered last.
        for found, plugin in reversed(objects):
            with self._naming(found):
                self.register(plugin, found.name, source=found.source, version=found.version)
        for found in wanted:
            if found.name in self.failed:
                mistakes.append(f"{_named(found.name, found.source)} cannot be loaded: {self.failed[found.name]}")
        self._report_mistakes(mistakes)

    @contextlib.contextmanager
    def _naming(self, found: Found) -> Iterator[None]:
        """A context in which what the code of a plugin raises, SystemExit included, is the reason why it is not used."""
        try:
            yield
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            self.failed[found.name] = str(error) if isinstance(error, PluginError) else reason_of(error)

    def _report_mistakes(self, mistakes: Sequence[str]) -> None:
        if mistakes and self.settings.on_error == "refuse":
            raise PluginError("\n  ".join(mistakes))
        for mistake in mistakes:
            log.error("{mistake}; the server goes on without it", mistake=mistake)

    def _wanted(self) -> tuple[list[Found], list[str]]:
        """Returns the plugins to load in the order in which their hooks are called: that of plugins.enabled, or of their names. And what is
        wrong with the others."""
        mistakes = []
        found = list(find_installed())
        if self.settings.directory:
            try:
                found += find_in_directory(pathlib.Path(self.settings.directory))
            except OSError as error:
                mistakes.append(f"plugins.directory: {self.settings.directory}: {error.strerror}")
        by_name: dict[str, Found] = {}
        for each in found:
            if not NAME.fullmatch(each.name):
                mistakes.append(f'the plugin "{each.name}" ({each.source}): its name must consist of letters, digits, - and _')
            elif each.name in by_name:
                mistakes.append(f"two plugins have the name {each.name}: {by_name[each.name].source} and {each.source}")
            else:
                by_name[each.name] = each
        enabled = self.settings.enabled
        for name in (*enabled, *self.settings.disabled):
            if name not in by_name:
                setting = "enabled" if name in enabled else "disabled"
                mistakes.append(f"plugins.{setting}: there is no plugin {name}{suggestion(name, by_name)}")
        names = [name for name in dict.fromkeys(enabled) if name in by_name] if enabled else sorted(by_name)
        return [by_name[name] for name in names if name not in self.settings.disabled], mistakes

    def register(self, plugin: object, name: str | None = None, *, source: str = "", version: str = "") -> None:
        """Adds a plugin, whose hooks are called before those of the plugins that were added earlier. Raises PluginError if it does not
        match the hooks, is made for another version of `directus_tx.api`, or the name is taken; and what its own code raises."""
        name = name or type(plugin).__name__
        if name in self.loaded:
            raise PluginError(f"there is a plugin {name} already")
        made_for = getattr(plugin, VERSION, None)
        if made_for is None:
            raise PluginError(f"it does not say for which version of directus_tx.api it is made: {VERSION} = {API_VERSION}")
        if made_for != API_VERSION:
            raise PluginError(f"it is made for version {made_for} of directus_tx.api, and this server has version {API_VERSION}")
        # A plugin that raises while it is examined leaves nothing behind in a manager of its own.
        trial = _new_manager()
        try:
            trial.register(plugin, name)
            trial.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginError(_mismatch(plugin) or " ".join(str(error).split())) from None
        self._manager.register(plugin, name)
        callers = self._manager.get_hookcallers(plugin) or ()
        hooks = tuple(sorted(each.name for each in callers))
        if not hooks:
            log.warn("{plugin} implements no hook: hooks are functions decorated with hookimpl", plugin=_named(name, source))
        own = plugin if isinstance(plugin, ModuleType) else type(plugin)
        version = version or str(getattr(own, "__version__", ""))
        self.loaded[name] = LoadedPlugin(name, source, version, files_of(plugin), hooks)
        self._changed()

    def names(self) -> list[str]:
        """Returns the names of the plugins, sorted."""
        return sorted(name for name, _ in self._manager.list_name_plugin())

    def remove(self, name: str) -> None:
        """Removes a plugin."""
        self._manager.unregister(name=name)
        del self.loaded[name]
        self._changed()

    def refuse(self, name: str, reason: str) -> None:
        """Call this when a plugin has registered something wrong. Removes the plugin. Raises PluginError, unless the settings say that the
        server starts without it."""
        found = self.loaded[name]
        self.remove(name)
        self.failed[name] = reason
        self._report_mistakes([f"{_named(name, found.source)} cannot be used: {reason}"])

    def _changed(self) -> None:
        self._tables = {}
        callers = vars(self._manager.hook)
        self.named = frozenset(name for name, each in callers.items() if isinstance(each, pluggy.HookCaller) and _found(each))

    def implementations(self, hook: str) -> list[tuple[str, Callable[..., Any]]]:
        """Returns the names of the plugins that implement a hook, sorted, each with a function that calls only its implementation, with
        the arguments that it declares. For hooks that are called when the server starts."""

        def calling(found: pluggy.HookImpl) -> Callable[..., Any]:
            return lambda **arguments: found.function(*(arguments[name] for name in found.argnames))

        found = _found(getattr(self._manager.hook, hook))
        return sorted(((each.plugin_name, calling(each)) for each in found), key=lambda each: each[0])

    # calling

    def enabled(self, name: str, project: Any) -> bool:
        """Whether a plugin is enabled in a project (`projects.project.Project`)."""
        return bool(project.config.plugins.includes(name))

    def has(self, ctx: context.Context | None, hook: str) -> bool:
        """Whether a plugin that is enabled in the project of a context implements a hook. Ask before you make arguments for it."""
        return hook in self.named and bool(self._table(ctx)[hook])

    def _table(self, ctx: context.Context | None) -> Table:
        names = ALL_PLUGINS if ctx is None else ctx.plugins
        found = self._tables.get(names)
        if found is None:
            for name in (*(names.enabled or ()), *names.disabled):
                if name not in self.loaded and ctx is not None:
                    text = "project {project}: its file names the plugin {plugin}, which is not loaded{suggestion}"
                    log.warn(text, project=ctx.project, plugin=name, suggestion=suggestion(name, self.loaded))
            self._tables[names] = found = {hook: tuple(self._implementations(hook, names)) for hook in self.named}
        return found

    def _implementations(self, hook: str, names: EnabledPlugins) -> Iterable[Implementation]:
        # pluggy keeps them in the reverse of the order in which it calls them.
        for each in reversed(_found(getattr(self._manager.hook, hook))):
            if names.includes(each.plugin_name):
                costs = self._costs.setdefault((each.plugin_name, hook), Costs())
                old = bool(each.hookwrapper)
                yield Implementation(
                    each.plugin_name, hook, each.function, tuple(each.argnames), bool(each.wrapper) or old, old, costs
                )

    async def call(self, hook: str, ctx: context.Context | None, **arguments: Any) -> None:
        """Calls the implementations of a filter or of an action before, one after the other. Raises the errors with which they refuse,
        PluginFailed for other exceptions, HookTimeout after plugins.hook_timeout."""
        await self._run(self._table(ctx).get(hook, ()), self._prepared(hook, ctx, arguments))

    async def tell(self, hook: str, ctx: context.Context | None, **arguments: Any) -> None:
        """Calls the implementations of an action after. What they raise is logged, and the others are called all the same."""
        found = self._table(ctx).get(hook, ())
        if not found:
            return
        try:
            prepared = self._prepared(hook, ctx, arguments)
        except ApiError as error:
            log.error("{hook} is not called: {error}", hook=hook, error=error.message)
            return
        await self._run(found, prepared, isolated=True)

    def report(self, hook: str, ctx: context.Context | None, **arguments: Any) -> None:
        """Calls the implementations of an action after, without waiting for them. Not if MAX_REPORTS of them are running."""
        if self._reports >= MAX_REPORTS or not self.has(ctx, hook):
            return
        self._reports += 1

        def ended(_: Any) -> None:
            self._reports -= 1

        defer.Deferred.fromCoroutine(self.tell(hook, ctx, **arguments)).addBoth(ended)

    def _prepared(self, hook: str, ctx: context.Context | None, arguments: dict[str, Any]) -> dict[str, Any]:
        """Returns the arguments with the context for plugins. Raises InternalError if hooks call each other without end."""
        if ctx is None:
            return {"ctx": None, **arguments}
        if ctx.depth >= MAX_DEPTH:
            names = ", ".join(each.plugin for each in self._table(ctx)[hook])
            raise InternalError(f"Calls of {hook} are nested more than {MAX_DEPTH} deep; it is implemented by {names}.")
        return {"ctx": Context(evolve(ctx, depth=ctx.depth + 1), self.items), **arguments}

    async def _run(self, found: Sequence[Implementation], arguments: dict[str, Any], *, isolated: bool = False) -> None:
        """Calls implementations. *isolated*: what they raise is logged."""
        for place, each in enumerate(found):
            if each.wrapper:
                await self._run_wrapped(each, found[place + 1 :], arguments, isolated=isolated)
                return
            try:
                await self._run_one(each, arguments)
            except Exception as error:
                if not isolated:
                    raise
                if not isinstance(error, (PluginFailed, HookTimeout)):
                    _log_failure(each, arguments)

    async def _run_wrapped(
        self, wrapper: Implementation, inner: Sequence[Implementation], arguments: dict[str, Any], *, isolated: bool
    ) -> None:
        """Calls implementations within a wrapper. The time that it is counted with includes theirs."""
        started = time.monotonic()
        failure: Exception | None = None
        try:
            running = wrapper(arguments)
            next(running)
            try:
                await self._run(inner, arguments, isolated=isolated)
            except Exception as error:
                failure = error
            _resume(wrapper, running, failure)
        except GeneratorExit:
            raise
        except BaseException as error:
            own = error is not failure and not isinstance(error, _PASSED)
            wrapper.costs.failures += own
            if own or isolated:
                _log_failure(wrapper, arguments)
            if own and not isolated:
                raise PluginFailed(f"The plugin {wrapper.plugin} failed in {wrapper.hook}.") from error
            if not isolated:
                raise
        finally:
            self._count(wrapper, arguments, time.monotonic() - started)

    async def _run_one(self, each: Implementation, arguments: dict[str, Any]) -> None:
        started = time.monotonic()
        try:
            result = each(arguments)
            if result is not None:
                result = await self._finished(each, result)
            if result is not None:
                raise TypeError(f"it returned {_described(result)}")
        except GeneratorExit:
            raise
        except HookTimeout:
            each.costs.failures += 1
            raise
        except _PASSED:
            raise
        except BaseException as error:
            each.costs.failures += 1
            _log_failure(each, arguments)
            raise PluginFailed(f"The plugin {each.plugin} failed in {each.hook}.") from error
        finally:
            self._count(each, arguments, time.monotonic() - started)

    def _count(self, each: Implementation, arguments: Mapping[str, Any], seconds: float) -> None:
        """Counts a call that has ended, and ends what it has left open."""
        each.costs.add(seconds)
        ctx = arguments["ctx"]
        left = 0 if ctx is None else end_transactions(ctx, self.reactor)
        if left:
            text = "the plugin {plugin} has left transactions open in {hook}; {number} are rolled back"
            log.error(text, plugin=each.plugin, hook=each.hook, number=left)
        slow = self.settings.slow_hook
        if slow and seconds >= slow:
            text = "the plugin {plugin} took {seconds} s in {hook} (plugins.slow_hook)"
            log.warn(text, plugin=each.plugin, seconds=f"{seconds:.3f}", hook=each.hook)

    def _finished(self, each: Implementation, result: Any) -> "Any | defer.Deferred[Any]":
        """Returns an awaitable for what a hook has returned, which raises HookTimeout after plugins.hook_timeout."""
        limit = self.settings.hook_timeout

        def cut() -> HookTimeout:
            text = "the plugin {plugin} is cut off: {hook} has not ended within {seconds} s (plugins.hook_timeout)"
            log.error(text, plugin=each.plugin, hook=each.hook, seconds=f"{limit:g}")
            return HookTimeout("A plugin of the server did not end in time.")

        return within(self.reactor, limit, result, cut)

    # what there is

    def shown(self) -> list[dict[str, Any]]:
        """Returns the plugins: those that are used, with their hooks and what each costs, and those that are not, with the reason."""
        found: list[dict[str, Any]] = []
        for name, each in sorted(self.loaded.items()):
            hooks = [
                {"hook": hook, **costs.shown()}
                for hook in each.hooks
                if (costs := self._costs.get((name, hook)) or Costs()) is not None
            ]
            found.append({"name": name, "source": each.source, "version": each.version, "hooks": hooks, "error": None})
        found += [
            {"name": name, "source": "", "version": "", "hooks": [], "error": reason}
            for name, reason in sorted(self.failed.items())
        ]
        return found

    def implementing(self, ctx: context.Context | None, *hooks: str) -> list[str]:
        """Returns the names of the plugins that implement one of some hooks, sorted."""
        return sorted({each.plugin for hook in hooks for each in self._table(ctx).get(hook, ())})

    def _blocker(self, files: Iterable[str]) -> str | None:
        """Returns the name of the plugin to which the first of some files belongs that belongs to one."""
        for file in files:
            for each in self.loaded.values():
                if each.files and (file == each.files or (each.files.endswith("/") and file.startswith(each.files))):
                    return each.name
        return None


def _new_manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.add_hookspecs(registrations)
    return manager


def _mismatch(plugin: object) -> str:
    """Returns why the functions of a plugin do not match the hooks; empty if there is another reason."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.register(plugin)
    hooks = {name: each for name, each in vars(_new_manager().hook).items() if isinstance(each, pluggy.HookCaller)}
    for caller in manager.get_hookcallers(plugin) or ():
        spec = hooks[caller.name].spec if caller.name in hooks else None
        if spec is None:
            return f"there is no hook {caller.name}{suggestion(caller.name, hooks)}"
        for found in caller.get_hookimpls():
            unknown = [name for name in found.argnames if name not in spec.argnames]
            if unknown:
                return f"the hook {caller.name} has no argument {unknown[0]}; it has {', '.join(spec.argnames) or 'none'}"
    return ""


def _found(caller: pluggy.HookCaller) -> list[pluggy.HookImpl]:
    return caller.get_hookimpls()


def _log_failure(each: Implementation, arguments: Mapping[str, Any]) -> None:
    """Logs the exception that is being handled."""
    ctx = arguments["ctx"]
    request = "" if ctx is None else f" (request {ctx.request_id})"
    log.failure("the plugin {plugin} failed in {hook}{request}", plugin=each.plugin, hook=each.hook, request=request)


def _resume(wrapper: Implementation, running: Generator[Any, Any, Any], failure: Exception | None) -> None:
    """Resumes a wrapper when the implementations within it have ended, or have raised *failure*. Raises what the wrapper raises."""
    result: pluggy.Result[None] = pluggy.Result(None, failure)
    try:
        if wrapper.old:
            running.send(result)
        elif failure is not None:
            running.throw(failure)
        else:
            running.send(None)
    except StopIteration as end:
        if wrapper.old:
            result.get_result()
        elif end.value is not None:
            raise TypeError(f"it returned {_described(end.value)}") from None
    else:
        raise RuntimeError("a wrapper must yield once")


def _described(value: object) -> str:
    return f"a value of the type {type(value).__name__}: hooks change their arguments and return nothing"


def _named(name: str, source: str) -> str:
    return f"the plugin {name} ({source})" if source else f"the plugin {name}"
