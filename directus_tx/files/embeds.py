"""Videos on YouTube and Vimeo, which files refer to without having their content. The URL alone tells all; no request is made."""

import re
from urllib.parse import parse_qs, urlsplit

from attrs import frozen

_YOUTUBE = frozenset({"youtube.com", "m.youtube.com", "music.youtube.com", "youtube-nocookie.com"})
_YOUTUBE_ID = re.compile(r"[A-Za-z0-9_-]{6,20}")
_VIMEO_ID = re.compile(r"[0-9]{1,20}")


@frozen
class Embed:
    """A video on another site: the media type of its file, its id there, the size of its player in pixels, a title, and a name for the
    file."""

    type: str
    id: str
    width: int
    height: int
    title: str
    name: str


def parse(url: object) -> Embed | None:
    """Returns the video that a URL leads to, None if it leads to none."""
    if not isinstance(url, str) or not url.lower().startswith(("http://", "https://")):
        return None
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").removeprefix("www.")
    except ValueError:
        return None
    path = parts.path.strip("/").split("/")
    if host in _YOUTUBE:
        found = parse_qs(parts.query).get("v", [""])[0] if path == ["watch"] else ""
        if len(path) == 2 and path[0] in ("embed", "v", "shorts", "live"):
            found = path[1]
    elif host == "youtu.be" and len(path) == 1:
        found = path[0]
    elif host in ("vimeo.com", "player.vimeo.com"):
        found = path[1] if len(path) == 2 and path[0] == "video" else path[0]
        if not _VIMEO_ID.fullmatch(found):
            return None
        return Embed("embed/vimeo", found, 560, 540, f"Vimeo - {found}", f"vimeo_{found}.jpg")
    else:
        return None
    if not _YOUTUBE_ID.fullmatch(found):
        return None
    return Embed("embed/youtube", found, 560, 340, f"YouTube - {found}", f"youtube_{found}.jpg")
