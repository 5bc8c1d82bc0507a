"""The places of reads that hold a connection for long."""

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from directus_tx.db.long_reads import LongReads
from directus_tx.errors import ClientGone, ServiceUnavailable


class Reads:
    """Reads of pools "a" and "b", of 4 connections each, on a server with so many."""

    def __init__(self, connections: int = 100) -> None:
        self.clock = Clock()
        self.long_reads = LongReads(self.clock, lambda: connections)
        self.running: list[tuple[str, Deferred[None]]] = []
        self.refused: list[str] = []

    def begin(self, name: str, queue_size: int = 10, caller: Any = None, size: int = 4) -> "set[Deferred[Any]]":
        """Starts a read, and returns what can be cancelled while it waits."""
        pool = name[0]
        waiting: set[Deferred[Any]] = set()

        async def read() -> None:
            place: AbstractAsyncContextManager[None] = self.long_reads.place(
                pool, size, queue_size=queue_size, queue_timeout=10.0, caller=caller, waiting=waiting
            )
            async with place:
                end: Deferred[None] = Deferred()
                self.running.append((name, end))
                await end

        Deferred.fromCoroutine(read()).addErrback(self._refuse, name)
        return waiting

    def _refuse(self, failure: Any, name: str) -> None:
        if failure.check(ClientGone):
            return
        failure.trap(ServiceUnavailable)
        assert int(failure.value.headers["Retry-After"]) > 0
        self.refused.append(name)

    def end(self, name: str) -> None:
        (found,) = [each for each in self.running if each[0] == name]
        self.running.remove(found)
        found[1].callback(None)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.running]


def test_a_pool_gives_half_of_its_connections() -> None:
    reads = Reads()
    for name in ("a1", "a2", "a3", "a4", "b1"):
        reads.begin(name)
    assert reads.names == ["a1", "a2", "b1"]
    reads.end("a1")
    assert reads.names == ["a2", "b1", "a3"]
    reads.end("b1")
    assert reads.names == ["a2", "a3"]
    reads.end("a2")
    assert reads.names == ["a3", "a4"]


def test_all_pools_give_half_of_what_the_server_has() -> None:
    reads = Reads(connections=6)
    for name in ("a1", "a2", "a3", "b1", "b2"):
        reads.begin(name)
    assert reads.names == ["a1", "a2", "b1"]
    reads.end("b1")
    assert reads.names == ["a1", "a2", "b2"]
    reads.end("a1")
    assert reads.names == ["a2", "b2", "a3"]


@pytest.mark.parametrize("connections", [0, 1, 2, 3])
def test_there_is_always_one_place(connections: int) -> None:
    reads = Reads(connections=connections)
    reads.begin("a1")
    reads.begin("b1")
    assert reads.names == ["a1"]
    reads.end("a1")
    assert reads.names == ["b1"]


def test_who_waits_too_long_is_refused() -> None:
    reads = Reads()
    for name in ("a1", "a2", "a3"):
        reads.begin(name)
    reads.clock.advance(6)
    reads.begin("a4")
    reads.clock.advance(6)
    assert reads.refused == ["a3"]
    reads.end("a1")
    assert reads.names == ["a2", "a4"]
    reads.clock.advance(60)
    assert reads.refused == ["a3"]
    assert reads.clock.getDelayedCalls() == []


def test_more_than_may_wait_are_refused_at_once() -> None:
    reads = Reads()
    for number in range(6):
        reads.begin(f"a{number}", queue_size=3)
    assert reads.refused == ["a5"]


def test_a_client_that_goes_leaves_the_queue_at_once() -> None:
    reads = Reads()
    for name in ("a1", "a2"):
        reads.begin(name)
    (waiter,) = waiting = reads.begin("a3")
    reads.begin("a4")
    waiter.cancel()
    assert (len(reads.long_reads.waiting), waiting, reads.refused) == (1, set(), [])
    reads.end("a1")
    assert reads.names == ["a2", "a4"]
    reads.end("a2")
    reads.end("a4")
    assert reads.clock.getDelayedCalls() == []


def test_one_caller_leaves_a_place_to_others_and_who_has_fewest_is_served_first() -> None:
    reads = Reads()
    for number in range(6):
        reads.begin(f"a{number} of x", caller="x", size=10)
    assert reads.names == [f"a{number} of x" for number in range(4)]
    reads.begin("a of y", caller="y", size=10)
    reads.begin("a2 of y", caller="y", size=10)
    reads.begin("a of z", caller="z", size=10)
    assert reads.names[4:] == ["a of y"]
    reads.end("a0 of x")
    assert reads.names[4:] == ["a of z"]
    reads.end("a of z")
    assert reads.names[4:] == ["a2 of y"]
    reads.end("a1 of x")
    assert reads.names[4:] == ["a4 of x"]


def test_one_caller_does_not_fill_the_queue() -> None:
    reads = Reads()
    for number in range(10):
        reads.begin(f"a{number}", queue_size=5, caller="x")
    assert reads.refused == [f"a{number}" for number in range(5, 10)]
    reads.begin("a of y", queue_size=5, caller="y")
    assert "a of y" in reads.names


@given(st.lists(st.sampled_from(["begin a", "begin b", "end", "wait"]), max_size=60), st.integers(2, 8))
def test_no_more_than_half_read_and_none_is_left_waiting(steps: list[str], connections: int) -> None:
    reads = Reads(connections)
    for number, step in enumerate(steps):
        if step.startswith("begin"):
            reads.begin(f"{step[-1]}{number}")
        elif step == "end" and reads.running:
            reads.end(reads.names[0])
        elif step == "wait":
            reads.clock.advance(4)
        held = [name[0] for name in reads.names]
        assert len(held) <= connections // 2
        assert max(held.count("a"), held.count("b")) <= 2
        for read in reads.long_reads.waiting:
            assert held.count(str(read.pool)) == 2 or len(held) == connections // 2
    while reads.running:
        reads.end(reads.names[0])
    assert not reads.long_reads.waiting
