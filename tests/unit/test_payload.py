"""Bodies as payloads: what is refused, and that nothing is made of it before."""

import io
import json
import sys
import tracemalloc

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from directus_tx.errors import ApiError, InvalidRequest, PayloadTooLarge, UnusableBody
from directus_tx.http import json_text
from directus_tx.http.payload import MAX_FIELDS, PayloadLimits, payload

LIMITS = PayloadLimits(2**20, "limits.max_payload_size", 1000)
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=x"

TEXT = st.text(st.sampled_from('ab"\\[]{},:\n \u00fc\u2603'), max_size=12)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=30,
)


def said(data: bytes, content_type: str = JSON, limits: PayloadLimits = LIMITS):
    return payload(io.BytesIO(data), content_type, limits)


def multipart(*parts: tuple[str, bytes]) -> bytes:
    """A body of parts with these headers and contents."""
    return b"".join(b"--x\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n" for head, data in parts) + b"--x--\r\n"


def named(name: str, more: str = "") -> str:
    return f'Content-Disposition: form-data; name="{name}"{more}'


# --- JSON


def depth_of(value: object) -> int:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if members is None else 1 + max(map(depth_of, members), default=0)


def values_of(value: object) -> int:
    """The values as they are counted: one for each object and list, and one for each comma between members."""
    members = list(value.values() if isinstance(value, dict) else value) if isinstance(value, (dict, list)) else None
    return 0 if members is None else 1 + max(len(members) - 1, 0) + sum(map(values_of, members))


@pytest.mark.parametrize(
    ("content_type", "data"), [(FORM, b""), *((JSON, data) for data in (b"", b" ", b"\r\n\t")), ("application/vnd.api+json", b"")]
)
def test_the_message_about_an_empty_body_says_that_it_is_empty(content_type: str, data: bytes) -> None:
    with pytest.raises(UnusableBody, match="empty"):
        said(data, content_type)


@given(VALUE, st.booleans(), st.booleans())
def test_depth_and_values_are_counted_as_they_are_outside_of_strings(value: object, escaped: bool, spaced: bool) -> None:
    text = json.dumps(value, ensure_ascii=escaped, indent=1 if spaced else None).encode()
    depth, count = depth_of(value), values_of(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "MAX_DEPTH", depth)
        assert json_text.parse(text, count) == value
        if count:
            with pytest.raises(PayloadTooLarge):
                json_text.parse(text, count - 1)
        if depth:
            patch.setattr(json_text, "MAX_DEPTH", depth - 1)
            with pytest.raises(UnusableBody):
                json_text.parse(text, count)


@given(st.lists(VALUE, max_size=20) | VALUE, st.integers(1, 40), st.sampled_from([1, 3, 1000]))
def test_a_text_parsed_in_pieces_is_the_text_parsed_at_once(value: object, piece: int, tries: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "PIECE", piece)
        patch.setattr(json_text, "TRIES", tries)
        for text in (orjson.dumps(value), json.dumps(value, indent=2).encode()):
            assert json_text.parse(text, sys.maxsize) == value


@given(st.lists(VALUE, max_size=10), st.data())
def test_a_broken_text_is_refused_in_pieces_as_at_once(value: list[object], data: st.DataObject) -> None:
    text = orjson.dumps(value)
    at = data.draw(st.integers(0, len(text) - 1))
    broken = data.draw(st.sampled_from([text[:at] + text[at + 1 :], text[:at] + b"," + text[at:], text[:at] + b'"' + text[at:]]))
    expected, refusal = None, None
    try:
        expected = orjson.loads(broken)
    except orjson.JSONDecodeError as error:
        refusal = str(error)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "PIECE", 4)
        if refusal is None:
            assert json_text.parse(broken, sys.maxsize) == expected
        else:
            with pytest.raises(UnusableBody, match="JSON"):
                json_text.parse(broken, sys.maxsize)


