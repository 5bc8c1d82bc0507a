"""What the databases hold at the end, against what was acknowledged: nothing is lost, half there, or there twice."""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from attrs import frozen

from tests.soak.load import Write
from tests.soak.servers import PROJECTS, WRITTEN, Servers


@frozen
class Verdict:
    """How many writes were `acknowledged`, how many of those were `found`, how many were `unknown` to their clients, and how many of those
    were `written`. `errors` says what is not as it must be."""

    acknowledged: int
    found: int
    unknown: int
    written: int
    errors: list[str]


def judge(servers: Servers, writes: Iterable[Write]) -> Verdict:
    """Compares all projects with the writes of all clients."""
    by_project: dict[str, list[Write]] = defaultdict(list)
    for write in writes:
        by_project[write.project].append(write)
    counts: Counter[str] = Counter()
    errors: list[str] = []
    for project in PROJECTS:
        with contextlib.closing(servers.connect(project)) as connection:
            errors += [f"{project}: {error}" for error in _judge(connection, by_project[project], counts)]
    return Verdict(counts["acknowledged"], counts["found"], counts["unknown"], counts["written"], errors)


def _rows(connection: Any, statement: str) -> list[Any]:
    cursor = connection.cursor()
    cursor.execute(statement, {"written": list(WRITTEN)})
    return list(cursor.fetchall())


def _judge(connection: Any, writes: list[Write], counts: Counter[str]) -> list[str]:
    errors = []
    revisions: dict[str, Counter[str]] = defaultdict(Counter)
    for name, collection, number in _rows(
        connection,
        "SELECT delta::json ->> 'op', collection, count(*) FROM directus_revisions WHERE collection = ANY (%(written)s) GROUP BY 1, 2",
    ):
        revisions[name][collection] = number
    deleted = Counter(
        (collection, int(item))
        for collection, item in _rows(
            connection,
            "SELECT collection, item FROM directus_activity WHERE collection = ANY (%(written)s) AND action = 'delete'",
        )
    )
    for write in writes:
        if write.deleted is not None:
            number = deleted[write.deleted]
            there, half = number == 1, number > 1
        else:
            found = revisions.pop(write.name, Counter())
            there, half = found == Counter(write.revisions), bool(found) and found != Counter(write.revisions)
            if half:
                errors.append(f"write {write.name} is there in part: {dict(found)} of {dict(write.revisions)}")
        counts["acknowledged" if write.acknowledged else "unknown"] += 1
        if there:
            counts["found" if write.acknowledged else "written"] += 1
        elif write.acknowledged and not half:
            errors.append(f"the acknowledged write {write.name} {write.deleted or ''} is not there")
    errors += [f"revisions of a write that nobody asked for: {name} {dict(found)}" for name, found in revisions.items()]
    return errors + _history(connection, deleted)


def _history(connection: Any, deleted: Counter[Any]) -> list[str]:
    """Each item has an activity for its creation, one for each change with one revision each, and is as its last revision has it."""
    errors = []
    lonely = _rows(
        connection,
        "SELECT count(*) FROM directus_activity a FULL JOIN directus_revisions r ON r.activity = a.id"
        " WHERE coalesce(a.collection, r.collection) = ANY (%(written)s) AND a.action IS DISTINCT FROM 'delete'"
        " AND (a.id IS NULL OR r.id IS NULL OR (a.collection, a.item) IS DISTINCT FROM (r.collection, r.item))",
    )
    if lonely != [(0,)]:
        errors.append(f"{lonely[0][0]} activities without their revision or revisions without their activity")
    double = _rows(connection, "SELECT activity FROM directus_revisions GROUP BY 1 HAVING count(*) > 1")
    if double:
        errors.append(f"{len(double)} activities with more than one revision")
    created = Counter(
        (collection, int(item))
        for collection, item in _rows(
            connection,
            "SELECT collection, item FROM directus_activity WHERE collection = ANY (%(written)s) AND action = 'create'",
        )
    )
    last = {
        (collection, int(item)): name
        for collection, item, name in _rows(
            connection,
            "SELECT DISTINCT ON (collection, item) collection, item, data::json ->> 'op' FROM directus_revisions"
            " WHERE collection = ANY (%(written)s) ORDER BY collection, item, id DESC",
        )
    }
    present = {}
    for collection in WRITTEN:
        present |= {(collection, key): name for key, name in _rows(connection, f"SELECT id, op FROM {collection}")}
    if set(created) - set(deleted) != set(present) or any(number != 1 for number in created.values()):
        errors.append(
            f"items and their creations differ: {len(created)} created, {len(deleted)} deleted, {len(present)} present;"
            f" {sorted((set(created) - set(deleted)) ^ set(present))[:5]}"
        )
    stale = [key for key, name in present.items() if last.get(key) != name]
    if stale:
        errors.append(f"{len(stale)} items are not as their last revision has them: {stale[:5]}")
    strangers = _rows(
        connection,
        "SELECT a.id FROM articles a LEFT JOIN authors b ON b.id = a.author"
        " WHERE split_part(a.title, '.', 1) <> '' AND split_part(a.title, '.', 1) IS DISTINCT FROM b.name",
    )
    if strangers:
        errors.append(f"{len(strangers)} articles are not with the author that they were made with: {strangers[:5]}")
    return errors
