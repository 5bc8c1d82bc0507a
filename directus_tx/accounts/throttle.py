"""Limits attempts to guess a secret: a password, a one-time password, a static token, or the super admin token.

Failed attempts are counted for the address that they come from, within a project, and for the account. Those of a caller who signs in are
also counted in the table directus_failed_attempts, so that all processes and servers of a project count them together. Only a failed
attempt is written, and the same statement returns what others have counted; so a sign-in that succeeds costs nothing. A process can admit
one attempt before it knows of those of others.

Of the attempts that run at the same time in a process, no more are admitted than may still fail. The others wait until one of those ends.
"""

import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from directus_tx import rate_limits
from directus_tx.config import RateLimitSettings
from directus_tx.context import Context
from directus_tx.db.session import Session
from directus_tx.errors import ApiError, ServiceUnavailable, TooManyRequests
from directus_tx.rate_limits import Limiter, Rate, Recent, network_of, refusal

log = Logger()

MAX_WAITING = 64
"""The maximum number of attempts that wait for those that are running, by key."""

MAX_ADDRESSES = 100
"""The maximum number of addresses of a user's sessions that are compared."""

_PURPOSE = "failed-attempts"

# The rows are always written in the same order: address, address and account, account. So two statements cannot wait for each other.
# What is kept of the account is a keyed hash, because callers also try addresses that nobody has.
_COUNT = """
WITH account (hash) AS (SELECT encode(sha256(convert_to(%(salt)s || lower(%(account)s), 'UTF8')), 'hex')),
keys (place, key, pause) AS (
    SELECT 1, 'address ' || %(network)s, %(address_pause)s::float8 FROM account
    UNION ALL SELECT 2, 'pair ' || %(network)s || ' ' || hash, %(account_pause)s FROM account
    UNION ALL SELECT 3, 'account ' || hash, %(account_pause)s FROM account
)
INSERT INTO directus_failed_attempts AS f (key, restored_on)
SELECT key, now() + make_interval(secs => pause) FROM keys WHERE key IS NOT NULL AND pause IS NOT NULL ORDER BY place
ON CONFLICT (key) DO UPDATE SET
    restored_on = least(greatest(f.restored_on, now()) + (excluded.restored_on - now()), now() + make_interval(secs => %(most)s))
RETURNING split_part(key, ' ', 1), extract(epoch FROM restored_on - now())::float8
"""
_PRUNE = """
DELETE FROM directus_failed_attempts WHERE key IN (
    SELECT key FROM directus_failed_attempts WHERE restored_on <= now() LIMIT %s FOR UPDATE SKIP LOCKED
) RETURNING key"""
_ADDRESSES = """
SELECT DISTINCT s.ip_address FROM directus_users u JOIN directus_user_sessions s ON s."user" = u.id
WHERE lower(u.email) = lower(%s) LIMIT %s"""


