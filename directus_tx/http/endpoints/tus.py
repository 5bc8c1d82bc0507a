"""/:project/files/tus: uploads by the tus protocol, which a client can interrupt and continue."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from directus_tx.db.session import Session
from directus_tx.errors import BadRequest, PayloadTooLarge
from directus_tx.files import uploads
from directus_tx.files.resumable import Addition, Hash
from directus_tx.files.uploads import Upload
from directus_tx.files.write import allowed_types, check_new, check_upload, create_file
from directus_tx.http import ranges, tus
from directus_tx.http.answers import Answer, Bare
from directus_tx.http.operations import BYTES, Header, Operation
from directus_tx.http.routes import Call, Caller, Routes

routes = Routes()
ADDRESS = "/<project>/files/tus"
RESUMABLE = Header("Tus-Resumable", "The version of the protocol.", required=True, pattern=f"^{re.escape(tus.VERSION)}$")
LENGTH = Header("Upload-Length", "The size of the file in bytes, unless it is told later.", pattern="^[1-9][0-9]*$")
CHECKSUM = Header("Upload-Checksum", "An algorithm and the digest of the bytes of the request in base64.")
BODY = {tus.MEDIA_TYPE: BYTES}
BEGINNING = Operation(
    "Begin an upload by the tus protocol",
    status=201,
    bodies=BODY,
    optional=True,
    headers=(
        RESUMABLE,
        LENGTH,
        Header("Upload-Defer-Length", "1: the size is told later.", pattern="^1$"),
        Header("Upload-Metadata", "Fields of the file and its filename, with values in base64.", required=True),
        CHECKSUM,
    ),
)
ASKING = Operation("How much of an upload has arrived", status=200, headers=(RESUMABLE,))
DELETING = Operation("Delete an upload that is not to be continued", headers=(RESUMABLE,))
ADDING = Operation(
    "Add bytes to an upload",
    bodies=BODY,
    headers=(
        RESUMABLE,
        Header("Upload-Offset", "How many bytes have arrived.", required=True, pattern="^[0-9]+$"),
        LENGTH,
        CHECKSUM,
    ),
)


@routes.post(f"{ADDRESS}/", Caller.PUBLIC, BEGINNING, scoped=True)
@routes.post(ADDRESS, Caller.PUBLIC, BEGINNING, scoped=True)
async def create(call: Call) -> Answer:
    check_upload(call.ctx)
    tus.check_version(call.request)
    if call.addition is None:
        settings = call.services.settings.files
        size = tus.new_length(call.request, settings.max_size)
        sent = call.request.getHeader("upload-metadata") or ""
        await check_new(call.items, call.ctx, tus.attributes(tus.metadata(sent)), call.options())
        if call.request.stream is not None:
            tus.check_media_type(call.request)
            _check_length(call, 0, size)
        checksum = tus.checksum(call.request)
        session = _session(call)
        name, upload = await uploads.create(
            session,
            call.ctx.accountability.user,
            sent,
            size,
            call.ctx.now,
            _expiry(call),
            most=settings.max_unfinished,
            limit=call.project.quota,
        )
        location = ("" if call.request.path.endswith(b"/") else "tus/") + name
        if call.request.stream is None:
            return Bare(201, {"Location": location, **_expires(upload.expires_on)})
        call.addition = await _begin(call, session, upload, 0, None, checksum, location)
    location = str(call.addition.location)
    return Bare(201, {"Location": location, **await _add(call, call.addition)})


@routes.route(
    "HEAD",
    f"{ADDRESS}/<name>",
    Caller.PUBLIC,
    Operation("How much of an upload has arrived", status=200, headers=(RESUMABLE,)),
    scoped=True,
)
async def describe(call: Call) -> Answer:
    tus.check_version(call.request)
    upload = await uploads.find(_session(call), call.path["name"], call.ctx.accountability.user, call.ctx.now)
    size = {"Upload-Defer-Length": "1"} if upload.size is None else {"Upload-Length": str(upload.size)}
    sent = {"Upload-Metadata": upload.metadata} if upload.metadata else {}
    made = {} if upload.file is None else _made(call, upload.file)
    return Bare(200, {"Upload-Offset": str(upload.offset), **size, **sent, **made, **_expires(upload.expires_on)})


@routes.patch(f"{ADDRESS}/<name>", Caller.PUBLIC, ADDING, scoped=True)
async def add(call: Call) -> Answer:
    """The last bytes complete the file. Then the answer names it."""
    check_upload(call.ctx)
    tus.check_version(call.request)
    if call.addition is None:
        tus.check_media_type(call.request)
        offset = tus.number(call.request, "Upload-Offset")
        if offset is None:
            raise BadRequest("The request needs the header Upload-Offset.")
        checksum = tus.checksum(call.request)
        session = _session(call)
        upload = await uploads.find(session, call.path["name"], call.ctx.accountability.user, call.ctx.now)
        size = _size(call, upload, offset)
        if upload.file is not None and offset == upload.offset and call.request.stream is None:
            return Bare(204, {"Upload-Offset": str(offset), **_made(call, upload.file), **_expires(upload.expires_on)})
        call.addition = await _begin(call, session, upload, offset, size, checksum)
    return Bare(204, await _add(call, call.addition))


@routes.delete(
    f"{ADDRESS}/<name>",
    Caller.PUBLIC,
    Operation("Delete an upload that is not to be continued", headers=(RESUMABLE,)),
    scoped=True,
)
async def delete(call: Call) -> Answer:
    """A file that has been made of the upload stays."""
    check_upload(call.ctx)
    tus.check_version(call.request)
    session = _session(call)
    upload = await uploads.find(session, call.path["name"], call.ctx.accountability.user, call.ctx.now)
    await uploads.end(session, call.project.storage, upload.id)
    return Bare(204, {})


def _session(call: Call) -> Session:
    """Returns a session of its own for the table of uploads: what is written there while bytes arrive is not what the request is answered
    for."""
    return Session(call.project.database, caller=call.ctx.accountability.user or call.ctx.accountability.ip)


def _size(call: Call, upload: Upload, offset: int) -> int | None:
    """Returns the size that the client tells with this request for the first time, None if it tells none."""
    told = tus.length(call.request, call.services.settings.files.max_size)
    if told is None:
        return None
    if upload.size is not None:
        if told != upload.size:
            raise BadRequest(f"The upload has {upload.size} bytes (Upload-Length).")
        return None
    if told < offset:
        raise BadRequest(f"Upload-Length is less than what has been uploaded, {offset} bytes.")
    return told


def _check_length(call: Call, offset: int, size: int | None) -> int:
    """Returns the number of bytes that a request has, 0 if it does not say so. Raises PayloadTooLarge if they are more than an upload of
    this *size*, None if it is unknown, lacks behind *offset*."""
    length = tus.number(call.request, "Content-Length") or 0
    if size is not None and offset + length > size:
        raise PayloadTooLarge(f"The upload has {size} bytes (Upload-Length); the request has more.")
    return length


async def _begin(
    call: Call,
    session: Session,
    upload: Upload,
    offset: int,
    size: int | None,
    checksum: tuple[Hash, bytes] | None,
    location: str | None = None,
) -> Addition:
    """Lets the request add bytes to an upload. *location* is that of a new one."""
    whole = upload.size if size is None else size
    length = _check_length(call, offset, whole if offset == upload.offset else None)
    # A size that completes the upload only counts together with the file.
    writer = await uploads.claim(session, upload, offset, None if size == offset else size, length, call.project.quota)
    return Addition(
        call.services.intake,
        call.project.storage,
        session,
        upload,
        writer,
        whole,
        name=str(_attributes(upload)["filename_disk"]),
        allowed=allowed_types(call.ctx.schema),
        limit=call.project.quota,
        expires_on=max(upload.expires_on, _expiry(call)),
        checksum=checksum,
        location=location,
        owner=call.owner,
    )


async def _add(call: Call, addition: Addition) -> Mapping[str, str]:
    """Takes the bytes of a request, and makes the file if they are the last ones. Returns the headers of the answer."""
    if call.request.stream is not None:
        await addition.receive(call.request.stream.read)
    more = _made(call, await _complete(call, addition)) if addition.complete else _expires(addition.expires_on)
    return {"Upload-Offset": str(addition.offset), **more}


async def _complete(call: Call, addition: Addition) -> int:
    """Makes the file of all bytes of an upload. Returns its key."""
    upload = addition.upload
    keys: list[int] = []

    async def then(session: Session, key: Any) -> None:
        keys.append(int(key))
        await uploads.complete(session, upload.id, addition.writer, addition.offset, key)

    async with addition.completing(call.project.database.reactor):
        storage, quota = call.project.storage, call.project.quota
        content = await call.store(storage, addition.allowed, addition.name, addition.send)
        given, query, options = _attributes(upload), call.query(), call.options()
        await create_file(call.items, call.ctx, given, content, storage.adapter, query, options, quota=quota, then=then)
    call.keep_content()
    call.addition = None
    await addition.finish()
    return keys[-1]


def _attributes(upload: Upload) -> dict[str, Any]:
    """Returns the attributes of the file that is made of an upload."""
    return tus.attributes(tus.metadata(upload.metadata))


def _expiry(call: Call) -> datetime:
    """Returns when an upload expires that gets bytes now."""
    return call.ctx.now + timedelta(seconds=call.services.settings.files.upload_lifetime)


def _made(call: Call, file: int) -> Mapping[str, str]:
    """Returns the headers that name the file of an upload."""
    above = "" if call.request.path.endswith(b"/tus") else "../"
    return {"Content-Location": f"{above}{file}", "X-Directus-File": str(file)}


def _expires(moment: datetime) -> Mapping[str, str]:
    return {"Upload-Expires": ranges.http_date(moment)}
