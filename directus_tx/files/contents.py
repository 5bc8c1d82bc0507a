"""Contents of files: what is known of one that has been stored, and which file has it (the table directus_file_contents)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import field as attribute
from attrs import frozen

from directus_tx.compile import file_data
from directus_tx.context import Context, moment
from directus_tx.db.session import Session
from directus_tx.errors import NotFound
from directus_tx.files.focus import Focus
from directus_tx.files.names import adopted_storage_name
from directus_tx.files.pictures import NO_PICTURE, Picture
from directus_tx.outbox.messages import Message, enqueue

KIND = "file removal"
"""The kind of the messages that delete contents, or some of their thumbnails, from the storage."""


@frozen
class Content:
    """A content that has been stored under `name`: its size in bytes, its MD5 and SHA-256 in hexadecimal digits, its character
    set, and what it tells if it is a picture."""

    name: str
    size: int
    md5: str
    sha256: str
    charset: str
    picture: Picture = NO_PICTURE


@frozen
class Original:
    """The content of a file, to be sent. `name` is the one in the storage; `size` and `sha256` are None if the server has not stored the
    content itself. `width` and `height` are those of a picture in pixels, None if they are unknown. `private_hash` is a secret of the file.
    `metadata` is JSON or None. `attachment`: the content is to be downloaded, also if browsers could show it."""

    name: str
    size: int | None
    sha256: str | None
    stored_on: datetime | None
    type: str
    charset: str
    filename_download: str
    width: int | None = None
    height: int | None = None
    private_hash: str = attribute(default="", repr=False)
    metadata: str | None = None
    attachment: bool = False


@frozen
class Source:
    """The bytes of a content or of a thumbnail: their number, a text that is another one for other bytes, when they were stored, and their
    version in the storage, None if it never changes."""

    size: int
    tag: str
    modified: datetime
    version: str | None = None


async def source_of(storage: Any, original: Original) -> Source:
    """Returns what is known of the bytes of a content. The storage is only asked for one that the server has not stored itself. Raises
    NotFound if it has none."""
    if original.size is not None and original.sha256 is not None and original.stored_on is not None:
        return Source(original.size, original.sha256, original.stored_on.replace(microsecond=0))
    stored = await storage.describe(original.name)
    if stored is None:
        raise NotFound("The content of the file is missing.")
    return Source(stored.size, stored.version, stored.modified.replace(microsecond=0), stored.version)


async def assign(ctx: Context, file: Any, content: Content) -> None:
    """Makes a content that of a file. *ctx* is in the transaction that writes the file. The former content is deleted after the commit."""
    await _remove(ctx, await _release(ctx, [file]))
    await ctx.db.query(
        "INSERT INTO directus_file_contents (file, name, filesize, sha256, stored_on) VALUES (%s, %s, %s, %s, %s)",
        (file, content.name, content.size, content.sha256, ctx.now.replace(tzinfo=None)),
    )


async def keep(ctx: Context, renamed: Sequence[tuple[Any, str]]) -> None:
    """Remembers where the contents of files are that get another name on disk. *renamed* are their keys and their former names."""
    for file, name in renamed:
        await ctx.db.query(
            "INSERT INTO directus_file_contents (file, name, filesize, sha256, stored_on)"
            " SELECT id, %s, filesize, '', uploaded_on FROM directus_files WHERE id = %s ON CONFLICT DO NOTHING",
            (adopted_storage_name(name), file),
        )


async def drop(ctx: Context, files: Sequence[tuple[Any, str]]) -> None:
    """Deletes the contents of files after the commit. *files* are the keys and the names on disk of files that are deleted."""
    found = await _release(ctx, [file for file, _ in files])
    adopted = [adopted_storage_name(disk) for file, disk in files if file not in found]
    await _remove(ctx, found, adopted)


async def _release(ctx: Context, files: Sequence[Any]) -> dict[Any, str]:
    """Forgets the contents of files. Returns their names in the storage, by file."""
    rows = await ctx.db.query("DELETE FROM directus_file_contents WHERE file = ANY(%s) RETURNING file, name", (list(files),))
    return dict(rows)


async def _remove(ctx: Context, found: dict[Any, str], adopted: Sequence[str] = ()) -> None:
    names = (*found.values(), *adopted)
    await enqueue(ctx, [Message(KIND, KIND, {"name": name}, subject="file") for name in names])


async def refocus(ctx: Context, points: Mapping[Any, Focus]) -> None:
    """Deletes the thumbnails of files that are cut around other points than these, after the commit. *points* are the focal points, by the
    key of the file."""
    rows = await ctx.db.query(
        "SELECT f.id, c.name, f.filename_disk FROM directus_files AS f LEFT JOIN directus_file_contents AS c ON c.file = f.id"
        " WHERE f.id = ANY(%s) AND f.embed IS NULL",
        (list(points),),
    )
    found = [(name or adopted_storage_name(disk), points[key]) for key, name, disk in rows]
    await enqueue(ctx, [Message(KIND, KIND, {"name": name, "focus": focus}, subject="file") for name, focus in found])


async def lock_name(ctx: Context, name: str) -> None:
    """Waits for other transactions that choose a name on disk which begins like *name*."""
    await ctx.db.query("SELECT pg_advisory_xact_lock(hashtextextended('directus_files/' || lower(%s), 0))", (name[:8],))


async def taken_names(ctx: Context, names: Sequence[str]) -> set[str]:
    """Returns those of the names on disk that files have."""
    rows = await ctx.db.query("SELECT filename_disk FROM directus_files WHERE filename_disk = ANY(%s)", (list(names),))
    return {name for (name,) in rows}


async def name_owners(ctx: Context, names: Sequence[str]) -> dict[str, Any]:
    """Returns the keys of the files that have names on disk, by name."""
    rows = await ctx.db.query("SELECT filename_disk, id FROM directus_files WHERE filename_disk = ANY(%s)", (list(names),))
    return dict(rows)


async def name_and_size(session: Session, file: Any) -> tuple[str, int] | None:
    """Returns the name on disk and the size in bytes of a file, None if there is no such file."""
    rows = await session.query("SELECT filename_disk, coalesce(filesize, 0) FROM directus_files WHERE id = %s", (file,))
    return (rows[0][0], int(rows[0][1])) if rows else None


_DATA = """
SELECT id, json_build_array(%s::text, private_hash, filename_disk, filename_download, type, embed, width::text, height::text)::text
FROM directus_files WHERE id = ANY(%s)"""


async def data_of(ctx: Context, files: Sequence[int]) -> Mapping[int, Any]:
    """Returns the field `data` of files, by key, whatever the caller may read. Files that do not exist are left out."""
    shown = file_data.shown(ctx.schema)
    return {key: shown(text) for key, text in await ctx.db.query(_DATA, (ctx.site(), list(files)))}


_ORIGINAL = """
SELECT c.name, c.filesize, c.sha256, extract(epoch FROM c.stored_on)::bigint,
       f.type, f.charset, f.filename_download, f.filename_disk,
       f.width, f.height, f.private_hash, f.metadata, f.embed IS NOT NULL
