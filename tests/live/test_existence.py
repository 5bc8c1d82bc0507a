"""Whether an item is there that a caller may neither read nor delete makes no difference to what any write answers.

What is inherent is left out: a new item cannot have a key that is taken, and is refused with 409.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg2.extras
from attrs import frozen
from hypothesis import given, note, settings
from hypothesis import strategies as st

from tests.conftest import examples
from tests.live.test_permissions import (
    ANY,
    CALLERS,
    DATA,
    RULES,
    TABLES,
    Caller,
    Data,
    Rules,
    World,
    payloads,
    prepare,
    related,
    world,
    writes,
)

__all__ = ["world"]

Answered = tuple[int, Any]
KEYS = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 90])


@frozen
class Step:
    """A request that writes; `tag` is its header If-Match."""

    method: str
    path: str
    body: Any = None
    tag: str | None = None


def path_of(table: str, keys: Sequence[int]) -> str:
    return f"/items/{table}" + ("/" + ",".join(map(str, keys)) if keys else "")


def steps(table: str) -> st.SearchStrategy[Step]:
    """Requests that name items by their keys in every way there is."""
    shape = TABLES[table]
    keys = st.lists(KEYS, min_size=1, max_size=3, unique=True)
    tags = st.sampled_from(["*", '"nonsense"'])
    plain = payloads(table, 0)
    listed = st.lists(st.builds(lambda key, body: {"id": key, **body}, KEYS, plain), min_size=1, max_size=3)
    found = [
        st.builds(lambda k, body: Step("PATCH", path_of(table, k), body), keys, plain),
        st.builds(lambda body: Step("PATCH", path_of(table, []), body), listed),
        st.builds(lambda k: Step("DELETE", path_of(table, k)), keys),
        st.builds(lambda k, tag, body: Step("PATCH", path_of(table, [k]), body, tag), KEYS, tags, plain),
        st.builds(lambda k, tag: Step("DELETE", path_of(table, [k]), None, tag), KEYS, tags),
        st.builds(lambda k, revision: Step("PATCH", f"{path_of(table, [k])}/revert/{revision}"), KEYS, KEYS),
        st.builds(lambda k: Step("POST", "/activity/comment", {"collection": table, "item": k, "comment": "c"}), KEYS),
    ]
    objects = {name: one(target) for name, target in shape.ones.items()}
    lists = {name: st.lists(one(many), min_size=1, max_size=3) for name, (many, _) in shape.manies.items()}
    nested = st.fixed_dictionaries({}, optional={**objects, **lists}).filter(bool)
    found += [
        st.builds(lambda k, body: Step("PATCH", path_of(table, [k]), body), KEYS, nested),
        st.builds(lambda body: Step("POST", path_of(table, []), body), nested),
        st.builds(lambda body: Step("POST", path_of(table, []), body), st.lists(nested, min_size=1, max_size=3)),
    ]
    return st.one_of(found)


def one(table: str) -> st.SearchStrategy[Any]:
    """An item of a related collection, named by its key."""
    key = st.builds(lambda key: {"id": key}, KEYS)
    changed = st.builds(lambda key, body: {"id": key, **body}, KEYS, payloads(table, 0))
    deleted = st.builds(lambda key: {"id": key, "$delete": True}, KEYS)
    return st.one_of(key, changed, deleted, related(table, 1))


ANY_STEP = st.one_of(
    *(steps(table) for table in TABLES), writes().map(lambda write: Step(write[0], path_of(write[1], write[2]), write[3]))
)


def hidden_rows(caller: Caller, data: Data) -> dict[str, list[int]]:
    """The keys of the rows that the caller may neither read nor delete."""
    return {
        table: [key for key, row in rows.items() if not (caller.may(table, "read", row) or caller.may(table, "delete", row))]
        for table, rows in data.items()
    }


def without(data: Data, keys: Mapping[str, Sequence[int]]) -> Data:
    return {table: {k: row for k, row in rows.items() if k not in keys[table]} for table, rows in copy.deepcopy(data).items()}


def make_revisions(world: World, data: Data) -> None:
    """One revision of every item, with the item's key as its id; 90 is of none."""
    world.query("DELETE FROM directus_revisions WHERE id < 100")
    rows = [(key, table, str(key), "{}", "{}") for table in ("things",) for key in data[table]]
    with world.connection.cursor() as cursor:
        sql = "INSERT INTO directus_revisions (id, activity, collection, item, data, delta) VALUES %s"
        psycopg2.extras.execute_values(cursor, sql, rows, "(%s, 1, %s, %s, %s, %s)")


def ask(world: World, caller: Caller, step: Step) -> Answered:
    """The status of an answer and what it says: data, or code and message."""
    headers = {"Content-Type": "application/json"}
    if caller.token is not None:
        headers["Authorization"] = f"bearer {caller.token}"
    if step.tag is not None:
        headers["If-Match"] = step.tag
    world.rewind()
    world.http.request(step.method, f"/perms{step.path}", json.dumps(step.body or {}), headers)
    answer = world.http.getresponse()
    text = answer.read()
    found = json.loads(text) if text else None
    if step.path == "/activity/comment" and answer.status == 200:
        found = None
    return answer.status, found


@settings(ANY, max_examples=examples(60))
@given(caller=CALLERS, others=RULES, data=DATA, wanted=st.lists(ANY_STEP, min_size=20, max_size=24))
def test_no_write_tells_whether_a_hidden_item_is_there(
    world: World, caller: Caller, others: Rules, data: Data, wanted: list[Step]
) -> None:
    prepare(world, caller, others, data)
    make_revisions(world, data)
    answers: list[list[Answered]] = []
    hidden = hidden_rows(caller, data)
    for state in (data, without(data, hidden)):
        world.store(state)
        answers.append([])
        for step in wanted:
            answers[-1].append(ask(world, caller, step))
            if answers[-1][-1][0] < 400:
                world.store(state)
    note(f"hidden: {hidden}")
    for step, one_way, other in zip(wanted, *answers, strict=True):
        assert one_way[0] < 500, (step, one_way)
        if 409 not in (one_way[0], other[0]):
            assert one_way == other, step
