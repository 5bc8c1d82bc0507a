"""The retention job: removes activity and revisions that exceed the age or number in `history.retention`.

Comments are kept, because users wrote them.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from attrs import frozen
from twisted.internet import defer
from twisted.internet.task import deferLater
from twisted.logger import Logger

from directus_tx.config import HistorySettings, Retention, retention_of
from directus_tx.context import current_time
from directus_tx.db.session import Session
from directus_tx.jobs.runner import Job
from directus_tx.projects.registry import Projects

log = Logger()
BATCH = 1000
PRUNING_LOCK = 0x64697265_63747031
"""The key of the advisory lock of the process that removes history."""

PAUSE = 0.1
"""Seconds between batches, so that requests are answered in between."""


@frozen
class Pruned:
    """The numbers of activity records and of their revisions that were removed."""

    activity: int = 0
    revisions: int = 0

    def __add__(self, other: "Pruned") -> "Pruned":
        return Pruned(self.activity + other.activity, self.revisions + other.revisions)


async def prune(session: Session, rules: Iterable[Retention], now: datetime, pause: Any = None) -> Pruned:
    """Removes the history of a project that exceeds the rules. Each batch is a transaction; the awaitable that *pause* returns is awaited
    between batches. *now* must have a time zone. Returns what was removed."""
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
    """Returns the collections in the activity. The query takes one index lookup for each collection."""
    rows = await session.query(
        "WITH RECURSIVE known AS ("
        " (SELECT collection FROM directus_activity ORDER BY collection LIMIT 1)"
        " UNION ALL SELECT (SELECT a.collection FROM directus_activity AS a WHERE a.collection > known.collection"
        " ORDER BY a.collection LIMIT 1) FROM known WHERE known.collection IS NOT NULL"
        ") SELECT collection FROM known WHERE collection IS NOT NULL"
    )
    return [row[0] for row in rows]


async def _last_by_count(session: Session, collection: str, rule: Retention) -> int:
    """Returns the id of the newest record that exceeds the number to keep, or 0 if there is none."""
    if rule.records is None:
        return 0
    rows = await session.query(
        "SELECT id FROM directus_activity WHERE collection = %s AND action <> 'comment' ORDER BY id DESC OFFSET %s LIMIT 1",
        (collection, rule.records),
    )
    return rows[0][0] if rows else 0


async def _batch(session: Session, collection: str, last: int, oldest: datetime | None) -> Pruned:
    """Removes up to BATCH of the oldest records with their revisions. Ids are in the order of time, so it stops at the first record that is
    kept. Removes nothing while another process does this."""
    ((alone,),) = await session.query("SELECT pg_try_advisory_xact_lock(%s)", (PRUNING_LOCK,))
    if not alone:
        return Pruned()
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


def retention_job(
    reactor: Any, projects: Projects, settings: HistorySettings, now: Callable[[], datetime] = current_time
) -> Job | None:
    """Returns the job that prunes the history of all projects, or None if there are no rules. *now* returns the time of day."""
    rules = [retention_of(text) for text in settings.retention]
    return Job("retention", settings.prune_interval, lambda: prune_all(reactor, projects, rules, now)) if rules else None


async def prune_all(
    reactor: Any, projects: Projects, rules: Sequence[Retention], now: Callable[[], datetime] = current_time
) -> dict[str, Pruned]:
    """Prunes the history of all projects, and returns what was removed from each. A failure is logged, and the project is skipped.
    *now* returns the time of day."""

    def pause() -> "defer.Deferred[None]":
        return deferLater(reactor, PAUSE)

    done: dict[str, Pruned] = {}
    for key in projects.files.keys(private=True):
        try:
            session = Session(projects.get(key).database)
            done[key] = await prune(session, rules, now(), pause)
        except defer.CancelledError:
            raise
        except Exception as error:
            log.error("the history of project {key} cannot be pruned: {error}", key=key, error=error)
            continue
        if done[key].activity:
            log.info(
                "project {key}: removed {activity} records of the activity and {revisions} revisions (history.retention)",
                key=key,
                activity=done[key].activity,
                revisions=done[key].revisions,
            )
    return done