FROM directus_files AS f LEFT JOIN directus_file_contents AS c ON c.file = f.id
WHERE """

BY_DISK, BY_HASH, BY_DOWNLOAD, BY_KEY = "filename_disk", "private_hash", "filename_download", "id"
"""The fields by which `find_original` finds a file. Several files can have the same name for downloads: it finds the first one."""


async def find_original(
    session: Session, field: str, value: Any, visible: str = "", values: Sequence[Any] = ()
) -> Original | None:
    """Returns the content of the file whose *field*, one of the constants BY_..., has a value; None if there is no such file, or if it has
    no content because it is a video elsewhere. *visible* is a condition on the rows of the table f, the SQL that follows "AND", with its
    *values*."""
    first = " ORDER BY f.id LIMIT 1" if field == BY_DOWNLOAD else ""
    rows = await session.query(f"{_ORIGINAL}f.{field} = %s{visible and f' AND ({visible})'}{first}", (value, *values))
    if not rows or rows[0][-1]:
        return None
    name, size, sha256, stored_on, kind, charset, download, disk, width, height, secret, metadata, _ = rows[0]
    if name is None or not sha256:
        size = sha256 = stored_on = None
    stored = None if stored_on is None else moment(stored_on)
    return Original(
        name or adopted_storage_name(disk),
        size,
        sha256,
        stored,
        kind or "",
        charset or "",
        download,
        width,
        height,
        secret or "",
        metadata,
    )
