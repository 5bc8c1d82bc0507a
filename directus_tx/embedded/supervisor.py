"""Starts the embedded database again when it ends."""

import time
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from directus_tx.embedded.server import EmbeddedError, EmbeddedPostgres, Interrupted

log = Logger()

INTERVAL = 0.5
"""Seconds between two looks at the database's process."""

PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds to wait before each attempt to start the database again. The last one is used for all further attempts."""

STABLE_AFTER = 60.0
"""Seconds for which the database must run before the next end counts as the first one again."""


class Supervisor(Service):
    """A service that watches the embedded PostgreSQL, which has been started before, and starts it again whenever it ends: whatever has
    ended it, until the service is stopped. Several servers may supervise the same data directory; one of them starts it and the others
    find it running.

    *in_thread* calls a blocking function in a thread and returns a Deferred, like `deferToThread`. `running` says that the service
    runs, `up` that the database does, as far as known.
    """

    def __init__(
        self, reactor: Any, postgres: EmbeddedPostgres, in_thread: Callable[..., "defer.Deferred[Any]"] = deferToThread
    ) -> None:
        self.reactor = reactor
        self.postgres = postgres
        self.in_thread = in_thread
        self.up = False
        self._attempts = 0
        self._since = 0.0
        self._timer: Any = None
        self._work: defer.Deferred[Any] | None = None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self.up = True
        self._since = self.reactor.seconds()
        self._call_later(INTERVAL, self._look)

    def stopService(self) -> "defer.Deferred[None]":
        """Stops watching. Interrupts a start of the database that is under way, and fires when it has ended."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        done: defer.Deferred[None] = defer.Deferred()
        if self._work is None:
            done.callback(None)
        else:
            self.postgres.interrupt()
            self._work.addBoth(lambda _: done.callback(None))
        return done

    def _call_later(self, seconds: float, function: Callable[[], None]) -> None:
        self._timer = self.reactor.callLater(seconds, function)

    def _look(self) -> None:
        pid = self.postgres.pid()
        if pid is None:
            self.up = False
            log.error(
                "the embedded PostgreSQL is not running any more and is started again; its log ends with: {lines}",
                lines=self.postgres.last_lines() or "nothing",
            )
            self._wait_and_start()
            return
        if self._attempts and self.reactor.seconds() - self._since > STABLE_AFTER:
            self._attempts = 0
        self._call_later(INTERVAL, self._look)

    def _wait_and_start(self) -> None:
        seconds = PAUSES[min(self._attempts, len(PAUSES) - 1)]
        self._attempts += 1
        if seconds:
            log.info("the embedded PostgreSQL is started in {seconds} seconds", seconds=seconds)
        self._call_later(seconds, self._start)

    def _start(self) -> None:
        self._work = defer.Deferred.fromCoroutine(self._start_in_thread())
        self._work.addErrback(lambda failure: log.failure("supervising the embedded PostgreSQL", failure))

    async def _start_in_thread(self) -> None:
        began = time.monotonic()
        try:
            launched = await self.in_thread(self.postgres.start)
        except Interrupted:
            return
        except EmbeddedError as error:
            log.error("the embedded PostgreSQL could not be started: {error}", error=str(error))
        except Exception:
            log.failure("the embedded PostgreSQL could not be started")
        else:
            self.up = True
            how = "runs again" if launched else "was started by another process"
            log.info("the embedded PostgreSQL {how}, after {seconds:.1f} s", how=how, seconds=time.monotonic() - began)
        finally:
            self._work = None
        if not self.running:
            return
        if self.up:
            self._since = self.reactor.seconds()
            self._call_later(INTERVAL, self._look)
        else:
            self._wait_and_start()
