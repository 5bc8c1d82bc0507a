"""Reads multipart forms with files while they are received: the files go to a storage, the fields into memory."""

from collections.abc import Callable
from typing import Any

import multipart
from attrs import frozen

from directus_tx.errors import BadRequest, UnusableBody
from directus_tx.files.contents import Content
from directus_tx.files.intake import Receiving
from directus_tx.http.body_stream import BodyStream
from directus_tx.http.params import Tree, nested, refuse_nul
from directus_tx.http.payload import MAX_FIELDS, UTF_8, PayloadLimits, multipart_errors

MAX_EPILOGUE = 64 * 1024
"""The maximum number of bytes behind the last part of a form."""


@frozen
class Form:
    """A form: its fields, nested by the brackets of their names, with lists where the brackets are numbered; and the file, if it has one,
    with the name that the client gives it."""

    fields: dict[str, Any]
    content: Content | None
    filename: str


class FormStream:
    """Reads a form. *begin* returns what receives a file of this name."""

    def __init__(self, stream: BodyStream, content_type: str, limits: PayloadLimits, begin: Callable[[str], Receiving]) -> None:
        self.stream = stream
        self.content_type = content_type
        self.limits = limits
        self.begin = begin
        self.receiving: Receiving | None = None
        self._pairs: list[tuple[str, str]] = []
        self._size = 0
        self._filename = ""
        self._content: Content | None = None
        self._form: Form | None = None

    async def read(self) -> Form:
        """Returns the form when all of it has been received, each time the same. Raises UnusableBody, PayloadTooLarge, BadRequest for more
        than one file, ClientGone, and the errors of `Receiving`."""
        if self._form is not None:
            return self._form
        _, options = multipart.parse_options_header(self.content_type)
        boundary = options.get("boundary")
        if not boundary:
            raise UnusableBody("The content type of the multipart body has no boundary.")
        with multipart_errors():
            await self._parse(boundary)
        rest = 0
        while data := await self.stream.read():
            rest += len(data)
            if rest > MAX_EPILOGUE:
                raise UnusableBody("The multipart body goes on behind its last part.")
        refuse_nul(self._pairs)
        fields = {name: with_lists(value) for name, value in nested(self._pairs).items()}
        self._form = Form(fields, self._content, self._filename)
        return self._form

    async def _parse(self, boundary: str) -> None:
        name, value, in_file = "", bytearray(), False
        with multipart.PushMultipartParser(boundary, max_segment_count=MAX_FIELDS) as parser:
            while not parser.closed:
                for event in parser.parse(await self.stream.read()):
                    if event is None:
                        if in_file:
                            assert self.receiving is not None
                            self._content = await self.receiving.finish()
                        else:
                            self._pairs.append((name, value.decode()))
                    elif isinstance(event, multipart.MultipartSegment):
                        name, value, in_file = event.name or "", bytearray(), event.filename is not None
                        if in_file:
                            self._begin(event.filename or "")
                        elif (event.charset or "utf-8").lower() not in UTF_8:
                            raise UnusableBody("The charset of a field must be UTF-8.")
                    elif in_file:
                        assert self.receiving is not None
                        await self.receiving.write(bytes(event))
                    else:
                        value += event
                        self._size += len(event)
                        self.limits.check_size(self._size)

    def _begin(self, filename: str) -> None:
        if self.receiving is not None:
            raise BadRequest("A request uploads one file.")
        self._filename = filename
        self.receiving = self.begin(filename)


def with_lists(value: str | Tree) -> Any:
    """Returns the value of a field with a list in place of each object whose keys are 0, 1, 2 and so on."""
    if not isinstance(value, dict):
        return value
    found = {name: with_lists(each) for name, each in value.items()}
    return list(found.values()) if list(found) == [str(number) for number in range(len(found))] else found
