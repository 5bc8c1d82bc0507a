"""Rate limits in memory: how often something may happen in a minute, counted by key, for example by address.

The algorithm is GCRA, the generic cell rate algorithm: of each key one number is kept, the time at which its whole limit can be used again.
"""

import ipaddress
import math
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Generic, TypeVar

from attrs import frozen

from directus_tx.errors import TooManyRequests

T = TypeVar("T")
CAPACITY = 20_000
"""The maximum number of keys of a limit. Beyond it, those that have not been used longest are forgotten."""

WINDOW = 60.0
"""The seconds that rates are counted in."""

MAX_USED = 2 * WINDOW
"""The most that is counted of a key, as `Limiter.used` measures it. So all of a limit is restored after two minutes without an attempt."""


@frozen
class Rate:
    """A rate: `number` in WINDOW seconds. All of them may come at once; then one of them is restored every `interval` seconds."""

    number: int

    @property
    def interval(self) -> float:
        return WINDOW / self.number


class Recent(Generic[T]):
    """Values by key that are kept for *lasts* to 2 * *lasts* seconds after they were set, at most *capacity* of them: those that were set
    last. Each operation takes the same time, however many there are. *seconds* is a monotonic clock."""

    def __init__(self, lasts: float, seconds: Callable[[], float], capacity: int = CAPACITY) -> None:
        self._lasts = lasts
        self._seconds = seconds
        self._half = capacity // 2
        self._newer: dict[Hashable, T] = {}
        self._older: dict[Hashable, T] = {}
        self._began = seconds()

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def get(self, key: Hashable) -> T | None:
        """Returns the value of a key, or None."""
        found = self._newer.get(key)
        return self._older.get(key) if found is None else found

    def set(self, key: Hashable, value: T) -> None:
        """Sets the value of a key."""
        now = self._seconds()
        if len(self._newer) >= self._half or now - self._began >= self._lasts:
            # What has not been set for two generations is forgotten.
            self._older = self._newer if now - self._began < 2 * self._lasts else {}
            self._newer = {}
            self._began = now
        self._newer[key] = value
        self._older.pop(key, None)


class Limiter:
    """Counts how much of a rate is used, by key. *seconds* is a monotonic clock."""

    def __init__(self, rate: Rate, seconds: Callable[[], float], capacity: int = CAPACITY) -> None:
        self.rate = rate
        self._seconds = seconds
        self._restored: Recent[float] = Recent(MAX_USED, seconds, capacity)

    def __len__(self) -> int:
        """The number of keys that are kept; 0 if nothing has been counted."""
        return len(self._restored)

    def used(self, key: Hashable) -> float:
        """Returns how much of the rate a key has used: the seconds until all of it is restored."""
        restored = self._restored.get(key)
        return 0.0 if restored is None else max(restored - self._seconds(), 0.0)

    def wait(self, key: Hashable) -> float:
        """Returns the seconds until a key may be used once more; 0 if it may be now."""
        return max(self.used(key) + self.rate.interval - WINDOW - 1e-6, 0.0)

    def remaining(self, key: Hashable) -> int:
        """Returns how often a key may be used at once."""
        return max(math.floor((WINDOW - self.used(key)) / self.rate.interval + 1e-6), 0)

    def add(self, key: Hashable) -> None:
        """Counts one use of a key, whether it is within the rate or not."""
        self.set(key, self.used(key) + self.rate.interval)

    def set(self, key: Hashable, used: float) -> None:
        """Sets how much of the rate a key has used: the seconds until all of it is restored."""
        self._restored.set(key, self._seconds() + min(used, MAX_USED))


@lru_cache(maxsize=1000)
def network_of(address: str) -> str:
    """Returns what requests from an IP address are counted for: an IPv4 address, or the IPv6 network of 64 bits, because such a network
    usually belongs to one subscriber. A text that is not an address is returned as it is, cut to 64 characters."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(found) >> 64 << 64))


def policy_header(name: str, rate: Rate) -> str:
    """Returns a member of the header RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers). *name* is the setting of the limit."""
    return f'"{name}";q={rate.number};w={math.ceil(WINDOW)}'


def limit_header(name: str, remaining: int, seconds: float) -> str:
    """Returns a member of the header RateLimit: how many uses remain, and the *seconds* until all or more of them are restored."""
    return f'"{name}";r={remaining};t={math.ceil(seconds)}'


def refusal(name: str, rate: Rate, wait: float, reason: str) -> TooManyRequests:
    """Returns the error for a use that exceeds a limit. *name* is its setting; one use is restored in *wait* seconds; *reason* says what
    there was too much of, as a sentence without an end."""
    seconds = math.ceil(wait)
    return TooManyRequests(
        f"{reason} (rate_limits.{name}); try again in {seconds} second{'s' if seconds > 1 else ''}.",
        headers={
            "Retry-After": str(seconds),
            "RateLimit-Policy": policy_header(name, rate),
            "RateLimit": limit_header(name, 0, wait),
        },
    )
