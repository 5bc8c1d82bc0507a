"""The server's settings: from a TOML file and the environment into frozen values, every mistake reported at once.

A setting `key` of `[section]` is `DIRECTUS_SECTION_KEY` in the environment, one of no section `DIRECTUS_KEY`; a secret may also be
read from the file that `..._FILE` names. The environment wins over the file.
"""

import pathlib
import re
import tomllib
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from attrs import Attribute, field, fields, frozen

PREFIX = "DIRECTUS_"


def setting(default: Any, about: str, *, secret: bool = False, choices: tuple[str, ...] = ()) -> Any:
    """A setting with its default and what it is for, as etc/directus.toml says it."""
    return field(default=default, metadata={"about": about, "secret": secret, "choices": choices})


@frozen
class ServerSettings:
    """The section [server]."""

    listen: tuple[str, ...] = setting(
        ("tcp:8080:interface=127.0.0.1",), "Where to listen: endpoint strings of Twisted, one or several."
    )
    data_dir: str = setting("var", "Where projects, files and the embedded database live.")
    log_format: str = setting("text", "The log: a line of text an event, or a line of JSON.", choices=("text", "json"))
    log_file: str = setting("", "Where the log goes, to the end of a file. Empty: standard output.")
    cache_control: str = setting("no-store", "The Cache-Control of answers to whoever is signed in. Empty: none is sent.")
    trusted_proxies: tuple[str, ...] = setting(
        (), "Addresses or networks of proxies whose X-Forwarded-For is believed; of nobody else is it."
    )
    max_body_size: int = setting(100 * 2**20, "Bytes that the body of a request may have, with the files in it.")
    request_timeout: float = setting(
        30.0, "Seconds that the headers of a request may take to arrive, and that its body may pause. 0: any time."
    )
    min_body_rate: float = setting(
        1000.0, "Bytes a second that a body arrives with on the average, from request_timeout on. 0: any."
    )
    keep_alive_timeout: float = setting(60.0, "Seconds after which a connection without a request is closed. 0: never.")
    stall_timeout: float = setting(
        60.0, "Seconds after which a connection is closed whose client takes nothing of an answer. 0: never."
    )
    spool_size: int = setting(
        2**30,
        "Bytes in temporary files, of all answers together, that clients have not taken yet; beyond it reading waits for them.",
    )
    shutdown_timeout: float = setting(10.0, "Seconds that running requests get to finish when the server stops.")


@frozen
class DatabaseSettings:
    """The section [database]."""

    url: str = setting(
        "",
        "postgresql://user:password@host:port/dbname of the server that projects are kept on; dbname is where databases are made"
        " from. Empty: the embedded PostgreSQL.",
        secret=True,
    )
    pool_size: int = setting(10, "Connections that one project may have open.")
    max_connections: int = setting(
        0, "Connections that all projects together may have open. 0: what the server allows, less a reserve of 10."
    )
    idle_timeout: float = setting(60.0, "Seconds after which an idle connection is closed.")
    queue_size: int = setting(1000, "Requests of one project that may wait for a connection; more are answered 503.")
    queue_timeout: float = setting(10.0, "Seconds that a request waits for a connection before it is answered 503.")
    statement_timeout: float = setting(30.0, "Seconds that one statement may take.")
    schema_interval: float = setting(
        10.0, "Seconds after which a request has the server look whether others have changed the tables. 0: never."
    )


