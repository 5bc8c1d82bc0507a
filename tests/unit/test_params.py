"""Query strings and what they mean."""

from urllib.parse import parse_qs, quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directus_tx.errors import ApiError, InvalidRequest, UnknownOperator
from directus_tx.http.params import QueryStrings, cursor_links, links, parsed
from directus_tx.items.meta import page_meta
from directus_tx.query import Condition, Sort


def query(raw: str):
    return parsed(raw.encode()).query()


def test_fields_are_csv_or_an_array_whose_members_are_no_csv() -> None:
    assert query("fields=id, title,,author.name").fields == ("id", "title", "author.name")
    assert query("fields[]=id&fields[]=a,b").fields == ("id", "a,b")
    assert query("fields[1]=b&fields[0]=a").fields == ("b", "a")
    assert query("fields=").fields == ()


def test_filters_are_one_chain_in_the_order_of_their_parameters() -> None:
    assert query("filter[a]=1&filter[b.c][gt]=2&filter[a][lt]=9").filter == (
        Condition(("a",), "lt", "9"),
        Condition(("b", "c"), "gt", "2"),
    )
    assert query("filter[a][gt]=1&filter[a][lt]=9&filter[b][eq]=3&filter[b][logical]=OR").filter == (
        Condition(("a",), "gt", "1"),
        Condition(("a",), "lt", "9"),
        Condition(("b",), "eq", "3", "or"),
    )


def test_operators_may_be_signs_and_brackets_may_be_escaped() -> None:
    assert query("filter%5Ba%5D%5B%3C%3D%5D=1").filter == (Condition(("a",), "<=", "1"),)


def test_a_list_of_conditions_has_a_logical_for_each() -> None:
    assert query("filter[a][0][eq]=1&filter[a][1][eq]=2&filter[a][1][logical]=or").filter == (
        Condition(("a",), "eq", "1"),
        Condition(("a",), "eq", "2", "or"),
    )


def test_an_array_is_a_value_of_several_texts() -> None:
    assert query("filter[a][in][]=1&filter[a][in][]=2").filter == (Condition(("a",), "in", ("1", "2")),)


@pytest.mark.parametrize(("raw", "error"), [("filter=abc", InvalidRequest), ("filter[a][logical]=or", UnknownOperator)])
def test_what_is_no_filter_is_refused(raw: str, error: type[ApiError]) -> None:
    with pytest.raises(error):
        query(raw)


@pytest.mark.parametrize(
    ("raw", "limit", "offset", "page"),
    [
        ("limit=2&offset=3", 2, 3, None),
        ("limit=abc&offset=x", 0, 0, None),
        ("limit=-1&page=2", -1, None, 2),
        ("limit=&offset=", None, None, None),
        ("limit=99999999999999999999", 0, None, None),
    ],
)
def test_numbers_that_are_none_are_zero(raw: str, limit: int | None, offset: int | None, page: int | None) -> None:
    found = query(raw)
    assert (found.limit, found.offset, found.page) == (limit, offset, page)


def test_sorts_may_descend_and_may_be_random() -> None:
    assert query("sort=-a, b ,?").sort == (Sort("a", True), Sort("b"), Sort("?"))


def test_only_a_plain_one_skips_the_history() -> None:
    assert parsed(b"activity_skip=1").options().activity_skip is True
    assert parsed(b"activity_skip=true").options().activity_skip is False
    assert parsed(b"comment=").options().comment is None


def test_links_repeat_the_parameters_but_never_a_token() -> None:
    meta = {"page": 2, "page_count": 3, "limit": 2, "offset": 2}
    found = links("http://h/p", parsed(b"access_token=secret&fields=id&limit=2&page=2"), meta)
    assert found["next"] == "http://h/p?fields=id&limit=2&page=3&offset=4"
    assert found["previous"] == "http://h/p?fields=id&limit=2&page=1&offset=0"
    assert all("secret" not in (link or "") for link in found.values())


@pytest.mark.parametrize(
    "value", ["R&D", "a=b", "50%", "a+b", "#1", "two words", "ü", "%26", "a,b", "[1]", "x&limit=99", ";", "?"]
)
def test_links_mean_what_the_request_meant(value: str) -> None:
    raw = f"filter[title][eq]={quote(value)}&fields=id,author.*&cursor="
    request = parsed(raw.encode())
    base, _, repeated = str(cursor_links("http://h/p", request, "next", None)["next"]).partition("?")
    assert base == "http://h/p"
    assert repeated.isascii()
    assert not set(repeated) & set(' "<>#+')
    again = parsed(repeated.encode())
    assert again.pairs == tuple((name, "next" if name == "cursor" else text) for name, text in request.pairs)


