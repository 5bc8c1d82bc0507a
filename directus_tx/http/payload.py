"""Reads bodies: JSON, forms and multipart forms, in UTF-8 and within limits."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import multipart
from attrs import frozen
from twisted.internet import defer
from twisted.internet.threads import deferToThreadPool

from directus_tx.config import Settings
from directus_tx.errors import PayloadTooLarge, ServiceUnavailable, UnusableBody
from directus_tx.http import json_text
from directus_tx.http.params import nested, pairs_of, refuse_nul
from directus_tx.http.spool import Spool
from directus_tx.schema.numbers import whole_number
from directus_tx.schema.parsing import TRUTHS

MULTIPART, FORM = "multipart/form-data", "application/x-www-form-urlencoded"
MAX_FIELDS = 10_000
CHUNK = 64 * 1024
UTF_8 = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
"""The charsets that a client may name: UTF-8, and ASCII, which is a subset."""


OFF_REACTOR = 512 * 1024
"""Bodies of this many bytes and more are read in a thread. Reading a smaller one takes less than five milliseconds."""

UNKNOWN_SHARE = 8
"""The part of server.body_spool_size that is for callers who are not known to have a valid token: an eighth."""

READERS = 2
WAITING = 32


@frozen
class PayloadLimits:
    """The limits of a payload: `size` in bytes, which comes from `setting`, and the number of `values` (limits.max_payload_values)."""

    size: int
    setting: str
    values: int

    def check_size(self, size: int) -> None:
        """Raises PayloadTooLarge if the size exceeds the limit."""
        if size > self.size:
            raise self.too_large()

    def too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"The body has more than {self.size} bytes ({self.setting}).")


class PayloadReader:
    """Reads bodies. Large ones are read in threads of the reactor's pool, READERS at a time. `spool` limits the temporary files of bodies
    that users send, `unknown_spool` those of other callers."""

    def __init__(self, reactor: Any, settings: Settings) -> None:
        limits = settings.limits

        def of(size: int, name: str) -> PayloadLimits:
            found = min((settings.server.max_body_size, "server.max_body_size"), (size, name))
            return PayloadLimits(*found, limits.max_payload_values)

        self.reactor = reactor
        self.whole = of(settings.server.max_body_size, "server.max_body_size")
        self.signed_in = of(limits.max_payload_size, "limits.max_payload_size")
        self.public = of(limits.max_public_payload_size, "limits.max_public_payload_size")
        size = settings.server.body_spool_size
        self.unknown_spool = Spool(size // UNKNOWN_SHARE)
        self.spool = Spool(size - size // UNKNOWN_SHARE)
        self._readers = defer.DeferredSemaphore(READERS)

    def limits_of(self, content_type: str, *, credentials: bool) -> PayloadLimits:
        """Returns the limits of a body before it is received. Whether the credentials are valid is not known at that time."""
        if not credentials:
            return self.public
        return self.whole if content_type.partition(";")[0].strip().lower() == MULTIPART else self.signed_in

    def limit_files(self, number: int) -> None:
        """Limits the number of temporary files of bodies."""
        self.unknown_spool.files = number // UNKNOWN_SHARE
        self.spool.files = number - number // UNKNOWN_SHARE

    async def read(self, content: IO[bytes], content_type: str, *, public: bool) -> dict[str, Any] | list[Any]:
        """Returns the result of `payload`. Also raises ServiceUnavailable if too many large bodies wait."""
        limits = self.public if public else self.signed_in
        if size_of(content) < OFF_REACTOR:
            return payload(content, content_type, limits)
        if len(self._readers.waiting) >= WAITING:
            raise ServiceUnavailable("Too many large bodies are waiting to be read; try again shortly.")
        pool = self.reactor.getThreadPool()
        return await self._readers.run(deferToThreadPool, self.reactor, pool, payload, content, content_type, limits)


def size_of(content: IO[bytes]) -> int:
    """Returns the size of a body in bytes."""
    content.seek(0, os.SEEK_END)
    size = content.tell()
    content.seek(0)
    return size


def payload(content: IO[bytes], content_type: str, limits: PayloadLimits) -> dict[str, Any] | list[Any]:
    """Returns the payload of a body: an object or a list. Raises UnusableBody, PayloadTooLarge, InvalidRequest."""
    kind, options = multipart.parse_options_header(content_type)
    if options.get("charset", "utf-8").lower() not in UTF_8:
        raise UnusableBody("The charset of a body must be UTF-8.")
    if kind == MULTIPART:
        return _multipart(content, options.get("boundary"), limits)
    if kind == FORM:
        limits.check_size(size_of(content))
        return _form(content.read())
    if kind == "application/json" or kind.endswith("+json"):
        limits.check_size(size_of(content))
        data = content.read()
        if not data.strip():
            raise UnusableBody("The body is empty.")
        return object_or_list(json_text.parse(data, limits.values))
    raise UnusableBody("The content type of a body must be JSON or a form.")


def is_form(content_type: str) -> bool:
    """Whether a body of a media type is a form, in which all values are texts."""
    return multipart.parse_options_header(content_type)[0] in (MULTIPART, FORM)


def typed(form: Mapping[str, Any], properties: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a form with the types that the JSON Schemas of their *properties* name: whole numbers, booleans and lists. A
    text that does not stand for a value of the type is left as it is, so that it is refused as in JSON."""
    return {name: _typed(value, properties.get(name)) for name, value in form.items()}


