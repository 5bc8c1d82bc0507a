"""The admin app: serves the files of a directory below /admin/ (server.admin_app).

The app is a page that finds out itself what its address means, so a path that is no file is answered with index.html. Only regular files in
the directory are served. Threads read them, a piece at a time.
"""

import base64
import hashlib
import os
import pathlib
import re
import stat
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser

from attrs import frozen
from twisted.internet.threads import deferToThread

from directus_tx.errors import NotFound
from directus_tx.http import encode
from directus_tx.http.answers import Answer, Rendered, Streamed, Write

PREFIX = b"/admin"
INDEX = "index.html"
PIECE = 64 * 1024
"""Bytes that are read at once."""

MAX_PAGE = 2**20
"""The size in bytes up to which inline scripts of index.html are looked for."""

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


def policy(scripts: Sequence[str] = ()) -> str:
    """Returns the Content-Security-Policy of the app. *scripts* are the texts of inline scripts of its page, which may run. The app of
    Directus 8 compiles templates in the browser, and has style attributes and images in data URLs."""
    hashes = "".join(f" 'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in scripts)
    return (
        f"default-src 'self'; script-src 'self' 'unsafe-eval'{hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:;"
        " font-src 'self' data:; media-src 'self' data: blob:; connect-src 'self'; worker-src 'self' blob:; object-src 'none';"
        " base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
    )


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


class AdminApp:
    """The files of a directory. *given_policy* is the Content-Security-Policy; empty: that of `policy`."""

    def __init__(self, directory: str, given_policy: str = "") -> None:
        self.directory = pathlib.Path(directory)
        self._policy = given_policy
        self._of_page: tuple[str, str] | None = None
        """The entity tag of index.html, and the policy that it needs."""

    async def answer(self, parts: Sequence[str], if_none_match: bytes | None) -> Answer | Streamed:
        """Returns the file that the decoded parts of a path behind /admin/ name. Raises NotFound if there is none, or if the path leads out
        of the directory or to a hidden file."""
        return await deferToThread(self._find, parts, if_none_match)

    def _find(self, parts: Sequence[str], if_none_match: bytes | None) -> Answer | Streamed:
        name = parts[-1] if parts else ""
        if any(not _is_name(part) for part in parts[:-1]) or (name and not _is_name(name)):
            raise NotFound
        root = self.directory.resolve()
        found = _open(root, parts) if name else None
        if found is None:
            if "." in name:
                raise NotFound
            name = INDEX
            found = _open(root, (INDEX,))
            if found is None:
                raise NotFound("The admin app has no index.html (server.admin_app).")
        descriptor, status = found
        try:
            tag = encode.etag(f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}")
            extension = name.rpartition(".")[2].lower()
            headers = {
                "ETag": tag.decode(),
                "Cache-Control": IMMUTABLE if _HASHED.search(name) else REVALIDATED,
                "Content-Security-Policy": self._policy_for(name, tag.decode(), descriptor, status.st_size),
            }
            if if_none_match is not None and encode.has_tag(if_none_match, tag):
                os.close(descriptor)
                return NotModified(headers)
            content_type = COMPRESSIBLE.get(extension) or COMPRESSED.get(extension, BINARY)
            return FileStream(descriptor, content_type, headers, extension in COMPRESSIBLE)
        except BaseException:
            os.close(descriptor)
            raise

    def _policy_for(self, name: str, tag: str, descriptor: int, size: int) -> str:
        """Returns the policy for a file. That of index.html allows its inline scripts."""
        if self._policy:
            return self._policy
        if name != INDEX or size > MAX_PAGE:
            return policy()
        known = self._of_page
        if known is None or known[0] != tag:
            known = self._of_page = tag, policy(inline_scripts(os.pread(descriptor, size, 0).decode("utf-8", "replace")))
        return known[1]


def _is_name(part: str) -> bool:
    """Whether a part of a path can be the name of a file that is served: not that of another directory, of a hidden file, or one that
    another system would take for several parts."""
    return bool(part) and not part.startswith(".") and part.isprintable() and not set(part) & {"/", "\\"}


def _open(root: pathlib.Path, parts: Sequence[str]) -> tuple[int, os.stat_result] | None:
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


class _Scripts(HTMLParser):
    """Collects the texts of the script elements of a page that have no src."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.found: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self._inside = "src" not in dict(attrs)
            if self._inside:
                self.found.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found[-1] += data


def inline_scripts(page: str) -> list[str]:
    """Returns the texts of the inline scripts of a page."""
    # As browsers do before they compute the hash of a script.
    parser = _Scripts()
    parser.feed(page.replace("\r\n", "\n").replace("\r", "\n"))
    parser.close()
    return [each for each in parser.found if each]
