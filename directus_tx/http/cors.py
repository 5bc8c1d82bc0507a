"""Cross-origin resource sharing (CORS): sets the headers that let pages of other origins use the API.

Where a project does not name origins, pages of all origins may read what the public may read. Browsers may send them credentials, but a
session cookie counts for the origins that are named alone (`cookies`).
"""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from directus_tx.http import tus
from directus_tx.projects.project import Project

METHODS = "GET,POST,PUT,PATCH,DELETE,HEAD"
SENT = "X-Directus-Project,Content-Type,Authorization,If-Match,If-None-Match,X-HTTP-Method-Override"
READ = "ETag,X-Request-Id,Retry-After,RateLimit,RateLimit-Policy,Content-Disposition,Location"
"""The headers that a page may send (SENT) or read (READ), in addition to those that CORS always allows. Paths of the tus protocol
have more."""

MAX_AGE = b"600"
"""Seconds for which a browser may cache the answer to a preflight request."""


def allow_origin(request: Any) -> None:
    """Sets the headers that say which origins may read the answer: all, unless the project lists its origins."""
    origin = request.getHeader(b"origin")
    allowed = named_origins(request.project)
    if origin is not None or allowed is not None:
        # Also without the header: a cache must not answer a page with what it keeps for a request of another program.
        request.responseHeaders.addRawHeader(b"Vary", b"Origin")
    if allowed is not None and (origin is None or origin.decode("latin-1") not in allowed):
        return
    request.setHeader(b"Access-Control-Allow-Origin", origin or b"*")
    request.setHeader(b"Access-Control-Allow-Credentials", b"true")
    if origin is not None:
        request.setHeader(b"Access-Control-Expose-Headers", f"{READ},{tus.READ}" if tus.is_path(request.path) else READ)


def answer_preflight(request: Any) -> None:
    """Sets the headers that say which methods and headers a page may send."""
    request.setHeader(b"Access-Control-Allow-Methods", METHODS)
    request.setHeader(b"Access-Control-Allow-Headers", f"{SENT},{tus.SENT}" if tus.is_path(request.path) else SENT)
    request.setHeader(b"Access-Control-Max-Age", MAX_AGE)


def named_origins(project: Project | None) -> Iterable[str] | None:
    """Returns the origins that a project names, or None if it names none and allows all."""
    origin = project.config.cors.get("origin") if project is not None else None
    if not origin or origin == "*" or origin == ["*"]:
        return None
    return [origin] if isinstance(origin, str) else origin


def is_named_page(request: Any) -> bool:
    """Whether a page of an origin that the project names makes a request. Browsers name the origin in Origin, and where they send none, as
    for pictures, in Referer, unless the page does not want that. Pages can set neither to another origin."""
    text = request.getHeader("origin") or request.getHeader("referer") or ""
    try:
        page = urlsplit(text)
    except ValueError:
        return False
    return f"{page.scheme}://{page.netloc}" in (named_origins(request.project) or ())
