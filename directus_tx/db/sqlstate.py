"""What PostgreSQL's errors mean to a client, by their SQLSTATE."""

from collections.abc import Mapping

import psycopg2
from twisted.internet.defer import FirstError
from twisted.logger import Logger
from twisted.python.failure import Failure

from directus_tx.errors import ApiError, Conflict, InvalidPayload, InvalidRequest, NotUnique, ServiceUnavailable

log = Logger()

RETRIED = frozenset({"40001", "40P01"})
"""The SQLSTATEs of a transaction that lost against others and may be run again."""


def is_lost(error: psycopg2.Error) -> bool:
    """Whether an error means that the connection is gone, rather than that the statement failed."""
    code = error.pgcode
    return code is None or code.startswith("08") or code in ("57P01", "57P02", "57P03")


_STATES: Mapping[str, tuple[type[ApiError], str]] = {
    "23505": (NotUnique, "An item with this value exists already."),
    "23502": (InvalidRequest, "A value that must be there is missing."),
    "23503": (InvalidRequest, "A related item is missing, or others need this one."),
    "23514": (InvalidRequest, "A value is not among those allowed."),
    "22001": (InvalidPayload, "A value is longer than its field allows."),
    "22003": (InvalidPayload, "A number does not fit its field."),
    "22P02": (InvalidRequest, "A value is not of its field's kind."),
    "22007": (InvalidRequest, "A value is no date or time."),
    "22008": (InvalidRequest, "A value is no date or time."),
    "22P05": (InvalidRequest, "A text holds characters that cannot be stored."),
    "22021": (InvalidRequest, "A text holds characters that cannot be stored."),
    "53300": (ServiceUnavailable, "The database has no connection to spare."),
    "40001": (Conflict, "Others are changing the same items; try again."),
    "40P01": (Conflict, "Others are changing the same items; try again."),
}


_TELLING = ("08", "25", "28", "3D", "40", "42", "53", "54", "55", "57", "58")
"""Classes of SQLSTATEs whose messages name tables, columns, functions and conditions, and quote no values."""

_QUOTING = frozenset({"42601", "42602"})
"""SQLSTATEs of these classes whose messages quote the statement."""


def without_values(error: BaseException) -> str:
    """What the log may say of an error. PostgreSQL's errors quote values and statements: of these it gives the SQLSTATE, the names of
    what is concerned, and the message only where it quotes no value. Of others it gives the message."""
    if isinstance(error, FirstError):
        return without_values(error.subFailure)
    if isinstance(error, Failure):
        return without_values(error.value) if error.value is not None else ""
    if not isinstance(error, psycopg2.Error) or error.pgcode is None:
        return str(error)
    diag, code = error.diag, error.pgcode
    names = ("schema_name", "table_name", "column_name", "constraint_name", "datatype_name")
    parts = [f"SQLSTATE {code}", *(f"{name} {getattr(diag, name)}" for name in names if getattr(diag, name))]
    if code.startswith(_TELLING) and code not in _QUOTING and diag.message_primary:
        parts.append(diag.message_primary)
    return ", ".join(parts)


def api_error(error: psycopg2.Error) -> Exception:
    """What an error of the database means to a client; the error itself where it is none of a client's making."""
    code = error.pgcode or ""
    if code in _STATES:
        kind, message = _STATES[code]
        headers = {"Retry-After": "1"} if kind.status == ServiceUnavailable.status else None
        column = error.diag.column_name
        return kind(f'{message[:-1]}: "{column}".' if column else message, headers=headers)
    if is_lost(error) and isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError)):
        log.warn("database connection lost: {error}", error=str(error).strip())
        return ServiceUnavailable("The connection to the database was lost.", headers={"Retry-After": "1"})
    return error
