"""/:project/files: uploaded files; /uploads/:project/originals: their contents; /:project/assets: the same by a secret hash."""

from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from attrs import evolve, frozen

from directus_tx.errors import (
    BadRequest,
    InvalidPayload,
    InvalidRequest,
    ItemNotFound,
    NotFound,
    UpdateForbidden,
    UploadForbidden,
)
from directus_tx.files import base64_data, contents, delivery, embeds, imports
from directus_tx.files.contents import Content, Original
from directus_tx.files.embeds import Embed
from directus_tx.files.write import FILES, allowed_types, check_upload, create_file, find_replaced, replace_content
from directus_tx.http import ranges
from directus_tx.http.answers import Answer, Bare, FileStream, Streamed
from directus_tx.http.endpoints import items
from directus_tx.http.operations import ITEM, LIST, TEXT, Operation, Parameters
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.items import Result, update_items
from directus_tx.outgoing.client import Take
from directus_tx.schema.thumbnail_sizes import Size, allowed_sizes

routes = Routes()
ADDRESS = "/<project>/files"

THUMBNAIL = {
    "key": "The key of a size of thumbnails. It takes precedence over the following parameters.",
    "w": "The width of a thumbnail, in pixels.",
    "h": "The height of a thumbnail, in pixels.",
    "f": "How the picture fits in: contain or crop.",
    "q": "The quality of a thumbnail, from 0 to 100.",
}
"""The parameters that ask for a thumbnail, with their descriptions."""

BYTES = {"type": "string", "format": "binary"}
UPLOAD = {
    "type": "object",
    "properties": {
        "data": {**TEXT, "description": "The content in base64, a data URI, or a URL. A multipart form has a file instead."},
        "filename_disk": {**TEXT, "description": "A name, for its extension and the title."},
        "filename_download": TEXT,
    },
    "additionalProperties": True,
}


@routes.post(ADDRESS, Caller.PUBLIC, Operation("Upload a file", ITEM, UPLOAD, Parameters.FIELDS), scoped=True)
async def upload(call: Call) -> Answer:
    check_upload(call.ctx)
    storage = call.project.storage
    if call.uploads:
        form = await call.receive(storage, allowed_types(call.ctx.schema))
        if form.content is not None:
            payload = {"filename_download": form.filename, **form.fields}
            payload.setdefault("filename_disk", form.filename)
            return await _create(call, payload, form.content)
        body: Any = form.fields
    else:
        body = await call.body()
    if isinstance(body, list):
        raise BadRequest("A request uploads one file.")
    return await _create_from(call, body)


async def _create_from(call: Call, body: dict[str, Any]) -> Answer:
    """Creates a file whose content is in a payload."""
    embed = embeds.parse(body.get("data"))
    if embed is not None:
        return await _create(call, body, embed)
    if imports.is_url(body.get("data")):
        found = await imports.check(call.services.intake.client, body["data"])
        body = {"filename_disk": found, "filename_download": found} | {n: v for n, v in body.items() if v not in (None, "")}
    for name in ("filename_disk", "filename_download", "data"):
        if not isinstance(body.get(name), str) or not body[name]:
            raise InvalidRequest(f'"{name}" is required.')
    data = body["data"]
    content = await _store(call, data, body["filename_disk"])
    return await _create(call, body, content)


async def _store(call: Call, data: object, name: str) -> Content:
    """Stores the content in a payload. It is deleted if the request fails."""
    intake = call.services.intake

    async def send(take: Take) -> None:
        if isinstance(data, str) and imports.is_url(data):
            await imports.send(intake.client, data, take)
        else:
            await base64_data.send(data, intake.settings.max_size, take)

    return await call.store(call.project.storage, allowed_types(call.ctx.schema), name, send)


async def _create(call: Call, payload: Mapping[str, Any], content: Content | Embed) -> Answer:
    given = {name: value for name, value in payload.items() if name != "data"}
    adapter = call.project.storage.adapter
    result = await create_file(call.items, call.ctx, given, content, adapter, call.query(), call.options())
    call.keep_content()
    return call.answer(result)


