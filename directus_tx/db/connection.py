"""Connections to PostgreSQL: opened with the session settings that the code relies on, and statements run on them.

txpostgres polls a connection while it is being opened. After that psycopg2's asynchronous connection is polled here and not by
txpostgres, for two reasons. First, libpq closes its socket within `execute()` and `poll()` when the connection is lost, while
txpostgres still has the socket registered with the reactor: a closed descriptor stays registered, and the next socket with the same
number is never read. Second, txpostgres adds and removes the descriptor and schedules a call for each statement, which takes a tenth
of the time of a small request. `Connection` registers a duplicate of the descriptor once. Only `Connection.close` closes the
duplicate, after removing it from the reactor.
"""

import math
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg2
from psycopg2 import extensions
from twisted.internet import defer
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.logger import Logger
from txpostgres import txpostgres
from zope.interface import implementer

from directus_tx.db.addresses import UnknownHost, located
from directus_tx.db.sql import Composable, Statement, literal, typed_values
from directus_tx.db.sqlstate import READ_ONLY, api_error, meaning_of
from directus_tx.errors import InternalError, InvalidRequest, ServiceUnavailable
from directus_tx.query import Typed

log = Logger()
Row = tuple[Any, ...]
Parameters = Mapping[str, Any]
"""Keywords of libpq: host, port, user, password, dbname."""

PUBLIC = "public"
"""The schema of the tables of users, and by default of the system tables."""

CONNECT_TIMEOUT = 3.0
"""Seconds after which an attempt to connect fails."""

NO_ANSWER = "The database did not answer in time; the connection was closed."

GRACE = 5.0
"""Seconds after statement_timeout within which PostgreSQL's error must arrive."""

SENT_AT_ONCE = 2048
"""The size in bytes up to which a statement fits into the buffer of the socket of an idle connection, so that libpq has nothing left to
send."""

PATIENCE = 10.0
"""Seconds for which a connection outside of the pools is tried again while PostgreSQL refuses it because of a limit."""

MANAGEMENT_TIMEOUT = 300.0
"""The time limit in seconds for statements outside of the pools, such as CREATE DATABASE, which have no statement_timeout."""

_TCP_SETTINGS: Mapping[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    **({"tcp_user_timeout": 25_000} if extensions.libpq_version() >= 120000 else {}),
}
"""Make libpq detect that the other machine is gone. It ignores them for Unix sockets."""

_SESSION_SETTINGS: Mapping[str, Any] = {
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "client_encoding": "UTF8",
    # PostgreSQL compiles statements that it expects to be expensive. That takes up to two seconds of processor time, each time, and it
    # overestimates those that read its catalogue, which take milliseconds.
    "jit": "off",
    # Make PostgreSQL detect that this machine is gone, whose transactions may hold locks.
    "tcp_keepalives_idle": 10,
    "tcp_keepalives_interval": 5,
    "tcp_keepalives_count": 3,
    "idle_in_transaction_session_timeout": int(MANAGEMENT_TIMEOUT * 1000),
}


def _as_bytes(value: Any, cursor: Any) -> bytes | None:
    found = psycopg2.BINARY(value, cursor)
    return None if found is None else bytes(found)


_REFUSED = re.compile(r"too many clients|connection slots|too many connections for (?:role|database)")
"""PostgreSQL's errors if a connection is refused because of a limit (SQLSTATE 53300)."""

_NUMBERS = (extensions.INTEGER, extensions.LONGINTEGER, extensions.FLOAT, extensions.BOOLEAN)
_AS_BYTES = extensions.new_type(psycopg2.BINARY.values, "DIRECTUS_BYTES", _as_bytes)


def _register_types(connection: Any) -> None:
    """Makes the driver return numbers, booleans and bytes as Python values, and all other values as PostgreSQL's text, including
    types for which the driver has classes: dates, intervals, JSON, ranges, arrays."""
    found = connection.string_types
    # A type of `new_type` that is based on one of the driver's takes three times as long, because the driver calls that one from Python.
    found.update(dict.fromkeys(extensions.string_types, extensions.UNICODE))
    found.update({oid: each for each in _NUMBERS for oid in each.values})
    found.update(dict.fromkeys(extensions.DECIMAL.values, extensions.FLOAT))
    extensions.register_type(_AS_BYTES, connection)