@frozen
class LimitSettings:
    """The section [limits]: what a single request may ask for. A refusal names its setting."""

    max_depth: int = setting(10, "Relations that one path of fields, of filter or of deep may follow.")
    max_conditions: int = setting(100, "Conditions that the filters of one query may have, those of deep included.")
    max_relations: int = setting(30, "Relations that the filters of one query may follow, each counted as often as it is named.")
    max_values: int = setting(10_000, "Values that one condition of a filter may have.")
    max_fields: int = setting(1000, "Members that fields may have.")
    max_members: int = setting(100, "Members that sort, groups, groupby, aggregate, status, lang and meta may each have.")
    max_joins: int = setting(50, "Many-to-one fields that the fields of one query may open, lists included.")
    max_lists: int = setting(50, "Lists of related items that the fields of one query may open: each takes a statement.")
    max_columns: int = setting(
        1500, "Columns that one statement of a read may have. More than 1500 count as 1500: PostgreSQL takes 1664."
    )
    max_rows: int = setting(0, "Items that one list may hold, limit=-1 included. 0: any number.")
    max_keys: int = setting(500, "Keys that the path of a request may name, separated by commas.")
    max_payload_size: int = setting(
        16 * 2**20, "Bytes of JSON, or of the fields of a form without its files, that whoever is signed in may send."
    )
    max_public_payload_size: int = setting(2**20, "Bytes of JSON or of a form's fields that the public may send.")
    max_payload_values: int = setting(200_000, "Values that one JSON body may hold, objects and lists included.")
    max_matched_length: int = setting(
        100_000, "Characters of a value that has to match a pattern (validation, password_policy). 0: any number."
    )
    max_matching_time: float = setting(
        1.0, "Seconds of processor time that matching the values of one request with patterns may take. 0: any."
    )


@frozen
class HistorySettings:
    """The section [history]: how long activity and revisions are kept."""

    retention: tuple[str, ...] = setting(
        (),
        'What is kept of each collection: "articles=90d" (days), "articles=10000" (the newest records), "articles=90d 10000" (both);'
        ' "*=365d" for all others. Empty: everything, for ever.',
    )
    prune_interval: float = setting(3600.0, "Seconds between the runs that remove what is not kept.")


@frozen
class Retention:
    """How much history of a collection is kept: `days`, and the newest `records`; None is no limit. "*" is every other collection."""

    collection: str
    days: int | None = None
    records: int | None = None


def retention_of(text: str) -> Retention:
    """What a text of `history.retention` means. Raises ValueError."""
    found = re.fullmatch(r"\s*(?P<collection>[^=]+?)\s*=\s*(?:(?P<days>\d{1,6})d)?\s*(?:\s*(?P<records>\d{1,12}))?\s*", text)
    if found is None or (found["days"] is None and found["records"] is None):
        raise ValueError(f'"{text}" is not like "articles=90d", "articles=10000" or "articles=90d 10000"')
    days, records = found["days"], found["records"]
    return Retention(found["collection"], None if days is None else int(days), None if records is None else int(records))


@frozen
class Settings:
    """All settings. `super_admin_token` is empty where none is configured."""

    super_admin_token: str = setting(
        "",
        "What creating and deleting projects asks for. Empty: it is made at the first start, printed once, and kept in the file"
        " super_admin_token of the data directory.",
        secret=True,
    )
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    limits: LimitSettings = LimitSettings()
    history: HistorySettings = HistorySettings()


