"""Thread pools with bounded queues."""

import threading

from pytest_twisted import ensureDeferred
from twisted.internet import defer, reactor

from directus_tx.errors import ServiceUnavailable
from directus_tx.threads import Threads


@ensureDeferred
async def test_one_caller_cannot_fill_the_queue() -> None:
    threads = Threads(reactor, "test", "busy", threads=1, queue=10)
    threads.start()
    goes_on = threading.Event()

    def ask(caller: str | None) -> defer.Deferred[bool]:
        return defer.Deferred.fromCoroutine(threads.run(goes_on.wait, 30, caller=caller))

    try:
        flood = [ask("flood") for _ in range(20)]
        others = [ask("other"), ask(None), ask("another")]
        refused = [each for each in (*flood, *others) if each.called]
        assert refused == [*flood[8:], others[2]]
        for each in refused:
            each.addErrback(lambda failure: failure.trap(ServiceUnavailable))
        goes_on.set()
        assert await defer.gatherResults([*flood[:8], *others[:2]]) == [True] * 10
        # What is done does not count.
        assert await threads.run(goes_on.wait, caller="flood")
        assert not threads._waiting_of
    finally:
        goes_on.set()
        threads.stop()
