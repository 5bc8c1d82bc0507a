"""Writes by the hundred: the tables hold what a plain model of them holds, and an item reverts to each state that it was in."""

import copy
import itertools
import json
import pathlib
import tomllib
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import attrs
import psycopg2
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.conftest import KEY, examples, field
from tests.daemon import TOKEN, Daemon

LABELS = {"authors": "name", "articles": "title", "tags": "name", "articles_tags": "note"}
"""The field of each collection by which rows that have just been made are told apart."""

ONES = {("articles", "author"): "authors", ("articles_tags", "article"): "articles", ("articles_tags", "tag"): "tags"}
COLUMNS = {table: [label, *(name for owner, name in ONES if owner == table)] for table, label in LABELS.items()}
MANIES = {("authors", "articles"): ("articles", "author", None), ("articles", "tags"): ("articles_tags", "article", "tag")}
"""The list fields: the collection of their members, the member's field that points back, and the one that leads on."""

THINGS = [
    KEY,
    field("name", length=40),
    field("slug", "slug", length=60, options={"mirroredField": "name"}),
    field("body", datatype="TEXT", length=None),
    field("n", "integer", "INT", 11, signed=True),
    field("big", "integer", "BIGINT", 20, signed=True),
    field("price", "decimal", "DECIMAL", "8,2"),
    field("exact", "decimal", "DECIMAL", "20,10"),
    field("flag", "boolean", "TINYINT", 1),
    field("meta", "json", "TEXT", None),
    field("labels", "array", "VARCHAR", 60),
    field("day", "date", "DATE", None),
    field("hour", "time", "TIME", None),
    field("moment", "datetime", "DATETIME", None),
    field("owner", "owner", "INT", 11),
    field("made_on", "datetime_created", "DATETIME", None),
    field("changed_by", "user_updated", "INT", 11),
    field("changed_on", "datetime_updated", "DATETIME", None),
]
ALWAYS_SET = ("changed_by", "changed_on")


def blog(daemon: Daemon) -> None:
    """A project `p` in which authors have articles, and articles tags."""
    daemon.create_project("p")
    o2m = {"type": "o2m", "interface": "one-to-many"}
    collections = {
        "authors": [field("name", length=20, required=True), {"field": "articles", **o2m}],
        "tags": [field("name", length=20, unique=True)],
        "articles": [field("title", length=20), field("author", "m2o", "INT", 11), {"field": "tags", **o2m}],
        "articles_tags": [field("note", length=20), field("article", "m2o", "INT", 11), field("tag", "m2o", "INT", 11)],
    }
    for name, fields in collections.items():
        daemon.call("POST", "/p/collections", {"collection": name, "fields": [KEY, *fields]})
    names = ("collection_many", "field_many", "collection_one", "field_one", "junction_field")
    for relation in (
        ("articles", "author", "authors", "articles", None),
        ("articles_tags", "article", "articles", "tags", "tag"),
        ("articles_tags", "tag", "tags", None, "article"),
    ):
        daemon.call("POST", "/p/relations", dict(zip(names, relation, strict=True)))


def connect(daemon: Daemon) -> Any:
    """A superuser's connection to the database of the project `p`."""
    data_dir = daemon.directory / "var"
    postmaster = (data_dir / "postgres" / "postmaster.pid").read_text().splitlines()
    project = tomllib.loads((data_dir / "projects" / "p.toml").read_text())
    return psycopg2.connect(host=postmaster[4], port=postmaster[3], user="postgres", dbname=project["database"]["name"])


