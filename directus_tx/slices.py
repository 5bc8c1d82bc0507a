"""Divides work on many items into slices, between which the reactor serves other requests."""

from collections.abc import AsyncIterator, Iterable
from time import monotonic
from typing import Any, TypeVar

from twisted.internet.task import deferLater

T = TypeVar("T")
SLICE = 0.005
"""Seconds of work after which the reactor runs."""


async def in_slices(reactor: Any, items: Iterable[T]) -> AsyncIterator[T]:
    """Yields the items. Lets the reactor run before the next item if the work on the items has taken SLICE seconds since it last
    did."""
    until = monotonic() + SLICE
    for item in items:
        yield item
        if monotonic() > until:
            await deferLater(reactor, 0)
            until = monotonic() + SLICE
