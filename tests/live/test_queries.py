"""Queries by the thousand: none is a server error, and filters find what a plain evaluation of the rules finds."""

import json
import pathlib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from attrs import frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import KEY, examples, field
from tests.daemon import TOKEN, Daemon

WORDS = ["Alpha", "alpha", "beta", "Gamma Ray", "", "100%", "a_b", "Élan", "é", None]
NUMBERS = [0, 1, 2, 3, 10, 255, None]
PRICES = ["0.00", "1.50", "2.25", "10.00", None]
DAYS = ["2024-01-01", "2024-02-29", "2025-12-31", None]

THINGS: list[dict[str, Any]] = [
    {
        "id": n + 1,
        "name": WORDS[n % len(WORDS)],
        "n": NUMBERS[n % len(NUMBERS)],
        "price": PRICES[n % len(PRICES)],
        "flag": [True, False, None][n % 3],
        "day": DAYS[n % len(DAYS)],
        "parent": None if n % 5 == 0 else n // 2 + 1,
    }
    for n in range(40)
]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A server with THINGS, each of which may have a parent among them."""
    directory: pathlib.Path = tmp_path_factory.mktemp("queries")
    found = Daemon(directory).start()
    found.create_project("p")
    fields = [
        KEY,
        field("name", length=50),
        field("n", "integer", "INT", 11),
        field("price", "decimal", "DECIMAL", "8,2"),
        field("flag", "boolean", "TINYINT", 1),
        field("day", "date", "DATE", None),
        field("parent", "m2o", "INT", 11),
        {"field": "children", "type": "o2m", "interface": "one-to-many"},
    ]
    found.call("POST", "/p/collections", {"collection": "things", "fields": fields})
    relation = {"collection_many": "things", "field_many": "parent", "collection_one": "things", "field_one": "children"}
    found.call("POST", "/p/relations", relation)
    found.call("POST", "/p/items/things", THINGS)
    yield found
    assert found.stop() == 0


def get(daemon: Daemon, query: str) -> tuple[int, Any]:
    request = urllib.request.Request(f"{daemon.base}/p/items/things?{query}", headers={"Authorization": f"bearer {TOKEN}"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


# --- anything

NAMES = st.sampled_from(
    "id name n price flag day parent children parent.name children.n parent.parent.day nope * -name ? a.b.".split()
)
OPERATORS = st.sampled_from(
    "eq = != <> < > lte gte in nin null nnull contains ncontains like nlike rlike nrlike between nbetween empty nempty all has nope".split()
)
VALUES = st.one_of(
    st.sampled_from(["", "1", "alpha", "1,2", "2024-01-01", "now", "true", "%", "\\", "'", '"', "\x00", "9" * 40, "-1", "1e400"]),
    st.text(max_size=12),
)
PLAIN = st.sampled_from(
    ["fields", "sort", "limit", "offset", "page", "single", "status", "q", "meta", "lang", "groups", "filter", "x"]
)
PARAMETERS = st.one_of(
    st.tuples(PLAIN, NAMES | VALUES),
    st.tuples(st.builds(lambda f, o: f"filter[{f}][{o}]", NAMES, OPERATORS), VALUES),
    st.tuples(st.builds(lambda f: f"filter[{f}][logical]", NAMES), st.sampled_from(["or", "and", "x"])),
    st.tuples(st.builds(lambda f, o: f"filter[{f}][0][{o}][]", NAMES, OPERATORS), VALUES),
    st.tuples(st.builds(lambda f, o: f"deep[{f}][filter][{f}][{o}]", NAMES, OPERATORS), VALUES),
    st.tuples(st.builds(lambda f, o: f"deep[{f}][{o}]", NAMES, st.sampled_from(["limit", "offset", "sort"])), VALUES),
    st.tuples(st.builds(lambda o: f"aggregate[{o}]", st.sampled_from("count sum avg min max countDistinct x".split())), NAMES),
    st.tuples(st.just("groupby"), NAMES),
)


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parameters=st.lists(PARAMETERS, max_size=6))
def test_any_query_string_is_answered_or_refused_with_a_code(daemon: Daemon, parameters: list[tuple[str, str]]) -> None:
    query = urllib.parse.urlencode(parameters, errors="replace")
    status, body = get(daemon, query)
    assert status in (200, 401, 403, 404, 422), (query, body)
    if status != 200:
        assert body["error"]["code"] > 0
        assert body["error"]["message"]


# --- filters against a plain evaluation of the rules


@frozen
class Wanted:
    """A condition: field, operator, text."""

    field: str
    operator: str
    text: str
    logical: str = "and"


COMPARED = st.sampled_from(["eq", "neq", "lt", "lte", "gt", "gte", "in", "nin", "between", "nbetween"])
TEXTUAL = st.sampled_from(["contains", "ncontains"])
ANY = st.sampled_from(["null", "nnull", "empty", "nempty"])
LOGICAL = st.sampled_from(["and", "and", "or"])


def conditions_on(name: str, values: list[Any], *, textual: bool = False) -> st.SearchStrategy[Wanted]:
    texts = st.sampled_from([str(v) for v in values if v is not None and "," not in str(v)])
    lists = st.lists(texts, min_size=1, max_size=3).map(",".join)
    compared = st.builds(Wanted, st.just(name), COMPARED, texts | lists, LOGICAL).filter(
        lambda w: "," not in w.text or w.operator in ("in", "nin", "between", "nbetween")
    )
    kinds = [compared, st.builds(Wanted, st.just(name), ANY, st.just("1"), LOGICAL)]
    if textual:
        kinds.append(st.builds(Wanted, st.just(name), TEXTUAL, st.sampled_from(["alp", "A", "%", "_", "é", "ray"]), LOGICAL))
    return st.one_of(kinds)


CONDITIONS = st.one_of(
    conditions_on("name", WORDS, textual=True),
    conditions_on("n", [*NUMBERS, 7]),
    conditions_on("price", PRICES),
    conditions_on("day", DAYS),
    conditions_on("parent.name", WORDS, textual=True),
    conditions_on("children.n", [*NUMBERS, 7]),
)


def values_at(item: dict[str, Any], path: str) -> list[Any]:
    """The values that a path leads to: one, or those of all related items."""
    head, _, rest = path.partition(".")
    if head == "children":
        return [v for other in THINGS if other["parent"] == item["id"] for v in values_at(other, rest)]
    if head == "parent" and rest:
        return [v for other in THINGS if other["id"] == item["parent"] for v in values_at(other, rest)]
    return [item[head]]


def comparable(name: str, value: Any) -> Any:
    if value is None:
        return None
    kind = name.rpartition(".")[2]
    return str(value).lower() if kind in ("name", "day") else Decimal(str(value))


def holds(wanted: Wanted, value: Any) -> bool:
    """Whether one value fulfils a condition, as NOTES and documentation say it."""
    kind = wanted.field.rpartition(".")[2]
    mine = comparable(kind, value)
    empty = mine is None or mine == "" or (mine == 0 and kind != "day")
    if wanted.operator in ("null", "nnull"):
        return (mine is None) == (wanted.operator == "null")
    if wanted.operator in ("empty", "nempty"):
        return empty == (wanted.operator == "empty")
    if mine is None:
        return False
    parts = [comparable(kind, part.strip()) for part in wanted.text.split(",")] if wanted.text else []
    one = comparable(kind, wanted.text) if "," not in wanted.text else None
    if wanted.operator in ("contains", "ncontains"):
        return (wanted.text.lower() in mine) == (wanted.operator == "contains")
    if wanted.operator in ("between", "nbetween"):
        return len(parts) > 1 and (parts[0] <= mine <= parts[-1]) == (wanted.operator == "between")
    return {
        "eq": lambda: mine == one,
        "neq": lambda: mine != one,
        "lt": lambda: mine < one,
        "lte": lambda: mine <= one,
        "gt": lambda: mine > one,
        "gte": lambda: mine >= one,
        "in": lambda: mine in parts,
        "nin": lambda: mine not in parts,
    }[wanted.operator]()


def found_by_hand(chain: list[Wanted]) -> list[int]:
    keys = []
    for item in THINGS:
        groups: list[list[bool]] = [[]]
        for wanted in chain:
            if wanted.logical == "or" and groups[-1]:
                groups.append([])
            groups[-1].append(any(holds(wanted, value) for value in values_at(item, wanted.field)))
        if any(all(group) for group in groups):
            keys.append(item["id"])
    return keys


@settings(max_examples=examples(400), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chain=st.lists(CONDITIONS, min_size=1, max_size=4, unique_by=lambda wanted: wanted.field))
def test_filters_find_what_the_rules_say(daemon: Daemon, chain: list[Wanted]) -> None:
    parameters = [("fields", "id"), ("limit", "-1"), ("sort", "id"), ("meta", "filter_count")]
    for wanted in chain:
        parameters.append((f"filter[{wanted.field}][{wanted.operator}]", wanted.text))
        if wanted.logical == "or":
            parameters.append((f"filter[{wanted.field}][logical]", "or"))
    status, body = get(daemon, urllib.parse.urlencode(parameters))
    assert status == 200, body
    assert [item["id"] for item in body["data"]] == found_by_hand(chain)
    assert body["meta"]["filter_count"] == len(body["data"])


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sorts=st.lists(st.sampled_from(["name", "-name", "n", "-n", "price", "-price", "-day", "id", "-id"]), min_size=1, max_size=3),
    limit=st.integers(1, 15),
)
def test_pages_put_together_are_the_list(daemon: Daemon, sorts: list[str], limit: int) -> None:
    query = f"fields=id&sort={','.join(sorts)}"
    whole = get(daemon, query + "&limit=-1")[1]["data"]
    pages = [get(daemon, f"{query}&limit={limit}&page={page}")[1]["data"] for page in range(1, 40 // limit + 2)]
    assert [item for page in pages for item in page] == whole
    assert len({item["id"] for item in whole}) == len(THINGS)
