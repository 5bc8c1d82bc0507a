"""The table directus_presigned_uploads: files that clients send to the storage themselves, without the server.

A client may send bytes to the name that it was given until the URL expires, also after the server has looked at them. So no file ever has
its content under such a name: when an upload is completed, the server reads it once, checks it, and stores it under a name of its own.
"""

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any

import orjson
from attrs import frozen

from directus_tx.context import Context
from directus_tx.db.session import Session
from directus_tx.errors import InvalidRequest, ItemNotFound, TooManyRequests
from directus_tx.files import quota
from directus_tx.files.storage.interfaces import FileReplaced
from directus_tx.sealing import Keys

PURPOSE = "presigned upload"
PREFIX = "presigned/"
"""What the names of such files in the storage begin with."""

KEPT = timedelta(days=1)
"""How long an upload can be completed after its URL has expired. A client that has begun to send in time may need longer."""

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('directus_presigned_uploads/' || %s::text, 0))"
_COUNT = 'SELECT count(*) FROM directus_presigned_uploads WHERE "user" = %s AND file IS NULL AND expires_on > %s'
_INSERT = """
INSERT INTO directus_presigned_uploads (id, "user", name, filename, filesize, sha256, created_on, expires_on)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"""
_FIND = """
SELECT id, name, filename, filesize, sha256 FROM directus_presigned_uploads
WHERE id = %s AND "user" = %s AND file IS NULL AND expires_on > %s"""
_FINISH = "UPDATE directus_presigned_uploads SET file = %s WHERE id = %s AND file IS NULL RETURNING id"
_EXPIRED = "SELECT id, name FROM directus_presigned_uploads WHERE expires_on <= %s ORDER BY expires_on LIMIT %s"
KNOWN = "SELECT name FROM directus_presigned_uploads WHERE name = ANY(%s)"
"""The statement that finds those of the names in the storage that uploads have."""


@frozen
class Upload:
    """A file that a client may send to the storage: its `name` there, its name for downloads, its size in bytes, and its SHA-256 in
    hexadecimal digits, None if the client has not told it."""

    id: str
    name: str
    filename: str
    size: int
    sha256: str | None


def new_upload(filename: str, size: int, sha256: str | None) -> Upload:
    """Returns an upload that is not in the table yet."""
    id = secrets.token_hex(16)
    return Upload(id, f"{PREFIX}{id}", filename, size, sha256)


async def begin(ctx: Context, upload: Upload, user: int, lasts: timedelta, *, most: int, limit: int) -> None:
    """Adds an upload of a user whose URL can be used for the time *lasts*. *limit* is the quota of the project in bytes, 0 is none. Raises
    TooManyRequests if the user has *most* uploads that are not completed, and PayloadTooLarge."""

    async def work(ctx: Context) -> None:
        await ctx.db.query(_LOCK, (user,))
        ((number,),) = await ctx.db.query(_COUNT, (user, ctx.now))
        if number >= most:
            raise TooManyRequests(
                f"You have {number} uploads that are not completed (files.max_presigned).", headers={"Retry-After": "60"}
            )
        expires = ctx.now + lasts + KEPT
        values = (upload.id, user, upload.name, upload.filename, upload.size, upload.sha256, ctx.now, expires)
        await ctx.db.query(_INSERT, values)
        await quota.check(ctx.db, limit)

    await ctx.transaction(work)


def token_of(keys: Keys, upload: Upload, user: int) -> str:
    """Returns the token with which the user completes an upload."""
    return keys.seal(PURPOSE, orjson.dumps([upload.id, user]).decode())


async def find(ctx: Context, token: str, user: int) -> Upload:
    """Returns the upload of a token. Raises ItemNotFound, with the same message for each reason, if the token is not valid or that of
    another user, or the upload has been completed or has expired."""
    missing = ItemNotFound("There is no such upload, or it has been completed.")
    try:
        id, owner = orjson.loads(ctx.keys.unseal(PURPOSE, token))
    except ValueError:
        raise missing from None
    rows = await ctx.db.query(_FIND, (id, user, ctx.now)) if owner == user else []
    if not rows:
        raise missing
    return Upload(*rows[0])


async def finish(session: Session, upload: Upload, file: int) -> None:
    """Marks an upload as completed by a file. *session* is in the transaction that writes the file. Raises ItemNotFound if another request
    has completed it."""
    if not await session.query(_FINISH, (file, upload.id)):
        raise ItemNotFound("There is no such upload, or it has been completed.")


async def read(storage: Any, upload: Upload) -> AsyncGenerator[bytes, None]:
    """Yields the bytes that the client has sent, all of the same file. Raises InvalidRequest if there are none, or they have another size,
    FileReplaced if the client sends another file meanwhile, and the errors of the storage."""
    stored = await storage.describe(upload.name)
    if stored is None:
        raise InvalidRequest("The file has not been sent to the storage.")
    if stored.size != upload.size:
        raise InvalidRequest(f'The file in the storage has {stored.size} bytes, not {upload.size} ("filesize").')
    size = 0
    async with aclosing(storage.read(upload.name, 0, upload.size, version=stored.version)) as pieces:
        async for piece in pieces:
            size += len(piece)
            yield piece
    if size != upload.size:
        raise FileReplaced("The file has been replaced; try again.")


async def remove_expired(session: Session, storage: Any, now: datetime, limit: int) -> int:
    """Removes up to *limit* uploads that have expired, with what clients have sent for them, also after they were completed. Returns their
    number. Several processes can do this at the same time."""
    rows = await session.query(_EXPIRED, (now, limit))
    for id, name in rows:
        await storage.delete(name)
        await session.query("DELETE FROM directus_presigned_uploads WHERE id = %s", (id,))
    return len(rows)
