"""Delivers the messages of the outbox, of all projects.

Several processes share the work: each claims messages (`outbox.queue`). A process looks into the outbox of a project when it has committed
messages itself, when the database notifies it of messages of programs that do not deliver, when it opens its first connection, when a
message is due again, and every `outbox.poll_interval` while a connection is open. Projects that are not used get no connection for that.
"""

import random
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet import defer
from twisted.logger import Logger

from directus_tx.config import OutboxSettings
from directus_tx.db.session import Session
from directus_tx.db.sqlstate import without_values
from directus_tx.errors import ApiError
from directus_tx.outbox.copies import divide
from directus_tx.outbox.kinds import Attempt, Delivery, Kind, Kinds, Outcome
from directus_tx.outbox.queue import NEXT_DUE, Claimed, Result, claim, expire, settle
from directus_tx.projects.project import Project
from directus_tx.projects.registry import Projects

log = Logger()

CLAIM_MARGIN = 5.0
"""Seconds that a claim is valid beyond the time limit of its kind, to write the result."""

FACTOR = 3.0
"""The factor between two pauses."""

JITTER = 0.2
"""The part of a pause by which it is made shorter or longer at random, so that messages that failed together are not tried together."""

MAX_RETRY_AFTER = 3600.0
"""The longest pause that a receiver can ask for, in seconds, unless the pause would be longer anyway."""

QUIET = 0.1
"""Seconds between two looks if the first one has found nothing that could be delivered. Otherwise each commit would look while a receiver
hangs."""

LOOK_AGAIN = 1.0
"""Seconds until the next look if messages are due, but cannot be claimed now."""

STOP_PATIENCE = 3.0
"""Seconds that deliveries have to finish when the server stops. Others are broken off and due again at once."""

REMINDER = 300.0
"""Seconds after which the log says again that the outbox of a project, or a destination, cannot be used."""


class Deliverer(Service):
    """A service that delivers the messages of all projects, by their *kinds*."""

    def __init__(self, reactor: Any, projects: Projects, kinds: Kinds, settings: OutboxSettings) -> None:
        self.reactor = reactor
        self.projects = projects
        self.kinds = kinds
        self.settings = settings
        self.free = settings.concurrency
        """The number of further messages that may be delivered."""
        self._of: dict[str, ProjectDeliveries] = {}
        self._timer: Any = None
        projects.on_outbox = self.wake

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        for _, project in self.projects.opened():
            self.wake(project)
        self._timer = self.reactor.callLater(self.settings.poll_interval, self._poll)

    def stopService(self) -> "defer.Deferred[Any]":
        super().stopService()  # type: ignore[no-untyped-call]
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        return defer.DeferredList([defer.Deferred.fromCoroutine(each.stop()) for each in self._of.values()])

    def wake(self, project: Project) -> None:
        """Looks for messages of a project that are due, and delivers them."""
        if not self.running:
            return
        found = self._of.get(project.key)
        if found is None:
            self._of[project.key] = found = ProjectDeliveries(self, project)
        # The project is another object if its file was changed.
        found.project = project
        found.wake()

    def give_back(self, number: int) -> None:
        """Frees places for deliveries."""
        full = self.free <= 0
        self.free += number
        if full and self.free > 0:
            for each in self._of.values():
                if each.waiting:
                    each.wake()

    def _poll(self) -> None:
        opened = dict(self.projects.opened())
        for key in self._of.keys() - opened.keys():
            self._of.pop(key).abandon()
        for project in opened.values():
            if project.database.listening:
                self.wake(project)
        self._timer = self.reactor.callLater(self.settings.poll_interval, self._poll)


