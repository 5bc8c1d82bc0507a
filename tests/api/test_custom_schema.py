"""Field types, filter operators and aggregate functions of plugins, over HTTP. The plugins are those of the documentation."""

from typing import Any
from urllib.parse import quote

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor

from directus_tx.access import Access
from directus_tx.api import hookimpl
from directus_tx.compile.read import plan_for
from directus_tx.config import LimitSettings, Settings
from directus_tx.context import Accountability
from directus_tx.plugins.manager import PluginError, Plugins
from directus_tx.query import Condition, Query
from directus_tx.registered import collect
from directus_tx.schema.custom import AggregateFunction, FieldType, FilterOperator
from tests.conftest import Client, field
from tests.plugged import documented, logged, plugins_of


class More:
    """Operators and types that go wrong, and one with percent signs and braces in its SQL."""

    directus_tx_api = 1

    @hookimpl
    def register_operators(self) -> Any:
        return {
            "divides": FilterOperator("{value}::int / {column} >= 0", ("integer",), int),
            "breaks": FilterOperator("{column} = {value}::int", ("integer",), [].index, total=True),
            "fails": FilterOperator("{column} = {value}::int", ("integer",), lambda text: {}[text], total=True),
            "like_any": FilterOperator(
                "{column} LIKE 'a%' || {value}::text || '%' AND {column} <> '%s{{}}'", ("text",), total=True
            ),
        }

    @hookimpl
    def register_field_types(self) -> Any:
        def show(value: Any) -> Any:
            raise ZeroDivisionError(value)

        return {
            "odd": FieldType("odd", {"ODD": "inet"}, None, show),
            "plain": FieldType("plain"),
            "bad": FieldType("bad", parse=show),
        }

    @hookimpl
    def register_aggregates(self) -> Any:
        return {"odd": AggregateFunction("max({column})", ("integer",), lambda value: value / 0)}


class OnlyIn(Plugins):
    """Plugins that are enabled in the projects whose keys are in `projects`."""

    projects: set[str] | None = None

    def enabled(self, name: str, project: Any) -> bool:
        return self.projects is None or project.key in self.projects


@pytest.fixture
def plugins() -> Plugins:
    found = OnlyIn(reactor)
    for name, hook in (
        ("prices", "register_field_types"),
        ("finding", "register_operators"),
        ("counting", "register_aggregates"),
    ):
        found.register(documented(hook), name)
    found.register(More(), "more")
    return found


async def shop(client: Client) -> None:
    """A collection with prices."""
    await client.collection(
        "things",
        field("name"),
        field("price", "price", "PRICE", None),
        field("made", "date", "DATE", None),
        field("number", "integer", "INT", 11),
    )
    things = [
        {"name": "anchor", "price": "EUR 12.50", "made": "2026-11-27", "number": 2},
        {"name": "Buoy", "price": 3, "made": "2026-11-28", "number": 4},
        {"name": "chain", "price": None, "made": None, "number": 9},
    ]
    answer = await client.post("~/items/things", things)
    assert answer.status == 200, answer.body


# --- types


@ensureDeferred
async def test_values_of_a_type_are_parsed_and_shown(client: Client) -> None:
    await shop(client)
    prices = [each["price"] for each in (await client.get("~/items/things?fields=price")).data]
    assert prices == ["EUR 12.50", "EUR 3.00", None]
    changed = await client.patch("~/items/things/2", {"price": "7.25"})
    assert changed.data["price"] == "EUR 7.25"
    # What an answer has shown can be sent back.
    item = (await client.get("~/items/things/1")).data
    assert (await client.patch("~/items/things/1", item)).data == item
    for value, said in (("cheap", 'takes a price like "EUR 12.50".'), (-1, "takes no negative price."), ("EUR 1e20", "digits")):
        refused = await client.patch("~/items/things/1", {"price": value})
        assert refused.status == 422
        assert said in refused.json["error"]["message"], refused.body


@ensureDeferred
async def test_the_column_and_the_history_hold_the_stored_value(client: Client) -> None:
    await shop(client)
    about = (await client.get("~/fields/things/price")).data
    assert (about["type"], about["datatype"], about["length"]) == ("price", "PRICE", None)
    snapshot = await client.backend.projects.get(client.project).snapshot()
    assert snapshot.collections["things"].fields["price"].column_type == "numeric(12,2)"
    await client.patch("~/items/things/1", {"price": 99})
    first = min((await client.get("~/items/things/1/revisions")).data, key=lambda each: each["id"])
    # The delta is what was sent, the data what is stored.
    assert (first["data"]["price"], first["delta"]["price"]) == ("12.50", "EUR 12.50"), first
    reverted = await client.patch(f"~/items/things/1/revert/{first['id']}", {})
    assert reverted.data["price"] == "EUR 12.50", reverted.body


