"""The settings of databases and of the history that they keep."""

import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from attrs import frozen

from directus_tx.config.values import checked_setting, setting


def libpq_parameters(url: str) -> dict[str, Any]:
    """The libpq keywords of a postgresql:// URL. Raises ValueError where it is none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # The message of Python has a part of the URL, which may be one of the password.
        raise ValueError(
            "has no valid host or port; characters of a password other than letters and digits are escaped (%2F)"
        ) from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError("takes postgresql://user:password@host:port/dbname")
    found: dict[str, Any] = dict(parse_qsl(parts.query))
    for key, value in (
        ("host", parts.hostname),
        ("port", port),
        ("user", parts.username),
        ("password", parts.password),
        ("dbname", parts.path.lstrip("/") or "postgres"),
    ):
        if value is not None:
            found[key] = unquote(value) if isinstance(value, str) else value
    return found


@frozen
class DatabaseSettings:
    """The section [database]."""

    url: str = checked_setting(
        "",
        "URL of the database server of the projects: postgresql://user:password@host:port/dbname. New databases are created through"
        " a connection to dbname. Empty: the embedded PostgreSQL.",
        secret=True,
        check=libpq_parameters,
    )
    pool_size: int = setting(10, "Maximum number of connections of one project.")
    max_connections: int = setting(
        0,
        "Maximum number of connections of all projects of this process together. 0: what the database server allows, less a tenth,"
        " shared equally with other server processes on it.",
    )
    idle_timeout: float = setting(60.0, "Seconds after which an idle connection is closed.")
    queue_size: int = setting(
        1000, "Maximum number of requests of one project that wait for a connection. Further requests are answered with 503."
    )
    queue_timeout: float = setting(10.0, "Seconds that a request waits for a connection before it is answered with 503.")
    statement_timeout: float = setting(30.0, "Maximum duration of a statement, in seconds.")
    lock_timeout: float = setting(
        1.0,
        "Maximum time that a change of the schema waits for a table in use, in seconds. Meanwhile other requests for that table wait."
        " After four attempts it is answered with 503. 0: no limit.",
    )
    plan_cache_size: int = setting(
        8 * 2**20,
        "Maximum size of the compiled queries that are kept for each project, in bytes (approximate). A query that takes more than a"
        " sixteenth of it is not kept.",
    )
    schema_interval: float = setting(
        10.0,
        "Seconds after which the next request checks whether other programs have changed the tables; six times that if event triggers tell"
        " of changes. 0: never.",
    )
    event_trigger: str = setting(
        "auto",
        "Whether PostgreSQL tells of changes of tables by other programs, by event triggers, which only superusers can create. auto: in"
        " databases that the server has created; on: also in other databases; off: not, and existing ones are dropped.",
        choices=("auto", "on", "off"),
    )
    schemas: tuple[str, ...] = setting(
        (),
        "Schemas beside public whose tables and views are collections, too, with names such as sales.orders. A project file can have"
        " its own list.",
    )


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
class HistorySettings:
    """The section [history]: how long activity and revisions are kept."""

    retention: tuple[str, ...] = checked_setting(
        (),
        'How much history of each collection is kept: "articles=90d" (days), "articles=10000" (the newest records),'
        ' "articles=90d 10000" (both), "*=365d" (all other collections). Empty: all of it.',
        check=retention_of,
    )
    prune_interval: float = setting(3600.0, "Seconds between two runs that remove old history.")
