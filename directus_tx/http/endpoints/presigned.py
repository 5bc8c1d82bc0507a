"""/:project/files/presign and complete: files that browsers send to the storage themselves."""

import contextlib
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from directus_tx.errors import ApiError, BadRequest, InvalidRequest, PayloadTooLarge
from directus_tx.files import names, presigned
from directus_tx.files.content import is_allowed
from directus_tx.files.storage.interfaces import IDirectUploads
from directus_tx.files.write import allowed_types, check_new, check_upload, create_file
from directus_tx.http.answers import Answer, Envelope
from directus_tx.http.operations import ITEM, TEXT, Operation, Parameters, record
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.outgoing.bodies import Take

routes = Routes()

PAYLOAD = {
    "filename_download": {**TEXT, "description": "The name of the file."},
    "filesize": {"type": "integer", "minimum": 1, "description": "Its size, in bytes."},
    "type": {**TEXT, "description": "Its media type. Without it, that of the extension of the name."},
    "sha256": {**TEXT, "description": "Its SHA-256, in 64 hexadecimal digits. The storage and the server compare it."},
}
WANTED = {"type": "object", "required": ["filename_download", "filesize"], "properties": PAYLOAD}
PRESIGNED = record(
    method=TEXT,
    url=TEXT,
    headers={"type": "object", "additionalProperties": TEXT, "description": "The headers that the request must have."},
    expires_on=TEXT,
    token={**TEXT, "description": "With it the upload is completed."},
)
COMPLETED = {
    "type": "object",
    "required": ["token"],
    "properties": {"token": {**TEXT, "description": "The token of the upload."}},
    "additionalProperties": True,
}
_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@routes.post(
    "/<project>/files/presign",
    Caller.SIGNED_IN,
    Operation("Begin the upload of a file that the client sends to the storage itself", PRESIGNED, WANTED),
    scoped=True,
)
async def presign(call: Call) -> Answer:
    check_upload(call.ctx)
    storage, settings, user = call.project.storage, call.services.settings.files, _user(call)
    if not IDirectUploads.providedBy(storage):
        raise _no_direct_uploads()
    upload, media_type = _wanted(call, await call.item(), storage.max_direct_size)
    lasts = timedelta(seconds=settings.presigned_seconds)
    request = await storage.signed_upload(upload.name, settings.presigned_seconds, upload.size, media_type, upload.sha256)
    if request is None:
        raise _no_direct_uploads()
    await presigned.begin(call.ctx, upload, user, lasts, most=settings.max_presigned, limit=call.project.quota)
    shown = {"method": request.method, "url": request.url, "headers": request.headers, "expires_on": call.ctx.now + lasts}
    token = presigned.token_of(call.ctx.keys, upload, user)
    return Envelope({**shown, "token": token}, headers={"Cache-Control": "no-store"})


@routes.post(
    "/<project>/files/complete",
    Caller.SIGNED_IN,
    Operation("Make a file of what the client has sent to the storage", ITEM, COMPLETED, Parameters.FIELDS),
    scoped=True,
)
async def complete(call: Call) -> Answer:
    check_upload(call.ctx)
    payload = dict(await call.item())
    token = payload.pop("token", None)
    if not isinstance(token, str) or not token:
        raise InvalidRequest('"token" is required: that of the upload.')
    upload = await presigned.find(call.ctx, token, _user(call))
    storage = call.project.storage
    given = {"filename_download": upload.filename, **payload, "filename_disk": upload.filename}
    given.pop("data", None)
    # Before the bytes are read, which takes long if they are many.
    await check_new(call.items, call.ctx, given, call.options())

    async def send(take: Take) -> None:
        async with contextlib.aclosing(presigned.read(storage, upload)) as pieces:
            async for piece in pieces:
                await take(piece)

    content = await call.store(storage, allowed_types(call.ctx.schema), upload.filename, send, upload.size)
    if upload.sha256 is not None and content.sha256 != upload.sha256:
        raise InvalidRequest('The file in the storage has another SHA-256 ("sha256").')
    result = await create_file(
        call.items,
        call.ctx,
        given,
        content,
        storage.adapter,
        call.query(),
        call.options(),
        quota=call.project.quota,
        then=lambda session, key: presigned.finish(session, upload, key),
    )
    call.keep_content()
    # If this fails, the job that removes expired uploads does it.
    with contextlib.suppress(ApiError):
        await storage.delete(upload.name)
    return call.answer(result)


def _wanted(call: Call, payload: Mapping[str, Any], most: int) -> tuple[presigned.Upload, str]:
    """Returns the upload that a payload asks for, and its media type. *most* is the maximum size in bytes that the storage takes at once.
    Raises InvalidRequest and PayloadTooLarge."""
    unknown = payload.keys() - PAYLOAD.keys()
    if unknown:
        raise InvalidRequest(f'An upload to the storage has no "{min(unknown)}": give it when the upload is completed.')
    filename, size, kind, sha256 = (payload.get(name) for name in PAYLOAD)
    if not isinstance(filename, str) or len(filename) > names.MAX_LENGTH:
        raise InvalidRequest(f'"filename_download" must be a text of up to {names.MAX_LENGTH} characters.')
    filename = names.base_name(filename)
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise InvalidRequest('"filesize" must be a number of bytes, at least 1.')
    limit = call.services.intake.settings.max_size
    if size > limit:
        raise PayloadTooLarge(f"A file may have up to {limit} bytes (files.max_size).")
    if size > most:
        raise PayloadTooLarge(f"The storage takes up to {most} bytes in one request: use POST /files.")
    if kind is None:
        kind = names.media_type(filename)
    elif not isinstance(kind, str) or not _TYPE.fullmatch(kind):
        raise InvalidRequest('"type" must be a media type, such as "image/png".')
    elif not is_allowed(kind, allowed_types(call.ctx.schema)):
        raise InvalidRequest(f'Files with the type "{kind}" are not allowed (setting file_mimetype_whitelist).')
    if sha256 is not None and (not isinstance(sha256, str) or not _SHA256.fullmatch(sha256)):
        raise InvalidRequest('"sha256" must consist of 64 hexadecimal digits.')
    return presigned.new_upload(filename, size, None if sha256 is None else sha256.lower()), kind


def _no_direct_uploads() -> BadRequest:
    return BadRequest("The storage of the project takes no files from clients: use POST /files.")


def _user(call: Call) -> int:
    user = call.ctx.accountability.user
    assert user is not None, "the route is for users"
    return user