class ConfigError(Exception):
    """The configuration is wrong: `mistakes` has a line for each fault."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


SECTIONS: Mapping[str, type] = {
    "server": ServerSettings,
    "database": DatabaseSettings,
    "limits": LimitSettings,
    "history": HistorySettings,
}


def load(path: str | None, environ: Mapping[str, str], overrides: Mapping[tuple[str, str], Any] | None = None) -> Settings:
    """The settings of a file (or none), the environment and the command line. Raises ConfigError with every mistake."""
    mistakes: list[str] = []
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError([f"{path}: {error}"]) from None
    values: dict[tuple[str, str], Any] = {}
    for section, content in table.items():
        if section in SECTIONS and isinstance(content, dict):
            values |= {(section, key): value for key, value in content.items()}
        else:
            values[("", section)] = content
    known = {("", "super_admin_token"): fields(Settings).super_admin_token} | {
        (section, each.name): each for section, cls in SECTIONS.items() for each in fields(cls)
    }
    for name in list(values):
        if name not in known:
            mistakes.append(f"{path}: there is no setting {'.'.join(part for part in name if part)}")
    values |= _from_environment(known, environ, mistakes)
    values |= overrides or {}
    found = {name: _checked(name, known[name], value, mistakes) for name, value in values.items() if name in known}
    if mistakes:
        raise ConfigError(mistakes)
    return Settings(
        super_admin_token=found.get(("", "super_admin_token"), ""),
        **{
            section: cls(**{key: value for (owner, key), value in found.items() if owner == section})
            for section, cls in SECTIONS.items()
        },
    )


def _from_environment(
    known: Mapping[tuple[str, str], "Attribute[Any]"], environ: Mapping[str, str], mistakes: list[str]
) -> dict[tuple[str, str], Any]:
    names = {PREFIX + "_".join(part for part in name if part).upper(): name for name in known}
    found: dict[tuple[str, str], Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX):
            continue
        name, from_file = names.get(variable), False
        if name is None and variable.endswith("_FILE"):
            name, from_file = names.get(variable.removesuffix("_FILE")), True
        if name is None or (from_file and not known[name].metadata["secret"]):
            mistakes.append(f"{variable}: there is no such setting")
            continue
        if from_file:
            try:
                text = pathlib.Path(text).read_text(encoding="utf-8").strip()
            except OSError as error:
                mistakes.append(f"{variable}: {error}")
                continue
        found[name] = _of_text(known[name], text, variable, mistakes)
    return found


def _of_text(attribute: "Attribute[Any]", text: str, variable: str, mistakes: list[str]) -> Any:
    kind = type(attribute.default)
    if kind is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            mistakes.append(f"{variable}: {text!r} is no number")
            return attribute.default
    return text


def _checked(name: tuple[str, str], attribute: "Attribute[Any]", value: Any, mistakes: list[str]) -> Any:
    """The value as the setting's type, or the default and one mistake more."""
    label = ".".join(part for part in name if part)
    kind = type(attribute.default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is tuple and isinstance(value, (list, tuple)) and all(isinstance(member, str) for member in value):
        value = tuple(value)
    if kind is tuple and isinstance(value, str):
        value = (value,)
    if type(value) is not kind:
        wanted = {str: "text", int: "a whole number", float: "a number", tuple: "a list of texts"}[kind]
        mistakes.append(f"{label}: takes {wanted}")
    elif isinstance(value, (int, float)) and value < 0:
        mistakes.append(f"{label}: takes no negative number")
    elif attribute.metadata["choices"] and value not in attribute.metadata["choices"]:
        mistakes.append(f"{label}: is one of {', '.join(attribute.metadata['choices'])}")
    elif label == "database.url" and value:
        try:
            libpq_parameters(value)
        except ValueError as error:
            mistakes.append(f"{label}: {error}")
        return value
    elif label == "history.retention":
        for text in value or ():
            try:
                retention_of(text)
            except ValueError as error:
                mistakes.append(f"{label}: {error}")
        return value
    else:
        return value
    return attribute.default


def libpq_parameters(url: str) -> dict[str, Any]:
    """The libpq keywords of a postgresql:// URL. Raises ValueError where it is none."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError("takes postgresql://user:password@host:port/dbname")
    found: dict[str, Any] = dict(parse_qsl(parts.query))
    for key, value in (
        ("host", parts.hostname),
        ("port", parts.port),
        ("user", parts.username),
        ("password", parts.password),
        ("dbname", parts.path.lstrip("/") or "postgres"),
    ):
        if value is not None:
            found[key] = unquote(value) if isinstance(value, str) else value
    return found


def described(settings: Settings) -> dict[str, Any]:
    """The settings as nested plain values, secrets hidden."""

    def shown(owner: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for each in fields(type(owner)):
            value = getattr(owner, each.name)
            if each.name in SECTIONS and owner is settings:
                found[each.name] = shown(value)
            elif each.metadata["secret"]:
                found[each.name] = "(hidden)" if value else ""
            else:
                found[each.name] = list(value) if isinstance(value, tuple) else value
        return found

    return shown(settings)
