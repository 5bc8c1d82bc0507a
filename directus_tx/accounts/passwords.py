"""Hashes and checks passwords in threads: hashing is slow by design and must not block the reactor.

Signing in, writes and the /utils endpoints have separate thread pools and queues, so that many requests of one kind do not block
the others.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from attrs import frozen

from directus_tx.accounts import hashes
from directus_tx.threads import Threads


@frozen
class Verdict:
    """Whether a password is correct, and whether its hash should be replaced by a new one."""

    valid: bool
    outdated: bool = False


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

    async def verify(self, text: str, hashed: str | None, kinds: Iterable[str] = (), *, caller: Hashable = None) -> Verdict:
        """Whether *text* matches the hash; *hashed* is None if there is no user or no password. *caller* is who signs in, for example an
        address.

        *kinds* are the kinds of all hashes in use. The work is always one check of each kind, so that its duration does not
        reveal whether there is a hash, or of which kind. Raises ServiceUnavailable if the queue is full, or if *caller* has four fifths of
        it already.
        """
        return await self._sign_ins.run(_verify, text, hashed, frozenset(kinds), caller=caller)

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