def _typed(value: Any, schema: Any) -> Any:
    types = schema.get("type", ()) if isinstance(schema, Mapping) else ()
    allowed = (types,) if isinstance(types, str) else types
    if isinstance(value, dict):
        return list(value.values()) if "array" in allowed else value
    if "array" in allowed:
        return [each.strip() for each in value.split(",")]
    found: int | bool | None = None
    if "integer" in allowed:
        found = whole_number(value.strip(), signed=True)
    elif "boolean" in allowed:
        found = TRUTHS.get(value.strip().lower())
    return value if found is None else found


def object_or_list(value: Any) -> dict[str, Any] | list[Any]:
    """Returns the value if it is an object or a list. Raises UnusableBody otherwise."""
    if not isinstance(value, (dict, list)):
        raise UnusableBody("The body is neither an object nor a list.")
    return value


def _form(data: bytes) -> dict[str, Any]:
    if data.count(b"&") >= MAX_FIELDS:
        raise PayloadTooLarge(f"A form may have up to {MAX_FIELDS} fields.")
    try:
        pairs = pairs_of(data)
    except UnicodeDecodeError:
        raise UnusableBody("The body is not UTF-8.") from None
    refuse_nul(pairs)
    if not pairs:
        raise UnusableBody("The body is empty.")
    return nested(pairs)


def _multipart(content: IO[bytes], boundary: str | None, limits: PayloadLimits) -> dict[str, Any]:
    if not boundary:
        raise UnusableBody("The content type of the multipart body has no boundary.")
    with multipart_errors():
        pairs = [(name, value.decode()) for name, value in _fields(content, boundary, limits)]
    refuse_nul(pairs)
    return nested(pairs)


@contextmanager
def multipart_errors() -> Iterator[None]:
    """A context in which a multipart form is parsed: raises PayloadTooLarge or UnusableBody for what the parser refuses."""
    try:
        yield
    except multipart.ParserLimitReached as error:
        raise PayloadTooLarge(f"The multipart body exceeds a limit: {error}. It may have up to {MAX_FIELDS} parts.") from None
    except UnicodeDecodeError:
        raise UnusableBody("The body is not UTF-8.") from None
    except multipart.MultipartError as error:
        raise UnusableBody(f"The multipart body is malformed: {error}.") from None


def _fields(content: IO[bytes], boundary: str, limits: PayloadLimits) -> Iterator[tuple[str, bytes]]:
    """Yields the names and values of the fields of a multipart form. Files are skipped and do not count towards the limits."""
    content.seek(0)
    size, name, value = 0, "", None
    with multipart.PushMultipartParser(boundary, max_segment_count=MAX_FIELDS) as parser:
        while not parser.closed:
            for event in parser.parse(content.read(CHUNK)):
                if event is None:
                    if value is not None:
                        yield name, bytes(value)
                elif isinstance(event, multipart.MultipartSegment):
                    name, value = event.name or "", bytearray() if event.filename is None else None
                    if value is not None and (event.charset or "utf-8").lower() not in UTF_8:
                        raise UnusableBody("The charset of a field must be UTF-8.")
                elif value is not None:
                    value += event
                    size += len(event)
                    limits.check_size(size)
