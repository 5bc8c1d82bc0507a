"""Two databases that differ only in what a caller may not see give the same answers, to the byte: data, counts, errors, entity tags,
the history, comments, relations, the schema, exports and the description of the API."""

import copy
import json
import random
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from attrs import frozen
from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st

from tests.conftest import KEY, examples, field
from tests.live.test_permissions import (
    ANY,
    CALLERS,
    DATA,
    PUBLIC,
    READERS,
    RITA,
    ROLE_OF,
    RULES,
    TABLES,
    WALT,
    WANDA,
    WRITERS,
    Caller,
    Data,
    Refused,
    Row,
    Rule,
    Rules,
    World,
    Writer,
    requests,
    world,
    write,
    writes,
)

__all__ = ["world"]

USERS = (1, WANDA, WALT, RITA)
FIRST = 100_000
"""The first id of the rows of activity, revisions and presets that the tests make."""

ABOUT = ("directus_activity", "directus_revisions", "directus_relations", "directus_fields", "directus_collections")
"""System collections whose permissions are drawn."""

SYSTEM: st.SearchStrategy[Mapping[str, Rule]] = st.fixed_dictionaries(
    {
        "directus_activity": st.builds(
            Rule,
            read=st.sampled_from(["full", "full", "role", "mine", "none"]),
            hidden=st.frozensets(st.sampled_from(["ip", "user_agent", "comment", "item"]), max_size=2),
        ),
        "directus_revisions": st.builds(
            Rule,
            read=st.sampled_from(["full", "full", "full", "none"]),
            hidden=st.frozensets(st.sampled_from(["data", "delta", "parent_item"]), max_size=1),
        ),
        "directus_collections": st.builds(
            Rule, read=st.sampled_from(["full", "full", "none"]), hidden=st.frozensets(st.just("note"), max_size=1)
        ),
        "directus_fields": st.builds(
            Rule, read=st.sampled_from(["full", "full", "none"]), hidden=st.frozensets(st.just("note"), max_size=1)
        ),
        "directus_relations": st.builds(Rule, read=st.sampled_from(["full", "full", "none"])),
    }
)


@frozen
class Schema:
    """What the rows of directus_fields and directus_relations are about, by their ids: collection and field; the collection and field of
    the many side and of the one side."""

    fields: Mapping[int, tuple[str, str]]
    relations: Mapping[int, tuple[str, str, str, str]]


def schema_of(world: World) -> Schema:
    fields = world.query(
        "SELECT id, collection, field FROM directus_fields WHERE collection = ANY(%s) ORDER BY id", (list(TABLES),)
    )
    names = "collection_many, field_many, collection_one, field_one"
    relations = world.query(
        f"SELECT id, {names} FROM directus_relations WHERE collection_many = ANY(%s) ORDER BY id", (list(TABLES),)
    )
    return Schema({row[0]: (row[1], row[2]) for row in fields}, {row[0]: (row[1], row[2], row[3], row[4]) for row in relations})


@frozen
class Seen:
    """What a caller may know of, by the rules that docs/permissions.rst states."""

    caller: Caller
    system: Mapping[str, Rule]
    schema: Schema
    data: Data

    def reads(self, table: str) -> bool:
        return table in TABLES and self.caller.reads(table)

    def all_of(self, table: str) -> bool:
        """Whether every item of a collection may be read."""
        rule = self.caller.of(table, None)
        return not self.caller.by_status(table) and self.caller.level(table, rule, "read") == "full"

    def item(self, table: str, key: Any) -> bool:
        if table in self.system and self.system[table].read == "none":
            return False
        if table == "directus_collections":
            return self.reads(key)
        if table == "directus_fields":
            return key in self.schema.fields and self.field(*self.schema.fields[key])
        if table == "directus_relations":
            return key in self.schema.relations and self.relation(*self.schema.relations[key])
        if not self.reads(table):
            return False
        row = self.data[table].get(key)
        return self.all_of(table) if row is None else self.caller.may(table, "read", row)

    def activity(self, row: Row) -> bool:
        level = self.system["directus_activity"].read
        own = self.caller.user is not None and row["action_by"] == self.caller.user
        if level == "none" or (level == "mine" and not own):
            return False
        if level == "role" and (self.caller.user is None or ROLE_OF[row["action_by"]] != self.caller.role):
            return False
        return own or self.item(row["collection"], row["item"])

    def comment(self, row: Row) -> bool:
        """Whether the caller may know that a comment is there: a refused change tells of one's own, and of those on items in sight."""
        own = self.caller.user is not None and row["action_by"] == self.caller.user
        return own or self.item(row["collection"], row["item"])

    def revision(self, row: Row) -> bool:
        return self.system["directus_revisions"].read == "full" and self.item(row["collection"], row["item"])

    def hidden_in_revisions(self, table: str) -> frozenset[str]:
        if table in self.system:
            return self.system[table].hidden
        lists = [rule.hidden for rule in self.caller.counting(table) if self.caller.level(table, rule, "read") != "none"]
        return frozenset.union(frozenset(), *lists)

    def field(self, table: str, name: str) -> bool:
        return self.reads(table) and name not in self.caller.hidden(table)

    def relation(self, many: str, name: str, one: str, back: str) -> bool:
        return self.field(many, name) and self.field(one, back)


