"""Hashes and checks passwords, on threads of its own: hashing is slow on purpose and must not hold up the reactor."""

from collections.abc import Callable
from typing import Any, TypeVar

import argon2
import bcrypt
from attrs import frozen
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from directus_tx.errors import ServiceUnavailable

T = TypeVar("T")
THREADS = 2
QUEUE = 64

# OWASP's recommendation for argon2id; more memory a hash would let a few sign-ins at once crowd out the server.
_ARGON2 = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_NOBODY = _ARGON2.hash("nobody")


@frozen
class Verdict:
    """Whether a password is right, and whether its hash should be replaced by a new one."""

    valid: bool
    outdated: bool = False


class PasswordHasher:
    """Argon2id for new hashes; the bcrypt hashes of Directus 8 ($2y$) are checked as well. Its threads run from `start` to `stop`."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.pool = ThreadPool(0, THREADS, name="passwords")
        self.waiting = 0

    def start(self) -> None:
        self.pool.start()

    async def hash(self, text: str) -> str:
        """The hash of a text. Raises ServiceUnavailable where too many wait."""
        return await self._run(_ARGON2.hash, text)

    async def verify(self, text: str, hashed: str | None) -> Verdict:
        """Whether *text* is what was hashed. Takes as long where there is no hash, so that nobody can tell."""
        return await self._run(_verify, text, hashed)

    async def bcrypt(self, text: str, cost: int = 10) -> str:
        """The bcrypt hash of a text, as PHP writes it. Raises ServiceUnavailable where too many wait."""
        return await self._run(_bcrypt, text, cost)

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        if self.waiting >= QUEUE:
            raise ServiceUnavailable("Too many are signing in; try again shortly.", headers={"Retry-After": "1"})
        self.waiting += 1
        try:
            result: T = await deferToThreadPool(self.reactor, self.pool, work, *arguments)
            return result
        finally:
            self.waiting -= 1

    def stop(self) -> None:
        self.pool.stop()


def _bcrypt(text: str, cost: int) -> str:
    return "$2y$" + bcrypt.hashpw(text.encode()[:72], bcrypt.gensalt(cost)).decode()[4:]


def _verify(text: str, hashed: str | None) -> Verdict:
    if hashed and hashed.startswith(("$2y$", "$2b$", "$2a$")):
        # PHP writes $2y$ for what the others call $2b$, and both cut a password at 72 bytes.
        try:
            return Verdict(bcrypt.checkpw(text.encode()[:72], b"$2b$" + hashed[4:].encode()), outdated=True)
        except ValueError:
            return Verdict(False)
    try:
        _ARGON2.verify(hashed or _NOBODY, text)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return Verdict(False)
    return Verdict(hashed is not None, hashed is not None and _ARGON2.check_needs_rehash(hashed))
