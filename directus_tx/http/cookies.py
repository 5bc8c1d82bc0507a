"""Session cookies: reading and setting them, and for which pages they count.

A browser sends cookies with requests that pages of other origins make, and users do not notice that. So a session cookie counts only for
pages of the server's own origin and of the origins that the project names (cors.origin). For all others, the request is one of the public.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from directus_tx.config import SessionSettings
from directus_tx.errors import Unauthorized
from directus_tx.http import cors
from directus_tx.http.client import Proxies
from directus_tx.projects.project import Project

FLOWS = "sign-on"
"""The kind of the cookie with the sign-ons that a browser has begun."""

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
        found = _found(headers, _name(project))
        return found if found is not None and self._counts(request, project) else None

    def read_own(self, request: Any, project: Project, kind: str) -> str | None:
        """Returns a cookie of a project beside the session cookie, or None if there is none. It is for requests that pages cannot make for
        their visitors without knowing what it holds: it counts for all pages."""
        headers = request.requestHeaders.getRawHeaders(b"cookie")
        return None if headers is None else _found(headers, self._own_name(request, project, kind))

    def set_own(self, request: Any, project: Project, kind: str, value: str, seconds: int) -> None:
        """Sets such a cookie, or removes it if the value is empty. It is SameSite=Lax, so that the browser sends it when another site
        redirects to the server."""
        secure = "; Secure" if self._is_secure(request) else ""
        lasts = seconds if value else 0
        name = self._own_name(request, project, kind)
        _set(request, name, f"{value}; Max-Age={lasts}; Path=/; HttpOnly; SameSite=Lax{secure}")

    def _own_name(self, request: Any, project: Project, kind: str) -> str:
        # Browsers accept the prefix only from the host itself, by https: other hosts of the domain cannot set the cookie.
        return f"{'__Host-' if self._is_secure(request) else ''}directus-{project.key}-{kind}"

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
        secure = "; Secure" if self._is_secure(request) else ""
        _set(request, _name(project), f"{value}{self._attributes}{secure}")

    def _is_secure(self, request: Any) -> bool:
        return self._secure or self._proxies.base(request).startswith("https:")

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


def _set(request: Any, name: str, value: str) -> None:
    """Sets a cookie, instead of one of the same name that has been set before."""
    prefix = f"{name}=".encode()
    others = [each for each in request.responseHeaders.getRawHeaders(b"Set-Cookie", ()) if not each.startswith(prefix)]
    request.responseHeaders.setRawHeaders(b"Set-Cookie", [*others, prefix + value.encode()])


def _found(headers: Iterable[bytes], name: str) -> str | None:
    """Returns the value of a cookie, or None if there is none or there are different ones."""
    wanted = name.encode()
    found = set()
    for header in headers:
        if wanted in header:
            for part in header.split(b";"):
                key, _, value = part.strip().partition(b"=")
                if key == wanted:
                    found.add(value.strip(b' "'))
    return (found.pop().decode("latin-1") or None) if len(found) == 1 else None