@routes.patch(ADDRESS, Caller.PUBLIC, items.UPDATING_MANY, scoped=True)
async def update_many(call: Call) -> Answer:
    if call.uploads:
        raise ItemNotFound("The path does not contain the key of a file.")
    try:
        items.check_updating_many(call, FILES)
    except UpdateForbidden as error:
        raise UploadForbidden(error.message) from None
    payload = await items.payload_of(call)
    if not isinstance(payload, list):
        raise ItemNotFound("The path does not contain a key, and the body is not a list of files.")
    if any("data" in each for each in payload):
        raise BadRequest("The contents of files are changed one at a time.")
    return _each_in_a_list(call, await _updated(call, None, payload))


@routes.patch(
    f"{ADDRESS}/<ids>",
    Caller.PUBLIC,
    Operation("Change a file, or several in the same way", LIST, UPLOAD, Parameters.FIELDS),
    scoped=True,
)
async def update(call: Call) -> Answer:
    keys = call.keys(call.path["ids"])
    if call.uploads:
        if len(keys) > 1:
            raise BadRequest("The contents of files are changed one at a time.")
        name = await find_replaced(call.ctx, keys[0])
        form = await call.receive(call.project.storage, allowed_types(call.ctx.schema), name)
        if form.content is not None:
            return await _replace(call, keys[0], form.fields, form.content)
        payload: Any = form.fields
    else:
        payload = await items.payload_of(call) if items.may_update(call, FILES) else {"title": None}
    if isinstance(payload, list):
        raise InvalidPayload("The body must be one object if the path contains keys.")
    if "data" in payload:
        if len(keys) > 1:
            raise BadRequest("The contents of files are changed one at a time.")
        name = await find_replaced(call.ctx, keys[0])
        if imports.is_url(payload["data"]):
            await imports.check(call.services.intake.client, payload["data"])
        given = payload.get("filename_disk")
        content = await _store(call, payload["data"], given if isinstance(given, str) and given else name)
        return await _replace(call, keys[0], payload, content)
    if not payload:
        raise InvalidRequest("The body has no fields to change.")
    result = await _updated(call, keys, payload)
    if len(keys) == 1:
        return call.answer(evolve(result, data=[result.data], version=None) if result.data is not None else result)
    return _each_in_a_list(call, result)


async def _replace(call: Call, key: str, payload: Mapping[str, Any], content: Content) -> Answer:
    try:
        result = await replace_content(call.items, call.ctx, key, dict(payload), content, call.query(), call.options())
    except UpdateForbidden as error:
        raise UploadForbidden(error.message) from None
    call.keep_content()
    return call.answer(result)


async def _updated(call: Call, keys: list[str] | None, payload: Any) -> Result:
    try:
        return await update_items(call.items, call.ctx, FILES, keys, payload, call.query(), call.options())
    except UpdateForbidden as error:
        raise UploadForbidden(error.message) from None


def _each_in_a_list(call: Call, result: Result) -> Answer:
    """Returns the answer for a batch of files: each is in a list of its own."""
    return call.answer(result if result.data is None else evolve(result, data=[[each] for each in result.data]))


@routes.get(
    "/uploads/<project>/originals/<name>", Caller.ANONYMOUS, Operation("Read the content of a file", BYTES, media_type="*/*")
)
async def original(call: Call) -> Answer | Streamed:
    found = await contents.find_original(call.ctx.db, contents.BY_DISK, call.path["name"])
    if found is None:
        raise NotFound("There is no such file.")
    return await _send(call, found)


