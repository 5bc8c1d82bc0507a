"""The table directus_uploads: uploads that clients may continue, also after the server has been restarted, and their parts.

An upload belongs to the user who has created it. Its name in the URL is random, and the table holds the SHA-256 of it, because the name
alone gives access to an upload of a caller who is not signed in.

A request that adds bytes becomes the `writer` of the upload. The newest request wins: a client that connects again must not wait until the
server notices that the former connection is broken. The former writer is refused when it next writes to the table. Only while the file is
made of all bytes, which must not be begun twice, other requests are refused.
"""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from attrs import frozen

from directus_tx.context import moment
from directus_tx.db.session import Session
from directus_tx.errors import BadRequest, NotFound, OffsetConflict, TooManyRequests, UploadEnded, UploadLocked
from directus_tx.files import quota

PREFIX = "uploads/"
"""What the names of parts in the storage begin with."""

HOLD = 6.0
"""Seconds for which an upload is locked while the file is made of it. The lock is renewed; after a crash it ends."""

FEW_PARTS = 2000
LEAST_MEAN = 256 * 1024
"""An upload may have FEW_PARTS parts, and one more for each LEAST_MEAN bytes, so that nobody fills the storage with tiny files."""

_COLUMNS = 'id, size, "offset", metadata, extract(epoch FROM expires_on)::bigint, file'
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('directus_uploads/' || coalesce(%s::text, ''), 0))"
_COUNT = 'SELECT count(*) FROM directus_uploads WHERE "user" IS NOT DISTINCT FROM %s AND file IS NULL AND NOT ended'
_INSERT = """
INSERT INTO directus_uploads (id, "user", metadata, size, "offset", created_on, expires_on) VALUES (%s, %s, %s, %s, 0, %s, %s)"""
_FIND = f'SELECT {_COLUMNS} FROM directus_uploads WHERE id = %s AND "user" IS NOT DISTINCT FROM %s AND NOT ended'
_CLAIM = """
UPDATE directus_uploads SET writer = %s, size = coalesce(size, %s)
WHERE id = %s AND "offset" = %s AND file IS NULL AND NOT ended AND (completing_until IS NULL OR completing_until <= clock_timestamp())
RETURNING id"""
_NUMBER = "SELECT count(*) FROM directus_upload_parts WHERE upload = %s"
_ADVANCE = """
UPDATE directus_uploads SET "offset" = %s, expires_on = greatest(expires_on, %s)
WHERE id = %s AND writer = %s AND "offset" = %s AND file IS NULL AND NOT ended RETURNING size"""
_ADD = "INSERT INTO directus_upload_parts (upload, start, size, name) VALUES (%s, %s, %s, %s)"
_PARTS = "SELECT start, size, name FROM directus_upload_parts WHERE upload = %s ORDER BY start"
_HOLD = """
UPDATE directus_uploads SET completing_until = clock_timestamp() + %s * interval '1 second'
WHERE id = %s AND writer = %s AND file IS NULL AND NOT ended RETURNING id"""
_COMPLETE = """
UPDATE directus_uploads SET file = %s, size = %s, "offset" = %s, writer = NULL, completing_until = NULL
WHERE id = %s AND writer = %s AND file IS NULL AND NOT ended RETURNING id"""
_END = "UPDATE directus_uploads SET ended = true, writer = NULL WHERE id = %s"
_FINISHED = """
SELECT id FROM directus_uploads AS u
WHERE ended OR expires_on <= %s OR (file IS NOT NULL AND EXISTS (SELECT FROM directus_upload_parts AS p WHERE p.upload = u.id))
ORDER BY expires_on LIMIT %s"""


@frozen
class Part:
    """Bytes of an upload that are stored under `name`: those from `start` on, as many as `size`."""

    start: int
    size: int
    name: str

    @property
    def end(self) -> int:
        return self.start + self.size


@frozen
class Upload:
    """An upload. `size` is None if the client has not told it yet; `offset` is the number of bytes that are durable; `metadata` is as the
    client has sent it. `file` is the key of the file that has been made of the upload, None while it is unfinished."""

    id: str
    size: int | None
    offset: int
    metadata: str
    expires_on: datetime
    file: int | None = None


def part_prefix(id: str) -> str:
    """Returns what the names of the parts of an upload in the storage begin with."""
    return f"{PREFIX}{id[:32]}-"


def part_name(id: str) -> str:
    """Returns a name for a part that no other part has."""
    return f"{part_prefix(id)}{secrets.token_hex(16)}"


