"""Permits are given fairly between projects, and between the callers of each."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from directus_tx.errors import ServiceUnavailable
from directus_tx.files.fairness import AdmissionLimit, FairSemaphore, Permit


class Work:
    """Pieces of work, in the order in which they get a place, each until it is ended."""

    def __init__(self, places: int) -> None:
        self.semaphore = FairSemaphore(places)
        self.served: list[Any] = []
        self.ends: dict[Any, Deferred[None]] = {}
        self.running: dict[Any, Deferred[None]] = {}

    def begin(self, name: Any, project: str = "p", caller: Any = "c") -> Permit:
        permit = self.semaphore.ask(project, caller)

        async def work() -> None:
            async with permit:
                self.served.append(name)
                end = self.ends[name] = Deferred()
                await end

        self.running[name] = Deferred.fromCoroutine(work())
        return permit

    def end(self, name: Any) -> None:
        self.ends.pop(name).callback(None)

    def end_all(self) -> None:
        while self.ends:
            self.end(next(iter(self.ends)))


def test_places_are_used_up_and_given_back() -> None:
    work = Work(2)
    for name in range(4):
        work.begin(name)
    assert work.served == [0, 1]
    work.end(0)
    work.end_all()
    assert work.served == [0, 1, 2, 3]
    assert (work.semaphore.places, work.semaphore._waiting, +work.semaphore._used) == (2, {}, {})


@pytest.mark.parametrize("places", [1, 2, 5])
def test_others_are_served_before_the_rest_of_a_flood(places: int) -> None:
    for project, caller in (("p", "other"), ("q", "c")):
        work = Work(places)
        for number in range(20):
            work.begin(("flood", number))
        work.begin("other", project, caller)
        work.end(("flood", 0))
        assert work.served == [*(("flood", number) for number in range(places)), "other"]
        work.end_all()


def test_a_project_with_many_callers_has_as_much_as_one_with_one() -> None:
    work = Work(1)
    work.begin("first", "p", 0)
    for caller in range(1, 40):
        work.begin(("p", caller), "p", caller)
    for number in range(5):
        work.begin(("q", number), "q", 0)
    work.end_all()
    projects = [name[0] for name in work.served[1:11]]
    assert projects == ["q", "p"] * 5
    assert [name for name in work.served[1:] if name[0] == "p"] == [("p", caller) for caller in range(1, 40)]


def test_a_caller_that_asks_again_and_again_takes_turns_with_those_that_wait() -> None:
    work = Work(1)
    for caller in ("a", "b"):
        for number in range(5):
            work.begin((caller, number), "p", caller)
    for number in range(4):
        # It asks again when it has been served.
        work.begin(("c", number), "p", "c")
        while ("c", number) not in work.ends:
            work.end(next(iter(work.ends)))
        assert sum(name[0] != "c" for name in work.served) <= 2 * (number + 1) + 1
    work.end_all()


def test_who_waits_for_the_work_of_another_has_its_own_turn() -> None:
    work = Work(1)
    permits = [work.begin(number, "p", "flood") for number in range(10)]
    permits[9].join("p", "other")
    permits[9].join("p", "other")
    work.end(0)
    assert work.served == [0, 9]
    # It counts for the caller who was served.
    assert permits[9].served == ("p", "other")
    work.end_all()
    assert sorted(work.served) == list(range(10))
    assert (work.semaphore.places, +work.semaphore._used) == (1, {})


def test_a_turn_can_be_used_again() -> None:
    work = Work(1)
    used = []

    async def twice() -> None:
        permit = work.semaphore.ask("p", "a")
        for number in range(2):
            async with permit:
                used.append(number)

    work.begin("first")
    Deferred.fromCoroutine(twice())
    assert used == []
    work.end("first")
    assert used == [0, 1]


def test_whoever_is_cancelled_takes_no_place() -> None:
    work = Work(1)
    permits = {name: work.begin(name, "p", name) for name in ("a", "b", "c", "d")}
    permits["b"].join("q", "x")
    for name in ("b", "a"):
        failures: list[Any] = []
        work.running[name].addErrback(lambda failure, found=failures: found.append(failure.trap(CancelledError)))
        work.running[name].cancel()
        assert failures == [CancelledError]
    assert work.served == ["a", "c"]
    del work.ends["a"]
    work.end("c")
    assert work.served == ["a", "c", "d"]
    work.end_all()


def test_places_are_never_lost_whatever_happens() -> None:
    for seed in range(30):
        chance = random.Random(seed)
        work = Work(3)
        permits: dict[int, Permit] = {}
        for number in range(200):
            permits[number] = work.begin(number, chance.choice("pq"), chance.randrange(4))
            action = chance.random()
            if action < 0.5 and work.ends:
                work.end(chance.choice(list(work.ends)))
            elif action < 0.7:
                chosen = chance.randrange(number + 1)
                work.running[chosen].addErrback(lambda failure: failure.trap(CancelledError))
                work.ends.pop(chosen, None)
                work.running[chosen].cancel()
            elif action < 0.8:
                permits[chance.randrange(number + 1)].join(chance.choice("pq"), chance.randrange(4))
            assert len(work.ends) <= 3
            assert work.semaphore.places == 3 - len(work.ends)
            assert not (work.semaphore.places and work.semaphore._waiting)
        work.end_all()
        assert (work.semaphore.places, work.semaphore._waiting, +work.semaphore._used) == (3, {}, {})


def entered(room: AdmissionLimit, most: int, project: str, caller: Callable[[int], Any]) -> int:
    """Returns how many pieces of work of a project there is room for."""
    for number in range(most + 1):
        try:
            room.enter(most, project, caller(number), "There are many (a setting)")
        except ServiceUnavailable:
            return number
    raise AssertionError("there is no limit")


def test_the_error_says_what_there_are_too_many_of() -> None:
    with pytest.raises(ServiceUnavailable) as refused:
        AdmissionLimit().enter(0, "p", "one", "There are many (a setting)")
    assert refused.value.message == "There are many (a setting); try again shortly."
    assert refused.value.headers == {"Retry-After": "5"}


def test_there_is_room_for_others() -> None:
    room = AdmissionLimit()
    assert entered(room, 100, "p", lambda _: "one") == 64
    assert entered(room, 100, "p", lambda number: number) == 16
    assert entered(room, 100, "q", lambda number: number) == 20
    assert len(room) == 100
    for _ in range(64):
        room.leave("p", "one")
    assert entered(room, 100, "p", lambda _: "one") == 64
    assert entered(AdmissionLimit(), 1, "p", lambda _: "one") == 1
    assert entered(AdmissionLimit(), 0, "p", lambda _: "one") == 0
    assert entered(AdmissionLimit(), 100, "p", lambda _: None) == 80
