"""Hashes and checks passwords in threads: hashing is slow by design and must not block the reactor.

Signing in, writes and the /utils endpoints have separate thread pools and queues, so that many requests of one kind do not block
the others.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from directus_tx.accounts import hashes
from directus_tx.errors import ServiceUnavailable

T = TypeVar("T")
THREADS = 2
QUEUE = 64


@frozen
class Verdict:
    """Whether a password is correct, and whether its hash should be replaced by a new one."""

    valid: bool
    outdated: bool = False


class Threads:
    """A thread pool with a bounded queue. The threads run from `start` to `stop`."""

    def __init__(self, reactor: Any, name: str, busy: str, *, threads: int = THREADS, queue: int = QUEUE) -> None:
        self.reactor = reactor
        self.pool = ThreadPool(0, threads, name=name)
        self.busy = busy
        self.threads = threads
        self.queue = queue
        self.waiting = 0

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Runs *work* in a thread and returns its result. Raises ServiceUnavailable if the queue is full."""
        if self.waiting >= self.queue:
            raise ServiceUnavailable(self.busy)
        self.waiting += 1
        try:
            result: T = await deferToThreadPool(self.reactor, self.pool, work, *arguments)
            return result
        finally:
            self.waiting -= 1

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


class PasswordHasher:
    """Hashes with Argon2id, and checks Argon2 hashes and the bcrypt hashes of Directus 8 ($2y$). Its threads run from `start` to
    `stop`."""

    def __init__(self, reactor: Any) -> None:
        self._sign_ins = Threads(reactor, "sign-in", "Too many users are signing in; try again shortly.")
        self._writes = Threads(reactor, "hashing", "Too many passwords are being hashed; try again shortly.")
        self._clients = Threads(reactor, "utils", "Too many hashes are being made; try again shortly.", threads=1)
        self._all = (self._sign_ins, self._writes, self._clients)

    def start(self) -> None:
        for threads in self._all:
            threads.start()

    def stop(self) -> None:
        for threads in self._all:
            threads.stop()

    async def hash(self, text: str) -> str:
        """Returns the hash of a text to be stored. Raises InvalidRequest if the text is too long, ServiceUnavailable if the queue
        is full."""
        hashes.check_length(text)
        return await self._writes.run(hashes.hash_argon2, text)

    async def hash_all(self, texts: Sequence[str]) -> list[str]:
        """Returns the hashes of several texts, in their order. Raises the errors of `hash`."""
        for text in texts:
            hashes.check_length(text)
        return await self._writes.run_all(hashes.hash_argon2, texts)

    async def verify(self, text: str, hashed: str | None, kinds: Iterable[str] = ()) -> Verdict:
        """Whether *text* matches the hash; *hashed* is None if there is no user or no password.

        *kinds* are the kinds of all hashes in use. The work is always one check of each kind, so that its duration does not
        reveal whether there is a hash, or of which kind. Raises ServiceUnavailable if the queue is full.
        """
        return await self._sign_ins.run(_verify, text, hashed, frozenset(kinds))

    async def rehash(self, text: str) -> str:
        """Returns a new hash of a password that has just been verified. Raises ServiceUnavailable if the queue is full."""
        return await self._sign_ins.run(hashes.hash_argon2, text)

    async def bcrypt(self, text: str, cost: int = 10) -> str:
        """Returns the bcrypt hash of a text sent by a client, as PHP writes it. Raises ServiceUnavailable if the queue is
        full."""
        return await self._clients.run(hashes.hash_bcrypt, text, cost)

    async def matches(self, text: str, hashed: str) -> bool:
        """Whether a hash matches a text, both sent by a client. Raises InvalidRequest if checking would take too much time or
        memory, ServiceUnavailable if the queue is full."""
        hashes.check_hash(hashed)
        return await self._clients.run(hashes.matches, text, hashed)


def _verify(text: str, hashed: str | None, kinds: frozenset[str]) -> Verdict:
    own = hashes.kind_of(hashed) if hashed else None
    checked = {kind for kind in kinds if not hashes.excess(kind)} | ({own} if own else set())
    valid = False
    for kind in checked or {hashes.CURRENT}:
        found = hashes.matches(text, hashed if kind == own and hashed else hashes.decoy(kind))
        valid = valid or (kind == own and found)
    return Verdict(valid, valid and hashed is not None and hashes.is_outdated(hashed))