@ensureDeferred
async def test_filters_sorts_and_aggregates_take_the_values_of_a_type(client: Client) -> None:
    await shop(client)
    for query, names in (
        (f"filter[price][eq]={quote('EUR 12.50')}", ["anchor"]),
        ("filter[price][gt]=EUR%203", ["anchor"]),
        ("filter[price][in]=3,12.5", ["anchor", "Buoy"]),
        ("filter[price][eq]=cheap", []),
        ("filter[price][null]=1", ["chain"]),
        ("sort=-price", ["anchor", "Buoy", "chain"]),
    ):
        assert [each["name"] for each in (await client.get(f"~/items/things?{query}")).data] == names, query
    assert (await client.get("~/items/things?aggregate[sum]=price")).data[0]["sum"] == {"price": 15.5}
    assert (await client.get("~/items/things?aggregate[max]=price")).data[0]["max"] == {"price": "EUR 12.50"}


@ensureDeferred
async def test_types_are_listed_and_described(client: Client) -> None:
    token = (await client.post("~/auth/authenticate", {"email": "admin@example.com", "password": "password"}, token=None)).data[
        "token"
    ]
    names = [each["name"] for each in (await client.get("/types", token=token)).data]
    assert names[-3:] == ["price", "odd", "plain"] or {"price", "odd", "plain"} <= set(names)
    await shop(client)
    document = (await client.get("~/specs/oas")).json
    assert document["components"]["schemas"]["things"]["properties"]["price"] == {"type": "string"}
    (described,) = [each for each in document["paths"]["/items/things"]["get"]["parameters"] if each["name"] == "filter"]
    assert "matches, weekday." in described["description"]
    unknown = await client.post("~/fields/things", field("other", "prices", "PRICE", None))
    assert (unknown.status, 'did you mean "price"?' in unknown.json["error"]["message"]) == (422, True)
    length = await client.post("~/fields/things", field("other", "price", "PRICE", 5))
    assert "PRICE takes no length" in length.json["error"]["message"]
    usual = await client.post("~/fields/things", field("other", "price", "DECIMAL", "10,2"))
    assert usual.status == 200, usual.body
    assert (await client.patch("~/items/things/1", {"other": "EUR 1"})).data["other"] == "EUR 1.00"
    foreign = await client.post("~/fields/things", field("bad", "string", "PRICE", None))
    assert foreign.status == 422


@ensureDeferred
async def test_a_type_that_cannot_show_a_value_is_logged_and_the_stored_value_shown(client: Client) -> None:
    await client.collection("hosts", field("address", "odd", "ODD", None), field("note", "plain", "VARCHAR", 20))
    with logged() as lines:
        made = await client.post("~/items/hosts", {"address": "10.0.0.1", "note": "x"})
    assert made.data == {"id": 1, "address": "10.0.0.1", "note": "x"}
    assert [
        line for line in lines if 'the type odd of the field "address" of "hosts" cannot show a value: ZeroDivisionError' in line
    ]
    refused = await client.post("~/items/hosts", {"address": "no address"})
    assert refused.status == 422


@ensureDeferred
async def test_without_the_plugin_fields_are_shown_as_their_columns(client: Client) -> None:
    await shop(client)
    client.backend.plugins.projects = set()
    projects = client.backend.projects
    await projects._open.pop(client.project).close()
    assert [each["price"] for each in (await client.get("~/items/things?fields=price")).data] == [12.5, 3, None]
    assert (await client.patch("~/items/things/1", {"price": 5})).data["price"] == 5
    assert (await client.post("~/fields/things", field("other", "price", "PRICE", None))).status == 422
    unknown = await client.get("~/items/things?filter[name][matches]=a")
    assert (unknown.status, "There is no filter operator" in unknown.json["error"]["message"]) == (422, True)
    assert (await client.get("~/items/things?aggregate[median]=number")).status == 422


# --- operators


