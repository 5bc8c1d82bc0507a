"""Compares files and unfinished uploads with the storage: finds records without content, contents without a record, and thumbnails of
contents that have been deleted."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from attrs import Factory, mutable

from directus_tx.db.session import Session
from directus_tx.files import presigned, uploads
from directus_tx.files.thumbnails import PREFIX as THUMBNAILS
from directus_tx.files.thumbnails import digest_in, digest_of, remove_thumbnails

BATCH = 500
PREFIX = "originals/"
"""What the names of all contents of files in the storage begin with."""


@mutable
class Report:
    """What a check has found. `files` is the number of files and `contents` that of contents in the storage. `missing` are the ids and
    names on disk of files whose content is not in the storage, `damaged` those whose content has another size, and `unused` the names
    of contents that belong to no file, and of parts that belong to no unfinished upload. `thumbnails` are the names of thumbnails whose
    content belongs to no file. `deleted` is the number of all these that have been deleted. `uploads` is the number of unfinished uploads,
    and `incomplete` are the ids of those of which the storage lacks a part: they cannot be finished, but expire."""

    files: int = 0
    contents: int = 0
    missing: list[tuple[int, str]] = Factory(list)
    damaged: list[tuple[int, str]] = Factory(list)
    unused: list[str] = Factory(list)
    thumbnails: list[str] = Factory(list)
    deleted: int = 0
    uploads: int = 0
    incomplete: list[str] = Factory(list)

    @property
    def faultless(self) -> bool:
        left = len(self.unused) + len(self.thumbnails) > self.deleted
        return not (self.missing or self.damaged or self.incomplete or left)


_FILES = """
SELECT f.id, f.filename_disk, coalesce(c.name, 'originals/' || f.filename_disk), nullif(c.sha256, '') IS NOT NULL, c.filesize
FROM directus_files AS f LEFT JOIN directus_file_contents AS c ON c.file = f.id
WHERE f.id > %s AND f.embed IS NULL
ORDER BY f.id LIMIT %s"""

_USED = """
SELECT n.name FROM unnest(%s::text[]) AS n(name)
WHERE EXISTS (SELECT FROM directus_file_contents AS c JOIN directus_files AS f ON f.id = c.file WHERE c.name = n.name)
   OR EXISTS (
       SELECT FROM directus_files AS f
       WHERE 'originals/' || f.filename_disk = n.name AND NOT EXISTS (SELECT FROM directus_file_contents AS c WHERE c.file = f.id)
   )"""


_NEEDED = """
SELECT p.name FROM directus_upload_parts AS p JOIN directus_uploads AS u ON u.id = p.upload
WHERE p.name = ANY(%s) AND u.file IS NULL AND NOT u.ended"""

_DIGESTS = """
SELECT d.digest FROM (
    SELECT left(encode(sha256(convert_to(coalesce(c.name, 'originals/' || f.filename_disk), 'UTF8')), 'hex'), 32) AS digest
    FROM directus_files AS f LEFT JOIN directus_file_contents AS c ON c.file = f.id
    WHERE f.embed IS NULL
) AS d WHERE d.digest = ANY(%s)"""


async def number_of_files(session: Session) -> int:
    """Returns the number of files that have a content."""
    ((number,),) = await session.query("SELECT count(*) FROM directus_files WHERE embed IS NULL")
    return int(number)


async def check(
    session: Session,
    storage: Any,
    before: datetime,
    *,
    repair: bool = False,
    advance: Callable[[int], None] = lambda number: None,
) -> Report:
    """Compares all files with their contents. *before*: contents that were stored later are not judged, because their files may be about to
    be written. *repair*: contents that belong to no file are deleted, and thumbnails of such contents. *advance* is called with the number
    of files that have been compared. A server may work meanwhile. Raises ServiceUnavailable if the storage or the database cannot be
    used."""
    report = Report()
    last = 0
    # As bytes, because there may be millions.
    digests: set[bytes] = set()
    while rows := await session.query(_FILES, (last, BATCH)):
        for id, disk, name, known, size in rows:
            stored = await storage.describe(name)
            digests.add(bytes.fromhex(digest_of(name)))
            if stored is None:
                report.missing.append((id, disk))
            elif known and stored.size != size:
                report.damaged.append((id, disk))
        report.files += len(rows)
        last = rows[-1][0]
        advance(len(rows))
    await _exclude_changed(session, storage, report)
    await _check_uploads(session, storage, report)
    for prefix, statement in ((PREFIX, _USED), (uploads.PREFIX, _NEEDED), (presigned.PREFIX, presigned.KNOWN)):
        batch: list[str] = []
        async for stored in storage.list(prefix):
            report.contents += prefix == PREFIX
            if stored.modified < before:
                batch.append(stored.name)
            if len(batch) == BATCH:
                await _find_unused(session, storage, statement, batch, report, repair)
                batch = []
        await _find_unused(session, storage, statement, batch, report, repair)
    await _find_thumbnails(session, storage, digests, before, report, repair)
    return report


async def _find_thumbnails(
    session: Session, storage: Any, digests: set[bytes], before: datetime, report: Report, repair: bool
) -> None:
    """Finds the thumbnails of contents that belong to no file, which a server leaves that is killed while it makes one of a file that is
    deleted meanwhile. *digests* are those of the contents of the files that have been compared."""
    batch: list[tuple[str, str]] = []
    async for stored in storage.list(THUMBNAILS):
        digest = digest_in(stored.name)
        if digest is not None and stored.modified < before and bytes.fromhex(digest) not in digests:
            batch.append((digest, stored.name))
        if len(batch) == BATCH:
            await _judge_thumbnails(session, storage, batch, report, repair)
            batch = []
    await _judge_thumbnails(session, storage, batch, report, repair)


async def _judge_thumbnails(session: Session, storage: Any, found: list[tuple[str, str]], report: Report, repair: bool) -> None:
    if not found:
        return
    # Files may have been uploaded, or have got another content, since they were compared.
    used = {digest for (digest,) in await session.query(_DIGESTS, ([digest for digest, _ in found],))}
    for digest, name in found:
        if digest not in used:
            report.thumbnails.append(name)
            if repair:
                await storage.delete(name)
                report.deleted += 1


async def _exclude_changed(session: Session, storage: Any, report: Report) -> None:
    """Removes from a report the files that have been deleted, or have got another content, since they were compared."""
    for found in (report.missing, report.damaged):
        for id, disk in list(found):
            rows = await session.query(_FILES, (id - 1, 1))
            stored = await storage.describe(rows[0][2]) if rows and rows[0][0] == id else None
            gone = not rows or rows[0][0] != id
            if gone or (stored is not None and (not rows[0][3] or stored.size == rows[0][4])):
                found.remove((id, disk))


async def _check_uploads(session: Session, storage: Any, report: Report) -> None:
    """Counts the unfinished uploads, and finds those of which the storage lacks a part."""
    for (id,) in await session.query("SELECT id FROM directus_uploads WHERE file IS NULL AND NOT ended ORDER BY id"):
        report.uploads += 1
        for part in await uploads.parts_of(session, id):
            stored = await storage.describe(part.name)
            # An upload that has been finished meanwhile has no parts any more.
            if (stored is None or stored.size != part.size) and part in await uploads.parts_of(session, id):
                report.incomplete.append(id)
                break


async def _find_unused(session: Session, storage: Any, statement: str, names: list[str], report: Report, repair: bool) -> None:
    """Finds those of the names that *statement* does not return, and deletes them to *repair*."""
    if not names:
        return
    used = {name for (name,) in await session.query(statement, (names,))}
    for name in names:
        if name not in used:
            report.unused.append(name)
            if repair:
                await storage.delete(name)
                if name.startswith(PREFIX):
                    await remove_thumbnails(storage, name)
                report.deleted += 1


def age(minutes: int, now: datetime) -> datetime:
    """Returns the time that was some minutes before *now*."""
    return now - timedelta(minutes=minutes)