def id_of(name: str) -> str:
    """Returns the id of the upload with a name in the URL."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


async def create(
    session: Session,
    user: int | None,
    metadata: str,
    size: int | None,
    now: datetime,
    expires_on: datetime,
    *,
    most: int,
    limit: int,
) -> tuple[str, Upload]:
    """Creates an upload. Returns its name in the URL, and the upload. *user*: None is the public; *most* is the maximum number of
    unfinished uploads of the user, *limit* the quota of the project in bytes, 0 is none. Raises TooManyRequests and PayloadTooLarge."""
    name = secrets.token_urlsafe(24)
    id = id_of(name)

    async def work(session: Session) -> None:
        await session.query(_LOCK, (user,))
        ((number,),) = await session.query(_COUNT, (user,))
        if number >= most:
            raise TooManyRequests(
                f"There may be {most} unfinished uploads (files.max_unfinished): finish or delete others first.",
                headers={"Retry-After": "60"},
            )
        await session.query(_INSERT, (id, user, metadata, size, now, expires_on))
        await quota.check(session, limit)

    await session.transaction(work)
    return name, Upload(id, size, 0, metadata, expires_on)


async def find(session: Session, name: str, user: int | None, now: datetime) -> Upload:
    """Returns the upload of a user with a name in the URL. Raises NotFound if the user has none, UploadEnded if it has expired."""
    rows = await session.query(_FIND, (id_of(name), user))
    if not rows:
        raise NotFound("There is no such upload.")
    id, size, offset, metadata, expires, file = rows[0]
    if moment(expires) <= now:
        raise UploadEnded("The upload has expired (files.upload_lifetime).")
    return Upload(id, size, offset, metadata, moment(expires), file)


async def claim(session: Session, upload: Upload, offset: int, size: int | None, length: int, limit: int) -> str:
    """Lets a request add bytes behind *offset*, and no other one any more. Returns the key of the request as the writer. *size* is that
    of the upload if the client tells it now, *length* the number of bytes that the request has, 0 if that is unknown, *limit* the quota of
    the project. Raises OffsetConflict if the upload has another offset, UploadLocked if the file is being made of it, BadRequest if it has
    too many parts, and PayloadTooLarge."""
    writer = secrets.token_hex(16)

    async def work(session: Session) -> None:
        if not await session.query(_CLAIM, (writer, size, upload.id, offset)):
            found = await session.query('SELECT "offset", file FROM directus_uploads WHERE id = %s AND NOT ended', (upload.id,))
            if not found:
                raise NotFound("There is no such upload.")
            if found[0][0] != offset or found[0][1] is not None:
                raise OffsetConflict(f"The upload has the offset {found[0][0]}, not {offset}.")
            raise UploadLocked("The file is being made of the upload; try again shortly.", headers={"Retry-After": "1"})
        ((number,),) = await session.query(_NUMBER, (upload.id,))
        if number >= FEW_PARTS + (offset + length) // LEAST_MEAN:
            raise BadRequest(f"The upload has too many parts: send at least {LEAST_MEAN} bytes with a request.")
        if size is not None:
            await quota.check(session, limit)

    await session.transaction(work)
    return writer


async def add_part(session: Session, id: str, writer: str, part: Part, expires_on: datetime, limit: int) -> None:
    """Adds a part, which is durable, behind the others. *limit* is the quota of the project. Raises OffsetConflict if another request has
    become the writer or the upload has been deleted, and PayloadTooLarge: then the part does not belong to the upload."""

    async def work(session: Session) -> None:
        rows = await session.query(_ADVANCE, (part.end, expires_on, id, writer, part.start))
        if not rows:
            raise taken_over()
        await session.query(_ADD, (id, part.start, part.size, part.name))
        if rows[0][0] is None:
            # The size of others is counted from the beginning.
            await quota.check(session, limit)

    await session.transaction(work)


async def parts_of(session: Session, id: str) -> Sequence[Part]:
    """Returns the parts of an upload, in their order."""
    return [Part(*row) for row in await session.query(_PARTS, (id,))]


async def hold(session: Session, id: str, writer: str) -> None:
    """Locks an upload for HOLD seconds, in which its writer makes the file of it. Raises OffsetConflict if that is another one now."""

    async def work(session: Session) -> None:
        if not await session.query(_HOLD, (HOLD, id, writer)):
            raise taken_over()

    await session.transaction(work)


async def release(session: Session, id: str, writer: str) -> None:
    """Ends `hold`."""

    async def work(session: Session) -> None:
        await session.query(_HOLD, (0, id, writer))

    await session.transaction(work)


async def complete(session: Session, id: str, writer: str, size: int, file: Any) -> None:
    """Says that a file has been made of all bytes of an upload. *session* is in the transaction that writes the file. Raises OffsetConflict
    if another request has become the writer or the upload has been deleted."""
    if not await session.query(_COMPLETE, (file, size, size, id, writer)):
        raise taken_over()


def taken_over() -> OffsetConflict:
    return OffsetConflict("Another request continues the upload, or it has been deleted.")


async def end(session: Session, storage: Any, id: str) -> None:
    """Removes an upload that is not to be continued, and its parts. If that does not succeed, `remove_finished` does it."""

    async def work(session: Session) -> None:
        await session.query(_END, (id,))

    await session.transaction(work)
    await remove_parts(session, storage, id)
    await _forget(session, id)


async def remove_parts(session: Session, storage: Any, id: str) -> None:
    """Deletes the parts of an upload that has ended or has become a file: those in the table, and those of writers that were killed before
    they were in the table."""
    async for stored in storage.list(part_prefix(id)):
        await storage.delete(stored.name)

    async def work(session: Session) -> None:
        await session.query("DELETE FROM directus_upload_parts WHERE upload = %s", (id,))

    await session.transaction(work)


async def _forget(session: Session, id: str) -> None:
    async def work(session: Session) -> None:
        await session.query("DELETE FROM directus_uploads WHERE id = %s", (id,))

    await session.transaction(work)


async def remove_finished(session: Session, storage: Any, now: datetime, limit: int) -> int:
    """Removes uploads that have expired or ended, and the parts of those that have become files: *limit* at most. Returns their number.
    Several processes may do so at the same time."""
    ids = [id for (id,) in await session.query(_FINISHED, (now, limit))]
    for id in ids:
        # A request may just have continued the upload.
        async def work(session: Session, id: str = id) -> bool:
            condition = "id = %s AND (ended OR expires_on <= %s)"
            return bool(
                await session.query(f"UPDATE directus_uploads SET ended = true WHERE {condition} RETURNING id", (id, now))
            )

        gone = await session.transaction(work)
        await remove_parts(session, storage, id)
        if gone:
            await _forget(session, id)
    return len(ids)
