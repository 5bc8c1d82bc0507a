"""The admin app: serves the files of a directory below /admin/ (server.admin_app).

The app is a page that finds out itself what its address means, so a path that is no file is answered with index.html.
"""

import base64
import hashlib
import os
import pathlib
from collections.abc import Sequence
from html.parser import HTMLParser

from twisted.internet.threads import deferToThread

from directus_tx.errors import NotFound
from directus_tx.http.answers import Answer, Streamed
from directus_tx.http.static_files import entity_tag, file_answer, is_name, open_file

FIRST_PART = "admin"
"""The first part of the paths of the app."""

INDEX = "index.html"
MAX_PAGE = 2**20
"""The size in bytes up to which inline scripts of index.html are looked for."""


def policy(scripts: Sequence[str] = ()) -> str:
    """Returns the Content-Security-Policy of the app. *scripts* are the texts of inline scripts of its page, which may run. The app of
    Directus 8 compiles templates in the browser, and has style attributes and images in data URLs."""
    hashes = "".join(f" 'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in scripts)
    return (
        f"default-src 'self'; script-src 'self' 'unsafe-eval'{hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:;"
        " font-src 'self' data:; media-src 'self' data: blob:; connect-src 'self'; worker-src 'self' blob:; object-src 'none';"
        " base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
    )


class AdminApp:
    """The files of a directory. *given_policy* is the Content-Security-Policy; empty: that of `policy`."""

    def __init__(self, directory: str, given_policy: str = "") -> None:
        self.directory = pathlib.Path(directory)
        self._policy = given_policy
        self._of_page: tuple[bytes, str] | None = None
        """The entity tag of index.html, and the policy that it needs."""

    async def answer(self, parts: Sequence[str], if_none_match: bytes | None) -> Answer | Streamed:
        """Returns the file that the decoded parts of a path behind /admin/ name. Raises NotFound if there is none, or if the path leads out
        of the directory or to a hidden file."""
        return await deferToThread(self._find, parts, if_none_match)

    def _find(self, parts: Sequence[str], if_none_match: bytes | None) -> Answer | Streamed:
        name = parts[-1] if parts else ""
        if any(not is_name(part) for part in parts[:-1]) or (name and not is_name(name)):
            raise NotFound
        root = self.directory.resolve()
        found = open_file(root, parts) if name else None
        if found is None:
            if "." in name:
                raise NotFound
            name = INDEX
            found = open_file(root, (INDEX,))
            if found is None:
                raise NotFound("The admin app has no index.html (server.admin_app).")
        descriptor, status = found
        try:
            return file_answer(name, descriptor, status, self._policy_for(name, descriptor, status), if_none_match)
        except BaseException:
            os.close(descriptor)
            raise

    def _policy_for(self, name: str, descriptor: int, status: os.stat_result) -> str:
        """Returns the policy for a file. That of index.html allows its inline scripts."""
        if self._policy:
            return self._policy
        if name != INDEX or status.st_size > MAX_PAGE:
            return policy()
        known, tag = self._of_page, entity_tag(status)
        if known is None or known[0] != tag:
            known = self._of_page = (
                tag,
                policy(inline_scripts(os.pread(descriptor, status.st_size, 0).decode("utf-8", "replace"))),
            )
        return known[1]


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
