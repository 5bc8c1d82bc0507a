"""Answers as bytes."""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from directus_tx.errors import Notice
from directus_tx.http import encode
from directus_tx.http.answers import Document, Empty, Envelope, ItemStream, Redirect, Stream, Streamed, Text
from directus_tx.items.read import Take

VALUES = st.none() | st.integers(-9, 9) | st.text(max_size=5) | st.lists(st.text(max_size=3), max_size=3)
ITEMS = st.dictionaries(st.text(max_size=5) | st.integers(0, 3), VALUES, max_size=4) | st.just([])
METAS = st.none() | st.dictionaries(st.text(max_size=5), VALUES, max_size=3)
NOTICES = st.lists(st.builds(Notice, st.integers(1, 99), st.text(max_size=9), st.tuples(st.text(max_size=4))), max_size=2)


def written(answer: Streamed, *, public: bool) -> bytes:
    """The bytes that an answer writes."""
    pieces: list[bytes] = []

    async def write(data: bytes) -> None:
        pieces.append(data)

    done: list[Any] = []
    Deferred.fromCoroutine(answer.write(write, public=public)).addBoth(done.append)
    assert done == [None]
    return b"".join(pieces)


def reading(batches: list[list[Any]], meta: Mapping[str, Any] | None = None) -> Callable[[Take], Awaitable[None]]:
    async def read(take: Take) -> None:
        for batch in batches:
            await take(batch, meta)

    return read


@given(st.lists(st.lists(ITEMS, max_size=4), min_size=1, max_size=4), NOTICES, METAS, st.booleans())
def test_a_list_that_is_streamed_has_the_bytes_of_one_that_is_not(
    batches: list[list[Any]], messages: list[Notice], meta: dict[str, Any] | None, public: bool
) -> None:
    whole = [item for batch in batches for item in batch]
    more = None if meta is None else {**meta, "links": "a"}
    short = Envelope(whole, more, messages).render(public=public)
    stream = ItemStream(reading(batches, meta), messages, lambda meta: {**meta, "links": "a"})
    assert written(stream, public=public) == short.body
    assert ItemStream(reading(batches)).content_type == short.content_type
    bare = written(ItemStream(reading(batches), bare=True), public=public)
    assert bare == Document(whole).render(public=public).body


def test_answers_know_their_status_and_type() -> None:
    for public in (True, False):
        assert Envelope({"a": 1}).render(public=public).status == 200
        assert Text("pong").render(public=public).body == b"pong"
        assert json.loads(Document({"a": 1}).render(public=public).body) == {"a": 1}
    assert (Empty().render(public=False).status, Empty().render(public=False).body) == (204, b"")
    assert (Empty().render(public=True).status, Empty().render(public=True).body) == (200, b'{"public":true}')
    assert Redirect("./admin/").headers == {"Location": "./admin/"}
    assert Redirect("./admin/").render(public=True).status == 302


def test_a_stream_writes_what_its_source_does() -> None:
    async def source(write: Callable[[bytes], Awaitable[None]]) -> None:
        await write(b"a")
        await write(b"b")

    assert written(Stream(source, "text/csv"), public=True) == b"ab"


@given(st.binary(max_size=200), st.integers(1, 5000), st.binary(min_size=32, max_size=32))
def test_bodies_have_the_same_digest_in_one_piece_and_in_slices(start: bytes, times: int, key: bytes) -> None:
    body, clock = start * times, Clock()
    found = encode.digest(body, key)
    sliced = Deferred.fromCoroutine(encode.digest_in_slices(clock, body, key))
    for _ in range(1000):
        if sliced.called:
            break
        clock.advance(0)
    assert sliced.result == found == encode.digest(body, key)
    assert re.fullmatch("[0-9a-f]{24}", found)
    assert encode.digest(body + b"\0", key) != found != encode.digest(body, key[::-1] + b"x")
    for place in {0, len(body) // 2, len(body) - 1} if body else ():
        assert encode.digest(body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :], key) != found
