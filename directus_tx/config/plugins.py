"""The settings of plugins: which are loaded, and those that they have themselves."""

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import field, frozen

from directus_tx.config.environment import PREFIX, from_environment, variable_of
from directus_tx.config.values import ConfigError, attributes, read_table, setting
from directus_tx.suggestions import suggestion

PLUGINS = "plugins"
"""The section of plugins."""

PLUGIN_PREFIX = f"{PREFIX}PLUGINS_"
T = TypeVar("T")


@frozen
class PluginSettings:
    """The section [plugins]: Python code that extends the server."""

    directory: str = setting(
        "", "Directory with plugins beside those of installed packages: files NAME.py and packages NAME. Empty: there is none."
    )
    enabled: tuple[str, ...] = setting(
        (),
        "Names of the plugins that are loaded, in the order in which their hooks are called. Empty: all that are found, in the order of"
        " their names.",
    )
    disabled: tuple[str, ...] = setting(
        (),
        "Names of plugins that are not loaded. A project file can have a table plugins, with lists enabled and disabled, for what holds in"
        " the project.",
    )
    on_error: str = setting(
        "refuse",
        "What happens if a plugin cannot be loaded. refuse: the server does not start; skip: it starts without it, and the log names it.",
        choices=("refuse", "skip"),
    )
    hook_timeout: float = setting(
        10.0, "Seconds after which a hook that waits for something is cut off. 0: no limit. Requests that it has to allow fail."
    )
    route_timeout: float = setting(
        60.0,
        "Seconds after which an endpoint of a plugin that waits for something is cut off, and the request is answered with 503. A plugin"
        " can register a route with another limit. 0: no limit.",
    )
    slow_hook: float = setting(1.0, "Seconds from which the log names a hook that has taken so long. 0: never.")
    block_limit: float = setting(
        2.0,
        "Seconds for which the process may answer no requests because of what it is doing itself, before the log says what that is and, if"
        " it is a plugin, names it. 0: no limit.",
    )


@frozen
class PluginTables:
    """The settings of plugins, which are read when these are loaded: the sections [plugins.NAME] by name, and the environment variables
    DIRECTUS_PLUGINS_..."""

    tables: Mapping[str, Mapping[str, Any]] = field(factory=dict, repr=False)
    variables: Mapping[str, str] = field(factory=dict, repr=False)


def plugin_settings(given: PluginTables, plugin: str, cls: "type[T] | None") -> "T | None":
    """Returns the settings of a plugin as an instance of the class that it has registered, if any: from its table and from the environment.
    Raises ConfigError with every mistake."""
    section = f"{PLUGINS}.{plugin}"
    known = {(section, name): each for name, each in attributes(cls).items()}
    mistakes: list[str] = []
    names = {variable_of(name) for name in known}
    variables = {name: text for name, text in given.variables.items() if name.removesuffix("_FILE") in names or name in names}
    table = {**given.tables.get(plugin, {})}
    table |= {name: value for (_, name), value in from_environment(known, variables, mistakes).items()}
    try:
        found = read_table(cls, table, label=section)
    except ConfigError as error:
        mistakes += error.mistakes
    if mistakes:
        raise ConfigError(mistakes)
    return found


def unknown_plugin_settings(given: PluginTables, classes: "Mapping[str, type | None]") -> list[str]:
    """Returns a line for each section and environment variable that is not of one of the plugins, whose classes of settings are given."""
    mistakes = [
        f"{PLUGINS}.{name}: there is no plugin {name}{suggestion(name, classes)}" for name in given.tables if name not in classes
    ]
    known = {
        variable_of((f"{PLUGINS}.{plugin}", name)): each
        for plugin, cls in classes.items()
        for name, each in attributes(cls).items()
    }
    for variable in given.variables:
        secret = known.get(variable.removesuffix("_FILE"))
        if variable not in known and (secret is None or not secret.metadata["secret"]):
            mistakes.append(f"{variable}: there is no such setting{suggestion(variable, known)}")
    return mistakes
