"""The field `data` of files, which has no column: the URLs of a file, its thumbnails and its player, made from its columns."""

import re
from collections.abc import Callable, Mapping
from html import escape
from typing import Any
from urllib.parse import quote

import orjson

from directus_tx.access import Grant
from directus_tx.db.sql import SQL, Bind, Composable, column
from directus_tx.schema.model import Snapshot

FILES = "directus_files"
FIELD = "data"

COLUMNS = ("private_hash", "filename_disk", "filename_download", "type", "embed", "width", "height")
"""The columns that `data` is made from."""

THUMBNAILED = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp", "image/bmp", "image/tiff", "image/avif"})
"""The media types of files that have thumbnails."""

PLAYERS: Mapping[str, tuple[str, str]] = {
    "embed/youtube": ("https://www.youtube.com/watch?v=", "//www.youtube.com/embed/"),
    "embed/vimeo": ("https://vimeo.com/", "//player.vimeo.com/video/"),
}
"""What the id of a video is appended to, by the type of the file: the URL of its page, and that of its player."""


def has_file_data(grant: Grant) -> bool:
    """Whether the items of a grant are files."""
    return grant.collection.collection == FILES


def expression(grant: Grant, alias: str) -> Composable:
    """Returns the SQL of what `data` is made from, with one placeholder, whose value is `site`. Columns that are hidden from the caller are
    NULL."""
    parts = [SQL("NULL") if name in grant.hidden else SQL("{}::text").format(column(alias, name)) for name in COLUMNS]
    return SQL("json_build_array(%s::text, {})::text").format(SQL(", ").join(parts))


site: Bind = lambda values: values.site()  # noqa: E731
"""The bind value of the placeholder of `expression`: the URL of the project, for example "https://example.com/blog"."""


def shown(schema: Snapshot) -> Callable[[Any], Any]:
    """Returns the function that makes `data` of the value of `expression`."""
    found: Callable[[Any], Any] = schema.kept("file data", lambda: _shown(schema))
    return found


def _shown(schema: Snapshot) -> Callable[[Any], Any]:
    by_name = schema.setting("asset_url_naming") == "filename_download"
    sizes = [*_sizes(schema.setting("asset_whitelist_system")), *_sizes(schema.setting("asset_whitelist"))]

    def show(text: str | None) -> Any:
        if text is None:
            return None
        where, private_hash, disk, download, kind, embed, width, height = orjson.loads(text)
        base, _, project = (where or "").rpartition("/")
        url = None if disk is None or embed is not None else f"/uploads/{project}/originals/{quote(disk)}"
        name = download if by_name else private_hash
        asset = None if name is None or embed is not None else f"/{project}/assets/{quote(name, safe='')}"
        thumbnails = None
        if asset is not None and kind in THUMBNAILED and width is not None and height is not None:
            thumbnails = [
                {
                    "key": key,
                    "url": f"{base}{asset}?key={quote(key)}",
                    "relative_url": f"{asset}?key={quote(key)}",
                    "dimension": f"{wide}x{high}",
                    "width": wide,
                    "height": high,
                }
                for key, wide, high in sizes
            ]
        return {
            "full_url": None if url is None else base + url,
            "url": url,
            "asset_url": asset,
            "thumbnails": thumbnails,
            "embed": None if embed is None else _player(kind or "", embed, width, height),
        }

    return show


def _player(kind: str, embed: str, width: str | None, height: str | None) -> Mapping[str, str] | None:
    """Returns the URL of the page of a video, and the HTML of its player."""
    if kind not in PLAYERS:
        return None
    page, player = PLAYERS[kind]
    size = f'width="{int(width or 0)}" height="{int(height or 0)}"'
    source = escape(player + quote(embed))
    return {"html": f'<iframe {size} src="{source}" frameborder="0" allowfullscreen></iframe>', "url": page + quote(embed)}


def _sizes(text: str) -> list[tuple[str, int, int]]:
    """Returns the keys and the sizes of the thumbnails that a setting allows. What is not an allowed size is left out."""
    try:
        found = orjson.loads(text) if text else []
    except orjson.JSONDecodeError:
        return []
    sizes = []
    for each in found if isinstance(found, list) else ():
        if isinstance(each, dict) and isinstance(each.get("key"), str):
            width, height = (_pixels(each.get(name)) for name in ("width", "height"))
            if width and height:
                sizes.append((each["key"], width, height))
    return sizes


def _pixels(value: Any) -> int:
    """Returns a number of pixels. 0 if it is none."""
    return int(value) if re.fullmatch(r"[0-9]{1,5}", str(value)) else 0