# --- the history of the tables, and what else is about them


def history(dice: random.Random, data: Data, schema: Schema) -> tuple[list[Row], list[Row]]:
    """Activity and revisions of items that are there, and of some that are gone; of collections, fields and relations too."""
    activity, revisions = [], []
    subjects: dict[str, list[Any]] = {table: [*rows, 90] for table, rows in data.items()}
    subjects["directus_collections"] = [*TABLES, "nowhere"]
    subjects["directus_fields"] = [*dice.sample(list(schema.fields), 6), 90]
    subjects["directus_relations"] = [*schema.relations, 90]
    for table, keys in subjects.items():
        columns = TABLES[table].columns if table in TABLES else ("note", "collection", "field")
        for key in keys:
            for _ in range(dice.randint(0, 2)):
                parent, other = (None, None) if dice.random() < 0.5 else (dice.choice([*TABLES]), dice.choice([1, 2, 90, None]))
                id = FIRST + len(activity)
                action = dice.choice(["create", "update", "comment"])
                activity.append(
                    {
                        "id": id,
                        "action": action,
                        "action_by": dice.choice(USERS),
                        "collection": table,
                        "item": key,
                        "comment": words(dice),
                        "ip": words(dice),
                        "user_agent": words(dice),
                    }
                )
                if action != "comment":
                    kept = {name: words(dice) for name in columns}
                    revisions.append(
                        {
                            "id": id,
                            "activity": id,
                            "collection": table,
                            "item": key,
                            "data": kept,
                            "delta": {name: words(dice) for name in dice.sample(list(kept), 2)},
                            "parent_collection": parent,
                            "parent_item": other,
                            "parent_changed": parent is not None,
                        }
                    )
    return activity, revisions


def words(dice: random.Random) -> str:
    return dice.choice(["alpha", "beta", "gamma", "delta"]) + str(dice.randint(0, 9))


def stored(collection: str, row: Row) -> Row:
    """A row as its table holds it."""
    found = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in row.items()}
    return found | {"action_on": "2024-01-01 00:00:00"} if collection == "directus_activity" else found


def insert(world: World, collection: str, row: Row) -> None:
    names = ", ".join(f'"{name}"' for name in row)
    world.query(f"INSERT INTO {collection} ({names}) VALUES ({', '.join(['%s'] * len(row))})", list(row.values()))


def put(world: World, collection: str, rows: Sequence[Row]) -> None:
    """Makes these the rows of the tests in a system collection."""
    world.query(f"DELETE FROM {collection} WHERE id >= %s", (FIRST,))
    for row in rows:
        insert(world, collection, stored(collection, row))


def amend(world: World, collection: str, before: Sequence[Row], after: Sequence[Row]) -> None:
    """Makes the rows of a table different, and leaves those alone that are the same."""
    old = {row["id"]: stored(collection, row) for row in before}
    new = {row["id"]: stored(collection, row) for row in after}
    world.query(f"DELETE FROM {collection} WHERE id = ANY(%s)", (list(old.keys() - new.keys()),))
    for id, row in new.items():
        if id not in old:
            insert(world, collection, row)
        elif row != old[id]:
            names = ", ".join(f'"{name}" = %s' for name in row)
            world.query(f"UPDATE {collection} SET {names} WHERE id = %s", [*row.values(), id])


# --- what may be different


