"""Reads the contents of files from other servers, within the limits of [outgoing]: their addresses, and files.import_timeout."""

import mimetypes
import re
from urllib.parse import unquote, urlsplit

from directus_tx.errors import InvalidRequest
from directus_tx.files.names import extension
from directus_tx.outgoing.bodies import Take
from directus_tx.outgoing.client import Client
from directus_tx.outgoing.failures import RequestFailed

PATTERN = "^[Hh][Tt][Tt][Pp][Ss]?://"
"""The regular expression that URLs match, for JSON Schema, which has no flags."""

_URL = re.compile(PATTERN)
_ACCEPTED = re.compile(r"image/[\w.+-]+|application/pdf", re.IGNORECASE)
"""The media types of files that are read from other servers."""


def is_url(data: object) -> bool:
    """Whether the content of a file is given by a URL."""
    return isinstance(data, str) and _URL.match(data) is not None


async def check(client: Client, url: str) -> str:
    """Asks another server, with HEAD, whether it has a file. Returns a name for the file: the last part of the path of the URL, with an
    extension that fits its type. Raises InvalidRequest if there is no picture or PDF at the URL, or the server may not request it."""
    try:
        answer = await client.request("HEAD", url)
    except RequestFailed as error:
        raise _unreadable(str(error)) from None
    if answer.status != 200:
        raise _unreadable(f"The server answered {answer.status}.")
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not _ACCEPTED.fullmatch(kind):
        raise _unreadable("It is neither a picture nor a PDF.")
    name = (
        re.sub(r"[\x00-\x1f/\\\\]", "", unquote(urlsplit(url).path.rpartition("/")[2], errors="replace")).strip(". ")[-200:]
        or "file"
    )
    return name if extension(name) else name + (mimetypes.guess_extension(kind) or "")


async def send(client: Client, url: str, take: Take) -> None:
    """Reads a file and passes its bytes to *take*, in pieces. Raises InvalidRequest if it cannot be read."""
    try:
        answer = await client.request("GET", url, take=take)
    except RequestFailed as error:
        raise _unreadable(str(error)) from None
    if answer.status != 200:
        raise _unreadable(f"The server answered {answer.status}.")


def _unreadable(why: str) -> InvalidRequest:
    return InvalidRequest(f"The file cannot be read from its URL. {why}")
