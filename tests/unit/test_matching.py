"""The route table finds what werkzeug finds in the map of Klein, which did the work before."""

from types import SimpleNamespace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from klein import Klein
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import Map, Rule

from directus_tx.http.endpoints import all_routes
from directus_tx.http.matching import WRONG_METHOD, Match, RouteTable
from directus_tx.http.site import parts_of

METHODS = ["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS", "TRACE", "FOO"]


def api_map() -> Map:
    klein = Klein()
    klein.url_map.merge_slashes = False
    for route in all_routes():
        klein.route(route.path, methods=[route.method], endpoint=f"{route.method} {route.path}")(lambda request: None)
    return klein.url_map


API = api_map()
TABLE = RouteTable(API)
WORDS = sorted({part for route in all_routes() for part in route.path.split("/") if not part.startswith("<")})


def by_werkzeug(url_map: Map, method: str, parts: list[str]) -> Match | str | None:
    """What werkzeug answers, which is passed no slashes in parts."""
    try:
        path = "/".join(part.replace("/", "\0") for part in parts)
        endpoint, arguments = url_map.bind("localhost").match("/" + path, method)
    except MethodNotAllowed:
        return WRONG_METHOD
    except HTTPException:
        return None
    return Match(endpoint, {name: value.replace("\0", "/") for name, value in arguments.items()})


escaped = st.binary(max_size=3).map(lambda data: b"".join(b"%%%02x" % byte for byte in data))
part = st.one_of(
    st.sampled_from(WORDS).map(str.encode),
    st.sampled_from(
        [b"", b".", b"..", b"%2F", b"%2f%2F", b"%", b"%2", b"%252F", b"%00", b"%C3%A4", b"%ff", b"\xff", b"a+b", b"<project>"]
    ),
    st.sampled_from(WORDS).map(lambda word: b"".join(b"%%%02X" % byte for byte in word.encode())),
    st.sampled_from(WORDS).map(lambda word: word.upper().encode()),
    st.binary(max_size=6).map(lambda data: data.replace(b"/", b"").replace(b"?", b"")),
    escaped,
    st.integers(1, 16_000).map(lambda size: b"x" * size),
    st.sampled_from([b"a\nb", b"1,2", b"a;b=c", "ä\u2028".encode()]),
)
paths = st.one_of(
    st.lists(part, max_size=8),
    st.sampled_from([route.path for route in all_routes()]).flatmap(
        lambda path: st.tuples(
            *[part if each.startswith("<") else st.one_of(st.just(each.encode()), part) for each in path.split("/")[1:]]
        )
    ),
    st.integers(9, 3000).map(lambda number: [b"a"] * number),
).map(lambda parts: b"/" + b"/".join(parts))


@given(st.sampled_from(METHODS), paths)
@settings(max_examples=1000)
def test_a_path_has_the_route_that_klein_finds(method: str, path: bytes) -> None:
    parts = parts_of(SimpleNamespace(path=path))
    assume(parts is not None)
    # werkzeug follows a path recursively.
    expected = by_werkzeug(API, method, parts) if len(parts) < 200 else None
    assert TABLE.match(method, parts) == expected


@pytest.mark.parametrize("path", [b"//server/ping", b"/server/%ff", b"/server/\xc3", b"/a%00b", b"/a/b\0", b"/%00"])
def test_a_path_that_is_no_text_has_no_parts(path: bytes) -> None:
    assert parts_of(SimpleNamespace(path=path)) is None


@given(
    st.lists(st.tuples(st.sampled_from(METHODS[:4]), st.lists(st.sampled_from(["a", "b", "<x>", "<y>"]), max_size=4))), st.data()
)
@settings(max_examples=120)
def test_static_parts_and_arguments_take_precedence_as_in_werkzeug(
    rules: list[tuple[str, list[str]]], data: st.DataObject
) -> None:
    rules = [(method, parts) for method, parts in rules if len({*parts} - {"a", "b"}) == len([p for p in parts if p[0] == "<"])]
    url_map = Map(
        [Rule("/" + "/".join(parts), methods=[method], endpoint=str(number)) for number, (method, parts) in enumerate(rules)],
        merge_slashes=False,
    )
    table = RouteTable(url_map)
    for _ in range(10):
        method = data.draw(st.sampled_from(METHODS[:4]))
        parts = data.draw(st.lists(st.sampled_from(["a", "b", "c", "", "a/b"]), min_size=1, max_size=5))
        assume(parts == [""] or parts[0] != "")
        assert table.match(method, parts) == by_werkzeug(url_map, method, parts)


@pytest.mark.parametrize("path", ["/<int:x>", "/<path:x>", "/a<x>", "/a/", "/<x>/b/", "/<string(length=2):x>"])
def test_a_route_that_the_table_does_not_support_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"is not the name|requires a route"):
        RouteTable(Map([Rule(path, methods=["GET"], endpoint="one")]))


def test_a_route_with_more_than_a_path_is_refused() -> None:
    for rule in (
        Rule("/a", endpoint="one", methods=["GET"], defaults={"x": 1}),
        Rule("/a", endpoint="one", methods=["GET"], subdomain="b"),
        Rule("/a", endpoint="one", methods=["GET"], redirect_to="/b"),
        Rule("/a", endpoint="one", methods=["GET"], websocket=True),
        Rule("/a", endpoint="one"),
    ):
        with pytest.raises(ValueError, match="is not only a path with methods"):
            RouteTable(Map([rule]))