def other_data(dice: random.Random, seen: Seen, spare: Data, *, existence: bool) -> Data:
    """The rows with other values where they are hidden; with *existence*, some hidden rows are gone and others are new."""
    changed = copy.deepcopy(seen.data)
    for table, rows in changed.items():
        values = list(spare[table].values())
        for key, row in list(rows.items()):
            visible = seen.caller.may(table, "read", row)
            other = dice.choice(values)
            names = seen.caller.hidden_in(table, row) if visible else set(row)
            for name in names & set(row) - {"id", "status", "owner"}:
                row[name] = other[name]
            if existence and not visible and dice.random() < 0.7:
                if dice.random() < 0.5:
                    del rows[key]
                else:
                    rows[key + 50] = row | {"id": key + 50}
    return changed


def other_history(
    dice: random.Random, seen: Seen, activity: Sequence[Row], revisions: Sequence[Row]
) -> tuple[list[Row], list[Row]]:
    """The history with other records where they are hidden, some more and some less, and other values where fields are."""
    changed_activity, changed_revisions = [], []
    concealed = seen.system["directus_activity"].hidden
    for row in activity:
        row = dict(row)
        if seen.activity(row):
            changed_activity.append(row | {name: words(dice) for name in concealed - {"item"}})
        elif dice.random() < 0.6 or (row["action"] == "comment" and seen.comment(row)):
            changed_activity.append(row | {name: words(dice) for name in ("comment", "ip", "user_agent")})
        if not seen.activity(row) and dice.random() < 0.3:
            changed_activity.append(row | {"id": row["id"] + 50_000})
    for row in revisions:
        row = copy.deepcopy(row)
        table = row["collection"]
        if not seen.revision(row):
            if dice.random() < 0.6:
                data = {name: words(dice) for name in row["data"]}
                changed_revisions.append(row | {"data": data, "delta": {}, "parent_collection": "kinds", "parent_item": 1})
            continue
        for values in (row["data"], row["delta"]):
            for name in seen.hidden_in_revisions(table) & values.keys():
                values[name] = words(dice)
        for name in seen.system["directus_revisions"].hidden & {"data", "delta"}:
            row[name] = {"title": words(dice)}
        parent, key = row["parent_collection"], row["parent_item"]
        if parent is not None and not (seen.reads(parent) if key is None else seen.item(parent, key)):
            row |= dice.choice(
                [
                    {"parent_collection": "nowhere", "parent_item": 7},
                    {"parent_collection": None, "parent_item": None, "parent_changed": False},
                ]
            )
        changed_revisions.append(row)
    return changed_activity, changed_revisions


def presets_of(dice: random.Random) -> list[Row]:
    return [
        {"id": FIRST + number, "collection": table, "user": user, "title": words(dice), "search_query": words(dice)}
        for number, (table, user) in enumerate([(table, user) for table in TABLES for user in (None, WANDA, RITA)])
    ]


def other_presets(dice: random.Random, seen: Seen, presets: Sequence[Row]) -> list[Row]:
    changed = []
    for row in presets:
        if seen.reads(row["collection"]) or (seen.caller.user is not None and row["user"] == seen.caller.user):
            changed.append(row)
        elif dice.random() < 0.6:
            changed.append(row | {"title": words(dice), "search_query": words(dice)})
    return changed


def reset_schema(world: World) -> None:
    world.query(
        "UPDATE directus_fields SET note = 'n', interface = 'i', width = 'half' WHERE collection = ANY(%s)", (list(TABLES),)
    )
    world.query("UPDATE directus_collections SET note = 'n', icon = 'i' WHERE collection = ANY(%s)", (list(TABLES),))
    world.query("UPDATE directus_relations SET junction_field = NULL WHERE collection_many = ANY(%s)", (list(TABLES),))
    world.query('UPDATE directus_users SET last_page = NULL, "2fa_secret" = NULL WHERE id = ANY(%s)', (list(USERS),))
    world.query("UPDATE directus_roles SET description = NULL WHERE id > 2")


