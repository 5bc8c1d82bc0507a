"""The permissions by the hundred once more, asked by GraphQL: it shows what the plain model of `test_permissions` says, and what is hidden
has no influence on any answer, the schema included."""

import copy
import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from graphql import get_introspection_query
from hypothesis import given, note, settings
from hypothesis import strategies as st

from tests.conftest import examples
from tests.live.test_permissions import (
    ANY,
    CALLERS,
    DATA,
    ON_ANY_TABLE,
    RULES,
    TABLES,
    Caller,
    Data,
    Question,
    Reader,
    Refused,
    Row,
    Rules,
    Tree,
    Wanted,
    World,
    Writer,
    aggregates,
    prepare,
    questions,
    world,
    write,
    writes,
)

__all__ = ["world"]


@pytest.fixture(scope="module", autouse=True)
def mutations() -> Iterator[None]:
    """Has the server of `world` allow mutations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIRECTUS_GRAPHQL_MUTATIONS", "on")
        yield


ITEMS = {name: f"{name.capitalize()}Item" for name in TABLES}
SCHEMA = "{__schema{types{name fields{name type{kind name ofType{kind name}}} inputFields{name} enumValues{name}}}}"


class Schema:
    """The schema of a caller. `types` has the fields of each type: with the names of their types for objects, "" for others."""

    def __init__(self, world: World, caller: Caller) -> None:
        status, body = world.call("POST", "/gql", {"query": SCHEMA}, token=caller.token)
        self.refused = status == 401
        self.types: dict[str, dict[str, str]] = {}
        if self.refused:
            return
        for type in json.loads(body)["data"]["__schema"]["types"]:
            fields = {each["name"]: _object(each["type"]) for each in type["fields"] or ()}
            inputs = {each["name"]: "" for each in [*(type["inputFields"] or ()), *(type["enumValues"] or ())]}
            self.types[type["name"]] = fields | inputs

    def selection(self, type: str, tree: Tree) -> tuple[str, Tree] | None:
        """Returns the selection of a tree as far as the type has its fields, and the tree of these fields. None if there are none."""
        parts: list[str] = []
        found: Tree = {}
        for name, below in tree.items():
            target = self.types[type].get(name)
            if target is None:
                continue
            if not target:
                parts.append(name)
                found[name] = None
                continue
            inner = self.selection(target, below or {"id": None})
            if inner is not None:
                parts.append(f"{name} {{{inner[0]}}}")
                found[name] = inner[1]
        return (" ".join(parts), found) if parts else None

    def everything(self, type: str, depth: int) -> Tree:
        """Returns the tree of all fields of a type, and of the items in them."""
        return {
            name: self.everything(target, depth - 1) if target in ITEMS.values() else {"id": None} if target else None
            for name, target in self.types[type].items()
            if depth or not target
        }


def _object(type: Any) -> str:
    """Returns the name of the object type of a field, "" if it has none."""
    named = type["ofType"] if type["kind"] in ("LIST", "NON_NULL") else type
    return named["name"] if named["kind"] == "OBJECT" else ""


def run(world: World, caller: Caller, query: str) -> Any:
    status, body = world.call("POST", "/gql", {"query": query}, token=caller.token)
    assert status == 200, body
    return json.loads(body)


def as_shown(schema: Schema, type: str, tree: Tree, item: Any) -> Any:
    """Returns an item of the model as GraphQL shows it: with null for what it lacks, and keys as texts."""
    found: Row = {}
    for name, below in tree.items():
        value = None if item == [] else item.get(name)
        if below is None:
            if name in ("id", *TABLES_ONES):
                value = value["id"] if isinstance(value, dict) else value
                value = None if value is None else str(value)
            found[name] = value
            continue
        target = schema.types[type][name]
        if isinstance(value, list) and name in TABLES_MANIES:
            found[name] = [as_shown(schema, target, below, each) for each in value]
        elif value is None:
            found[name] = None
        elif name == "owner":
            found[name] = {"id": str(value["id"])}
        else:
            found[name] = as_shown(schema, target, below, value)
    return found


TABLES_ONES = frozenset({"owner", *(name for table in TABLES.values() for name in table.ones)})
TABLES_MANIES = frozenset(name for table in TABLES.values() for name in table.manies)


def visible(reader: Reader, table: str) -> set[str]:
    """Returns the fields of a collection that the caller may see."""
    hidden = reader.caller.hidden(table)
    lists = {name for name, (many, back) in TABLES[table].manies.items() if reader.lists(many, back)}
    return ({*TABLES[table].columns} | lists) - hidden


def shown(reader: Reader, table: str, rows: Sequence[Row], schema: Schema, tree: Tree) -> list[Any]:
    return [as_shown(schema, ITEMS[table], tree, reader.show(table, row["$id"], tree)) for row in rows]


@settings(ANY, max_examples=examples(15))
@given(caller=CALLERS, others=RULES, data=DATA)
def test_schemas_and_items_show_what_the_rules_say_and_no_more(world: World, caller: Caller, others: Rules, data: Data) -> None:
    reader = prepare(world, caller, others, data)
    schema = Schema(world, caller)
    assert schema.refused == (not any(caller.reads(table) for table in TABLES))
    if schema.refused:
        return
    for table in TABLES:
        assert (table in schema.types["Query"]) == caller.reads(table)
        if not caller.reads(table):
            assert ITEMS[table] not in schema.types
            continue
        assert set(schema.types[ITEMS[table]]) - {"_"} == visible(reader, table)
        tree = schema.everything(ITEMS[table], 2)
        found = schema.selection(ITEMS[table], tree)
        if found is None or "_" in found[1]:
            continue
        selection, tree = found
        for status, argument in ((None, ""), (("*",), ', status: ["*"]')):
            if argument and ("status" in caller.hidden(table) or not TABLES[table].statuses):
                continue
            question = Question(tree, status=status)
            answer = run(world, caller, f"{{{table}(limit: -1{argument}) {{data {{{selection}}} meta {{total_count}}}}}}")
            assert "errors" not in answer, answer
            total = sum(reader.alive(table, row) for row in reader.rows(table))
            expected = shown(reader, table, reader.found(table, question), schema, tree)
            assert answer["data"][table] == {"data": expected, "meta": {"total_count": total}}, (table, selection)
        for key, row in {**data[table], 99: {}}.items():
            answer = run(world, caller, f"{{{table}(id: {key}) {{data {{{selection}}}}}}}")
            if row and caller.may(table, "read", row) and reader.alive(table, row):
                expected = [as_shown(schema, ITEMS[table], tree, reader.show(table, key, tree))]
                assert answer["data"][table] == {"data": expected}, (table, key)
            else:
                assert answer["errors"][0]["extensions"] == {"code": 203}, (table, key)


def condition(schema: Schema, type: str, wanted: Wanted) -> str | None:
    """Returns a condition as a filter. None if the filter type has no such field."""
    head, _, rest = wanted.path.partition(".")
    fields = schema.types[f"{type.removesuffix('Item')}Filter"]
    if rest:
        target = {"topic": "TopicsItem", "kind": "KindsItem", "things": "ThingsItem"}[head]
        if head not in fields or target not in schema.types:
            return None
        inner = condition(schema, target, Wanted(rest, wanted.operator, wanted.text))
        return None if inner is None else f"{head}: {{{inner}}}"
    name = f"{head}_{wanted.operator}"
    if name not in fields:
        return None
    numeric = head in ("id", "rank", "topic", "kind", "owner", "things")
    if wanted.operator in ("has",) or (numeric and wanted.operator in ("eq", "neq", "gt", "lte")):
        return f"{name}: {wanted.text}"
    return f"{name}: {json.dumps(wanted.text)}"


def arguments(schema: Schema, table: str, question: Question) -> list[str] | None:
    """Returns the arguments of a question. None if the schema has no such question."""
    fields: list[list[str]] = [[]]
    for wanted in question.filter:
        asked = condition(schema, ITEMS[table], wanted)
        if asked is None:
            return None
        if wanted.logical == "or" and fields[-1]:
            fields.append([])
        fields[-1].append(asked)
    found = []
    if question.filter:
        alternatives = ["{and: [" + ", ".join([f"{{{each}}}" for each in group]) + "]}" for group in fields]
        found.append(f"filter: {{or: [{', '.join(alternatives)}]}}")
    if question.q is not None:
        found.append(f"search: {json.dumps(question.q)}")
    if question.status is not None and TABLES[table].statuses:
        if "status_eq" not in schema.types[f"{ITEMS[table].removesuffix('Item')}Filter"]:
            return None
        found.append(f"status: {json.dumps(list(question.status))}")
    orders = [f"{name.lstrip('-')}_{'desc' if name.startswith('-') else 'asc'}" for name in question.sort]
    if orders:
        if not set(orders) <= set(schema.types.get(f"{ITEMS[table].removesuffix('Item')}Sort", ())):
            return None
        found.append(f"sort: [{', '.join(orders)}]")
    return found


@settings(ANY, max_examples=examples(15))
@given(
    caller=CALLERS,
    others=RULES,
    data=DATA,
    asked=st.lists(ON_ANY_TABLE.flatmap(lambda table: st.tuples(st.just(table), questions(table))), min_size=10, max_size=12),
    summed=st.lists(ON_ANY_TABLE.flatmap(lambda table: st.tuples(st.just(table), aggregates(table))), min_size=5, max_size=6),
)
def test_no_question_finds_more_than_the_rules_allow(
    world: World, caller: Caller, others: Rules, data: Data, asked: list[Any], summed: list[Any]
) -> None:
    reader = prepare(world, caller, others, data)
    schema = Schema(world, caller)
    if schema.refused:
        return
    for table, question in asked:
        if table not in schema.types["Query"]:
            continue
        found = schema.selection(ITEMS[table], {"id": None, **dict.fromkeys(TABLES[table].columns)})
        wanted = arguments(schema, table, question)
        try:
            rows = reader.found(table, question)
        except Refused:
            # What is refused by REST cannot be asked.
            assert wanted is None, (table, question)
            continue
        if found is None or wanted is None:
            continue
        selection, tree = found
        page = [f"limit: {question.limit}", f"offset: {question.offset}"]
        answer = run(world, caller, f"{{{table}({', '.join([*wanted, *page])}) {{data {{{selection}}}}}}}")
        cut = rows if question.limit < 0 else rows[question.offset : question.offset + question.limit]
        assert answer == {"data": {table: {"data": shown(reader, table, cut, schema, tree)}}}, (table, wanted)
    for table, (question, functions, by) in summed:
        if table not in schema.types["Query"]:
            continue
        wanted = arguments(schema, table, question)
        try:
            expected = reader.aggregates(table, question, functions, by)
        except Refused:
            hidden = {name for _, name in functions if name not in schema.types.get(f"{ITEMS[table][:-4]}Counts", {"*": ""})}
            assert wanted is None or hidden - {"*"} or by not in schema.types[f"{ITEMS[table][:-4]}Group"], (table, question)
            continue
        if wanted is None:
            continue
        parts = ["count_all" if name == "*" else f"{function} {{{name}}}" for function, name in functions]
        if by:
            wanted.append(f"groupby: [{by}]")
            parts.append(f"group {{{by}}}")
        given = f"({', '.join([*wanted, 'limit: -1'])})"
        answer = run(world, caller, f"{{{table}_aggregate{given} {{{' '.join(parts)}}}}}")
        assert answer == {"data": {f"{table}_aggregate": [summary(each, functions, by) for each in expected]}}, (
            table,
            wanted,
            parts,
        )


def summary(item: Row, functions: Sequence[tuple[str, str]], by: str | None) -> Row:
    """Returns an aggregate of the model as GraphQL shows it."""
    found: Row = {}
    for function, name in functions:
        value = item[function][name]
        if name == "*":
            found["count_all"] = value
        else:
            texts = function in ("min", "max") and name == "id" and value is not None
            found[function] = {name: str(value) if texts else value}
    if by:
        value = item[by]
        found["group"] = {by: str(value) if by == "id" and value is not None else value}
    return found


DOCUMENTS = [
    '{things(status: ["*"], limit: -1) {data {id title secret rank} meta {total_count filter_count status_count}}}',
    "{topics(limit: -1) {data {id name code a: things(sort: [title_asc]) {title secret} b: things(limit: 1) {rank}}}}",
    '{things(filter: {secret_gt: "b"}) {data {id}} topics(search: "alp") {data {id}}}',
    '{things(filter: {topic: {code_contains: "a"}}) {data {title topic {code}}}}',
    "{things_aggregate(groupby: [secret]) {group {secret} count_all max {rank}}}",
    "{kinds(limit: -1) {data {name things {secret owner {id}}}}}",
    "{x: things(id: 1) {data {title}} y: topics(id: 2) {data {name}} z: kinds(id: 1) {data {code}}}",
    get_introspection_query(),
]


@settings(ANY, max_examples=examples(12))
@given(caller=CALLERS, others=RULES, data=DATA, other_data=DATA)
def test_what_is_hidden_has_no_influence_on_any_answer(
    world: World, caller: Caller, others: Rules, data: Data, other_data: Data
) -> None:
    prepare(world, caller, others, data)
    schema = Schema(world, caller)
    documents = list(DOCUMENTS)
    for table in TABLES:
        if not schema.refused and table in schema.types["Query"]:
            found = schema.selection(ITEMS[table], schema.everything(ITEMS[table], 2))
            if found is not None:
                documents.append(f"{{{table}(limit: -1) {{data {{{found[0]}}}}}}}")

    def answers() -> list[Any]:
        return [world.call("POST", "/gql", {"query": each}, token=caller.token) for each in documents]

    before = answers()
    changed = copy.deepcopy(data)
    for table, rows in changed.items():
        spare = itertools.cycle(other_data[table].values())
        for row, other in zip(rows.values(), spare, strict=False):
            seen = caller.may(table, "read", row)
            for name in (caller.hidden_in(table, row) if seen else set(row)) & set(row) - {"id", "status", "owner"}:
                row[name] = other[name]
    world.store(changed)
    note(f"changed: {changed}")
    for document, one, other in zip(documents, before, answers(), strict=True):
        assert one[0] in (200, 401), (document, one)
        assert one == other, document


TARGETS = {"topic": "TopicsInput", "kind": "KindsInput", "things": "ThingsInput"}


class NotInSchema(Exception):
    """The schema of the caller does not have this."""


def given_as(schema: Schema, type: str, payload: Row) -> tuple[Row, Row]:
    """Returns a payload as the variable of an input type, and as the model takes it: both refer to related items by objects. Raises
    NotInSchema if the type lacks a field."""
    sent: Row = {}
    modelled: Row = {}
    for name, value in payload.items():
        field = "_delete" if name == "$delete" else name
        if field not in schema.types[type]:
            raise NotInSchema
        target = TARGETS.get(name)
        if target not in schema.types or value is None:
            if isinstance(value, dict):
                raise NotInSchema
            sent[field], modelled[name] = value, value
        elif isinstance(value, list):
            pairs = [given_as(schema, str(target), each) for each in value]
            sent[field], modelled[name] = [one for one, _ in pairs], [other for _, other in pairs]
        else:
            sent[field], modelled[name] = given_as(schema, str(target), value if isinstance(value, dict) else {"id": value})
    return sent, modelled


@settings(ANY, max_examples=examples(15))
@given(
    caller=CALLERS,
    others=RULES,
    data=DATA,
    wanted=st.lists(st.tuples(writes(), st.booleans()), min_size=14, max_size=16),
)
def test_mutations_do_what_the_rules_allow_or_nothing(
    world: World, caller: Caller, others: Rules, data: Data, wanted: list[Any]
) -> None:
    prepare(world, caller, others, data)
    schema = Schema(world, caller)
    if schema.refused:
        return
    for (method, table, keys, body), comment in wanted:
        input = f"{ITEMS[table].removesuffix('Item')}Input"
        name, arguments, variables = _mutation(method, table, keys, body, input)
        if name not in schema.types.get("Mutation", ()):
            continue
        try:
            if isinstance(body, list):
                pairs = [given_as(schema, input, each) for each in body]
                variables["data"], body = [one for one, _ in pairs], [other for _, other in pairs]
            elif body is not None:
                variables["data"], body = given_as(schema, input, body)
        except NotInSchema:
            continue
        writer = Writer(caller, copy.deepcopy(data), comment)
        try:
            write(writer, method, table, keys, body)
            allowed = True
        except Refused:
            allowed = False
        world.rewind()
        selection = "" if method == "DELETE" else " {__typename}"
        document = f"mutation({arguments[0]}) {{{name}({arguments[1]}){selection}}}"
        path = "/gql" + ("?comment=because" if comment else "")
        answered, text = world.call("POST", path, {"query": document, "variables": variables}, token=caller.token)
        told = (document, variables, comment, text)
        assert answered == 200, told
        if allowed:
            assert "errors" not in json.loads(text), told
            assert world.stored() == writer.data, told
            world.store(data)
        else:
            (error,) = json.loads(text)["errors"]
            assert error["path"] == [name], told
            assert error["extensions"]["code"] != 0, told
            assert world.stored() == data, told


def _mutation(method: str, table: str, keys: list[int], body: Any, input: str) -> tuple[str, tuple[str, str], Row]:
    """Returns the name of a mutation, its variables and arguments, and the values of the variables that are keys."""
    if method == "DELETE":
        return f"delete_{table}_items", ("$ids: [ID!]!", "ids: $ids"), {"ids": keys}
    data = f"$data: [{input}!]!" if isinstance(body, list) else f"$data: {input}!"
    if method == "POST":
        return f"create_{table}_item{'s' if isinstance(body, list) else ''}", (data, "data: $data"), {}
    if not keys:
        return f"update_each_{table}_item", (data, "data: $data"), {}
    if len(keys) == 1:
        return f"update_{table}_item", (f"$id: ID!, {data}", "id: $id, data: $data"), {"id": keys[0]}
    return f"update_{table}_items", (f"$ids: [ID!]!, {data}", "ids: $ids, data: $data"), {"ids": keys}
