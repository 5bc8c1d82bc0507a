"""Maps PostgreSQL's errors to errors of the API by SQLSTATE, and lists the ones after which a transaction is run again."""

import re
from collections.abc import Mapping
from typing import Any

import psycopg2
from attrs import frozen
from twisted.internet.defer import FirstError
from twisted.logger import Logger
from twisted.python.failure import Failure

from directus_tx.errors import (
    ApiError,
    BadRequest,
    CollectionExists,
    Conflict,
    Diagnostics,
    FieldExists,
    InternalError,
    InvalidPayload,
    InvalidRequest,
    NotUnique,
    ReadOnlyDatabase,
    ServiceUnavailable,
    UpdateForbidden,
)

log = Logger()

RETRIED = frozenset({"40001", "40P01"})
"""The SQLSTATEs after which a transaction may succeed when it is run again: serialization failure and deadlock."""

LOCK_NOT_AVAILABLE = "55P03"
"""The SQLSTATE of a statement that has waited for a lock for lock_timeout."""

_ENDING = frozenset({"25P03", "25P04", "57P01", "57P02", "57P03", "57P04", "57P05"})
"""The SQLSTATEs, in addition to class 08, with which PostgreSQL ends or refuses a connection."""


@frozen
class Meaning:
    """An error of the API and its message. The traceback of an InternalError is logged, and the client receives the id of the
    request."""

    error: type[ApiError]
    message: str = ""


_FAILURE = Meaning(InternalError)
_LOST = Meaning(ServiceUnavailable, "The connection to the database was lost.")
_CHANGED_BY_OTHERS = Meaning(Conflict, "Others are changing the same items; try again.")
_NO_MOMENT = Meaning(InvalidRequest, "A value is not a valid date or time.")
_NOT_STORABLE = Meaning(InvalidRequest, "A text contains characters that cannot be stored.")
_NO_DEFINITION = Meaning(InvalidRequest, "The database does not allow this definition of a column or an index.")

MEANINGS: Mapping[str, Meaning] = {
    "00": _FAILURE,
    "01": _FAILURE,
    "02": _FAILURE,
    "03": _FAILURE,
    "08": _LOST,
    "09": _FAILURE,
    "0A": Meaning(BadRequest, "The database does not support this."),
    "0B": _FAILURE,
    "0F": _FAILURE,
    "0L": _FAILURE,
    "0P": _FAILURE,
    "0Z": _FAILURE,
    "10": _FAILURE,
    "20": _FAILURE,
    "21": _FAILURE,
    "22": Meaning(InvalidRequest, "A value is not valid for its field."),
    "22001": Meaning(InvalidPayload, "A value is longer than its field allows."),
    "22003": Meaning(InvalidPayload, "A number is out of the range of its field."),
    "22007": _NO_MOMENT,
    "22008": _NO_MOMENT,
    "2200H": Meaning(InvalidPayload, "The automatic keys of the collection are exhausted: specify a key."),
    "22021": _NOT_STORABLE,
    "22P02": Meaning(InvalidRequest, "A value does not have the type of its field."),
    "22P05": _NOT_STORABLE,
    "23": Meaning(InvalidRequest, "A value is not allowed."),
    "23001": Meaning(InvalidRequest, "Other items refer to this item."),
    "23502": Meaning(InvalidRequest, "A required value is missing."),
    "23503": Meaning(InvalidRequest, "A related item does not exist, or other items refer to this item."),
    "23505": Meaning(NotUnique, "An item with this value exists already."),
    "23P01": Meaning(NotUnique, "The value conflicts with another item."),
    "24": _FAILURE,
    "25": _FAILURE,
    "25006": Meaning(ReadOnlyDatabase, "The project's database can only be read."),
    "25P03": _LOST,
    "25P04": _LOST,
    "26": _FAILURE,
    "27": _FAILURE,
    "28": Meaning(ServiceUnavailable, "The database refused to authorize the server."),
    "2B": Meaning(InvalidRequest, "Other objects in the database, for example views, depend on this."),
    "2D": _FAILURE,
    "2F": _FAILURE,
    "34": _FAILURE,
    "38": _FAILURE,
    "39": _FAILURE,
    "3B": _FAILURE,
    "3D": Meaning(ServiceUnavailable, "The database of the project does not exist."),
    "3F": _FAILURE,
    "40": _CHANGED_BY_OTHERS,
    "42": _FAILURE,
    "42501": Meaning(UpdateForbidden, "The database does not allow the server to do this."),
    "42611": _NO_DEFINITION,
    "42701": Meaning(FieldExists, "The table already has a column with this name."),
    "42704": _NO_DEFINITION,
    "42710": _NO_DEFINITION,
    "42830": _NO_DEFINITION,
    "42846": _NO_DEFINITION,
    "428C9": Meaning(InvalidRequest, "A value was sent for a column that the database computes."),
    "42939": _NO_DEFINITION,
    "42P07": Meaning(CollectionExists, "The database already has a table or view with this name."),
    "42P16": _NO_DEFINITION,
    "42P17": _NO_DEFINITION,
    "44": Meaning(InvalidRequest, "A value is not allowed."),
    "53": Meaning(ServiceUnavailable, "The database is out of resources."),
    "53100": Meaning(ServiceUnavailable, "The disk of the database is full."),
    "53200": Meaning(ServiceUnavailable, "The database is out of memory."),
    "53300": Meaning(ServiceUnavailable, "The database has reached its connection limit."),
    "54": Meaning(InvalidRequest, "The request is too complex for the database: simplify it."),
    "54000": Meaning(InvalidPayload, "A value is too large for the database or for an index."),
    "54011": Meaning(InvalidRequest, "A table cannot have that many columns."),
    "55": Meaning(Conflict, "The objects to be changed are in use; try again."),
    "55000": _FAILURE,
    LOCK_NOT_AVAILABLE: Meaning(ServiceUnavailable, "A table or an item is in use by others; try again."),
    "57": Meaning(ServiceUnavailable, "The database stopped the statement."),
    "57014": Meaning(ServiceUnavailable, "The statement took too long (database.statement_timeout) or was cancelled."),
    "57P01": _LOST,
    "57P02": _LOST,
    "57P03": _LOST,
    "57P04": _LOST,
    "57P05": _LOST,
    "58": Meaning(ServiceUnavailable, "The database cannot read or write its files."),
    "72": Meaning(ServiceUnavailable, "The data requested is no longer available in the database."),
    "F0": _FAILURE,
    "HV": Meaning(ServiceUnavailable, "The database cannot use a foreign table."),
    "P0": _FAILURE,
    "P0001": Meaning(InvalidRequest, "A trigger of the database rejected the change."),
    "XX": Meaning(ServiceUnavailable, "The database failed."),
}
"""The meaning of each SQLSTATE or class (the first two characters). docs/database.rst has the same table."""