@ensureDeferred
async def test_operators_find_items(client: Client) -> None:
    await shop(client)
    for query, names in (
        ("filter[name][matches]=^(a|b)", None),
        ("filter[name][matches]=^b", ["Buoy"]),
        ("filter[name][matches]=^[", None),
        ("filter[made][weekday]=5", ["anchor"]),
        ("filter[made][weekday]=5,6", ["anchor", "Buoy"]),
        ("filter[made][weekday]=friday", None),
        ("filter[name][weekday]=5", None),
        ("filter[name][like_any]=ch", ["anchor"]),
        ("filter[number][divides]=x", None),
        ("filter[number][divides]=8", ["anchor", "Buoy", "chain"]),
    ):
        found = await client.get(f"~/items/things?{query}")
        if names is None:
            assert 400 <= found.status < 500, (query, found.body)
        else:
            assert [each["name"] for each in found.data] == names, query
    meant = await client.get("~/items/things?filter[name][match]=^b")
    assert 'did you mean "matches"?' in meant.json["error"]["message"]


@ensureDeferred
async def test_values_cannot_change_the_sql(client: Client) -> None:
    await shop(client)
    for text in ("x' OR '1'='1", "%s", "%(name)s", "{column}", "\\", "a%00b", '"; DROP TABLE things; --'):
        found = await client.get(f"~/items/things?filter[name][like_any]={quote(text)}")
        assert (found.status, found.json["data"]) == (200, []), (text, found.body)


@ensureDeferred
async def test_an_operator_that_can_fail_tells_nothing_of_hidden_rows(client: Client) -> None:
    """A division by zero in a row that the caller may not read would tell that the row is there."""
    await client.collection(
        "things",
        field("name"),
        field("number", "integer", "INT", 11),
        field("status", "status", "VARCHAR", 20, options={"status_mapping": {"open": {}, "hidden": {}}}),
    )
    await client.post(
        "~/items/things", [{"name": "a", "number": 5, "status": "open"}, {"name": "b", "number": 0, "status": "hidden"}]
    )
    await client.post("~/permissions", {"collection": "things", "role": 2, "status": "open", "read": "full"})
    own = await client.get("~/items/things?filter[number][divides]=10")
    assert 400 <= own.status < 500
    paths = (
        "filter[number][divides]=10",
        "filter[number][divides]=10&meta=*",
        "filter[number][divides]=10&aggregate[count]=*",
        "filter[number][divides]=10&sort=number&limit=1",
    )
    for path in paths:
        found = await client.get(f"~/items/things?{path}", token=None)
        assert found.status == 200, (path, found.body)
    project = client.backend.projects.get(client.project)
    schema = await project.snapshot()

    def sql(operator: str, name: str, who: Accountability) -> str:
        query = Query(filter=(Condition((name,), operator, "1"),))
        return str(plan_for(Access(schema, who), "things", query, LimitSettings()).items.select.statement.text)

    public = Accountability(None, None, "")
    assert "OFFSET 0" in sql("divides", "number", public)
    assert "OFFSET 0" not in sql("like_any", "name", public)
    assert "OFFSET 0" not in sql("eq", "number", public)
    assert "OFFSET 0" not in sql("divides", "number", Accountability(1, 1, ""))


@ensureDeferred
async def test_operators_work_behind_relations_and_in_deep(client: Client) -> None:
    await shop(client)
    await client.collection("boxes", field("label"), field("things", "o2m", None, None))
    await client.post("~/fields/things", field("box", "m2o", "INT", 11))
    await client.post(
        "~/relations", {"collection_many": "things", "field_many": "box", "collection_one": "boxes", "field_one": "things"}
    )
    await client.post("~/items/boxes", {"label": "first", "things": [{"id": 1}, {"id": 2}]})
    found = await client.get(
        "~/items/boxes?fields=things.name&filter[things.name][matches]=^b&deep[things][filter][name][matches]=^b"
    )
    assert found.data == [{"things": [{"name": "Buoy"}]}], found.body
    assert [each["name"] for each in (await client.get("~/items/things?filter[box.label][matches]=FIRST")).data] == [
        "anchor",
        "Buoy",
    ]


@ensureDeferred
async def test_functions_of_plugins_that_fail_are_named_in_the_log(client: Client) -> None:
    await shop(client)
    with logged() as lines:
        failed = await client.get("~/items/things?filter[number][fails]=1")
        refused = await client.get("~/items/things?filter[number][breaks]=1")
        odd = await client.get("~/items/things?aggregate[odd]=number")
        assert (await client.post("~/fields/things", field("bad", "bad", "VARCHAR", 20))).status == 200
        wrong = await client.patch("~/items/things/1", {"bad": "secret"})
        asked = await client.get("~/items/things?filter[bad][eq]=secret")
    assert (failed.status, refused.status, wrong.status, asked.status) == (500, 422, 500, 500)
    assert b"secret" not in wrong.body + asked.body
    assert odd.data == [{"odd": {"number": 9}}]
    text = "\n".join(lines)
    for said in (
        "the operator fails of a plugin failed to take a value: KeyError",
        "the aggregate function odd of a plugin cannot show a result: ZeroDivisionError",
        'the type bad of the field "bad" of "things" failed to take a value: ZeroDivisionError',
    ):
        assert said in text