@implementer(IReadWriteDescriptor)
class Connection:
    """An open connection. It runs one statement at a time. Outside of a transaction each statement is committed by itself.

    *driver* is psycopg2's asynchronous connection, connected. A statement without an answer after `timeout` seconds is `overdue`:
    the owner of the connection checks for that periodically and closes the connection. `on_notify` is called with psycopg2's
    Notify for each notification, before the statement ends with whose answer it came. `on_close` is called once, with the
    connection, when it is closed or found lost, before the running statement raises.

    `opened` and `idle_since` are times of the monotonic clock. A pool sets these attributes of its connections:

    - `idle_since`: when the connection was released;
    - `caller`: whoever uses the connection; None if it is idle or the server itself uses it;
    - `pid`: the process id of its backend;
    - `epoch`: identifies the database, the start of its server, and whether that is a standby;
    - `standby`: the server was a standby when the connection was opened, so the connection is not notified of changes;
    - `table`: identifies the table of versions, which may be replaced;
    - `versions`: the last version of each kind that the connection has reported;
    - `held`: its statement is being cancelled, so that it must not be acquired, or the next statement might be cancelled instead;
    - `released`: it is released when it is no longer held.
    """

    idle_since = 0.0
    caller: Hashable = None
    pid = 0
    epoch = ""
    standby = False
    read_only = False
    table: int | None = None
    held = False
    released = False

    def __init__(self, reactor: Any, driver: Any) -> None:
        self.reactor = reactor
        self.timeout = math.inf
        self.on_notify: Callable[[Connection, Any], None] = _ignore
        self.on_close: Callable[[Connection], None] = _ignore
        self.opened = time.monotonic()
        self.refused_to_write = False
        """Whether a statement has failed because the database is read-only, which may no longer be so for a new connection."""
        self.versions: dict[str, int] = {}
        self.statements = 0
        """The number of statements started. It distinguishes a statement to be cancelled from the next one."""
        self._driver = driver
        self._answer: defer.Deferred[None] | None = None
        self._deadline = math.inf
        self._writing = False
        self._encrypted = bool(driver.info.ssl_in_use)
        self._descriptor = os.dup(driver.fileno())
        try:
            reactor.addReader(self)
        except BaseException:
            os.close(self._descriptor)
            raise

    # the state

    @property
    def closed(self) -> bool:
        return self._descriptor < 0

    @property
    def running(self) -> bool:
        """Whether a statement has been sent and its answer has not arrived."""
        return self._answer is not None

    @property
    def idle(self) -> bool:
        """Whether the connection is open and in no transaction."""
        return not self.closed and self._driver.get_transaction_status() == extensions.TRANSACTION_STATUS_IDLE

    def overdue(self, now: float) -> bool:
        """Whether the running statement should have been answered by *now*, a time of `time.monotonic`."""
        return now > self._deadline

    def poll_again(self) -> None:
        """Sends what is left of a statement and receives its answer, as the reactor has it done when the socket can be written or read."""
        if self.running:
            self._poll()

    def expect_end(self, seconds: float) -> None:
        """Makes the running statement overdue after this many seconds at the latest."""
        self._deadline = min(self._deadline, time.monotonic() + seconds)

    # statements

    async def run(self, statement: Statement | Composable | str, parameters: Any = (), *, before: str = "") -> list[Row]:
        """Runs a statement and returns its rows; an empty list if it has no result. Percent signs in the text are always doubled,
        with or without parameters. *before* is SQL that is run first, in the same round trip, and ends with a semicolon.

        Raises psycopg2.Error; ServiceUnavailable if the statement was cancelled, as PostgreSQL does after statement_timeout, or
        had no answer within `timeout`; InvalidRequest if a name or value contains a character that PostgreSQL cannot store.
        """
        cursor = await self._execute(statement, parameters, before=before)
        return cursor.fetchall() if cursor.description is not None else []

    async def query(self, statement: Statement | Composable | str, parameters: Any = ()) -> list[Row]:
        """Runs a statement like `run`, but raises the ApiError for an error of the database (`sqlstate.api_error`)."""
        try:
            return await self.run(statement, parameters)
        except psycopg2.Error as error:
            raise api_error(error) from error

    async def _execute(
        self, statement: Statement | Composable | str, parameters: Any, *, before: str = "", after: str = ""
    ) -> Any:
        """Runs a statement, with SQL before and after it, and returns psycopg2's cursor, with the result of the last statement."""
        cursor = self._driver.cursor()
        try:
            cursor.execute(self._text(statement, before, after), parameters)
        except ValueError as error:
            # The driver raises ValueError for NUL and for unpaired surrogates.
            raise InvalidRequest(meaning_of("22021").message) from error
        except psycopg2.Error as error:
            if self._driver.closed:
                self.close(error)
            raise
        answer: defer.Deferred[None] = defer.Deferred()
        self._answer = answer
        self.statements += 1
        self._deadline = time.monotonic() + self.timeout
        if self._encrypted or len(cursor.query) > SENT_AT_ONCE:
            self._poll()
        try:
            await answer
        except extensions.QueryCanceledError:
            raise ServiceUnavailable(meaning_of("57014").message) from None
        except psycopg2.Error as error:
            refused = _refused_value(error, cursor, parameters)
            if refused is None:
                raise
            message = f'"{_shortened(refused.text)}" is not a value of "{refused.field}" ({refused.type_name}).'
            raise InvalidRequest(message) from error
        return cursor

    def _text(self, statement: Statement | Composable | str, before: str = "", after: str = "") -> str:
        """Returns the text of a statement, with SQL before and after it. Raises ValueError if it contains a NUL, where libpq would end
        it."""
        if isinstance(statement, Statement):
            return before + statement.text + after
        text = statement if isinstance(statement, str) else statement.as_string(self._driver)
        if "\0" in text:
            raise ValueError("NUL in the text of a statement")
        return before + text + after

    def joined(self, *statements: tuple[Statement | Composable | str, Any]) -> str:
        """Returns statements with their parameters as one text, which is run without parameters. Raises InvalidRequest for values that the
        driver refuses."""
        cursor = self._driver.cursor()
        try:
            texts = [cursor.mogrify(self._text(statement), parameters) for statement, parameters in statements]
        except ValueError as error:
            raise InvalidRequest(meaning_of("22021").message) from error
        return b"; ".join(texts).decode()

    async def commit(self, statement: Statement | Composable | str = "", parameters: Any = (), *, before: str = "") -> None:
        """Runs a statement, commits the transaction, both in one round trip, and calls `on_notify` with the notifications the transaction
        caused. Raises the errors of `run`, and InternalError if PostgreSQL has rolled back instead because a statement had failed and its
        error was not raised further."""
        cursor = await self._execute(statement, parameters, before=before, after="; COMMIT" if statement else "COMMIT")
        if cursor.statusmessage != "COMMIT":
            raise InternalError("A transaction in which a statement had failed was committed.")
        self._poll()

    # the descriptor

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "database"

    def doRead(self) -> None:
        self._poll()

    def doWrite(self) -> None:
        self._poll()

    def connectionLost(self, reason: Any) -> None:
        self._poll()
        self.close()

    def _poll(self) -> None:
        """Lets libpq write and read without blocking. Ends the running statement when its answer is complete, and closes the
        connection if it is lost."""
        if self.closed:
            return
        driver = self._driver
        try:
            state = driver.poll()
            if state == extensions.POLL_READ and self._encrypted:
                # Poll again: data that OpenSSL has decrypted and libpq has not read does not make the socket readable.
                state = driver.poll()
        except psycopg2.Error as error:
            if self._answer is None or error.pgcode is None or driver.closed:
                self.close(error)
            else:
                self._end(error)
            return
        if state == extensions.POLL_WRITE:
            if not self._writing:
                self._writing = True
                self.reactor.addWriter(self)
            return
        if self._writing:
            self._writing = False
            self.reactor.removeWriter(self)
        if state == extensions.POLL_OK:
            answer = self._answer
            while driver.notifies:
                self.on_notify(self, driver.notifies.pop(0))
            # If the connection was idle, on_notify may have started a statement on it, which has no answer yet.
            if answer is self._answer:
                self._end(None)
        elif state != extensions.POLL_READ:
            self.close()

    def _end(self, error: Exception | None) -> None:
        """Ends the running statement, if any."""
        answer, self._answer = self._answer, None
        if answer is None:
            return
        self._deadline = math.inf
        if error is None:
            answer.callback(None)
        else:
            if isinstance(error, psycopg2.Error) and error.pgcode == READ_ONLY:
                self.refused_to_write = True
            # The Failure would keep the frames up to the one that waits, which holds the Deferred with the Failure: a cycle.
            answer.errback(error.with_traceback(None))

    def close(self, error: Exception | None = None) -> None:
        """Closes the connection if it is open. A running statement raises *error*, by default psycopg2.OperationalError."""
        if self.closed:
            return
        try:
            self.reactor.removeReader(self)
            self.reactor.removeWriter(self)
        finally:
            os.close(self._descriptor)
            self._descriptor = -1
            with suppress(psycopg2.Error):
                self._driver.close()
            try:
                self.on_close(self)
            finally:
                self._end(error or psycopg2.OperationalError("the connection is closed"))


