"""The field `data` of files, which has no column: the URLs of a file, its thumbnails and its player, made from its columns."""

from collections.abc import Callable, Mapping
from html import escape
from typing import Any
from urllib.parse import quote

import orjson

from directus_tx.access import Grant
from directus_tx.db.sql import SQL, Bind, Composable, column
from directus_tx.schema.model import Snapshot
from directus_tx.schema.thumbnail_sizes import allowed_sizes

FILES = "directus_files"
FIELD = "data"

COLUMNS = ("private_hash", "filename_disk", "filename_download", "type", "embed", "width", "height")
"""The columns that `data` is made from."""

THUMBNAILED = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp", "image/bmp", "image/tiff"})
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
    sizes = [(key, size.width, size.height) for key, size in allowed_sizes(schema).by_key.items()]

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
