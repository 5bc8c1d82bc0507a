"""Retention: how long the history of collections is kept, and the background job that removes what is older or more.

Off unless `history.retention` says something. Comments stay: they are what people have written, not what the server has noted.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import frozen
from twisted.application.service import Service
from twisted.internet import defer
from twisted.logger import Logger

from directus_tx.config import Retention, retention_of
from directus_tx.db.session import Session
from directus_tx.projects.registry import Projects

log = Logger()
BATCH = 1000
PAUSE = 0.1
"""Seconds between batches: whoever answers requests meanwhile comes first."""


@frozen
class Pruned:
    """What a run has removed: records of the activity, with their revisions."""

    activity: int = 0
    revisions: int = 0

    def __add__(self, other: "Pruned") -> "Pruned":
        return Pruned(self.activity + other.activity, self.revisions + other.revisions)


async def prune(session: Session, rules: Iterable[Retention], now: datetime, pause: Any = None) -> Pruned:
    """Removes from a project's history what the rules do not keep, a batch a transaction, with a *pause* (a function that gives an
    awaitable) between them. *now* is in UTC."""
    named = {rule.collection: rule for rule in rules}
    total = Pruned()
    for collection in await _collections(session):
        rule = named.get(collection, named.get("*"))
        if rule is None:
            continue
        total += await _prune_collection(session, collection, rule, now, pause)
    return total


async def _prune_collection(session: Session, collection: str, rule: Retention, now: datetime, pause: Any) -> Pruned:
    last = await _last_by_count(session, collection, rule)
    oldest = None if rule.days is None else now - timedelta(days=rule.days)

    async def batch(session: Session) -> Pruned:
        return await _batch(session, collection, last, oldest)

    total = Pruned()
    while True:
        pruned = await session.transaction(batch)
        total += pruned
        if pruned.activity < BATCH:
            return total
        if pause is not None:
            await pause()


async def _collections(session: Session) -> list[str]:
    """The collections that the activity knows, one step through its index for each."""
    rows = await session.query(
        "WITH RECURSIVE known AS ("
        " (SELECT collection FROM directus_activity ORDER BY collection LIMIT 1)"
        " UNION ALL SELECT (SELECT a.collection FROM directus_activity AS a WHERE a.collection > known.collection"
        " ORDER BY a.collection LIMIT 1) FROM known WHERE known.collection IS NOT NULL"
        ") SELECT collection FROM known WHERE collection IS NOT NULL"
    )
    return [row[0] for row in rows]


async def _last_by_count(session: Session, collection: str, rule: Retention) -> int:
    """The newest record that is one too many; 0 where there is none."""
    if rule.records is None:
        return 0
    rows = await session.query(
        "SELECT id FROM directus_activity WHERE collection = %s AND action <> 'comment' ORDER BY id DESC OFFSET %s LIMIT 1",
        (collection, rule.records),
    )
    return rows[0][0] if rows else 0


async def _batch(session: Session, collection: str, last: int, oldest: datetime | None) -> Pruned:
    """Removes up to BATCH of the oldest records with their revisions. Records are in the order of their
    time, so that the walk ends at the first that stays."""
    rows = await session.query(
        "SELECT id, action_on < %s FROM directus_activity WHERE collection = %s AND action <> 'comment'"
        f" ORDER BY id LIMIT {BATCH} FOR UPDATE SKIP LOCKED",
        (oldest, collection),
    )
    ids = []
    for id, old in rows:
        if not old and id > last:
            break
        ids.append(id)
    if not ids:
        return Pruned()
    ((revisions,),) = await session.query(
        "WITH gone AS (DELETE FROM directus_revisions WHERE activity = ANY(%s) RETURNING 1),"
        " done AS (DELETE FROM directus_activity WHERE id = ANY(%s))"
        " SELECT count(*) FROM gone",
        (ids, ids),
    )
    return Pruned(len(ids), revisions)


class Pruner(Service):  # type: ignore[misc]
    """Prunes the history of every project now and then. What fails is logged, and tried again the next time."""

    def __init__(self, reactor: Any, projects: Projects, retention: Iterable[str], interval: float) -> None:
        self.reactor = reactor
        self.projects = projects
        self.rules = [retention_of(text) for text in retention]
        self.interval = interval
        self._timer: Any = None
        self._running: defer.Deferred[Any] | None = None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        if self.rules:
            self._timer = self.reactor.callLater(self.interval, self._run)

    def stopService(self) -> "defer.Deferred[Any] | None":
        super().stopService()  # type: ignore[no-untyped-call]
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._running is not None:
            self._running.cancel()
        return self._running

    def _run(self) -> None:
        self._running = defer.Deferred.fromCoroutine(self.prune_all())
        self._running.addBoth(self._again)

    def _again(self, _: object) -> None:
        self._running = None
        if self.running:
            self._timer = self.reactor.callLater(self.interval, self._run)

    async def prune_all(self) -> dict[str, Pruned]:
        """Prunes each project, and gives what was removed of it."""
        done: dict[str, Pruned] = {}
        for key in self.projects.files.keys(private=True):
            try:
                session = Session(self.projects.get(key).database)
                now = datetime.fromtimestamp(self.reactor.seconds(), UTC).replace(tzinfo=None)
                done[key] = await prune(session, self.rules, now, self._pause)
            except defer.CancelledError:
                raise
            except Exception as error:
                log.error("the history of project {key} cannot be pruned: {error}", key=key, error=error)
                continue
            if done[key].activity:
                log.info(
                    "project {key}: {activity} records of the activity and {revisions} revisions are past their retention",
                    key=key,
                    activity=done[key].activity,
                    revisions=done[key].revisions,
                )
        return done

    def _pause(self) -> "defer.Deferred[None]":
        pause: defer.Deferred[None] = defer.Deferred(lambda _: waiting.cancel())
        waiting = self.reactor.callLater(PAUSE, pause.callback, None)
        return pause
