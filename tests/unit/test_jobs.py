"""The runner of background jobs, with a clock that stands still unless it is told to move on."""

from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.task import Clock

from directus_tx.jobs.runner import Job, JobRunner

INTERVAL = 60.0


class Work:
    """The runs of a job, each under way until its Deferred fires."""

    def __init__(self) -> None:
        self.runs: list[defer.Deferred[None]] = []

    async def __call__(self) -> None:
        self.runs.append(defer.Deferred())
        await self.runs[-1]


@pytest.fixture
def clock() -> Clock:
    return Clock()


def runner(clock: Clock, work: Any) -> JobRunner:
    found = JobRunner(clock, Job("test", INTERVAL, work))
    found.startService()
    return found


def test_a_job_runs_an_interval_after_the_last_run_has_ended(clock: Clock) -> None:
    work = Work()
    runner(clock, work)
    clock.advance(INTERVAL - 1)
    assert len(work.runs) == 0
    clock.advance(1)
    assert len(work.runs) == 1
    clock.advance(10 * INTERVAL)
    assert len(work.runs) == 1, "a run that takes long is not joined by another"
    work.runs[0].callback(None)
    clock.advance(INTERVAL)
    assert len(work.runs) == 2


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError(), OSError(5, "disk")])
def test_a_run_that_fails_is_logged_and_the_job_runs_again(clock: Clock, error: Exception) -> None:
    work = Work()
    runner(clock, work)
    for number in range(3):
        clock.advance(INTERVAL)
        assert len(work.runs) == number + 1
        work.runs[-1].errback(error)


def test_stopping_cancels_the_run_and_waits_for_its_end(clock: Clock) -> None:
    ended = []

    async def work() -> None:
        try:
            await defer.Deferred()
        finally:
            ended.append(True)

    found = runner(clock, work)
    clock.advance(INTERVAL)
    stopped = found.stopService()
    assert stopped is None or stopped.called
    assert ended == [True]
    clock.advance(100 * INTERVAL)
    assert clock.getDelayedCalls() == []


def test_a_job_that_is_stopped_between_runs_does_not_run_again(clock: Clock) -> None:
    work = Work()
    found = runner(clock, work)
    clock.advance(INTERVAL)
    work.runs[0].callback(None)
    found.stopService()
    clock.advance(100 * INTERVAL)
    assert len(work.runs) == 1
