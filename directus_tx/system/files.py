"""Files: records of what was uploaded. What they say of the stored content is the server's to write."""

from directus_tx.context import Context
from directus_tx.errors import InvalidRequest
from directus_tx.items.rules import CollectionRules, Item


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

    async def prepare_create(self, ctx: Context, payload: Item) -> Item:
        """Raises InvalidRequest: a record without content is no file, wherever it is nested."""
        raise InvalidRequest("A file is created by uploading it, not as a part of another item.")
