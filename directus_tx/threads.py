"""Runs blocking work in threads, with bounded queues."""

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredSemaphore, FirstError, gatherResults
from twisted.internet.threads import deferToThread, deferToThreadPool
from twisted.python.threadpool import ThreadPool

from directus_tx.errors import ServiceUnavailable

T = TypeVar("T")
THREADS = 2
QUEUE = 64


class Threads:
    """A thread pool with a bounded queue. The threads run from `start` to `stop`."""

    def __init__(self, reactor: Any, name: str, busy: str, *, threads: int = THREADS, queue: int = QUEUE) -> None:
        self.reactor = reactor
        self.pool = ThreadPool(0, threads, name=name)
        self.busy = busy
        self.threads = threads
        self.queue = queue
        self.waiting = 0
        self._waiting_of: Counter[Hashable] = Counter()

    async def run(self, work: Callable[..., T], *arguments: Any, caller: Hashable = None) -> T:
        """Runs *work* in a thread and returns its result. Raises ServiceUnavailable if the queue is full, or if *caller* has four fifths of
        it already; None may have all of it."""
        if self.waiting >= self.queue or (caller is not None and self._waiting_of[caller] * 5 >= self.queue * 4):
            raise ServiceUnavailable(self.busy)
        self.waiting += 1
        self._waiting_of[caller] += 1
        try:
            result: T = await deferToThreadPool(self.reactor, self.pool, work, *arguments)
            return result
        finally:
            self.waiting -= 1
            self._waiting_of[caller] -= 1
            if not self._waiting_of[caller]:
                del self._waiting_of[caller]

    async def go_on(self, work: Callable[..., T], *arguments: Any) -> T:
        """Runs *work* in a thread, however many wait, and returns its result. For callers that have been let in by `run` and have one
        piece of work at a time. Raises ServiceUnavailable if the threads have stopped."""
        if self.pool.joined:
            raise ServiceUnavailable("The server is stopping.")
        result: T = await deferToThreadPool(self.reactor, self.pool, work, *arguments)
        return result

    async def run_all(self, work: Callable[[str], T], texts: Sequence[str]) -> list[T]:
        """Returns the results of *work* for the texts, in their order. The texts count as one entry of the queue. Raises
        ServiceUnavailable if the queue is full."""
        if self.waiting >= self.queue:
            raise ServiceUnavailable(self.busy)
        self.waiting += 1
        rest = iter(enumerate(texts))
        results: dict[int, T] = {}

        async def one_after_the_other() -> None:
            for index, text in rest:
                results[index] = await deferToThreadPool(self.reactor, self.pool, work, text)

        try:
            workers = [Deferred.fromCoroutine(one_after_the_other()) for _ in range(min(self.threads, len(texts)))]
            await gatherResults(workers, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        finally:
            self.waiting -= 1
        return [results[index] for index in range(len(texts))]

    def start(self) -> None:
        self.pool.start()

    def stop(self) -> None:
        self.pool.stop()


class OneAtATime:
    """Runs blocking work in threads of the reactor, one piece at a time; up to *queue* other pieces wait. *busy* is the message of the
    error if there are more, *headers* are its headers."""

    def __init__(self, busy: str, *, queue: int, headers: Mapping[str, str] | None = None) -> None:
        self.busy = busy
        self.queue = queue
        self.headers = headers or {}
        self._turn = DeferredSemaphore(1)

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Calls *work* in a thread and returns its result. Raises ServiceUnavailable if too much waits."""
        if len(self._turn.waiting) >= self.queue:
            raise ServiceUnavailable(self.busy, headers=self.headers)
        found: T = await self._turn.run(deferToThread, work, *arguments)
        return found