@pytest.mark.parametrize(
    "text",
    [
        b"[" + b"{}," * 2_000_000 + b"{}]",
        b"[" + b"[1]," * 1_000_000 + b"[1]]",
        b'{"a":[' + b'{"a":1},' * 1_000_000 + b"0]}",
        b"[" + b'"",' * 2_000_000 + b'""]',
        b"[" * 4_000_000,
        b'{"a":' * 1_000_000,
    ],
)
def test_what_is_too_much_is_refused_before_it_is_made(text: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ApiError):
            json_text.parse(text, 200_000)
        assert tracemalloc.get_traced_memory()[1] < 8 * len(text)
    finally:
        tracemalloc.stop()


def test_the_setting_is_named() -> None:
    with pytest.raises(PayloadTooLarge, match=r"limits\.max_payload_values"):
        said(json.dumps([1] * 2000).encode())
    with pytest.raises(PayloadTooLarge, match=r"limits\.max_payload_size"):
        said(b'{"a":"' + b"x" * 2**20 + b'"}')


@pytest.mark.parametrize("text", [r'{"a":"\u0000"}', r'{"\u0000":1}', r'["\\\u0000"]', r'{"a":{"b":["x\u0000"]}}'])
def test_a_nul_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="NUL"):
        said(text.encode())


def test_what_looks_like_a_nul_is_none() -> None:
    assert said(rb'{"a":"\\u0000"}') == {"a": r"\u0000"}


@pytest.mark.parametrize(
    "text", [rb'{"a":"\ud800"}', rb'{"\udfff":1}', rb'["\ud800\ud800"]', b'{"a":"\xed\xa0\x80"}', b'{"a":"\xff"}', b'{"a":"\0"}']
)
def test_half_a_character_is_refused(text: bytes) -> None:
    with pytest.raises(UnusableBody):
        said(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_text, "PIECE", 4)
        with pytest.raises(UnusableBody):
            said(b"[" + text + b"," + text + b"]")


# --- forms


def test_forms_are_nested_by_brackets() -> None:
    assert said(b"a[b][c]=1&a[d][]=x&a[d][]=y&e=%C3%BC", FORM) == {"a": {"b": {"c": "1"}, "d": {"0": "x", "1": "y"}}, "e": "ü"}
    body = multipart((named("a[b]"), b"1"), (named("a[c][]"), "ü".encode()), (named("f", '; filename="f.txt"'), b"\xff" * 2**21))
    assert said(body, MULTIPART) == {"a": {"b": "1", "c": {"0": "ü"}}}


@pytest.mark.parametrize("data", [b"a=\xff", b"a=%FF", b"%ED%A0%80=1", b"%C3=1"])
def test_a_form_is_utf_8(data: bytes) -> None:
    with pytest.raises(UnusableBody):
        said(data, FORM)


@pytest.mark.parametrize("part", [(named("a"), b"\xff"), (named("a"), b"\xed\xa0\x80")])
def test_a_multipart_form_is_utf_8(part: tuple[str, bytes]) -> None:
    with pytest.raises(UnusableBody):
        said(multipart(part), MULTIPART)
    with pytest.raises(UnusableBody):
        said(multipart(part).replace(b'name="a"', b'name="\xff"'), MULTIPART)


@pytest.mark.parametrize(
    "charset", ["utf-7", "utf-16", "UTF-16LE", "idna", "punycode", "rot13", "latin-1", "nope", "unicode_escape"]
)
def test_a_client_chooses_no_charset(charset: str) -> None:
    for body, kind in (
        (b'{"a":1}', JSON),
        (b"a=1", FORM),
        (multipart((named("a"), b"1")), MULTIPART),
    ):
        with pytest.raises(UnusableBody, match="UTF-8"):
            said(body, f"{kind}; charset={charset}")
    with pytest.raises(UnusableBody, match="UTF-8"):
        said(multipart((f"{named('a')}\r\nContent-Type: text/plain; charset={charset}", b"1")), MULTIPART)


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "us-ascii"])
def test_a_client_may_name_utf_8(charset: str) -> None:
    assert said(b'{"a":"\xc3\xbc"}', f"{JSON}; charset={charset}") == {"a": "ü"}
    assert said(multipart((f"{named('a')}\r\nContent-Type: text/plain; charset={charset}", b"1")), MULTIPART) == {"a": "1"}