@routes.get(
    "/<project>/assets/<name>",
    Caller.ANONYMOUS,
    Operation(
        "Read the content of a file by its hash, or a thumbnail of it",
        BYTES,
        query=tuple(THUMBNAIL.items()),
        media_type="*/*",
    ),
)
async def asset(call: Call) -> Answer | Streamed:
    by_name = call.ctx.schema.setting("asset_url_naming") == "filename_download"
    condition = contents.BY_DOWNLOAD if by_name else contents.BY_HASH
    found = await contents.find_original(call.ctx.db, condition, call.path["name"])
    if found is None:
        raise ItemNotFound("There is no such file.")
    asked = {name: call.params.tree[name] for name in THUMBNAIL if name in call.params.tree}
    return await _send_thumbnail(call, found, allowed_sizes(call.ctx.schema).find(asked)) if asked else await _send(call, found)


@frozen
class _Source:
    """The content of a file: its size in bytes, a text that is another one for other bytes, when it was stored, and its version in the
    storage, None if it never changes."""

    size: int
    tag: str
    modified: datetime
    version: str | None = None


async def _source(call: Call, original: Original) -> _Source:
    """Returns what is known of a content. The storage is only asked for one that the server has not stored itself. Raises NotFound if it
    has none."""
    if original.size is not None and original.sha256 is not None and original.stored_on is not None:
        return _Source(original.size, original.sha256, original.stored_on.replace(microsecond=0))
    stored = await call.project.storage.describe(original.name)
    if stored is None:
        raise NotFound("The content of the file is missing.")
    return _Source(stored.size, stored.version, stored.modified.replace(microsecond=0), stored.version)


async def _send(call: Call, original: Original) -> Answer | Streamed:
    """Returns the content of a file, or the part of it that the client asks for. Raises NotFound if the storage has none."""
    source = await _source(call, original)
    headers = _headers(original, f'"{quote(source.tag[:40])}"', source.modified, "no-cache")
    if ranges.is_unchanged(call.request, headers["ETag"], source.modified):
        return Bare(304, headers)
    return _streamed(call, original, headers, original.name, source)


async def _send_thumbnail(call: Call, original: Original, size: Size) -> Answer | Streamed:
    """Returns a thumbnail of a file, or the part of it that the client asks for. Raises NotFound if the storage has no content, and the
    errors of `Thumbnails`."""
    source = await _source(call, original)
    thumbnails = call.services.thumbnails
    thumbnail = thumbnails.plan(original.name, source.tag, original.type, size, original.width, original.height)
    shown = evolve(original, type=thumbnail.encoding.media_type, charset="")
    caching = f"public, max-age={thumbnails.settings.thumbnail_max_age}"
    headers = _headers(shown, f'"{thumbnail.tag}"', source.modified, caching)
    if ranges.is_unchanged(call.request, headers["ETag"], source.modified):
        return Bare(304, headers)
    stored = await thumbnails.provide(call.project.key, call.project.storage, thumbnail)
    part = _Source(stored.size, thumbnail.tag, source.modified, stored.version)
    return _streamed(call, shown, headers, stored.name, part)


def _headers(shown: Original, tag: str, modified: datetime, caching: str) -> dict[str, str]:
    """Returns the headers of an answer with a content, or with a thumbnail of it."""
    return {
        "ETag": tag,
        "Last-Modified": ranges.http_date(modified),
        "Cache-Control": caching,
        "Accept-Ranges": "bytes",
        **delivery.headers(shown),
    }


def _streamed(call: Call, shown: Original, headers: dict[str, str], name: str, source: _Source) -> Answer | Streamed:
    """Returns what the storage has under a name, or the part of it that the client asks for."""
    try:
        part = ranges.part_of(call.request, source.size, headers["ETag"], source.modified)
    except ranges.NoSuchPart:
        return Bare(416, headers | {"Content-Range": f"bytes */{source.size}", "Cache-Control": "no-cache"})
    if part is not None:
        headers |= {"Content-Range": f"bytes {part.start}-{part.end - 1}/{source.size}"}
    start, end = (0, source.size) if part is None else (part.start, part.end)

    def pieces() -> AsyncGenerator[bytes, None]:
        return call.project.storage.read(name, start, end, version=source.version)

    return FileStream(pieces, end - start, delivery.content_type(shown), headers, 200 if part is None else 206)
