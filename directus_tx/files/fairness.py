"""Fair limits for projects and callers: of the processes that decode pictures, of thumbnails, and of uploads. No project, and no caller in
a project, can use all of them or keep the others waiting."""

from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred

from directus_tx.db.callers import Caller, most_for_one
from directus_tx.errors import ServiceUnavailable

Owner = tuple[str, Caller]
"""A project, and a caller in it."""

NOBODY: Owner = ("", None)


class Permit:
    """A permit of a semaphore, for one caller or for several who want the same. A context that waits for one of the places and gives it
    back at the end. It can be entered again."""

    def __init__(self, semaphore: "FairSemaphore", project: str, caller: Caller) -> None:
        self.semaphore = semaphore
        self.askers = [(project, caller)]
        self.waiting: Deferred[None] | None = None
        self.served: tuple[str, Caller] | None = None
        """For whom the place is used."""

    def join(self, project: str, caller: Caller) -> None:
        """Adds a caller who wants the same. The permit is given as soon as one of its callers would get one."""
        if (project, caller) not in self.askers:
            self.askers.append((project, caller))
            if self.waiting is not None:
                self.semaphore._add(self, project, caller)

    async def __aenter__(self) -> None:
        await self.semaphore._take(self)

    async def __aexit__(self, *_: Any) -> None:
        self.semaphore._give_back(self)


class FairSemaphore:
    """A semaphore with a number of *places*. The next place that is free goes to the project that uses the fewest, and there to the caller
    that uses the fewest; of those that use as many, to the one that has waited longest since it had one. The permits of a caller are
    served in the order in which it has asked for them."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._waiting: dict[str, dict[Caller, dict[Permit, None]]] = {}
        """In the order in which projects, callers and permits are served: who has had a place last is at the end."""
        self._used: Counter[Any] = Counter()
        """The places in use, by project and by project and caller."""

    def ask(self, project: str = "", caller: Caller = None) -> Permit:
        """Returns a permit. Entering its context waits for a place."""
        return Permit(self, project, caller)

    async def _take(self, permit: Permit) -> None:
        if self.places and not self._waiting:
            self._serve(permit, *permit.askers[0])
            return
        permit.waiting = Deferred(lambda _: self._remove(permit))
        for project, caller in permit.askers:
            self._add(permit, project, caller)
        await permit.waiting

    def _give_back(self, permit: Permit) -> None:
        assert permit.served is not None
        project, caller = permit.served
        permit.served = None
        self._used.subtract((project, (project, caller)))
        # Only those with places are kept.
        self._used = +self._used
        self.places += 1
        self._postpone(project, caller)
        self._serve_next()

    def _add(self, permit: Permit, project: str, caller: Caller) -> None:
        self._waiting.setdefault(project, {}).setdefault(caller, {})[permit] = None

    def _remove(self, permit: Permit) -> None:
        """Removes a permit from those that wait."""
        permit.waiting = None
        for project, caller in permit.askers:
            callers = self._waiting[project]
            del callers[caller][permit]
            if not callers[caller]:
                del callers[caller]
            if not callers:
                del self._waiting[project]

    def _serve(self, permit: Permit, project: str, caller: Caller) -> None:
        self.places -= 1
        permit.served = project, caller
        self._used.update((project, (project, caller)))

    def _serve_next(self) -> None:
        while self.places and self._waiting:
            # min returns the first of several.
            project = min(self._waiting, key=lambda each: self._used[each])
            callers = self._waiting[project]
            caller = min(callers, key=lambda each: self._used[project, each])
            permit = next(iter(callers[caller]))
            waiting = permit.waiting
            assert waiting is not None
            self._remove(permit)
            self._postpone(project, caller)
            self._serve(permit, project, caller)
            waiting.callback(None)

    def _postpone(self, project: str, caller: Caller) -> None:
        """Puts a project and a caller behind the others that wait, because it has had a place."""
        callers = self._waiting.get(project)
        if callers is None:
            return
        self._waiting[project] = self._waiting.pop(project)
        if caller in callers:
            callers[caller] = callers.pop(caller)


class AdmissionLimit:
    """Counts pieces of work that are being done or wait for that. A project may have four fifths of them, and a caller four fifths of those
    of its project, so that there is room for others. The server itself, the caller None, may have all of its project."""

    def __init__(self) -> None:
        self._taken: Counter[Any] = Counter()

    def __len__(self) -> int:
        return self._taken[()]

    def enter(self, most: int, project: str, caller: Caller, what: str) -> None:
        """Counts a piece of work, until `leave`. Raises ServiceUnavailable if there are *most* already, or the project or the caller has as
        many as it may have. *what* begins its message: it says what they are, and which setting limits them."""
        share = most_for_one(most)
        own = share if caller is None else most_for_one(share)
        for key, limit in (((), most), (project, share), ((project, caller), own)):
            if self._taken[key] >= limit:
                raise ServiceUnavailable(f"{what}; try again shortly.", headers={"Retry-After": "5"})
        self._taken.update(((), project, (project, caller)))

    def leave(self, project: str, caller: Caller) -> None:
        self._taken.subtract(((), project, (project, caller)))
        self._taken = +self._taken