def change_schema(world: World, dice: random.Random, seen: Seen) -> None:
    """Gives the schema other attributes where they are hidden; likewise users and roles."""
    for table in TABLES:
        hidden = list(seen.caller.hidden(table)) if seen.reads(table) else [*TABLES[table].columns, *TABLES[table].manies]
        sql = "UPDATE directus_fields SET note = %s, interface = %s, width = %s WHERE collection = %s AND field = ANY(%s)"
        world.query(sql, (words(dice), words(dice), words(dice), table, hidden))
        if not seen.reads(table):
            world.query(
                "UPDATE directus_collections SET note = %s, icon = %s WHERE collection = %s", (words(dice),) * 2 + (table,)
            )
    for name in ("directus_fields", "directus_collections"):
        if "note" in seen.system[name].hidden:
            world.query(f"UPDATE {name} SET note = %s WHERE collection = ANY(%s)", (words(dice), list(TABLES)))
    for id in seen.schema.relations:
        if not seen.item("directus_relations", id):
            world.query("UPDATE directus_relations SET junction_field = 'nowhere' WHERE id = %s", (id,))
    others = [user for user in USERS if user != seen.caller.user]
    world.query(
        'UPDATE directus_users SET last_page = %s, "2fa_secret" = %s WHERE id = ANY(%s)', (words(dice), words(dice), others)
    )
    roles = [role for role in (WRITERS, READERS) if role != seen.caller.role]
    world.query("UPDATE directus_roles SET description = %s WHERE id = ANY(%s)", (words(dice), roles))


# --- what is asked


def probes(dice: random.Random, activity: Sequence[Row]) -> list[tuple[str, str, Any]]:
    """Requests about all that could tell of what is hidden: method, path, body. None of them writes anything: the writes name what no
    caller of these tests may write."""
    found: list[tuple[str, str, Any]] = []
    lists = ["activity", "revisions", "relations", "collection_presets", "users", "roles", "settings", "collections", "fields"]
    lists += [f"items/{table}" for table in TABLES] + [f"fields/{table}" for table in TABLES]
    for path in lists:
        query = dice.choice(["limit=-1&meta=*", "limit=-1&meta=*&fields=*.*", "limit=-1&fields=*.*.*", "limit=-1&export=csv"])
        found.append(("GET", f"/{path}?{query}", None))
    for table, shape in TABLES.items():
        key = dice.choice([1, 2, 3, 90])
        name = dice.choice([*shape.columns, *shape.manies])
        found += [
            ("GET", f"/items/{table}/{key}?fields=*,*.*", None),
            ("GET", f"/items/{table}?cursor=&limit=2&meta=*&sort={dice.choice(['', '-'])}{name}", None),
            ("GET", f"/items/{table}/{key}/revisions?meta=*", None),
            ("GET", f"/items/{table}/{key}/revisions/{dice.randint(0, 2)}", None),
            ("GET", f"/fields/{table}/{name}", None),
            ("GET", f"/collections/{table}", None),
            ("GET", f"/activity?filter[collection]={table}&aggregate[count]=*&groupby=item", None),
            ("GET", f"/activity?filter[collection]={table}&filter[action]=comment&meta=filter_count&fields=comment", None),
            ("GET", f"/revisions?filter[parent_collection]={table}&meta=*", None),
            ("GET", f"/relations?filter[collection_many]={table}&meta=filter_count", None),
            ("GET", f"/collection_presets?filter[collection]={table}&meta=filter_count", None),
        ]
    for name in ("fields", "relations", "collections"):
        found.append(("GET", f"/activity?filter[collection]=directus_{name}&meta=filter_count", None))
        found.append(("GET", f"/revisions?filter[collection]=directus_{name}&meta=filter_count", None))
    word = words(dice)
    for row in dice.sample(list(activity), min(3, len(activity))):
        found += [
            ("GET", f"/activity/{row['id']}", None),
            ("GET", f"/revisions/{row['id']}?fields=*,activity.*", None),
            ("PATCH", f"/activity/comment/{row['id']}", {"comment": "x"}),
            ("DELETE", f"/activity/comment/{row['id']}", None),
        ]
    found += [
        ("GET", "/activity?" + urllib.parse.urlencode({"filter[comment][contains]": word[:4], "meta": "*"}), None),
        ("GET", "/activity?" + urllib.parse.urlencode({"q": word, "sort": "-comment", "fields": "id"}), None),
        ("GET", "/revisions?" + urllib.parse.urlencode({"filter[data][contains]": word, "meta": "*"}), None),
        ("GET", "/revisions?" + urllib.parse.urlencode({"q": word, "sort": "delta,-id", "fields": "id"}), None),
        ("GET", "/revisions?aggregate[count]=*&groupby=collection,parent_collection", None),
        ("GET", "/users?" + urllib.parse.urlencode({"filter[last_page][contains]": word[:4]}), None),
        ("GET", "/users/me?fields=*.*", None),
        ("GET", "/permissions/me", None),
        ("GET", "/permissions?limit=-1&meta=*", None),
        ("GET", "/specs/oas", None),
        ("GET", "/settings/fields", None),
        ("GET", "/webhooks", None),
        ("POST", "/permissions", {"collection": "kinds", "role": READERS, "read": "full"}),
        ("DELETE", "/collections/kinds", None),
    ]
    dice.shuffle(found)
    return found


