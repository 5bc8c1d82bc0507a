"""The pages that a sign-on may return to.

A browser and a server can read a URL differently, for example with a backslash. So only URLs that nobody can read in two ways are
accepted, and the server composes the URL that it redirects to of the parts that it has read.
"""

import re
from collections.abc import Collection
from urllib.parse import unquote_plus, urlencode, urlsplit, urlunsplit

MAX_LENGTH = 512
"""The maximum length of the URL of a page. It is kept in a cookie."""

_ABSOLUTE = re.compile(
    r"(?P<scheme>https?)://(?P<host>[0-9a-z.-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?=[/?#]|$)", re.IGNORECASE
)
_PRINTABLE = re.compile(r"[!-~]+")
_PORTS = {"http": "80", "https": "443"}
ANSWER = ("request_token", "error", "code")
"""The parameters that a sign-on adds to the URL of a page."""


def origin_of(url: str) -> str:
    """Returns the scheme, host and port of an absolute URL, for example "https://example.com:443". Raises ValueError, whose message follows
    the URL, if it is not one of http or https, has a user name, or has characters that programs read in different ways."""
    if not _PRINTABLE.fullmatch(url) or "\\" in url:
        raise ValueError("must consist of printable ASCII characters, without blanks and backslashes")
    found = _ABSOLUTE.match(url)
    if found is None:
        raise ValueError("must be a URL that begins with http:// or https:// and a host, without a user name")
    scheme = found["scheme"].lower()
    port = found["port"] or _PORTS[scheme]
    return f"{scheme}://{found['host'].lower()}:{int(port)}"


def check_redirect(url: str, origins: Collection[str]) -> str:
    """Returns the URL of a page that a sign-on may return to. *origins* are those that are allowed, as `origin_of` returns them. Raises
    ValueError, whose message follows the name of the parameter."""
    if len(url) > MAX_LENGTH:
        raise ValueError(f"must have at most {MAX_LENGTH} characters")
    if origin_of(url) not in origins:
        raise ValueError("is not a page of an allowed origin (auth.redirect_origins of the project)")
    found = urlsplit(url)
    return urlunsplit((found.scheme, found.netloc.lower(), found.path or "/", found.query, found.fragment))


def with_parameters(url: str, **parameters: str) -> str:
    """Returns a URL with the parameters of an answer (ANSWER), and no others of these names."""
    found = urlsplit(url)
    kept = [each for each in found.query.split("&") if each and unquote_plus(each.partition("=")[0]) not in ANSWER]
    return urlunsplit(found._replace(query="&".join([*kept, *([urlencode(parameters)] if parameters else [])])))