def _refused_value(error: psycopg2.Error, cursor: Any, parameters: Any) -> Typed | None:
    """Returns the typed value that PostgreSQL could not convert when it parsed the statement; None if the error is another one."""
    place = error.diag.statement_position
    if place is None or not error.pgcode or not parameters:
        return None
    rest = None
    for each in typed_values(parameters):
        if rest is None:
            rest = cursor.query.decode()[int(place) - 1 :]
        if rest.startswith(literal(each, cursor.connection)):
            return each
    return None


def _shortened(text: str) -> str:
    return text if len(text) <= 100 else text[:100] + "..."


class TooManyConnections(ServiceUnavailable):
    """PostgreSQL has refused a connection, because it, or the role or the database, has as many as are allowed. `database`: it is the
    limit of the database."""

    def __init__(self, *, database: bool) -> None:
        super().__init__("The database allows no more connections.")
        self.database = database


def statement_deadline(statement_timeout: float) -> float:
    """Returns the seconds after which a statement without an answer is overdue: infinity if *statement_timeout* is 0."""
    return statement_timeout + GRACE if statement_timeout else math.inf


def _ignore(*arguments: Any) -> None:
    """Does nothing."""


class _Opening(txpostgres._PollingMixin):  # type: ignore[misc]
    """A connection that is being opened. Unlike txpostgres.Connection, it is registered with the reactor only while it waits, because
    libpq closes its socket, and may open another one, within `poll()`."""

    prefix = "database"
    _pollingD: "defer.Deferred[Any] | None" = None

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self._driver: Any = None

    def pollable(self) -> Any:
        return self._driver

    async def open(self, parameters: Parameters) -> None:
        """Returns when the connection is open. Raises psycopg2.Error."""
        self._driver = psycopg2.connect(**parameters, async_=True)
        await self.poll()

    def _cancel(self, waiting: "defer.Deferred[Any]") -> None:
        """Gives up because the caller of `open` has been cancelled. The driver cannot cancel an attempt to connect."""
        self._pollingD = None
        # The result may be scheduled already.
        waiting._suppressAlreadyCalled = True
        self.close()

    def close(self) -> None:
        """Gives up. `open` raises psycopg2.OperationalError."""
        if self._driver is None:
            return
        self.reactor.removeReader(self)
        self.reactor.removeWriter(self)
        with suppress(psycopg2.Error):
            self._driver.close()
        waiting, self._pollingD = self._pollingD, None
        if waiting is not None:
            waiting.errback(psycopg2.OperationalError("the database did not answer in time"))


