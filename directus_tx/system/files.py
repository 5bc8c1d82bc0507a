"""Files: records of uploaded files. Only the server writes the fields that describe the stored content."""

from collections.abc import Sequence

from directus_tx.context import Context
from directus_tx.errors import InvalidRequest
from directus_tx.items.changes import Change
from directus_tx.items.rules import CollectionRules


class FileRules(CollectionRules):
    """The rules of directus_files."""

    server_written = frozenset(
        {
            "storage",
            "filename_disk",
            "type",
            "uploaded_by",
            "uploaded_on",
            "charset",
            "filesize",
            "width",
            "height",
            "duration",
            "embed",
            "checksum",
        }
    )

    async def prepare(self, ctx: Context, changes: Sequence[Change]) -> None:
        """Raises InvalidRequest for a new file, also if it is nested in another item: a file has content and must be uploaded."""
        if any(change.new for change in changes):
            raise InvalidRequest("A file is created by uploading it, not as part of another item.")