class Running:
    """The attempts that are running and may fail, by key: no more at a time than the rate of *limiter* allows to fail. *setting* and
    *where* are those of the refusal."""

    def __init__(self, limiter: Limiter, setting: str, where: str) -> None:
        self.limiter = limiter
        self._setting = setting
        self._where = where
        self._running: dict[Hashable, int] = {}
        self._waiting: dict[Hashable, deque[Deferred[None]]] = {}
        self._admitting: set[Hashable] = set()

    def __len__(self) -> int:
        """The number of keys of which attempts are running or waiting."""
        return len(self._running.keys() | self._waiting.keys())

    def check(self, key: Hashable) -> None:
        """Raises TooManyRequests if too many attempts have failed."""
        _check(self.limiter, key, self._setting, self._where)

    def has_room(self, key: Hashable) -> bool:
        """Whether one more attempt may begin at once."""
        return key not in self._waiting and not self.limiter.wait(key) and self._is_free(key)

    def _is_free(self, key: Hashable) -> bool:
        return self._running.get(key, 0) < max(self.limiter.remaining(key), 1)

    @asynccontextmanager
    async def attempt(self, key: Hashable) -> AsyncIterator[None]:
        """A context in which a secret is tried. It is entered when there is room. Raises TooManyRequests if too many attempts have failed
        or fail meanwhile, and ServiceUnavailable if too many wait already."""
        self.check(key)
        if key not in self._waiting and self._is_free(key):
            self._running[key] = self._running.get(key, 0) + 1
        else:
            queue = self._waiting.setdefault(key, deque())
            if len(queue) >= MAX_WAITING:
                raise ServiceUnavailable(f"Too many attempts are being made {self._where}; try again shortly.")
            waiter: Deferred[None] = Deferred()
            queue.append(waiter)
            await waiter
        try:
            yield
        finally:
            self._running[key] -= 1
            if not self._running[key]:
                del self._running[key]
            self._admit(key)

    def _admit(self, key: Hashable) -> None:
        """Admits or refuses those that wait, in their order, as far as that can be decided."""
        if key in self._admitting:
            # An attempt that has just been admitted has ended already. The loop that has admitted it goes on.
            return
        self._admitting.add(key)
        try:
            while queue := self._waiting.get(key):
                try:
                    self.check(key)
                except ApiError as error:
                    self._next(key, queue).errback(error)
                    continue
                if not self._is_free(key):
                    break
                self._running[key] = self._running.get(key, 0) + 1
                self._next(key, queue).callback(None)
        finally:
            self._admitting.discard(key)

    def _next(self, key: Hashable, queue: "deque[Deferred[None]]") -> "Deferred[None]":
        found = queue.popleft()
        if not queue:
            del self._waiting[key]
        return found