async def open_connection(reactor: Any, parameters: Parameters, statement_timeout: float | None = None) -> Connection:
    """Opens a connection. *statement_timeout* is in seconds. Raises ServiceUnavailable if the database cannot be reached, and its
    subclass TooManyConnections if PostgreSQL refuses the connection because of a limit."""
    settings = dict(_SESSION_SETTINGS)
    if statement_timeout is not None:
        settings["statement_timeout"] = int(statement_timeout * 1000)
    options = " ".join([parameters.get("options", ""), *(f"-c {name}={value}" for name, value in settings.items())])
    try:
        place = await located(reactor, parameters, CONNECT_TIMEOUT)
    except UnknownHost as error:
        log.warn("cannot connect to database {dbname}: {error}", dbname=parameters.get("dbname"), error=str(error))
        raise ServiceUnavailable("The database cannot be reached.") from error
    opening = _Opening(reactor)
    timer = reactor.callLater(CONNECT_TIMEOUT, opening.close)
    try:
        await opening.open({"application_name": "directus_tx", **_TCP_SETTINGS, **place, "options": options.strip()})
        connection = Connection(reactor, opening.pollable())
    except Exception as error:
        opening.close()
        # psycopg2 has no SQLSTATE of an attempt to connect.
        refused = _REFUSED.search(str(error))
        if refused:
            raise TooManyConnections(database=refused[0].endswith("database")) from error
        log.warn("cannot connect to database {dbname} at {host}: {error}", error=str(error).strip(), **_named(parameters))
        raise ServiceUnavailable("The database cannot be reached.") from error
    finally:
        if timer.active():
            timer.cancel()
    if statement_timeout is not None:
        connection.timeout = statement_deadline(statement_timeout)
    _register_types(opening.pollable())
    return connection


