"""Runs background jobs repeatedly, at intervals, while the server runs."""

from collections.abc import Awaitable, Callable
from typing import Any

from attrs import frozen
from twisted.application.service import Service
from twisted.internet import defer
from twisted.logger import Logger

log = Logger()


@frozen
class Job:
    """A job: its `name` in the log, the `interval` in seconds between the end of a run and the start of the next, and the coroutine
    function `run`. The first run starts after one interval, or with *at_once* without delay."""

    name: str
    interval: float
    run: Callable[[], Awaitable[Any]]
    at_once: bool = False


class JobRunner(Service):
    """A service that runs one job. If a run fails, the failure is logged, and the next run starts after the interval. Stopping the service
    cancels the current run and waits until it has ended."""

    def __init__(self, reactor: Any, job: Job) -> None:
        self.reactor = reactor
        self.job = job
        self._timer: Any = None
        self._run: defer.Deferred[Any] | None = None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        if self.job.at_once:
            self._start()
        else:
            self._wait()

    def stopService(self) -> "defer.Deferred[Any] | None":
        super().stopService()  # type: ignore[no-untyped-call]
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._run is not None:
            self._run.cancel()
        return self._run

    def _wait(self) -> None:
        self._timer = self.reactor.callLater(self.job.interval, self._start)

    def _start(self) -> None:
        self._run = defer.Deferred.fromCoroutine(self._once())
        self._run.addBoth(self._ended)

    async def _once(self) -> None:
        try:
            await self.job.run()
        except defer.CancelledError:
            raise
        except Exception:
            log.failure("job {name} failed", name=self.job.name)

    def _ended(self, _: object) -> None:
        self._run = None
        if self.running:
            self._wait()
