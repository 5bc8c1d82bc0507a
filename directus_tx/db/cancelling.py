"""Cancels statements whose results are no longer needed, such as the reads of a client that has disconnected."""

from collections.abc import Callable
from typing import Any

import psycopg2
from twisted.internet import defer
from twisted.logger import Logger

from directus_tx.db.connection import Connection, Parameters, connected
from directus_tx.errors import ApiError

log = Logger()

CANCEL_AFTER = 0.1
"""Seconds to wait before a statement is cancelled. Most have ended by then."""

CANCEL_TIMEOUT = 5.0
"""Seconds within which PostgreSQL must cancel a statement; otherwise its connection is closed."""


class Canceller:
    """Cancels statements of the connections of a pool, over another connection. psycopg2's own `cancel` opens a connection as well, but
    blocks. *release* releases a connection that its user has released meanwhile."""

    def __init__(self, reactor: Any, parameters: Parameters, release: Callable[[Connection], None]) -> None:
        self.reactor = reactor
        self.parameters = parameters
        self.release = release
        self._unwanted: list[tuple[Connection, int]] = []
        self._cancelling = False

    def cancel(self, connection: Connection) -> None:
        """Cancels the running statement of a connection. The statement raises ServiceUnavailable unless it ends before. If the request to
        cancel fails, the connection is closed."""
        if not connection.running:
            return
        self._unwanted.append((connection, connection.statements))
        if not self._cancelling:
            self._cancelling = True
            self.reactor.callLater(CANCEL_AFTER, self._start)

    def _start(self) -> None:
        defer.ensureDeferred(self._cancel_unwanted()).addErrback(lambda failure: log.failure("cancelling statements", failure))

    async def _cancel_unwanted(self) -> None:
        """Cancels the statements of all calls of `cancel` together."""
        try:
            while self._unwanted:
                unwanted, self._unwanted = self._unwanted, []
                running = [c for c, statement in unwanted if c.running and c.statements == statement]
                if running:
                    await self._cancel_running(running)
        finally:
            self._cancelling = False

    async def _cancel_running(self, running: list[Connection]) -> None:
        for connection in running:
            connection.held = True
            connection.expect_end(CANCEL_TIMEOUT)
        try:
            async with connected(self.reactor, self.parameters, CANCEL_TIMEOUT) as other:
                pids = [connection.pid for connection in running]
                await other.run("SELECT pg_cancel_backend(pid) FROM unnest(%s) AS pid", (pids,))
        except (ApiError, psycopg2.Error) as error:
            log.warn("cannot cancel a statement; its connection is closed: {error}", error=str(error).strip())
            for connection in running:
                connection.close()
        finally:
            for connection in running:
                connection.held = False
                if connection.released:
                    connection.released = False
                    self.release(connection)
