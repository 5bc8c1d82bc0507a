"""Limits the time of what plugins do."""

import inspect
from collections.abc import Callable
from typing import Any

from twisted.internet import defer


def within(reactor: Any, seconds: float, result: Any, cut: Callable[[], Exception]) -> "Any | defer.Deferred[Any]":
    """Returns an awaitable for *result*, which is what a function of a plugin has returned: an awaitable or a value. After this many
    *seconds*, 0 for no limit, it raises the exception that *cut* returns, and what is awaited is cancelled; if the plugin goes on
    nevertheless, its result is dropped."""
    if not isinstance(result, defer.Deferred):
        if not inspect.isawaitable(result):
            return _ready(result)
        result = defer.Deferred.fromCoroutine(result if inspect.iscoroutine(result) else _awaited(result))
    waited: defer.Deferred[Any] = defer.Deferred(lambda _: result.cancel())
    timer: Any = None

    def ended(value: Any) -> None:
        if timer is not None and timer.active():
            timer.cancel()
        if not waited.called:
            waited.callback(value)

    def cut_off() -> None:
        waited.errback(cut())
        result.cancel()

    result.addBoth(ended)
    if not waited.called and seconds:
        timer = reactor.callLater(seconds, cut_off)
    return waited


async def _ready(value: Any) -> Any:
    return value


async def _awaited(value: Any) -> Any:
    return await value