@pytest.mark.parametrize("data", [b"a=%00", b"%00=a", b"a[%00]=1", b"a=x%00y"])
def test_a_nul_in_a_form_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="NUL"):
        said(data, FORM)


def test_a_nul_in_a_multipart_form_is_refused() -> None:
    for part in ((named("a"), b"\0"), (named("a\0"), b"1")):
        with pytest.raises(InvalidRequest, match="NUL"):
            said(multipart(part), MULTIPART)


def test_forms_have_the_limits_of_payloads() -> None:
    for body, kind in (
        (b"a=" + b"x" * 2**20, FORM),
        (b"a=1&" * MAX_FIELDS, FORM),
        (multipart((named("a"), b"x" * (2**20 + 1))), MULTIPART),
        (multipart(*((named(f"a{number}"), b"x" * 2**17) for number in range(9))), MULTIPART),
        (multipart(*((named("a"), b"") for _ in range(MAX_FIELDS + 1))), MULTIPART),
        (multipart(*((named("a", '; filename="f"'), b"") for _ in range(MAX_FIELDS + 1))), MULTIPART),
    ):
        with pytest.raises(PayloadTooLarge):
            said(body, kind)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", MULTIPART),
        (b"--x", MULTIPART),
        (b"--y\r\n\r\n--y--", MULTIPART),
        (b"--x\r\nnonsense\r\n\r\n--x--\r\n", MULTIPART),
        (multipart((named("a"), b"1"))[:-6], MULTIPART),
        (multipart(("Content-Disposition: form-data; " + "x" * 5000, b"1")), MULTIPART),
        (multipart((named("a"), b"1")), "multipart/form-data"),
        (multipart((named("a"), b"1")), "multipart/form-data; boundary=" + '";a="' * 3000),
        (b"", FORM),
        (b"a", "text/plain"),
        (b"a", ""),
        (b"a", ";;;"),
        (b"1", JSON),
        (b"", JSON),
    ],
)
def test_what_is_no_payload_is_refused(body: bytes, kind: str) -> None:
    with pytest.raises(ApiError):
        said(body, kind)


@pytest.mark.parametrize(
    "data",
    [
        b"a[]" + b"[" * 500_000 + b"=1",
        b"a" + b"[" * 500_000 + b"]=1",
        b"a" + b"]" * 500_000 + b"[]=1",
        b"a[b" + b"%5B" * 300_000 + b"]=1",
        b"&".join(b"a[][]" + b"[" * 90 + b"=1" for _ in range(9000)),
        b"&".join(b"a[]=1" for _ in range(9000)),
    ],
)
def test_brackets_take_time_in_proportion_to_their_number(data: bytes) -> None:
    """What grew with their square would take hours."""
    tree = said(data, FORM)
    assert set(tree) == {"a"} or len(data) > 500_000


def test_brackets_have_a_limit() -> None:
    assert said(b"a" + b"[b]" * 63 + b"=1", FORM)
    with pytest.raises(InvalidRequest):
        said(b"a" + b"[b]" * 64 + b"=1", FORM)
    with pytest.raises(InvalidRequest):
        said(b"a" + b"[b]" * 300_000 + b"=1", FORM)


def test_a_list_that_replaces_another_counts_from_its_own_beginning() -> None:
    pairs = "&".join(f"a[x][]=1&a[x][]=2&a=3&b{number}[]=4" for number in range(50))
    assert all(tree == {"0": "4"} for name, tree in said(pairs.encode(), FORM).items() if name != "a")