READ_ONLY = "25006"
"""The SQLSTATE with which PostgreSQL refuses to write: default_transaction_read_only is on. Transactions that write are not begun on a
standby (`Database.acquire_for_writing`)."""

_REPORTED = ("42501", "53", "58", "XX")
"""The SQLSTATEs, and classes of them, that are logged, because an administrator must act."""

_DENIED = re.compile(
    r"(?:permission denied for|must be owner of)"
    r" (materialized view|foreign table|foreign server|foreign-data wrapper|large object|[a-z]+) (.+)",
    re.DOTALL,
)
"""The message of a lack of privileges in English. PostgreSQL sends the name of the object in no other form; in other languages it is not
found."""

_REFERENCES = {"insert or update": "A related item does not exist.", "update or delete": "Other items refer to this item."}
"""How PostgreSQL's messages about foreign keys (23503) begin in English, and what they mean. In other languages, the message of the API
names both."""

_REMOTE = "pgfdw_report_error"
"""The function in PostgreSQL's source that reports errors of the servers of foreign tables (postgres_fdw)."""

_RAISED = "exec_stmt_raise"
"""The function in PostgreSQL's source that executes RAISE of PL/pgSQL."""


def meaning_of(sqlstate: str) -> Meaning:
    """Returns the meaning of a SQLSTATE or of its class. Unknown classes are InternalErrors."""
    return MEANINGS.get(sqlstate) or MEANINGS.get(sqlstate[:2]) or _FAILURE


def is_lost(error: psycopg2.Error) -> bool:
    """Whether an error means that the connection is lost, rather than that the statement failed. PostgreSQL ends a connection with FATAL
    or PANIC; an ERROR with such a SQLSTATE is about another connection, for example that of a foreign table."""
    if error.pgcode is None:
        # Errors without a SQLSTATE come from libpq. The driver raises DatabaseError itself if libpq returns no message.
        return isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError)) or type(error) is psycopg2.DatabaseError
    return _tells_of_end(error.pgcode) and error.diag.severity_nonlocalized != "ERROR"