# --- aggregate functions


@ensureDeferred
async def test_aggregate_functions_of_plugins(client: Client) -> None:
    await shop(client)
    found = await client.get("~/items/things?aggregate[median]=number&aggregate[longest]=name&aggregate[count]=*")
    assert found.data == [{"median": {"number": 4}, "longest": {"name": 6}, "count": {"*": 3}}], found.body
    for query in ("aggregate[median]=name", "aggregate[median]=*", "aggregate[median]=nothing"):
        assert 400 <= (await client.get(f"~/items/things?{query}")).status < 500, query
    meant = await client.get("~/items/things?aggregate[medan]=number")
    assert 'did you mean "median"?' in meant.json["error"]["message"]


# --- GraphQL


@ensureDeferred
async def test_graphql_has_the_types_and_operators_of_plugins(client: Client) -> None:
    await shop(client)
    for query, found in (
        ('{ things(filter: {name_matches: "^b"}) { data { name price } } }', [{"name": "Buoy", "price": "EUR 3.00"}]),
        ('{ things(filter: {price_gt: "EUR 3"}) { data { name } } }', [{"name": "anchor"}]),
    ):
        answer = await client.post("~/gql", {"query": query})
        assert answer.json == {"data": {"things": {"data": found}}}, answer.body


# --- registrations that are wrong


class Registering:
    def __init__(self, hook: str, value: Any) -> None:
        setattr(self, hook, hookimpl(lambda: value))


TEXT = ("text",)
WRONG = [
    ("register_field_types", [], "it must return a dict, not list"),
    ("register_field_types", {"x": 5}, "it must be a FieldType, not int"),
    ("register_field_types", {"x": FieldType("y")}, "the name must"),
    ("register_field_types", {"X": FieldType("X")}, "the name must"),
    ("register_field_types", {"string": FieldType("string")}, 'the name "string" is taken'),
    ("register_field_types", {"x": FieldType("x", {"lower": "text"})}, "must consist of capital letters"),
    ("register_field_types", {"x": FieldType("x", {"X": "text); DROP TABLE y"})}, "is not the name of a PostgreSQL type"),
    ("register_field_types", {"x": FieldType("x", parse=5)}, "parse and show must be functions"),  # type: ignore[arg-type]
    ("register_operators", {"x": "SQL"}, "it must be a FilterOperator, not str"),
    ("register_operators", {"eq": FilterOperator("{column}", TEXT)}, 'the name "eq" is taken'),
    ("register_operators", {"logical": FilterOperator("{column}", TEXT)}, 'the name "logical" is taken'),
    ("register_operators", {"x-y": FilterOperator("{column}", TEXT)}, "the name must begin with a lower-case letter"),
    ("register_operators", {"x": FilterOperator("1 = 1", TEXT)}, "sql must have {column}"),
    ("register_operators", {"x": FilterOperator("{column} = {other}", TEXT)}, "no other placeholders than column, value"),
    ("register_operators", {"x": FilterOperator("{column}; DROP TABLE x", TEXT)}, "without ; and comments"),
    ("register_operators", {"x": FilterOperator("{column}", ())}, "families must be a tuple"),
    ("register_operators", {"x": FilterOperator("{column}", ("words",))}, "families must be a tuple"),
    ("register_aggregates", {"sum": AggregateFunction("sum({column})", TEXT)}, 'the name "sum" is taken'),
    ("register_aggregates", {"x": AggregateFunction("sum({column} + {value})", TEXT)}, "no other placeholders than column"),
    ("register_aggregates", {"x": AggregateFunction("sum({column})", TEXT, 5)}, "show must be a function"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("hook", "value", "said"), WRONG)
def test_wrong_registrations_name_the_plugin_and_the_hook(hook: str, value: Any, said: str) -> None:
    with pytest.raises(PluginError, match=f"the plugin wrong cannot be used: {hook}: ") as refused:
        collect(plugins_of(wrong=Registering(hook, value)), Settings())
    assert said in str(refused.value)


def test_two_plugins_cannot_add_the_same_operator() -> None:
    with pytest.raises(PluginError, match='the plugin b cannot be used: register_operators: the name "matches" is taken'):
        collect(plugins_of(a=documented("register_operators"), b=documented("register_operators")), Settings())
