"""How much of a project's quota its files take: those in directus_files, and unfinished uploads with the size that they will have."""

from directus_tx.db.session import Session
from directus_tx.errors import PayloadTooLarge

_USED = """
SELECT (SELECT coalesce(sum(filesize), 0) FROM directus_files)
     + (SELECT coalesce(sum(coalesce(size, "offset")), 0) FROM directus_uploads WHERE file IS NULL AND NOT ended)
     + (SELECT coalesce(sum(filesize), 0) FROM directus_presigned_uploads WHERE file IS NULL)"""


async def used(session: Session) -> int:
    """Returns the bytes that the files of a project take."""
    ((number,),) = await session.query(_USED)
    return int(number)


async def room(session: Session, quota: int, former: int = 0) -> int | None:
    """Returns how many bytes another content may have at most, None if there is no limit. *quota* is that of the project, 0 is none;
    *former* is the size of the content that it replaces."""
    return max(quota - await used(session), 0) + former if quota else None


async def check(session: Session, quota: int) -> None:
    """Raises PayloadTooLarge if the files of a project exceed its quota, 0 is none. *session* is in the transaction that has written a file
    or an upload. Other transactions that have done so wait until this one ends, so that each counts what the others have written."""
    if quota:
        await session.query("SELECT pg_advisory_xact_lock(hashtextextended('directus_files/quota/' || current_schema(), 0))")
        if await used(session) > quota:
            raise exceeded(quota)


def exceeded(quota: int) -> PayloadTooLarge:
    """Returns the error for a file that exceeds the quota of its project."""
    return PayloadTooLarge(f"The files of the project may have up to {quota} bytes together (storage.quota).")
