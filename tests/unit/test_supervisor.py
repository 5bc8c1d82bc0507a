"""The supervisor of the embedded database, with a clock that stands still unless it is told to move on."""

import pathlib

import pytest
from twisted.internet import defer
from twisted.internet.task import Clock

from directus_tx.embedded import EmbeddedError, EmbeddedPostgres, Interrupted, Supervisor
from directus_tx.embedded.supervisor import INTERVAL, PAUSES, STABLE_AFTER


class Scripted(EmbeddedPostgres):
    """A database that runs or not as the test says. `starts` are the attempts to start it, each under way until its Deferred fires."""

    def __init__(self, directory: pathlib.Path) -> None:
        super().__init__(directory)
        self.alive = True
        self.interrupted = False
        self.starts: list[defer.Deferred[bool]] = []

    def pid(self) -> int | None:
        return 1 if self.alive else None

    def interrupt(self) -> None:
        self.interrupted = True

    def in_thread(self, function: object) -> "defer.Deferred[bool]":
        assert function == self.start
        self.starts.append(defer.Deferred())
        return self.starts[-1]

    def succeed(self) -> None:
        self.alive = True
        self.starts[-1].callback(True)

    def fail(self, error: Exception) -> None:
        self.starts[-1].errback(error)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def postgres(tmp_path: pathlib.Path) -> Scripted:
    return Scripted(tmp_path)


@pytest.fixture
def supervisor(clock: Clock, postgres: Scripted) -> Supervisor:
    found = Supervisor(clock, postgres, postgres.in_thread)
    found.startService()
    return found


def seconds_until_start(clock: Clock, postgres: Scripted) -> float:
    """The seconds after which the next attempt begins."""
    before, since = len(postgres.starts), clock.seconds()
    while len(postgres.starts) == before:
        assert clock.seconds() < since + PAUSES[-1] + INTERVAL
        clock.advance(0.25)
    return clock.seconds() - since


def test_a_database_that_ends_is_started_at_the_next_look(clock: Clock, postgres: Scripted, supervisor: Supervisor) -> None:
    clock.advance(INTERVAL)
    assert (supervisor.up, postgres.starts) == (True, [])
    postgres.alive = False
    assert seconds_until_start(clock, postgres) == INTERVAL
    assert not supervisor.up
    clock.advance(1000)
    assert len(postgres.starts) == 1
    postgres.succeed()
    assert supervisor.up
    clock.advance(INTERVAL)
    assert len(postgres.starts) == 1


@pytest.mark.parametrize("error", [EmbeddedError("no"), OSError("no"), RuntimeError("no")])
def test_the_pauses_between_attempts_grow_to_the_longest(
    clock: Clock, postgres: Scripted, supervisor: Supervisor, error: Exception
) -> None:
    postgres.alive = False
    assert seconds_until_start(clock, postgres) == INTERVAL
    for pause in (*PAUSES[1:], PAUSES[-1], PAUSES[-1]):
        postgres.fail(error)
        assert seconds_until_start(clock, postgres) == pause


def test_a_database_that_ends_soon_after_its_start_is_started_after_a_longer_pause(
    clock: Clock, postgres: Scripted, supervisor: Supervisor
) -> None:
    for pause in PAUSES:
        postgres.alive = False
        assert seconds_until_start(clock, postgres) == INTERVAL + pause
        postgres.succeed()


def test_after_it_has_run_for_a_while_the_pauses_begin_again(clock: Clock, postgres: Scripted, supervisor: Supervisor) -> None:
    for _ in range(4):
        postgres.alive = False
        seconds_until_start(clock, postgres)
        postgres.succeed()
    clock.pump([INTERVAL] * int(STABLE_AFTER / INTERVAL + 2))
    postgres.alive = False
    assert seconds_until_start(clock, postgres) == INTERVAL


def test_stopping_ends_the_looking(clock: Clock, postgres: Scripted, supervisor: Supervisor) -> None:
    assert supervisor.stopService().called
    postgres.alive = False
    clock.advance(100)
    assert postgres.starts == []
    assert clock.getDelayedCalls() == []


def test_stopping_between_two_attempts_ends_the_attempts(clock: Clock, postgres: Scripted, supervisor: Supervisor) -> None:
    postgres.alive = False
    seconds_until_start(clock, postgres)
    postgres.fail(EmbeddedError("no"))
    assert supervisor.stopService().called
    clock.advance(100)
    assert len(postgres.starts) == 1


@pytest.mark.parametrize("error", [Interrupted("interrupted"), EmbeddedError("no"), None])
def test_stopping_interrupts_an_attempt_and_waits_until_it_has_ended(
    clock: Clock, postgres: Scripted, supervisor: Supervisor, error: Exception | None
) -> None:
    postgres.alive = False
    seconds_until_start(clock, postgres)
    stopped = supervisor.stopService()
    assert (postgres.interrupted, stopped.called) == (True, False)
    if error is None:
        postgres.succeed()
    else:
        postgres.fail(error)
    assert stopped.called
    clock.advance(100)
    assert len(postgres.starts) == 1
    assert clock.getDelayedCalls() == []
