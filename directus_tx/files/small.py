"""Small contents and thumbnails, which are read at once and kept in memory.

A content never changes under the name and the tag by which it is kept here, so nothing has to be removed when a file changes: it is found
by another name or tag. Whether the caller may read a content is decided before it is looked up.
"""

from contextlib import aclosing
from typing import Any

from twisted.logger import Logger

from directus_tx.cache import Cache
from directus_tx.errors import ServiceUnavailable
from directus_tx.files.contents import Source

log = Logger()

SMALL = 64 * 1024
"""The size in bytes up to which a content is small."""

ENTRY = 500
"""About how many bytes a content takes in memory beside its own."""


class SmallContents:
    """Reads small contents, and keeps those that are used most, up to *most* bytes of all projects together. One project does not take the
    memory of others (`Cache`)."""

    def __init__(self, most: int) -> None:
        self._kept: Cache[bytes] = Cache(most)

    def find(self, project: str, name: str, tag: str) -> bytes | None:
        """Returns a content of a project that is in memory. *tag* is that of its `Source`."""
        return self._kept.find(project, (name, tag))

    async def read(self, project: str, storage: Any, name: str, source: Source) -> bytes:
        """Returns a content with at most SMALL bytes, from memory or from the storage of the project. Raises ServiceUnavailable if the
        storage has fewer bytes of it than it should have, and the errors of the storage."""
        found = self.find(project, name, source.tag)
        if found is not None:
            return found
        async with aclosing(storage.read(name, 0, source.size, version=source.version)) as pieces:
            data = b"".join([piece async for piece in pieces])
        if len(data) != source.size:
            log.error(
                "project {project}: the storage has {found} bytes of {name} instead of {size}",
                project=project,
                found=len(data),
                name=name,
                size=source.size,
            )
            raise ServiceUnavailable("The content of the file is incomplete; see the server's log.")
        return self._kept.get(project, (name, source.tag), lambda: data, lambda kept: len(kept) + ENTRY)