@pytest.mark.parametrize("raw", [b"a=%00", b"%00=a", b"filter[%00]=1", b"filter[a][eq]=x%00", b"a=\0", b"deep[a%00][limit]=1"])
def test_a_nul_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="NUL"):
        parsed(raw)


@pytest.mark.parametrize("raw", [b"a=%FF", b"%C3=1", b"a=\xff", b"a=%ED%A0%80", b"filter[a][eq]=%F8"])
def test_a_query_string_is_utf_8(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="UTF-8"):
        parsed(raw)
    assert parsed(b"a=%C3%BC&b=\xc3\xbc+%2B").pairs == (("a", "ü"), ("b", "ü +"))


@pytest.mark.parametrize("digit", ["²", "٣", "૩", "①", "½"])
def test_only_the_digits_of_ascii_are_numbers(digit: str) -> None:
    assert query(f"limit={digit}").limit == 0
    assert query(f"limit=1{digit}").limit == 0
    assert parsed(f"a[{digit}]=x&a[]=y".encode()).tree == {"a": {digit: "x", "0": "y"}}
    assert query(f"filter[a][{digit}]=1").filter == (Condition(("a",), digit, "1"),)


def test_long_numbers_are_no_numbers() -> None:
    assert query("limit=" + "9" * 5000).limit == 0
    assert query("limit=%2B7&offset=-3&page= 2 ").limit == 7


@given(st.integers(1, 7), st.integers(0, 40), st.integers(0, 40))
def test_links_step_by_the_limit_from_the_offset_asked_for(limit: int, offset: int, count: int) -> None:
    """Aligned or not; from past the end they step back from the last page."""

    def page_of(offset: int) -> tuple[dict[str, int], dict[str, str | None]]:
        params = parsed(f"limit={limit}&offset={offset}".encode())
        meta = dict(page_meta(params.query(), 200, count))
        return meta, links("http://h/p", params, meta)

    def offset_of(link: str | None) -> int:
        assert link is not None
        return int(parse_qs(urlsplit(link).query)["offset"][0])

    meta, found = page_of(offset)
    assert meta["offset"] == (offset if offset < count else (meta["page_count"] - 1) * limit)
    if found["next"] is None:
        assert meta["page"] == meta["page_count"]
    else:
        assert offset_of(found["next"]) == meta["offset"] + limit
        assert f"page={meta['page'] + 1}" in found["next"]
    if found["previous"] is None:
        assert meta["page"] == 1
    else:
        assert offset_of(found["previous"]) == meta["offset"] - limit >= 0
        assert page_of(meta["offset"] - limit)[0]["page"] == meta["page"] - 1
    if meta["page_count"] > 1:
        assert offset_of(found["first"]) == 0
        last = offset_of(found["last"])
        assert last % limit == 0
        assert last < count <= last + limit
    else:
        assert found["first"] is found["last"] is None


NAMES = st.sampled_from(["fields", "filter", "sort", "limit", "offset", "page", "meta", "status", "q", "single", "lang", "x"])
KEYS = st.lists(st.sampled_from(["[a]", "[a.b]", "[]", "[0]", "[eq]", "[logical]", "[", "]", "%5B", "[%00]"]), max_size=4)


@given(st.lists(st.tuples(NAMES, KEYS, st.text(max_size=8)), max_size=8))
def test_any_query_string_is_a_query_or_refused(parts: list[tuple[str, list[str], str]]) -> None:
    raw = "&".join(f"{name}{''.join(keys)}={value}" for name, keys, value in parts)
    try:
        parsed(raw.encode("utf-8", "replace")).query()
    except ApiError:
        pass


def test_query_strings_are_parsed_once_for_each_client() -> None:
    cache = QueryStrings()
    for client in ("10.0.0.1", "10.0.0.2"):
        first = cache.parsed(client, b"limit=1&fields=a")
        assert first is cache.parsed(client, b"limit=1&fields=a")
        assert first.query() is cache.parsed(client, b"limit=1&fields=a").query()
    assert len(cache.cache) == 2


@pytest.mark.parametrize("length", [1, 100, 1000, 10_000])
def test_a_client_that_sends_many_query_strings_does_not_remove_those_of_others(length: int) -> None:
    cache = QueryStrings()
    raws = [f"limit={number}".encode() for number in range(50)]
    known = [cache.parsed("10.0.0.1", raw) for raw in raws]
    for number in range(10_000_000 // (600 + 15 * length) * 2):
        cache.parsed("10.0.0.2", b"q=%d" % number + b"x" * length)
        assert cache.cache.weight <= cache.cache.most
    assert [cache.parsed("10.0.0.1", raw) for raw in raws] == known


def test_a_query_string_that_is_refused_is_not_cached() -> None:
    cache = QueryStrings()
    for _ in range(2):
        with pytest.raises(InvalidRequest):
            cache.parsed("10.0.0.1", b"a=%00")
    assert len(cache.cache) == 0
