"""/:project/files: uploaded files."""

from collections.abc import Mapping
from typing import Any

from attrs import evolve

from directus_tx.errors import (
    BadRequest,
    InvalidPayload,
    InvalidRequest,
    ItemNotFound,
    UpdateForbidden,
    UploadForbidden,
)
from directus_tx.files import base64_data, embeds, imports
from directus_tx.files.contents import Content
from directus_tx.files.embeds import Embed
from directus_tx.files.names import MAX_LENGTH
from directus_tx.files.write import FILES, allowed_types, check_upload, create_file, find_replaced, replace_content
from directus_tx.http.answers import Answer
from directus_tx.http.endpoints import items
from directus_tx.http.operations import BYTES, ITEM, LIST, TEXT, Operation, Parameters
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.items import Result, update_items
from directus_tx.outgoing.bodies import Take

routes = Routes()
ADDRESS = "/<project>/files"

DATA = {**TEXT, "minLength": 1}
NAMES = {
    "filename_disk": {**DATA, "maxLength": MAX_LENGTH, "description": "A name, for its extension and the title."},
    "filename_download": {**DATA, "maxLength": MAX_LENGTH, "description": "The name for downloads."},
}
CONTENT = {
    "type": "object",
    "properties": {"data": {**DATA, "description": "The content in base64, a data URI, or a URL, also of a video elsewhere."}},
}
UPLOAD = {
    "allOf": [
        ITEM,
        CONTENT,
        {
            "anyOf": [
                {"type": "object", "required": ["data", *NAMES], "properties": dict(NAMES)},
                {
                    "type": "object",
                    "required": ["data"],
                    "properties": {"data": {**TEXT, "pattern": imports.PATTERN}},
                },
            ]
        },
    ]
}
"""The payload of a new file: without the content of a URL, it needs names."""

FORM = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {**BYTES, "description": "The content, with the name of the file. The part can have any name."},
        **{name: {**TEXT, "description": each["description"]} for name, each in NAMES.items()},
        **dict.fromkeys(("title", "description", "location", "folder"), TEXT),
    },
    "additionalProperties": TEXT,
}
"""The form of a new file. The other parts are fields of the file."""

CHANGED_FORM = {name: each for name, each in FORM.items() if name != "required"}
MULTIPART = "multipart/form-data"


@routes.post(
    ADDRESS,
    Caller.PUBLIC,
    Operation("Upload a file", ITEM, UPLOAD, Parameters.FIELDS, bodies={MULTIPART: FORM}),
    scoped=True,
)
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


async def _store(call: Call, data: object, name: str, former: int = 0) -> Content:
    """Stores the content in a payload, which may replace one of the size *former*. It is deleted if the request fails."""
    intake = call.services.intake

    async def send(take: Take) -> None:
        if isinstance(data, str) and imports.is_url(data):
            await imports.send(intake.client, data, take)
        else:
            await base64_data.send(data, intake.settings.max_size, take)

    return await call.store(call.project.storage, allowed_types(call.ctx.schema), name, send, former)


async def _create(call: Call, payload: Mapping[str, Any], content: Content | Embed) -> Answer:
    given = {name: value for name, value in payload.items() if name != "data"}
    adapter = call.project.storage.adapter
    quota = call.project.quota
    result = await create_file(call.items, call.ctx, given, content, adapter, call.query(), call.options(), quota=quota)
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
    Operation(
        "Change a file, or several in the same way",
        LIST,
        {"allOf": [ITEM, {**CONTENT, "minProperties": 1}]},
        Parameters.FIELDS,
        bodies={MULTIPART: CHANGED_FORM},
    ),
    scoped=True,
)
async def update(call: Call) -> Answer:
    keys = call.keys(call.path["ids"])
    if call.uploads:
        if len(keys) > 1:
            raise BadRequest("The contents of files are changed one at a time.")
        name, former = await find_replaced(call.ctx, keys[0])
        form = await call.receive(call.project.storage, allowed_types(call.ctx.schema), name, former)
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
        name, former = await find_replaced(call.ctx, keys[0])
        if imports.is_url(payload["data"]):
            await imports.check(call.services.intake.client, payload["data"])
        given = payload.get("filename_disk")
        content = await _store(call, payload["data"], given if isinstance(given, str) and given else name, former)
        return await _replace(call, keys[0], payload, content)
    if not payload:
        raise InvalidRequest("The body has no fields to change.")
    result = await _updated(call, keys, payload)
    if len(keys) == 1:
        return call.answer(evolve(result, data=[result.data], version=None) if result.data is not None else result)
    return _each_in_a_list(call, result)


async def _replace(call: Call, key: str, payload: Mapping[str, Any], content: Content) -> Answer:
    given, quota = dict(payload), call.project.quota
    try:
        result = await replace_content(call.items, call.ctx, key, given, content, call.query(), call.options(), quota=quota)
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
