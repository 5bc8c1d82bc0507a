"""Connections to PostgreSQL: opened with the session settings that the code relies on, and statements run on them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psycopg2
from psycopg2 import extensions
from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from txpostgres import txpostgres

from directus_tx.db.sql import Composable, Statement
from directus_tx.db.sqlstate import meaning_of
from directus_tx.errors import InternalError, InvalidRequest, ServiceUnavailable

log = Logger()
Row = tuple[Any, ...]
Parameters = Mapping[str, Any]
"""libpq's keywords: host, port, user, password, dbname."""

CONNECT_TIMEOUT = 3.0
"""Seconds after which an attempt to connect is given up."""


def _as_bytes(value: Any, cursor: Any) -> bytes | None:
    found = psycopg2.BINARY(value, cursor)
    return None if found is None else bytes(found)


_NUMBERS = (extensions.INTEGER, extensions.LONGINTEGER, extensions.FLOAT, extensions.DECIMAL, extensions.BOOLEAN)
_AS_FLOAT = extensions.new_type(extensions.DECIMAL.values, "DIRECTUS_FLOAT", extensions.FLOAT)
_AS_BYTES = extensions.new_type(psycopg2.BINARY.values, "DIRECTUS_BYTES", _as_bytes)


def _register_types(connection: Any) -> None:
    """Has numbers, booleans and bytes given as Python's, and all other values as the text that PostgreSQL writes, those of types that the
    driver has classes for too: dates, intervals, JSON, ranges, arrays."""
    kept = {oid for each in (*_NUMBERS, _AS_BYTES) for oid in each.values}
    as_text = tuple(oid for oid in extensions.string_types if oid not in kept)
    for each in (extensions.new_type(as_text, "DIRECTUS_TEXT", extensions.UNICODE), _AS_FLOAT, _AS_BYTES):
        extensions.register_type(each, connection)


class _Immediately:
    """A cooperator that delivers notifications at once; by itself txpostgres delivers them in a later turn of the reactor, after the
    statement's result."""

    @staticmethod
    def cooperate(work: Any) -> None:
        for _ in work:
            pass


class Connection(txpostgres.Connection):  # type: ignore[misc]
    """A connection of a pool. `idle_since` is the reactor's time at which it was given back."""

    idle_since = 0.0

    def __init__(self, reactor: IReactorTime) -> None:
        super().__init__(reactor, cooperator=_Immediately)

    @property
    def closed(self) -> bool:
        return bool(self.pollable().closed)

    def continuePolling(self, swallowErrors: bool = False) -> None:
        # No caller waits for an idle connection that dies; the pool finds it closed.
        super().continuePolling(swallowErrors=True)

    async def run(self, statement: Statement | Composable | str, parameters: Any = ()) -> list[Row]:
        """The rows of one statement; none for a statement without a result. A percent sign of the statement's text is written twice,
        with parameters or without.

        Raises psycopg2.Error; ServiceUnavailable where the statement was cancelled, as PostgreSQL does after statement_timeout;
        InvalidRequest where a name or a value holds a character that PostgreSQL cannot store.
        """
        cursor = await self._executed(statement, parameters)
        return cursor.fetchall() if cursor.description is not None else []  # type: ignore[no-any-return]

    async def _executed(self, statement: Statement | Composable | str, parameters: Any) -> Any:
        """The cursor of a statement that has been executed."""
        cursor = self.cursor()
        try:
            await cursor.execute(self._text(statement), parameters)
        except defer.CancelledError:
            # What txpostgres makes of PostgreSQL's own QueryCanceled.
            raise ServiceUnavailable(meaning_of("57014").message, headers={"Retry-After": "1"}) from None
        except ValueError as error:
            # What the driver raises for NUL and for halves of surrogate pairs.
            raise InvalidRequest(meaning_of("22021").message) from error
        return cursor

    def _text(self, statement: Statement | Composable | str) -> str:
        """The text of a statement. Raises ValueError where it holds a NUL, at which libpq would cut it off."""
        if isinstance(statement, Statement):
            return statement.text
        text = statement if isinstance(statement, str) else statement.as_string(self.pollable())
        if "\0" in text:
            raise ValueError("NUL in the text of a statement")
        return text

    async def commit(self) -> None:
        """Commits the transaction, and delivers its notifications to this connection's observers. Raises what `run` raises, and
        InternalError where PostgreSQL has rolled back instead: a statement had failed, and its error was not passed on."""
        cursor = await self._executed("COMMIT", ())
        if cursor.statusmessage != "COMMIT":
            raise InternalError("A transaction was committed in which a statement had failed.")
        self.pollable().poll()
        self.checkForNotifies()


async def open_connection(reactor: Any, parameters: Parameters, statement_timeout: float | None = None) -> Connection:
    """An open connection. *statement_timeout* is in seconds. Raises ServiceUnavailable."""
    options = "-c TimeZone=UTC -c DateStyle=ISO -c client_encoding=UTF8"
    if statement_timeout is not None:
        options += f" -c statement_timeout={int(statement_timeout * 1000)}"
    connection = Connection(reactor)
    opening = connection.connect(**{"application_name": "directus_tx", **parameters, "options": options})
    timer = reactor.callLater(CONNECT_TIMEOUT, connection.close)
    try:
        await opening
    except Exception as error:
        log.warn("cannot connect to database {dbname} at {host}: {error}", error=str(error).strip(), **_named(parameters))
        raise ServiceUnavailable("The database cannot be reached.", headers={"Retry-After": "1"}) from error
    finally:
        if timer.active():
            timer.cancel()
    _register_types(connection.pollable())
    return connection


def _named(parameters: Parameters) -> dict[str, Any]:
    return {"dbname": parameters.get("dbname"), "host": parameters.get("host", "localhost")}


@asynccontextmanager
async def connected(reactor: Any, parameters: Parameters) -> AsyncIterator[Connection]:
    """A connection outside of any pool, each of whose statements is committed by itself: for what cannot run in a transaction, such as
    CREATE DATABASE. Raises ServiceUnavailable."""
    connection = await open_connection(reactor, parameters)
    try:
        yield connection
    finally:
        connection.close()
