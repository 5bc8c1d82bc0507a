"""Settings from a TOML file, the environment and the command line."""

import pathlib
import tomllib
from collections.abc import Mapping
from typing import Any

from attrs import fields

from directus_tx.config.environment import from_environment, variable_of
from directus_tx.config.plugins import PLUGIN_PREFIX, PLUGINS, PluginTables
from directus_tx.config.settings import SECTIONS, Settings
from directus_tx.config.values import ConfigError, checked
from directus_tx.suggestions import suggestion


def load(path: str | None, environ: Mapping[str, str], overrides: Mapping[tuple[str, str], Any] | None = None) -> Settings:
    """The settings of a file (or none), the environment and the command line. Raises ConfigError with every mistake."""
    mistakes: list[str] = []
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError([f"{path}: {error.strerror}"]) from None
        except ValueError as error:
            raise ConfigError([f"{path}: {error}"]) from None
    values: dict[tuple[str, str], Any] = {}
    tables: dict[str, Mapping[str, Any]] = {}
    for section, content in table.items():
        if section == PLUGINS and isinstance(content, dict):
            tables = {name: each for name, each in content.items() if isinstance(each, dict)}
            content = {name: each for name, each in content.items() if name not in tables}
            if not content:
                continue
        if section in SECTIONS and isinstance(content, dict):
            values |= {(section, key): value for key, value in content.items()}
        else:
            values[("", section)] = content
    known = {("", "super_admin_token"): fields(Settings).super_admin_token} | {
        (section, each.name): each for section, cls in SECTIONS.items() for each in fields(cls)
    }
    for name in list(values):
        if name not in known:
            dotted = ".".join(part for part in name if part)
            names = (".".join(part for part in each if part) for each in known)
            mistakes.append(f"{path}: there is no setting {dotted}{suggestion(dotted, names)}")
    variables = {name: text for name, text in environ.items() if name.startswith(PLUGIN_PREFIX)}
    own = {variable_of(name) for name in known}
    variables = {name: text for name, text in variables.items() if name not in own}
    rest = {name: text for name, text in environ.items() if name not in variables}
    values |= from_environment(known, rest, mistakes)
    values |= overrides or {}
    found = {name: checked(name, known[name], value, mistakes) for name, value in values.items() if name in known}
    if mistakes:
        raise ConfigError(mistakes)
    return Settings(
        super_admin_token=found.get(("", "super_admin_token"), ""),
        plugin_tables=PluginTables(tables, variables),
        **{
            section: cls(**{key: value for (owner, key), value in found.items() if owner == section})
            for section, cls in SECTIONS.items()
        },
    )