Write = tuple[str, str, list[int], Any]


def refused_writes(caller: Caller, wanted: Sequence[Write], data: Data, changed: Data) -> list[tuple[str, str, Any]]:
    """The requests of those writes that the caller may not do, whatever is hidden."""
    found: list[tuple[str, str, Any]] = []
    for method, table, keys, body in wanted:
        refused = 0
        for each in (data, changed):
            try:
                write(Writer(caller, copy.deepcopy(each), comment=False), method, table, keys, body)
            except Refused:
                refused += 1
        if refused == 2:
            found.append((method, f"/items/{table}" + ("/" + ",".join(map(str, keys)) if keys else ""), body))
    return found


def deletes_unseen(caller: Caller, data: Data) -> bool:
    """Whether the caller may delete an item without seeing it, and finds out by doing so that it was there."""
    return any(
        caller.may(table, "delete", row) and not caller.may(table, "read", row)
        for table in TABLES
        for row in data[table].values()
    )


Answered = tuple[int, list[tuple[str, str]], bytes]


def ask(world: World, caller: Caller, probe: tuple[str, str, Any]) -> Answered:
    """The status, the headers and the body of an answer; without the headers that differ from request to request."""
    method, path, body = probe
    headers = {"Content-Type": "application/json", "User-Agent": "probe"}
    if caller.token is not None:
        headers["Authorization"] = f"bearer {caller.token}"
    world.http.request(method, f"/perms{path}", None if body is None else json.dumps(body), headers)
    answer = world.http.getresponse()
    told = sorted((name, value) for name, value in answer.getheaders() if name.lower() not in ("date", "x-request-id"))
    return answer.status, told, answer.read()


def prepare(world: World, caller: Caller, system: Mapping[str, Rule], others: Rules, data: Data) -> None:
    """Gives the caller's role its rules, also on system collections, another role others, and the tables their rows."""
    other = READERS if caller.role == WRITERS else WRITERS
    mine: dict[str, Mapping[str | None, Rule]] = dict(caller.rules)
    mine |= {name: {None: rule} for name, rule in system.items()}
    if caller.role == PUBLIC:
        mine |= {"directus_users": {"active": Rule(read="full")}, "directus_collection_presets": {None: Rule(read="full")}}
    world.grant({caller.role: mine, other: others})
    world.store(data)
    reset_schema(world)


def notice(world: World, role: int) -> None:
    """Lets the server know that the schema has changed: it has heard of all changes before it answers to one of its own."""
    status, body = world.call("POST", "/permissions?activity_skip=1", {"collection": "nowhere", "role": role})
    assert status == 200, body


@pytest.fixture(autouse=True)
def _only_drawn_permissions(world: World) -> Iterator[None]:
    """The roles have the permissions on ABOUT that are drawn, not those of a new role."""
    world.query("DELETE FROM directus_permissions WHERE collection = ANY(%s)", (list(ABOUT),))
    world.permissions.clear()
    world.query("DELETE FROM directus_permissions WHERE collection = ANY(%s)", (list(TABLES),))
    notice(world, 1)
    yield
    reset_schema(world)
    for name in ("directus_activity", "directus_revisions", "directus_collection_presets"):
        put(world, name, [])