class ProjectDeliveries:
    """Delivers the messages of a project. `waiting`: there may be messages for which the deliverer had no place."""

    def __init__(self, deliverer: Deliverer, project: Project) -> None:
        self.deliverer = deliverer
        self.project = project
        self.reactor = deliverer.reactor
        self.settings = deliverer.settings
        self.waiting = False
        self._wanted = False
        self._soon: Any = None
        self._work: defer.Deferred[None] | None = None
        self._timer: Any = None
        self._running: dict[defer.Deferred[None], str] = {}
        """The deliveries that are running, and their destinations."""
        self._failing: set[str] = set()
        """The destinations whose last delivery failed. They get one message at a time, so they take few places."""
        self._results: list[Result] = []
        self._divided = False
        """Whether the last look has divided rows (`outbox.copies`)."""
        self._in_vain = 0
        """How often rows were divided since a message was claimed."""
        self._not_before = 0.0
        """The time of the next look if no results are to be written."""
        self._ended = False
        self._told_at: float | None = None
        self._told_of: dict[str, float] = {}
        """When the log said last that messages to a destination cannot be delivered."""

    def wake(self) -> None:
        """Starts to work, or to look again after the present work."""
        self._wanted = True
        if self._soon is None and self._work is None and not self._ended:
            # Not at once: a connection that passes on a notification is not yet free for a statement. Several results are written together.
            self._soon = self.reactor.callLater(0, self._begin)

    def _begin(self) -> None:
        self._soon = None
        if not self._ended:
            self._work = defer.Deferred.fromCoroutine(self._look())
            self._work.addErrback(lambda failure: log.failure("delivering messages of {key}", failure, key=self.project.key))
            if self._work.called:
                self._work = None

    def abandon(self) -> None:
        """Claims no more messages."""
        self._ended = True
        self._stop_timer()
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None

    async def stop(self) -> None:
        """Claims no more messages, waits for running deliveries for STOP_PATIENCE seconds, and then makes their messages due again."""
        self.abandon()
        if self._running:
            timer = self.reactor.callLater(STOP_PATIENCE, self._break_off)
            await defer.DeferredList(list(self._running))
            if timer.active():
                timer.cancel()
        if self._work is not None:
            await defer.DeferredList([self._work])
        if not self._results:
            return
        try:
            await Session(self.project.database).transaction(self._settle)
        except ApiError as error:
            log.warn("project {key}: the results of deliveries are lost: {error}", key=self.project.key, error=str(error))

    async def _settle(self, session: Session) -> None:
        await settle(session, self._results, self.reactor.seconds())

    def _break_off(self) -> None:
        for running in list(self._running):
            running.cancel()

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    async def _look(self) -> None:
        """Writes results and claims messages until none is due."""
        try:
            while self._wanted and not self._ended:
                wait = self._not_before - self.reactor.seconds()
                if wait > 0 and not self._results:
                    self._look_later(wait)
                    return
                self._wanted = False
                self._stop_timer()
                try:
                    await self._once()
                except ApiError as error:
                    self._tell(error)
                    self._look_later(self.settings.poll_interval)
                    return
                self._told_at = None
        finally:
            self._work = None

    async def _once(self) -> None:
        if self.project.state != "ready" or not (self._results or await self._is_due()):
            # A project calls `on_outbox` when it is ready.
            return
        if self.project.read_only:
            # It may be writable again, which reading the snapshot finds. Statements that are refused would be logged.
            await self.project.snapshot()
            if self.project.read_only:
                self._look_later(self.settings.poll_interval)
                return
        room = max(self.deliverer.free, 0)
        self.waiting = room == 0
        if self.waiting and not self._results:
            return
        self.deliverer.free -= room
        started = 0
        try:
            results, self._results = self._results, []
            try:
                claimed = await Session(self.project.database).transaction(lambda session: self._exchange(session, results, room))
            except BaseException:
                self._results = results + self._results
                raise
            started = len(claimed.deliveries)
            if started:
                self._in_vain = 0
            elif claimed.complete:
                # Rows that were divided when nothing could be delivered are for receivers that hang: more of them need not be divided soon.
                self._in_vain += self._divided
                pause = LOOK_AGAIN if self._in_vain >= 2 else 0.0 if self._divided else QUIET
                self._not_before = self.reactor.seconds() + pause
            self._wanted |= not claimed.complete or started == room > 0 or self._divided
            for delivery in claimed.deliveries:
                self._start(claimed.claim, delivery)
        finally:
            self.deliverer.give_back(room - started)
        if not self._wanted:
            await self._is_due()

    async def _is_due(self) -> bool:
        """Whether a message can be claimed or a claim has run out. Looks again when that will be so. The connection that is used counts as
        idle for as long as before, so looking does not keep connections open."""
        full = [name for name, number in Counter(self._running.values()).items() if number >= self._limit(name)]
        (seconds,) = await self.project.database.ask(NEXT_DUE, {"full": full})
        if full and (seconds is None or seconds > 0):
            self._not_before = self.reactor.seconds() + QUIET
        if seconds is None:
            return False
        if seconds > 0:
            self._look_later(seconds)
            return False
        self._look_later(LOOK_AGAIN)
        return True

    async def _exchange(self, session: Session, results: Sequence[Result], room: int) -> Claimed:
        await settle(session, results, self.reactor.seconds())
        await expire(session, self.settings.max_attempts)
        busy = Counter(self._running.values())
        rooms = {name: self._limit(name) - number for name, number in busy.items()}
        rooms |= {name: self._limit(name) - busy[name] for name in self._failing}
        times = {name: kind.time_limit + CLAIM_MARGIN for name, kind in self.deliverer.kinds.items()}
        claimed = await claim(
            session,
            room=room,
            room_of_each=self.settings.destination_concurrency,
            rooms=rooms,
            times=times,
            other_time=CLAIM_MARGIN,
        )
        self._divided = len(claimed.deliveries) < room and await divide(session) > 0
        return claimed

    def _limit(self, destination: str) -> int:
        return 1 if destination in self._failing else self.settings.destination_concurrency

    def _look_later(self, seconds: float) -> None:
        self._stop_timer()
        if not self._ended:
            self._timer = self.reactor.callLater(max(seconds, 0.01), self.wake)

    def _start(self, claim: uuid.UUID, delivery: Delivery) -> None:
        running = defer.Deferred.fromCoroutine(self._deliver(claim, delivery))
        if running.called:
            return
        self._running[running] = delivery.message.destination
        running.addBoth(self._forget, running)

    def _forget(self, _: object, running: "defer.Deferred[None]") -> None:
        del self._running[running]

    async def _deliver(self, claim: uuid.UUID, delivery: Delivery) -> None:
        started = self.reactor.seconds()
        attempt: Attempt | None
        try:
            attempt = await self._attempt(delivery)
        except defer.CancelledError:
            attempt = None
        pause = None if attempt is None else self._pause(delivery, attempt)
        result = Result(delivery, claim, attempt, started, self.reactor.seconds(), pause)
        if attempt is not None:
            (self._failing.add if attempt.outcome is Outcome.RETRY else self._failing.discard)(delivery.message.destination)
            if pause is not None:
                self._tell_of_failure(delivery, attempt, pause)
        if result.state == "dead":
            _tell_dead(self.project.key, delivery, attempt)
        self._results.append(result)
        self.deliverer.give_back(1)
        self.wake()

    async def _attempt(self, delivery: Delivery) -> Attempt:
        kind = self.deliverer.kinds.get(delivery.message.kind)
        if kind is None:
            return Attempt(Outcome.HELD, error=f'There is no kind of message "{delivery.message.kind}" on this server.')
        work = defer.Deferred.fromCoroutine(_delivered(kind, self.project, delivery))
        timer = self.reactor.callLater(kind.time_limit, work.cancel)
        try:
            return await work
        except GeneratorExit:
            raise
        except BaseException as error:
            if isinstance(error, defer.CancelledError):
                if not timer.active():
                    return Attempt(Outcome.RETRY, error=f"The delivery took longer than {kind.time_limit:g} seconds.")
                if self._ended:
                    raise
            # A kind may be one of a plugin. SystemExit and the cancellations of other event loops are failures like others.
            log.failure(
                "project {key}: delivering message {id} ({kind})",
                key=self.project.key,
                id=delivery.id,
                kind=delivery.message.kind,
            )
            return Attempt(Outcome.RETRY, error="The server has failed; its log says why.")
        finally:
            if timer.active():
                timer.cancel()

    def _pause(self, delivery: Delivery, attempt: Attempt) -> float | None:
        """Returns the seconds until the next attempt, or None if there is none."""
        settings = self.settings
        if attempt.outcome is not Outcome.RETRY or delivery.attempt >= settings.max_attempts:
            return None
        pause = min(settings.first_pause * FACTOR ** min(delivery.attempt - 1, 50), settings.max_pause)
        pause *= random.uniform(1 - JITTER, 1 + JITTER)
        return max(pause, min(attempt.retry_after or 0.0, MAX_RETRY_AFTER))

    def _tell_of_failure(self, delivery: Delivery, attempt: Attempt, pause: float) -> None:
        """Logs that a message is tried again, for each destination once in REMINDER seconds."""
        now, destination = self.reactor.seconds(), delivery.message.destination
        self._told_of = {each: at for each, at in self._told_of.items() if now < at + REMINDER}
        if destination in self._told_of:
            return
        self._told_of[destination] = now
        log.warn(
            "project {project}: message {id} ({kind} to {destination}) is tried again in {pause:.0f} seconds, attempt {attempt}: {error}",
            project=self.project.key,
            id=delivery.id,
            kind=delivery.message.kind,
            destination=destination,
            pause=pause,
            attempt=delivery.attempt,
            error=attempt.error,
        )

    def _tell(self, error: ApiError) -> None:
        now = self.reactor.seconds()
        if self._told_at is None or now >= self._told_at + REMINDER:
            self._told_at = now
            log.warn("project {key}: the outbox cannot be used: {error}", key=self.project.key, error=without_values(error))


def _tell_dead(project: str, delivery: Delivery, attempt: Attempt | None) -> None:
    log.error(
        "project {project}: message {id} ({kind} to {destination}) is dead after {attempts} attempts: {error}",
        project=project,
        id=delivery.id,
        kind=delivery.message.kind,
        destination=delivery.message.destination,
        attempts=delivery.attempt,
        error=attempt.error if attempt else "",
    )


async def _delivered(kind: Kind, project: Project, delivery: Delivery) -> Attempt:
    """Returns the result of an attempt. Raises TypeError if the kind returns something else, and what it raises."""
    attempt = await kind.deliver(project, delivery)
    if not isinstance(attempt, Attempt):
        raise TypeError(f"deliver must return an Attempt, not {type(attempt).__name__}")
    return attempt
