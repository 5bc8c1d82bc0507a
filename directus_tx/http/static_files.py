"""Serves files of directories: those of the admin app, and of its extensions.

Only regular files in the directory are served, hidden ones not. Threads read them, a piece at a time.
"""

import os
import pathlib
import re
import stat
from collections.abc import Mapping, Sequence

from attrs import frozen
from twisted.internet.threads import deferToThread

from directus_tx.http import encode
from directus_tx.http.answers import Answer, Rendered, Streamed, Write

PIECE = 64 * 1024
"""Bytes that are read at once."""

BINARY = "application/octet-stream"
COMPRESSIBLE = {
    "css": "text/css; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "map": "application/json",
    "mjs": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "wasm": "application/wasm",
    "webmanifest": "application/manifest+json",
    "xml": "application/xml",
    "eot": "application/vnd.ms-fontobject",
    "otf": "font/otf",
    "ttf": "font/ttf",
}
COMPRESSED = {
    "gif": "image/gif",
    "ico": "image/x-icon",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "mp4": "video/mp4",
    "png": "image/png",
    "webm": "video/webm",
    "webp": "image/webp",
    "woff": "font/woff",
    "woff2": "font/woff2",
}
"""Media types by extension: those that are compressed for clients that accept that, and those that are compressed already."""

_HASHED = re.compile(r"[.-](?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{8,64}\.")
"""Matches names with a hash of the contents, as webpack makes them: app.3f2a91bc.js. Digits alone may be a date."""

REVALIDATED = "no-cache"
IMMUTABLE = "public, max-age=31536000, immutable"


@frozen
class NotModified(Answer):
    """The client has the file already."""

    headers: Mapping[str, str]

    def render(self, *, public: bool) -> Rendered:
        return Rendered(304, None, b"")


@frozen
class FileStream(Streamed):
    """An open file, which is closed when it has been written."""

    descriptor: int
    content_type: str
    headers: Mapping[str, str]
    compressible: bool

    async def write(self, write: Write, *, public: bool) -> None:
        try:
            piece = await deferToThread(os.read, self.descriptor, PIECE)
            await write(piece)
            while piece:
                piece = await deferToThread(os.read, self.descriptor, PIECE)
                if piece:
                    await write(piece)
        finally:
            os.close(self.descriptor)


def is_name(part: str) -> bool:
    """Whether a part of a path can be the name of a file that is served: not that of another directory, of a hidden file, or one that
    another system would take for several parts."""
    return bool(part) and not part.startswith(".") and part.isprintable() and not set(part) & {"/", "\\"}


def open_file(root: pathlib.Path, parts: Sequence[str]) -> tuple[int, os.stat_result] | None:
    """Opens a regular file below a directory. Returns its descriptor and status; None if there is no such file. A symbolic link may lead to
    another file of the directory, not out of it."""
    try:
        path = root.joinpath(*parts).resolve(strict=True)
        if not path.is_relative_to(root) or any(part.startswith(".") for part in path.relative_to(root).parts):
            return None
        # A link that has been put there meanwhile is not followed; opening a named pipe does not wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, RuntimeError, ValueError):
        return None
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return descriptor, status
    os.close(descriptor)
    return None


def entity_tag(status: os.stat_result) -> bytes:
    """Returns the entity tag of a file with a status: another one if the file has been replaced or changed."""
    return encode.etag(f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}")


def file_answer(
    name: str, descriptor: int, status: os.stat_result, policy: str, if_none_match: bytes | None
) -> Answer | Streamed:
    """Returns the answer with an open file, which closes the descriptor; or `NotModified`, if the client names the entity tag of the file.
    *policy* is its Content-Security-Policy."""
    tag = entity_tag(status)
    headers = {
        "ETag": tag.decode(),
        "Cache-Control": IMMUTABLE if _HASHED.search(name) else REVALIDATED,
        "Content-Security-Policy": policy,
    }
    if if_none_match is not None and encode.has_tag(if_none_match, tag):
        os.close(descriptor)
        return NotModified(headers)
    extension = name.rpartition(".")[2].lower()
    content_type = COMPRESSIBLE.get(extension) or COMPRESSED.get(extension, BINARY)
    return FileStream(descriptor, content_type, headers, extension in COMPRESSIBLE)
