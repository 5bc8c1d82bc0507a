"""Session cookies: reading and setting them, and for which pages they count.

A browser sends cookies with requests that pages of other origins make, and users do not notice that. So a session cookie counts only for
pages of the server's own origin and of the origins that the project names (cors.origin). For all others, the request is one of the public.
"""

from datetime import timedelta
from typing import Any

from directus_tx.config import SessionSettings
from directus_tx.errors import Unauthorized
from directus_tx.http import cors
from directus_tx.http.client import Proxies
from directus_tx.projects.registry import Project

SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""Methods that change nothing."""


class Cookies:
    """The session cookies of a server."""

    def __init__(self, settings: SessionSettings, proxies: Proxies) -> None:
        self._proxies = proxies
        self._secure = settings.secure == "always" or settings.same_site == "none"
        self._attributes = f"; Path=/; HttpOnly; SameSite={settings.same_site.capitalize()}"

    def read(self, request: Any, project: Project) -> str | None:
        """Returns the session cookie of a request, or None if there is none or it does not count. Two cookies that differ do not count: a
        page of another host of the domain may have set one of them."""
        headers = request.requestHeaders.getRawHeaders(b"cookie")
        if headers is None:
            return None
        name = _name(project).encode()
        found = set()
        for header in headers:
            if name in header:
                for part in header.split(b";"):
                    key, _, value = part.strip().partition(b"=")
                    if key == name:
                        found.add(value.strip(b' "'))
        if len(found) != 1 or not self._counts(request, project):
            return None
        return found.pop().decode("latin-1") or None

    def check_origin(self, request: Any, project: Project) -> None:
        """Raises Unauthorized if session cookies do not count for the page that makes a request. Otherwise any page could sign its
        visitors in as a user of its choice."""
        if not self._counts(request, project):
            raise Unauthorized("Pages of this origin may not sign in with a cookie (cors.origin of the project).")

    def set(self, request: Any, project: Project, value: str, lasts: timedelta) -> None:
        """Sets the cookie in the answer to a request."""
        self._write(request, project, f"{value}; Max-Age={lasts // timedelta(seconds=1)}")

    def clear(self, request: Any, project: Project) -> None:
        """Removes the cookie by the answer to a request."""
        self._write(request, project, "; Max-Age=0")

    def _write(self, request: Any, project: Project, value: str) -> None:
        """Sets the cookie, instead of one that has been set before."""
        name = f"{_name(project)}=".encode()
        secure = "; Secure" if self._secure or self._proxies.base(request).startswith("https:") else ""
        others = [each for each in request.responseHeaders.getRawHeaders(b"Set-Cookie", ()) if not each.startswith(name)]
        request.responseHeaders.setRawHeaders(b"Set-Cookie", [*others, name + f"{value}{self._attributes}{secure}".encode()])

    def _counts(self, request: Any, project: Project) -> bool:
        """Whether cookies count for the page that makes a request. Browsers say which one that is, and pages cannot change it: in Origin,
        with all methods but GET and HEAD, and in Sec-Fetch-Site, by https. Other programs send neither, and have no cookies of others."""
        site = request.getHeader(b"sec-fetch-site")
        if site == b"same-origin":
            return True
        origin = request.getHeader(b"origin")
        if origin is None:
            # A link, or the address that a user has typed. A page that embeds such an answer cannot read it.
            return request.method in SAFE or site in (None, b"none")
        text = origin.decode("latin-1")
        return text == self._proxies.base(request).lower() or text in (cors.named_origins(project) or ())


def _name(project: Project) -> str:
    return f"directus-{project.key}-session"