def _named(parameters: Parameters) -> dict[str, Any]:
    return {"dbname": parameters.get("dbname"), "host": parameters.get("host", "localhost")}


async def _open_patiently(reactor: Any, parameters: Parameters, patience: float) -> Connection:
    until = time.monotonic() + patience
    seconds = 0.05
    while True:
        try:
            return await open_connection(reactor, parameters)
        except TooManyConnections:
            if time.monotonic() + seconds > until:
                raise
        await pause(reactor, seconds)
        seconds = min(seconds * 2, 1.0)


def pause(reactor: Any, seconds: float) -> "defer.Deferred[None]":
    """Returns a Deferred that fires after *seconds*."""
    done: defer.Deferred[None] = defer.Deferred()
    reactor.callLater(seconds, done.callback, None)
    return done


@asynccontextmanager
async def connected(
    reactor: Any, parameters: Parameters, timeout: float = MANAGEMENT_TIMEOUT, *, patience: float = PATIENCE
) -> AsyncIterator[Connection]:
    """A context with a connection outside of any pool, for statements that cannot run in a transaction, such as CREATE DATABASE.
    The connection is closed after *timeout* seconds at the latest; infinity: never. While PostgreSQL refuses connections because of a
    limit, it is asked again for *patience* seconds. Raises ServiceUnavailable, and the ApiError for a psycopg2.Error that is raised in
    the context."""
    connection = await _open_patiently(reactor, parameters, min(timeout, patience))
    timer = None
    if timeout < math.inf:
        timer = reactor.callLater(timeout, connection.close, ServiceUnavailable(NO_ANSWER))
    try:
        yield connection
    except psycopg2.Error as error:
        raise api_error(error) from error
    finally:
        if timer is not None and timer.active():
            timer.cancel()
        connection.close()


@asynccontextmanager
async def holding(reactor: Any, lock: defer.DeferredLock, seconds: float, refusal: str) -> AsyncIterator[None]:
    """A context in which a lock of this process is held. Raises ServiceUnavailable with the message *refusal* if others hold it for this
    many seconds."""
    turn = lock.acquire()
    timer = None if turn.called else reactor.callLater(seconds, turn.cancel)
    try:
        await turn
    except defer.CancelledError:
        raise ServiceUnavailable(refusal) from None
    finally:
        if timer is not None and timer.active():
            timer.cancel()
    try:
        yield
    finally:
        lock.release()
