"""/:project/files/:id/share: makes addresses at which anybody can read the content of a file for some time."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from directus_tx.accounts.credentials import find_holder, reference_of
from directus_tx.context import moment
from directus_tx.errors import InvalidRequest, ItemNotFound, Unauthorized
from directus_tx.files.contents import BY_KEY
from directus_tx.files.names import MAX_LENGTH
from directus_tx.files.reading import find_readable
from directus_tx.files.sharing import Share
from directus_tx.http.answers import Answer, Envelope
from directus_tx.http.endpoints.assets import THUMBNAIL
from directus_tx.http.operations import TEXT, Operation, record
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.schema.numbers import whole_number
from directus_tx.schema.thumbnail_sizes import allowed_sizes

routes = Routes()

SHARED = record(
    url=TEXT,
    relative_url=TEXT,
    expires_on=TEXT,
)
PAYLOAD = {
    "seconds": {
        "type": "integer",
        "minimum": 1,
        "description": "How long the address can be used, at most until the token of the request expires.",
    },
    "filename_download": {**TEXT, "maxLength": MAX_LENGTH, "description": "The content is downloaded with this name, not shown."},
    **{name: {**TEXT, "description": description} for name, description in THUMBNAIL.items()},
}
SHARE = {"type": "object", "required": ["seconds"], "properties": PAYLOAD}


@routes.post(
    "/<project>/files/<ids>/share",
    Caller.SIGNED_IN,
    Operation("Make an address at which anybody can read a file for some time, or one for each of several", SHARED, SHARE),
    scoped=True,
)
async def share(call: Call) -> Answer:
    keys = [whole_number(each) for each in call.keys(call.path["ids"])]
    payload = await call.item()
    seconds, thumbnail, download = _wanted(call, payload)
    expires = int(call.ctx.now.timestamp()) + seconds
    who = call.ctx.accountability
    if who.user is None or who.credential is None:
        raise Unauthorized
    if who.credential.expires is not None:
        expires = min(expires, int(who.credential.expires))
    by = reference_of(who.user, who.credential)
    holder = await find_holder(call.project, call.ctx.db, by, call.ctx.now)
    if holder is None:
        # The credential has just ended.
        raise Unauthorized
    made = []
    for key in keys:
        if key is None:
            raise ItemNotFound("There is no such file.")
        original = await find_readable(call.ctx, BY_KEY, key)
        if thumbnail:
            size = allowed_sizes(call.ctx.schema).find(thumbnail)
            # Raises InvalidPayload if there is no such thumbnail.
            call.services.thumbnails.plan(original.name, "", original.type, size, original.width, original.height)
        made.append(_shown(call, Share(key, expires, by, thumbnail, download), original.private_hash, holder.mark))
    return Envelope(made[0] if len(made) == 1 else made, headers={"Cache-Control": "no-store"})


def _wanted(call: Call, payload: Mapping[str, Any]) -> tuple[int, Mapping[str, str], str]:
    """Returns the seconds, the parameters of the thumbnail and the name for the download in a payload. Raises InvalidRequest."""
    unknown = payload.keys() - PAYLOAD.keys()
    if unknown:
        raise InvalidRequest(f'An address to share a file has no "{min(unknown)}".')
    seconds, most = payload.get("seconds"), call.services.settings.files.max_share_seconds
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not 0 < seconds <= most:
        raise InvalidRequest(f'"seconds" must be a number from 1 to {most} (files.max_share_seconds).')
    download = payload.get("filename_download") or ""
    if not isinstance(download, str) or len(download) > MAX_LENGTH:
        raise InvalidRequest(f'"filename_download" must be a text of up to {MAX_LENGTH} characters.')
    thumbnail = {}
    for name in THUMBNAIL:
        value = payload.get(name)
        if value is None:
            continue
        if not isinstance(value, (str, int)) or isinstance(value, bool):
            raise InvalidRequest(f'"{name}" must be a text or a number.')
        thumbnail[name] = str(value)
    return seconds, thumbnail, download


def _shown(call: Call, share: Share, private_hash: str, mark: str) -> Mapping[str, Any]:
    """Returns a shared address as the answer shows it."""
    values = {"expires": str(share.expires), "by": share.by, **share.thumbnail}
    if share.download:
        values["download"] = share.download
    values["signature"] = share.signature(call.ctx.keys, private_hash, mark)
    path = f"/{call.project.key}/files/{share.file}/shared?{urlencode(values)}"
    return {"url": call.base + path, "relative_url": path, "expires_on": moment(share.expires)}