@settings(ANY, max_examples=examples(30), phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    caller=CALLERS,
    system=SYSTEM,
    others=RULES,
    data=DATA,
    spare=DATA,
    queries=st.lists(requests(), min_size=10, max_size=12),
    wanted=st.lists(writes(), min_size=8, max_size=12),
    existence=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_databases_that_differ_in_what_is_hidden_answer_alike(
    world: World,
    caller: Caller,
    system: Mapping[str, Rule],
    others: Rules,
    data: Data,
    spare: Data,
    queries: list[str],
    wanted: list[Write],
    existence: bool,
    seed: int,
) -> None:
    dice = random.Random(seed)
    prepare(world, caller, system, others, data)
    schema = schema_of(world)
    activity, revisions = history(dice, data, schema)
    presets = presets_of(dice)
    put(world, "directus_activity", activity)
    put(world, "directus_revisions", revisions)
    put(world, "directus_collection_presets", presets)
    seen = Seen(caller, system, schema, data)
    changed = other_data(dice, seen, spare, existence=existence)
    asked = [*probes(dice, activity), *(("GET", query, None) for query in queries)]
    if not (existence and deletes_unseen(caller, data)):
        asked += refused_writes(caller, wanted, data, changed)
    notice(world, 1)
    before = [ask(world, caller, probe) for probe in asked]

    for table in TABLES:
        amend(world, table, [*data[table].values()], [*changed[table].values()])
    later = Seen(caller, system, schema, changed)
    # A record is hidden where it is so before and after.
    assert [seen.activity(row) for row in activity] == [later.activity(row) for row in activity]
    more, others_too = other_history(dice, seen, activity, revisions)
    amend(world, "directus_activity", activity, more)
    amend(world, "directus_revisions", revisions, others_too)
    amend(world, "directus_collection_presets", presets, other_presets(dice, seen, presets))
    change_schema(world, dice, seen)
    notice(world, 1)
    after = [ask(world, caller, probe) for probe in asked]

    note(f"{caller}\n{system}\n{data}\n{changed}")
    for probe, one, other in zip(asked, before, after, strict=True):
        if existence and probe[0] != "GET" and 409 in (one[0], other[0]):
            # To create an item with a key that is taken tells that it is, by a hidden item too.
            continue
        assert one[0] in (200, 401, 403, 404, 409, 422), (probe, one)
        assert one[0] != 409 or probe[0] != "GET", (probe, one)
        assert one == other, probe


@pytest.mark.parametrize("who", [(WANDA, "wanda-token", WRITERS), (None, None, PUBLIC)])
def test_a_collection_out_of_sight_leaves_no_trace(world: World, who: tuple[Any, Any, int]) -> None:
    """Beside the answer to a request that names it, which clients rely on."""
    dice = random.Random(1)
    rules = {table: {None: Rule(read="full")} for table in TABLES}
    caller = Caller(*who, rules)
    system = {name: Rule(read="full") for name in ABOUT}
    data: Data = {
        "things": {1: dict.fromkeys(TABLES["things"].columns) | {"id": 1, "status": "open", "topic": 1, "kind": 1}},
        "topics": {1: dict.fromkeys(TABLES["topics"].columns) | {"id": 1, "status": "open"}},
        "kinds": {1: {"id": 1, "name": "alpha", "code": "beta"}},
    }
    prepare(world, caller, system, {}, data)
    activity, _ = history(dice, data, schema_of(world))
    put(world, "directus_activity", activity)
    asked = probes(dice, activity)
    notice(world, 1)
    before = [ask(world, caller, probe) for probe in asked]
    fields = [KEY, field("combination"), field("thing", "m2o", "INT", 11)]
    made: list[tuple[str, str, Any]] = [
        ("POST", "/collections", {"collection": "vault", "note": "secret", "fields": fields}),
        ("POST", "/relations", {"collection_many": "vault", "field_many": "thing", "collection_one": "things"}),
        ("POST", "/items/vault", {"combination": "alpha", "thing": 1}),
        ("PATCH", "/items/vault/1", {"combination": "beta", "thing": {"id": 1}}),
        ("POST", "/activity/comment", {"collection": "vault", "item": "1", "comment": "alpha"}),
        ("POST", "/collection_presets", {"collection": "vault", "title": "alpha"}),
        ("POST", "/permissions", {"collection": "vault", "role": READERS, "read": "full"}),
    ]
    for method, path, body in made:
        status, answer = world.call(method, path, body)
        assert status == 200, answer
    try:
        after = [ask(world, caller, probe) for probe in asked]
    finally:
        assert world.call("DELETE", "/collections/vault")[0] == 204
    gone = [ask(world, caller, probe) for probe in asked]
    for probe, *answers in zip(asked, before, after, gone, strict=True):
        assert answers == [answers[0]] * 3, probe
