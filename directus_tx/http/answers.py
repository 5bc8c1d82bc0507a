"""The types that endpoints return. Each knows its status, media type and body."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from directus_tx.errors import ApiError, Notice
from directus_tx.http import encode
from directus_tx.items import Item
from directus_tx.items.read import Take

JSON = "application/json"
HTML = "text/html; charset=utf-8"
Write = Callable[[bytes], Awaitable[None]]
"""Writes the next bytes of a body. It may make the caller wait."""

ReadItems = Callable[[Take], Awaitable[None]]
"""Reads items and passes them in batches to its argument, with the meta of the list."""


@frozen
class Rendered:
    """An answer as it is sent. If `content_type` is None, it has no body. It is compressed if the client accepts that, unless it is not
    `compressible`."""

    status: int
    content_type: str | None
    body: bytes
    compressible: bool = True


class Answer(ABC):
    """An answer whose body is made in one piece."""

    headers: Mapping[str, str]

    @abstractmethod
    def render(self, *, public: bool) -> Rendered:
        """Returns the answer for the public or for a user."""


class Streamed(ABC):
    """An answer that is written while its data is read. It is compressed if the client accepts that, unless the headers say that it is
    already, or it is not `compressible`."""

    headers: Mapping[str, str]
    content_type: str
    status: int = 200
    length: int | None = None
    """The size of the body in bytes. None: unknown."""
    compressible: bool = True
    spooled: bool = True
    """Whether bytes that the client cannot receive yet are kept in temporary files. Otherwise they are read when it can."""

    @abstractmethod
    async def write(self, write: Write, *, public: bool) -> None:
        """Writes the body. An exception before the first bytes is answered as an error."""


@frozen
class Envelope(Answer):
    """`data` with `meta` and `messages`. `version` is the version of a single item and becomes part of the entity tag. `error` is shown
    beside the data of a request that was successful."""

    data: Any
    meta: Mapping[str, Any] | None = None
    messages: Sequence[Notice] = ()
    version: str | None = None
    headers: Mapping[str, str] = field(factory=dict)
    error: ApiError | None = None

    def render(self, *, public: bool) -> Rendered:
        body = encode.envelope(self.data, self.meta, public=public, messages=self.messages, error=self.error)
        return Rendered(200, JSON, body)


@frozen
class Empty(Answer):
    """No data: 204, or for the public 200 with `{"public": true}`."""

    headers: Mapping[str, str] = field(factory=dict)

    def render(self, *, public: bool) -> Rendered:
        return Rendered(200, JSON, encode.envelope(..., public=True)) if public else Rendered(204, None, b"")


@frozen
class Redirect(Answer):
    """A redirect to a relative or absolute URL, with *more* headers."""

    location: str
    more: Mapping[str, str] = field(factory=dict)
    headers: Mapping[str, str] = field(init=False)

    @headers.default
    def _headers(self) -> Mapping[str, str]:
        return {"Location": self.location, **self.more}

    def render(self, *, public: bool) -> Rendered:
        return Rendered(302, JSON, encode.envelope(..., public=public))


@frozen
class Text(Answer):
    """Plain text or HTML."""

    text: str
    content_type: str = HTML
    headers: Mapping[str, str] = field(factory=dict)

    def render(self, *, public: bool) -> Rendered:
        return Rendered(200, self.content_type, self.text.encode())


@frozen
class Document(Answer):
    """JSON without an envelope."""

    value: Any
    headers: Mapping[str, str] = field(factory=dict)
    status: int = 200
    content_type: str = JSON

    def render(self, *, public: bool) -> Rendered:
        return Rendered(self.status, self.content_type, encode.encoded(self.value))


@frozen
class ItemStream(Streamed):
    """A list of items that is written while `read` reads it: in an envelope, or without one if `bare`. `complete` adds to the meta what
    depends on the request."""

    read: ReadItems
    messages: Sequence[Notice] = ()
    complete: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
    bare: bool = False
    headers: Mapping[str, str] = field(factory=dict)
    content_type: str = JSON

    async def write(self, write: Write, *, public: bool) -> None:
        before = b""
        tail = b"]"

        async def take(items: list[Item], meta: Mapping[str, Any] | None) -> None:
            nonlocal before, tail
            if not before:
                before = b"["
                if not self.bare:
                    shown = None if meta is None else self.complete(meta)
                    before, tail = encode.around_items(shown, public=public, messages=self.messages)
            if items:
                await write(before + encode.encoded(items)[1:-1])
                before = b","

        await self.read(take)
        await write(tail if before == b"," else before + tail)


@frozen
class Stream(Streamed):
    """Any other body, which `source` writes."""

    source: Callable[[Write], Awaitable[None]]
    content_type: str
    headers: Mapping[str, str] = field(factory=dict)

    async def write(self, write: Write, *, public: bool) -> None:
        await self.source(write)


@frozen
class Bare(Answer):
    """An answer without a body, for a file that has not changed (304), or of which a part is asked for that it does not have (416)."""

    status: int
    headers: Mapping[str, str]

    def render(self, *, public: bool) -> Rendered:
        return Rendered(self.status, None, b"")


@frozen
class FileBytes(Answer):
    """The bytes of a small file, or a part of them."""

    body: bytes
    content_type: str
    headers: Mapping[str, str] = field(factory=dict)
    status: int = 200

    def render(self, *, public: bool) -> Rendered:
        return Rendered(self.status, self.content_type, self.body, compressible=False)


@frozen
class FileStream(Streamed):
    """The bytes of a file, or a part of them, which are read no faster than the client receives them. *pieces* returns a generator of
    them. *head*: only the headers are wanted, so nothing is read."""

    pieces: Callable[[], AsyncGenerator[bytes, None]]
    length: int
    content_type: str
    headers: Mapping[str, str] = field(factory=dict)
    status: int = 200
    head: bool = False
    compressible: bool = field(default=False, init=False)
    spooled: bool = field(default=False, init=False)

    async def write(self, write: Write, *, public: bool) -> None:
        """Writes the bytes. Raises FileIncomplete if there are fewer than `length`: a client would take the next answer for them."""
        if self.head or not self.length:
            await write(b"")
            return
        left = self.length
        async with contextlib.aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                left -= len(piece)
                await write(piece)
        if left:
            raise FileIncomplete(f"{left} of {self.length} bytes of a file are missing in the storage")


class FileIncomplete(Exception):
    """The storage has fewer bytes of a file than it should have."""
