"""The reactor's clock is monotonic: timers keep their intervals when the system clock is set."""

import time

import pytest
from twisted.internet import base
from twisted.internet.selectreactor import SelectReactor

from directus_tx.backend import use_monotonic_clock

DAY = 86400.0


class SystemClock:
    """A system clock that can be set."""

    def __init__(self) -> None:
        self.offset = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset


@pytest.fixture
def system_clock() -> SystemClock:
    return SystemClock()


@pytest.fixture
def reactor(system_clock: SystemClock, monkeypatch: pytest.MonkeyPatch) -> SelectReactor:
    """A reactor that follows the system clock."""
    monkeypatch.setattr(base.ReactorBase, "seconds", staticmethod(system_clock))
    return SelectReactor()


def run(reactor: SelectReactor) -> None:
    """Runs the timers that are due."""
    for _ in range(3):
        reactor.iterate(0.0)


@pytest.mark.parametrize("change", [-DAY, -3600.0, 3600.0, DAY])
def test_timers_keep_their_seconds_when_the_system_clock_is_set(
    reactor: SelectReactor, system_clock: SystemClock, change: float
) -> None:
    fired: list[str] = []
    timers = [
        reactor.callLater(0.0, fired.append, "scheduled before, due"),
        reactor.callLater(1800.0, fired.append, "scheduled before, later"),
    ]
    use_monotonic_clock(reactor)
    timers += [reactor.callLater(0.0, fired.append, "due"), reactor.callLater(1800.0, fired.append, "later")]
    started = reactor.seconds()
    system_clock.offset = change
    assert 0 <= reactor.seconds() - started < 600
    run(reactor)
    assert sorted(fired) == ["due", "scheduled before, due"]
    for timer in timers[1::2]:
        assert 1200 < timer.getTime() - reactor.seconds() <= 1800
        timer.cancel()


def test_a_timer_can_be_cancelled_reset_and_delayed_after_the_change(reactor: SelectReactor) -> None:
    fired: list[str] = []
    cancelled = reactor.callLater(0.0, fired.append, "cancelled")
    sooner = reactor.callLater(1800.0, fired.append, "sooner")
    delayed = reactor.callLater(0.0, fired.append, "delayed")
    ended = reactor.callLater(0.0, fired.append, "ended")
    ended.cancel()
    use_monotonic_clock(reactor)
    use_monotonic_clock(reactor)
    cancelled.cancel()
    sooner.reset(0.0)
    delayed.delay(1800.0)
    run(reactor)
    assert fired == ["sooner"]
    delayed.cancel()