def _tells_of_end(sqlstate: str) -> bool:
    return sqlstate.startswith("08") or sqlstate in _ENDING


def api_error(error: psycopg2.Error, system_schema: str = "public") -> ApiError:
    """Returns the error of the API for an error of the database. *system_schema* is the schema of the system tables.

    The message of a trigger's RAISE is passed on, unless its SQLSTATE means an InternalError. Errors of the classes 0A and 42
    depend on the schema: the statement did not fit it, and the request may succeed with a newer snapshot. So do internal errors of
    PostgreSQL (XX000): it raises them if an object is dropped or changed while a statement is being planned.
    """
    if is_lost(error):
        log.warn("database connection lost: {error}", error=error)
        return _LOST.error(_LOST.message)
    sqlstate = error.pgcode
    if sqlstate is None:
        return InternalError()
    if sqlstate.startswith(_REPORTED):
        log.error("the database failed: {error}", error=error)
    said = error.diag
    meaning = meaning_of(sqlstate)
    raised = said.source_function == _RAISED
    if raised and sqlstate[:2] not in MEANINGS:
        # The author of the trigger has invented this SQLSTATE.
        meaning = MEANINGS["P0001"]
    elif sqlstate == "23505" and said.schema_name == "pg_catalog":
        # Another transaction has created a table or type of the same name at the same time.
        meaning = MEANINGS["42P07"]
    elif not raised and (
        _tells_of_end(sqlstate) or (said.source_function == _REMOTE and issubclass(meaning.error, InternalError))
    ):
        # The server of a foreign table cannot be reached, or the table is different there.
        meaning = MEANINGS["HV"]
        log.error("a foreign table cannot be used: {error}", error=error)
    message = meaning.message
    if sqlstate == "23503" and not raised:
        begin = (said.message_primary or "")[:16]
        message = _REFERENCES.get(begin, message)
    if raised and 400 <= meaning.error.status < 500:
        message = said.message_primary or message
    # The name of the collection, if the table is one. The names in a trigger's error may be arbitrary.
    table = said.table_name if not raised else None
    if table and said.schema_name != (system_schema if table.startswith("directus_") else "public"):
        table = f"{said.schema_name}.{table}"
    found = meaning.error(
        message,
        headers={"Retry-After": "1"} if meaning.error is Conflict else None,
        diagnostics=Diagnostics(sqlstate, table, said.constraint_name, said.column_name)
        if table
        else Diagnostics(sqlstate, domain=said.datatype_name, denied=None if raised else _denied(said)),
    )
    if sqlstate[:2] in ("0A", "42") or sqlstate == "XX000":
        found.depends_on_schema = True
    return found


def _denied(said: Any) -> str | None:
    """Returns the object on which the server's role lacks a privilege, by PostgreSQL's description of the error; None if it names none."""
    found = _DENIED.fullmatch(said.message_primary or "") if said.sqlstate == "42501" else None
    return None if found is None else f'{found[1]} "{found[2]}"'


# --- the log

_TELLING = ("08", "25", "28", "3D", "40", "42", "53", "54", "55", "57", "58")
"""Classes of SQLSTATEs whose messages name tables, columns, functions and conditions, and contain no values."""

_QUOTING = frozenset({"42601", "42602"})
"""SQLSTATEs of these classes whose messages do quote the statement."""


def without_values(error: BaseException) -> str:
    """Returns the description of an error for the log. PostgreSQL's errors quote values and statements: for these the description
    holds the SQLSTATE, the names of the objects concerned, and the message only if it contains no values. An ApiError caused by
    an error of PostgreSQL is described like its cause. Other errors are described by their message."""
    if isinstance(error, FirstError):
        return without_values(error.subFailure)
    if isinstance(error, Failure):
        return without_values(error.value) if error.value is not None else ""
    if isinstance(error, ApiError) and isinstance(error.__cause__, psycopg2.Error):
        return without_values(error.__cause__)
    if not isinstance(error, psycopg2.Error) or error.pgcode is None:
        return str(error).strip()
    diag, code = error.diag, error.pgcode
    names = ("schema_name", "table_name", "column_name", "constraint_name", "datatype_name")
    parts = [f"SQLSTATE {code}", *(f"{name} {getattr(diag, name)}" for name in names if getattr(diag, name))]
    if code.startswith(_TELLING) and code not in _QUOTING and diag.message_primary:
        parts.append(diag.message_primary)
    return ", ".join(parts)