class Throttle:
    """The failed attempts that a process knows of. *seconds* is a monotonic clock. A *network* is what `network_of` returns for an address,
    None for an address without a limit. A *project* is the key of a project, empty for the super admin token."""

    def __init__(self, settings: RateLimitSettings, seconds: Callable[[], float]) -> None:
        def limiter(number: int) -> Limiter | None:
            return Limiter(Rate(number), seconds) if number else None

        self._addresses = limiter(settings.failures_per_address)
        self._accounts = limiter(settings.failures_per_account)
        self._pairs = limiter(settings.failures_per_account)
        self._tokens: Recent[bool] = Recent(60.0, seconds)
        # Static tokens that users have had. They are no guesses, also when the project has forgotten them because an account has changed.
        self._accepted: Recent[bool] = Recent(math.inf, seconds)

        def running(limiter: Limiter | None, setting: str, where: str) -> Running | None:
            return None if limiter is None else Running(limiter, setting, where)

        self._of_addresses = running(self._addresses, "failures_per_address", "from this address")
        self._of_accounts = running(self._accounts, "failures_per_account", "for this account")
        self._of_pairs = running(self._pairs, "failures_per_account", "for this account")

    @asynccontextmanager
    async def trying_token(self, project: str, network: str | None, token: str | None = None) -> AsyncIterator[None]:
        """A context in which a token of a caller at an address is looked up. Raises TooManyRequests if too many attempts from the address
        have failed, unless *token* is a static one that `accept_token` was called with."""
        if self._of_addresses is None or network is None or self._accepted.get((project, hash(token))):
            yield
        else:
            async with self._of_addresses.attempt((project, network)):
                yield

    @asynccontextmanager
    async def trying_account(self, ctx: Context, account: str, network: str | None) -> AsyncIterator[None]:
        """A context in which a secret is tried for an account, named by its e-mail address. Raises TooManyRequests if too many attempts
        have failed for the account or from the address. So that somebody else who tries passwords does not keep the user from signing in,
        addresses from which the user has a session are counted by themselves."""
        accounts, pairs = self._of_accounts, self._of_pairs
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.trying_token(ctx.project, network))
            if accounts is not None and pairs is not None:
                key = (ctx.project, account.lower())
                pair = (*key, network)
                await stack.enter_async_context(pairs.attempt(pair))
                # Others who try passwords take no room from the user.
                if accounts.has_room(key) or not await _has_session(ctx, account, network):
                    try:
                        await stack.enter_async_context(accounts.attempt(key))
                    except TooManyRequests:
                        # The next attempt from here need not ask the database.
                        pairs.limiter.set(pair, accounts.limiter.used(key))
                        raise
            yield

    def check_address(self, project: str, network: str | None) -> None:
        """Raises TooManyRequests if too many attempts from an address have failed."""
        if self._addresses is not None and network is not None:
            _check(self._addresses, (project, network), "failures_per_address", "from this address")

    def fail_address(self, project: str, network: str | None) -> None:
        """Counts a failed attempt from an address, in this process only."""
        if self._addresses is not None and network is not None:
            _add(self._addresses, (project, network), project, network)

    def accept_token(self, project: str, token: str) -> None:
        """Notes a static token that a user has."""
        self._accepted.set((project, hash(token)), True)

    def fail_token(self, project: str, network: str | None, token: str) -> None:
        """Counts a static token that nobody has as a failed attempt, unless it has been counted before: a program with an old token sends
        it again and again, and guesses nothing."""
        key = (project, network, hash(token))
        if self._addresses is not None and network is not None and not self._tokens.get(key):
            self._tokens.set(key, True)
            self.fail_address(project, network)

    async def fail_account(self, ctx: Context, account: str, network: str | None) -> None:
        """Counts a failed attempt for an account, named by its e-mail address. Where the database cannot be written, it is counted in this
        process only."""
        limiters = {"address": self._addresses, "pair": self._pairs, "account": self._accounts}
        account_key = (ctx.project, account.lower())
        keys: dict[str, Any] = {"address": (ctx.project, network), "pair": (*account_key, network), "account": account_key}
        counted: dict[str, float] = {}
        if not (ctx.schema.read_only or ctx.db.database.read_only):
            try:
                counted = await self._count(ctx, account, network)
            except ApiError as error:
                log.warn(
                    "failed attempts to sign in to project {project} are counted in this process only: {error}",
                    project=ctx.project,
                    error=error.message,
                )
        for name, limiter in limiters.items():
            if limiter is not None and (name != "address" or network is not None):
                _add(limiter, keys[name], ctx.project, network, counted.get(name, 0.0))

    async def _count(self, ctx: Context, account: str, network: str | None) -> dict[str, float]:
        """Counts a failed attempt in the database. Returns how much is used of each limit, as `Limiter.used` does."""

        def pause(limiter: Limiter | None) -> float | None:
            return None if limiter is None else limiter.rate.interval

        values = {
            "salt": ctx.keys.fingerprint(_PURPOSE, ""),
            "account": account,
            "network": network,
            "address_pause": pause(self._addresses),
            "account_pause": pause(self._accounts),
            "most": rate_limits.MAX_USED,
        }
        # A session of its own: the failed attempt is no change that the request has made.
        own = Session(ctx.db.database, caller=ctx.accountability.ip)
        rows = await own.transaction(lambda own: own.query(_COUNT, values))
        return dict(rows)


async def remove_restored(session: Session, limit: int) -> int:
    """Removes up to *limit* rows of failed attempts that count no more, and returns their number."""
    return len(await session.transaction(lambda session: session.query(_PRUNE, (limit,))))


async def _has_session(ctx: Context, account: str, network: str | None) -> bool:
    """Whether the user of an account has a session from a network."""
    rows = await ctx.db.query(_ADDRESSES, (account, MAX_ADDRESSES))
    return network is not None and any(network_of(address or "") == network for (address,) in rows)


def _check(limiter: Limiter, key: Any, setting: str, where: str) -> None:
    wait = limiter.wait(key)
    if wait:
        raise refusal(setting, limiter.rate, wait, f"Too many attempts {where} have failed")


def _add(limiter: Limiter, key: Any, project: str, network: str | None, counted: float = 0.0) -> None:
    """Counts a failed attempt. *counted* is how much is used according to the database, which does not know of those that only this process
    counts. Logs when that is one too many."""
    admitted = not limiter.wait(key)
    limiter.add(key)
    if counted > limiter.used(key):
        limiter.set(key, counted)
    if admitted and limiter.wait(key):
        log.warn(
            "too many attempts to sign in to {project} have failed, the last one from {network}; further ones are refused",
            project=f"project {project}" if project else "the server",
            network=network or "an address without a limit",
        )