def call(daemon: Daemon, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """The status and the parsed body of an answer, whatever it is."""
    headers = {"Authorization": f"bearer {TOKEN}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{daemon.base}/p{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A server with a blog, and with a collection of things that have fields of many types."""
    directory: pathlib.Path = tmp_path_factory.mktemp("writes")
    found = Daemon(directory).start()
    blog(found)
    found.call("POST", "/p/collections", {"collection": "things", "fields": THINGS})
    yield found
    assert found.stop() == 0


@pytest.fixture(scope="module")
def database(daemon: Daemon) -> Iterator[Any]:
    connection = connect(daemon)
    connection.autocommit = True
    yield connection
    connection.close()


def empty(database: Any, *tables: str) -> None:
    """Empties tables and the history, whose keys begin at 1 again."""
    names = ", ".join([*tables, "directus_activity", "directus_revisions"])
    database.cursor().execute(f"TRUNCATE {names} RESTART IDENTITY")


# --- a model of the tables

Tables = dict[str, dict[Any, dict[str, Any]]]
NOT_FOUND, NOT_UNIQUE, UNFIT, MISSING = (404, 203), (409, 204), (422, 12), (422, 4)


@attrs.define
class Request:
    """What one request makes of the tables, as NOTES and scenarios say it.

    A new row without a chosen key is kept under its label until the server has given it one. `faults` are the statuses and codes
    with which the request may be refused; it is not where there are none. `vague` is a request about which the rules say nothing,
    since the outcome depends on the order in which its parts are done.
    """

    tables: Tables
    faults: set[tuple[int, int]] = attrs.field(factory=set)
    history: Counter[tuple[str, str, Any]] = attrs.field(factory=Counter)
    vague: bool = False
    written: set[tuple[str, Any]] = attrs.field(factory=set)
    looked_at: set[tuple[str, Any]] = attrs.field(factory=set)
    counted: set[str] = attrs.field(factory=set)
    named: set[str] = attrs.field(factory=set)

    def touch(self, table: str, key: Any, *, write: bool) -> None:
        self.vague |= (table, key) in self.written or (write and (table, key) in self.looked_at)
        (self.written if write else self.looked_at).add((table, key))
        if key not in self.tables[table]:
            self.named.add(table)

    def check(self, table: str, payload: dict[str, Any], *, new: bool) -> None:
        known = {"id", *COLUMNS[table], *(name for owner, name in MANIES if owner == table)}
        label = LABELS[table]
        if payload.keys() - known or len(payload.get(label) or "") > 20:
            self.faults.add(UNFIT)
        if table == "authors" and payload.get(label, None if new else "stored") is None:
            self.faults.add(MISSING)

    def create(self, table: str, payload: dict[str, Any], through: str | None = None) -> Any:
        self.check(table, payload, new=True)
        key = payload.get("id")
        if key is None:
            self.counted.add(table)
            key = payload.get(LABELS[table])
        else:
            self.touch(table, key, write=True)
        row = {**dict.fromkeys(COLUMNS[table]), **self.columns(table, payload, through)}
        if key in self.tables[table]:
            self.faults.add(NOT_UNIQUE)
        self.tables[table][key] = row
        self.history["create", table, key] += 1
        self.lists(table, key, payload)
        return key

    def update(self, table: str, key: Any, payload: dict[str, Any], through: str | None = None) -> Any:
        self.touch(table, key, write=True)
        self.check(table, payload, new=False)
        if key not in self.tables[table]:
            self.faults.add(NOT_FOUND)
        changes = self.columns(table, payload, through)
        self.tables[table].setdefault(key, {}).update(changes)
        self.history["update", table, key] += 1
        self.lists(table, key, payload)
        return key

    def delete(self, table: str, key: Any) -> None:
        self.touch(table, key, write=True)
        if self.tables[table].pop(key, None) is None:
            self.faults.add(NOT_FOUND)
        self.history["delete", table, key] += 1

    def columns(self, table: str, payload: dict[str, Any], through: str | None) -> dict[str, Any]:
        found = {name: payload[name] for name in COLUMNS[table] if name in payload}
        return {n: self.one(ONES[table, n], v, far=n == through) if isinstance(v, dict) else v for n, v in found.items()}

    def one(self, target: str, value: dict[str, Any], *, far: bool) -> Any:
        """The key to store for an object in a many-to-one field."""
        key = value.get("id")
        rest = {n: v for n, v in value.items() if n not in ("id", "$delete")}
        if key is None:
            return self.create(target, rest) if rest else None
        if "$delete" in value:
            if far:
                self.faults.add(UNFIT)
            self.delete(target, key)
            return None
        if rest:
            return self.update(target, key, rest) if key in self.tables[target] else self.create(target, value)
        self.touch(target, key, write=False)
        if key not in self.tables[target]:
            self.faults.add(NOT_FOUND)
        return key

    def lists(self, table: str, key: Any, payload: dict[str, Any]) -> None:
        for (owner, name), (target, back, through) in MANIES.items():
            for member in (payload.get(name) or ()) if owner == table else ():
                if not isinstance(member, dict):
                    self.faults |= {MISSING, UNFIT}
                elif "$delete" in member:
                    self.delete(target, member["id"])
                else:
                    rest = {back: key, **{n: v for n, v in member.items() if n != "id"}}
                    if "id" in member:
                        self.update(target, member["id"], rest, through)
                    else:
                        self.create(target, rest, through)

    def end(self, before: Tables) -> None:
        """What shows only when all is done."""
        # A counter may come upon keys that the request names.
        self.vague |= bool(self.counted & self.named)
        names = Counter(row["name"] for row in self.tables["tags"].values() if row.get("name") is not None)
        if max(names.values(), default=0) > 1:
            self.faults.add(NOT_UNIQUE)
        for key, row in self.tables["tags"].items():
            taken = {other.get("name") for k, other in before["tags"].items() if k != key} - {None}
            self.vague |= ("tags", key) in self.written | {("tags", k) for _, _, k in self.history} and row.get("name") in taken

    def resolved(self, stored: Tables) -> tuple[Tables, Counter[tuple[str, str, str]]]:
        """The tables and the history with the keys that the server has given to new rows."""
        given = {
            table: {row[label]: key for key, row in stored[table].items() if row[label] in self.tables[table]}
            for table, label in LABELS.items()
        }
        tables = {
            table: {
                given[table].get(key, key): {
                    n: given[ONES[table, n]].get(v, v) if (table, n) in ONES else v for n, v in row.items()
                }
                for key, row in rows.items()
            }
            for table, rows in self.tables.items()
        }
        history = Counter({(a, t, str(given[t].get(k, k))): number for (a, t, k), number in self.history.items()})
        return tables, history


# --- requests of every kind

KEYS = st.sampled_from([1, 2, 3, 4] * 5 + [5, 6, 99])
LONG = "a label of more than twenty characters"
VALUES = {
    "authors": st.sampled_from([*["?"] * 40, None, LONG]),
    "articles": st.sampled_from([*["?"] * 40, LONG]),
    "tags": st.sampled_from([*["?"] * 30, "red", "green", LONG]),
    "articles_tags": st.just("?"),
}
"""Labels; each "?" is replaced by one of its own."""


def spoilt(payloads: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Now and then with a field that there is not."""
    return st.builds(lambda p, n: {**p, "shoe": 9} if n == 17 else p, payloads, st.sampled_from(range(80)))


def bodies(table: str, depth: int, *, new: bool, inside: str | None = None) -> st.SearchStrategy[Any]:
    """Payloads for a collection; *inside* a list without the field that points back."""
    label = {LABELS[table]: VALUES[table]}
    related: dict[str, Any] = {n: ones(target, depth - 1) for (t, n), target in ONES.items() if t == table and n != inside}
    if depth:
        related |= {n: manies(t, n, depth - 1) for t, n in MANIES if t == table}
    return spoilt(st.fixed_dictionaries(label if new else {}, optional=related if new else {**label, **related}))


def ones(target: str, depth: int) -> st.SearchStrategy[Any]:
    """Values of a many-to-one field."""
    known = st.builds(lambda key: {"id": key}, KEYS)
    kinds = [KEYS, known, st.none(), st.just({}), st.builds(lambda key: {"id": key, "$delete": True}, KEYS)]
    if depth >= 0:
        changed = bodies(target, max(depth, 0), new=False)
        kinds += [bodies(target, depth, new=True), st.builds(lambda key, body: {"id": key, **body}, KEYS, changed)]
        kinds += kinds[-2:]
    return st.one_of(kinds)


def manies(table: str, name: str, depth: int) -> st.SearchStrategy[Any]:
    """Values of a list field."""
    target, back, _ = MANIES[table, name]
    changed = bodies(target, depth, new=False, inside=back)
    member = st.one_of(
        bodies(target, depth, new=True, inside=back),
        st.builds(lambda key, body: {"id": key, **body}, KEYS, changed),
        st.builds(lambda key: {"id": key}, KEYS),
        st.builds(lambda key: {"id": key, back: None}, KEYS),
        st.builds(lambda key: {"id": key, "$delete": True}, KEYS),
    )
    one_each = st.lists(member, max_size=3)
    return st.one_of(one_each, one_each, one_each, one_each, st.sampled_from([None, [], [1]]))


@attrs.frozen
class Step:
    """A request: `keys` those of its path, `body` its payload or payloads."""

    method: str
    table: str
    keys: list[int] = attrs.field(factory=list)
    body: Any = None


def steps(table: str) -> st.SearchStrategy[Step]:
    new, changed = bodies(table, 2, new=True), bodies(table, 2, new=False)
    keyed = st.builds(lambda key, body: {"id": key, **body}, KEYS, changed)
    listed = st.one_of(keyed, keyed, keyed, keyed, changed)
    plain = bodies(table, 0, new=False)
    several = st.lists(KEYS, min_size=2, max_size=3, unique=True).map(sorted)
    return st.one_of(
        st.builds(Step, st.just("POST"), st.just(table), st.just([]), new),
        st.builds(
            Step, st.just("POST"), st.just(table), st.just([]), st.builds(lambda k, b: {"id": k, **b}, st.integers(1, 12), new)
        ),
        st.builds(Step, st.just("POST"), st.just(table), st.just([]), st.lists(new, min_size=1, max_size=3)),
        st.builds(Step, st.just("PATCH"), st.just(table), KEYS.map(lambda key: [key]), changed),
        st.builds(Step, st.just("PATCH"), st.just(table), KEYS.map(lambda key: [key]), changed),
        st.builds(Step, st.just("PATCH"), st.just(table), several, plain),
        st.builds(Step, st.just("PATCH"), st.just(table), st.just([]), st.lists(listed, min_size=1, max_size=3)),
        st.builds(Step, st.just("DELETE"), st.just(table), KEYS.map(lambda key: [key])),
    )


STEPS = st.one_of([steps(table) for table in LABELS])
PHASES = (Phase.explicit, Phase.generate, Phase.shrink)


def labelled(value: Any, count: Iterator[int]) -> Any:
    if isinstance(value, dict):
        return {n: labelled(v, count) for n, v in value.items()}
    if isinstance(value, list):
        return [labelled(v, count) for v in value]
    return f"n{next(count)}" if value == "?" else value


def foreseen(step: Step, body: Any, before: Tables) -> tuple[Request, list[Any]]:
    """What a step makes of the tables, and the keys of the items that it answers with."""
    request = Request(copy.deepcopy(before))
    keys: list[Any] = []
    if step.method == "DELETE":
        request.delete(step.table, step.keys[0])
    elif step.method == "POST":
        keys = [request.create(step.table, each) for each in (body if isinstance(body, list) else [body])]
    elif step.keys:
        keys = [request.update(step.table, key, body) for key in step.keys]
    else:
        for each in body:
            if "id" in each:
                keys.append(request.update(step.table, each["id"], {n: v for n, v in each.items() if n != "id"}))
            else:
                request.faults.add(UNFIT)
                request.check(step.table, each, new=False)
    request.end(before)
    return request, keys


def stored_tables(daemon: Daemon) -> Tables:
    tables: Tables = {}
    for table in LABELS:
        rows = daemon.call("GET", f"/p/items/{table}?limit=-1")["data"]
        tables[table] = {row["id"]: {name: row[name] for name in COLUMNS[table]} for row in rows}
    return tables


def in_history(row: dict[str, Any]) -> dict[str, Any]:
    """A row as a revision holds it."""
    return {n: v if v is None else str(v) for n, v in row.items()}


@settings(max_examples=examples(50), deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(sequence=st.lists(STEPS, min_size=3, max_size=8))
@example(sequence=[Step("PATCH", "articles", [1], {"author": {"id": 1, "articles": [{"id": 1, "$delete": True}]}})])
@example(sequence=[Step("PATCH", "authors", [], [{"id": 1, "name": "?"}, {"id": 1, "name": "?"}])])
def test_nested_writes_make_of_the_tables_what_the_rules_say(daemon: Daemon, database: Any, sequence: list[Step]) -> None:
    empty(database, *LABELS)
    daemon.call("POST", "/p/items/tags", [{"name": name} for name in ("red", "green", "t3", "t4")])
    daemon.call("POST", "/p/items/authors", [{"name": f"w{n}", "articles": [{"title": f"a{n}"}]} for n in range(4)])
    links = [{"note": f"j{n}", "article": n // 2 + 1, "tag": n % 3 + 1} for n in range(4)]
    daemon.call("POST", "/p/items/articles_tags", links)
    count = itertools.count()
    before = stored_tables(daemon)
    seen = 16
    for step in sequence:
        body = labelled(step.body, count)
        request, keys = foreseen(step, body, before)
        path = "/".join([f"/items/{step.table}", *([",".join(map(str, step.keys))] if step.keys else [])])
        status, answer = call(daemon, step.method, f"{path}?fields=*", body)
        note = (step.method, path, body, status, answer)
        stored = stored_tables(daemon)
        activity = daemon.call("GET", f"/p/activity?filter[id][gt]={seen}&limit=-1&fields=id,action,collection,item")["data"]
        revisions = daemon.call("GET", "/p/revisions?limit=-1&sort=id&fields=activity,collection,item,data,delta")["data"]
        logged = Counter((row["action"], row["collection"], row["item"]) for row in activity)
        seen += len(activity)
        if request.faults and not request.vague:
            assert (status, answer["error"]["code"]) in request.faults, note
        elif request.vague:
            assert status in (200, 204) or (400 <= status < 500 and answer["error"]["code"] > 0), note
        else:
            assert status == (204 if step.method == "DELETE" else 200), note
            tables, history = request.resolved(stored)
            assert stored == tables, note
            assert logged == history, note
            if keys:
                rows = answer["data"] if isinstance(answer["data"], list) else [answer["data"]]
                labels = [request.tables[step.table][key][LABELS[step.table]] for key in keys]
                assert [row[LABELS[step.table]] for row in rows] == labels, note
                assert all(stored[step.table][row["id"]] == {n: row[n] for n in COLUMNS[step.table]} for row in rows), note
        if status >= 400:
            assert (stored, logged) == (before, Counter()), note
        last = {(row["collection"], row["item"]): row["data"] for row in revisions}
        for table, found in stored.items():
            for key, row in found.items():
                assert last[table, str(key)] == in_history({"id": key, **row}), note
        assert len(revisions) == len({row["activity"] for row in revisions}), note
        assert all(row["data"].items() >= in_history(row["delta"]).items() for row in revisions if row["delta"]), note
        before = stored


# --- reverting

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
MEMBERS = st.text(st.sampled_from("ab, é'\"\\{}"), max_size=12) | st.integers(-9, 9) | st.booleans() | st.none()
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "name": st.none() | TEXT,
        "slug": st.none() | TEXT,
        "body": st.none() | TEXT,
        "n": st.none() | st.integers(-(2**31), 2**31 - 1),
        "big": st.none() | st.integers(-(2**63), 2**63 - 1),
        "price": st.none() | st.decimals(-999999, 999999, places=2).map(str),
        "exact": st.none() | st.decimals(-999999, 999999, places=10).map(str),
        "flag": st.none() | st.booleans() | st.sampled_from([0, 1, "true", ""]),
        "meta": st.none() | st.lists(JSON, max_size=3) | st.dictionaries(TEXT, JSON, max_size=3),
        "labels": st.none() | st.lists(MEMBERS, max_size=4),
        "day": st.none() | st.dates().map(str),
        "hour": st.none() | st.times().map(lambda time: time.strftime("%H:%M:%S")),
        "moment": st.none() | st.datetimes().map(lambda moment: moment.isoformat(" ", "seconds")),
        "owner": st.none() | st.integers(1, 9),
        "made_on": st.none() | st.datetimes().map(lambda moment: moment.isoformat(" ", "seconds")),
    },
)


def state(daemon: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = daemon.call("GET", "/p/items/things/1?fields=*")["data"]
    return {name: value for name, value in found.items() if name not in ALWAYS_SET}


@settings(max_examples=examples(50), deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(first=CHANGES, changes=st.lists(CHANGES, min_size=1, max_size=6), draw=st.randoms(use_true_random=False))
@example(first={"labels": ["a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t"]}, changes=[{"labels": []}], draw=None)
def test_an_item_reverts_to_each_state_it_was_in(
    daemon: Daemon, database: Any, first: dict[str, Any], changes: list[dict[str, Any]], draw: Any
) -> None:
    empty(database, "things")
    status, answer = call(daemon, "POST", "/items/things", first)
    states = [state(daemon)] if status == 200 else []
    if not states:
        # An array may be too long for its field.
        assert (status, answer["error"]["code"]) == (422, 12)
        daemon.call("POST", "/p/items/things", {})
        states = [state(daemon)]
    for change in changes:
        status, answer = call(daemon, "PATCH", "/items/things/1", change)
        if status == 200:
            states.append(state(daemon))
        else:
            assert (status, answer["error"]["code"]) == (422, 12), (change, answer)
            assert state(daemon) == states[-1]
    revisions = daemon.call("GET", "/p/items/things/1/revisions?limit=-1&fields=id")["data"]
    assert len(revisions) == len(states)
    pairs = list(zip([row["id"] for row in revisions], states, strict=True))
    if draw is not None:
        draw.shuffle(pairs)
    for revision, then in pairs:
        status, answer = call(daemon, "PATCH", f"/items/things/1/revert/{revision}?fields=*", None)
        assert status == 200, (then, answer)
        assert {n: v for n, v in answer["data"].items() if n not in ALWAYS_SET} == then
        assert state(daemon) == then
    reverted = daemon.call("GET", "/p/items/things/1/revisions?limit=-1&fields=data,delta,activity.action")["data"][len(states) :]
    assert [row["activity"]["action"] for row in reverted] == ["revert"] * len(pairs)
    assert all(row["data"] == row["delta"] for row in reverted)
