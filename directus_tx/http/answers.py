"""What endpoints answer: small types, each of which knows its status, its media type and its bytes."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from directus_tx.errors import Notice
from directus_tx.http import encode
from directus_tx.items import Item

JSON = "application/json"
HTML = "text/html; charset=utf-8"
Write = Callable[[bytes], Awaitable[None]]
"""Takes the next bytes of a body, and may make whoever has them wait."""

ReadItems = Callable[[Callable[[list[Item]], Awaitable[None]]], Awaitable[None]]
"""Reads items, and gives them, some at a time, to the function that it is called with."""


@frozen
class Rendered:
    """An answer as it goes over the wire. No media type: there is no body."""

    status: int
    content_type: str | None
    body: bytes


class Answer:
    """An answer that is made at once."""

    headers: Mapping[str, str]

    def render(self, *, public: bool) -> Rendered:
        """The answer as the public, or whoever is signed in, gets it."""
        raise NotImplementedError


class Streamed:
    """An answer that is written as it is made."""

    headers: Mapping[str, str]
    content_type: str

    async def write(self, write: Write, *, public: bool) -> None:
        """Writes the body. What it raises before the first bytes is answered as an error."""
        raise NotImplementedError


@frozen
class Envelope(Answer):
    """`data`, with what is to be said beside it. `version`: of an item, what differs where it has changed, a part of its entity tag."""

    data: Any
    meta: Mapping[str, Any] | None = None
    messages: Sequence[Notice] = ()
    version: str | None = None
    headers: Mapping[str, str] = field(factory=dict)

    def render(self, *, public: bool) -> Rendered:
        return Rendered(200, JSON, encode.envelope(self.data, self.meta, public=public, messages=self.messages))


@frozen
class Empty(Answer):
    """Nothing: it is done. The public is told at least that it is the public."""

    headers: Mapping[str, str] = field(factory=dict)

    def render(self, *, public: bool) -> Rendered:
        return Rendered(200, JSON, encode.envelope(..., public=True)) if public else Rendered(204, None, b"")


@frozen
class Redirect(Answer):
    """Another address, relative to this one."""

    location: str
    headers: Mapping[str, str] = field(init=False)

    @headers.default
    def _headers(self) -> Mapping[str, str]:
        return {"Location": self.location}

    def render(self, *, public: bool) -> Rendered:
        return Rendered(302, JSON, encode.envelope(..., public=public))


@frozen
class Text(Answer):
    """A text by itself."""

    text: str
    content_type: str = HTML
    headers: Mapping[str, str] = field(factory=dict)

    def render(self, *, public: bool) -> Rendered:
        return Rendered(200, self.content_type, self.text.encode())


@frozen
class Document(Answer):
    """JSON by itself, without an envelope."""

    value: Any
    headers: Mapping[str, str] = field(factory=dict)

    def render(self, *, public: bool) -> Rendered:
        return Rendered(200, JSON, encode.encoded(self.value))


@frozen
class ItemStream(Streamed):
    """A list of items, written as they are read by *read*: in an envelope, which then has no meta, or *bare*."""

    read: ReadItems
    messages: Sequence[Notice] = ()
    bare: bool = False
    headers: Mapping[str, str] = field(factory=dict)
    content_type: str = JSON

    async def write(self, write: Write, *, public: bool) -> None:
        head, tail = (b"[", b"]") if self.bare else encode.around_items(public=public, messages=self.messages)
        before = head

        async def take(items: list[Item]) -> None:
            nonlocal before
            if items:
                await write(before + encode.encoded(items)[1:-1])
                before = b","

        await self.read(take)
        await write(tail if before == b"," else head + tail)


@frozen
class Stream(Streamed):
    """A body of any other type, which *source* writes."""

    source: Callable[[Write], Awaitable[None]]
    content_type: str
    headers: Mapping[str, str] = field(factory=dict)

    async def write(self, write: Write, *, public: bool) -> None:
        await self.source(write)
