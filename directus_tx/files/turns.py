"""Shares what files need, the processes that decode pictures and the number of uploads, between projects and callers: none keeps all others
waiting."""

from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred

from directus_tx.db.callers import Caller, most_for_one
from directus_tx.errors import ServiceUnavailable

Owner = tuple[str, Caller]
"""A project, and a caller in it."""

NOBODY: Owner = ("", None)


class Turn:
    """A place that is waited for, on behalf of one caller or several who want the same. A context, which waits for the place and gives it
    back at the end; it can be entered again."""

    def __init__(self, turns: "Turns", project: str, caller: Caller) -> None:
        self.turns = turns
        self.askers = [(project, caller)]
        self.waiting: Deferred[None] | None = None
        self.served: tuple[str, Caller] | None = None
        """For whom the place is used."""

    def join(self, project: str, caller: Caller) -> None:
        """Call this when another caller waits for the same: it is served when the first of them would be."""
        if (project, caller) not in self.askers:
            self.askers.append((project, caller))
            if self.waiting is not None:
                self.turns._add(self, project, caller)

    async def __aenter__(self) -> None:
        await self.turns._take(self)

    async def __aexit__(self, *_: Any) -> None:
        self.turns._give_back(self)


class Turns:
    """So many *places*, which go to the project that has the fewest in use, and there to the caller with the fewest. Those with the same
    number are served in turns. A caller is served in the order in which it asks."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._waiting: dict[str, dict[Caller, dict[Turn, None]]] = {}
        """In the order in which projects, callers and turns are served: who has had a place last is at the end."""
        self._used: Counter[Any] = Counter()
        """The places in use, by project and by project and caller."""

    def ask(self, project: str = "", caller: Caller = None) -> Turn:
        """Returns a turn, which is waited for when its context is entered."""
        return Turn(self, project, caller)

    async def _take(self, turn: Turn) -> None:
        if self.places and not self._waiting:
            self._serve(turn, *turn.askers[0])
            return
        turn.waiting = Deferred(lambda _: self._remove(turn))
        for project, caller in turn.askers:
            self._add(turn, project, caller)
        await turn.waiting

    def _give_back(self, turn: Turn) -> None:
        assert turn.served is not None
        project, caller = turn.served
        turn.served = None
        self._used.subtract((project, (project, caller)))
        # Only those with places are kept.
        self._used = +self._used
        self.places += 1
        self._postpone(project, caller)
        self._serve_next()

    def _add(self, turn: Turn, project: str, caller: Caller) -> None:
        self._waiting.setdefault(project, {}).setdefault(caller, {})[turn] = None

    def _remove(self, turn: Turn) -> None:
        """Removes a turn from those that wait."""
        turn.waiting = None
        for project, caller in turn.askers:
            callers = self._waiting[project]
            del callers[caller][turn]
            if not callers[caller]:
                del callers[caller]
            if not callers:
                del self._waiting[project]

    def _serve(self, turn: Turn, project: str, caller: Caller) -> None:
        self.places -= 1
        turn.served = project, caller
        self._used.update((project, (project, caller)))

    def _serve_next(self) -> None:
        while self.places and self._waiting:
            # min returns the first of several.
            project = min(self._waiting, key=lambda each: self._used[each])
            callers = self._waiting[project]
            caller = min(callers, key=lambda each: self._used[project, each])
            turn = next(iter(callers[caller]))
            waiting = turn.waiting
            assert waiting is not None
            self._remove(turn)
            self._postpone(project, caller)
            self._serve(turn, project, caller)
            waiting.callback(None)

    def _postpone(self, project: str, caller: Caller) -> None:
        """Puts a project and a caller behind the others that wait, because it has had a place."""
        callers = self._waiting.get(project)
        if callers is None:
            return
        self._waiting[project] = self._waiting.pop(project)
        if caller in callers:
            callers[caller] = callers.pop(caller)


class Room:
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
