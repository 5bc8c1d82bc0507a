"""Files: records of uploaded files. Only the server writes the fields that describe the stored content."""

from collections.abc import Sequence

from directus_tx.context import Context
from directus_tx.errors import InvalidRequest
from directus_tx.files import contents, names
from directus_tx.files.focus import check_focus, focus_of
from directus_tx.items.changes import Change, Event
from directus_tx.items.history import Record
from directus_tx.items.rules import CollectionRules

NEEDED = ("filename_download", "private_hash")
"""Fields that clients may write, but not empty."""


class FileRules(CollectionRules):
    """The rules of directus_files."""

    created_as = "upload"
    server_written = frozenset(
        {
            "data",
            "storage",
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
        """Raises InvalidRequest for a new file without content, as in an item that holds it: a file must be uploaded; for an empty
        name, and for a name on disk that cannot be used or that another file has. The type follows from the name on disk."""
        if any(change.new and "filesize" not in change.payload for change in changes):
            raise InvalidRequest("A file is created by uploading it, not as part of another item.")
        renamed: dict[str, Change] = {}
        async for change in ctx.in_slices(changes):
            payload = change.payload
            for name in NEEDED:
                if name in payload and payload[name] in (None, ""):
                    raise InvalidRequest(f'"{name}" must not be empty.')
            check_focus(payload.get("metadata"))
            if change.new or "filename_disk" not in payload or change.stored is None:
                continue
            wanted = name_on_disk(payload["filename_disk"])
            if wanted in renamed:
                raise InvalidRequest(f'Two files cannot have the name "{wanted}".')
            payload["filename_disk"] = wanted
            if wanted != change.stored["filename_disk"]:
                renamed[wanted] = change
                if change.stored["embed"] is None:
                    payload["type"] = names.media_type(wanted)
        owners = await contents.name_owners(ctx, list(renamed)) if renamed else {}
        if owners:
            raise InvalidRequest(f'Another file has the name "{next(iter(owners))}".')

    async def after(self, ctx: Context, events: Sequence[Event]) -> Sequence[Record]:
        """Deletes the contents of deleted files and the thumbnails around former focal points, and remembers where the contents of renamed
        files are."""
        gone = [
            (event.key, event.before["filename_disk"]) for event in events if event.after is None and event.before is not None
        ]
        if gone:
            await contents.drop(ctx, gone)
        renamed = [
            (event.key, event.before["filename_disk"])
            for event in events
            if event.before is not None
            and event.after is not None
            and event.before["filename_disk"] != event.after["filename_disk"]
        ]
        if renamed:
            await contents.keep(ctx, renamed)
        points = {
            event.key: focus
            for event in events
            if event.before is not None
            and event.after is not None
            and event.before["metadata"] != event.after["metadata"]
            and (focus := focus_of(event.after["metadata"])) != focus_of(event.before["metadata"])
        }
        if points:
            await contents.refocus(ctx, points)
        return ()


def name_on_disk(value: object) -> str:
    """Returns a name on disk that a client gives, without directories. Raises InvalidRequest if it cannot be used."""
    if not isinstance(value, str):
        raise InvalidRequest('"filename_disk" must be a text.')
    if any(part in (".", "..") for part in value.replace("\\", "/").split("/")):
        raise InvalidRequest('"filename_disk" must not lead out of its directory.')
    return names.base_name(value)
