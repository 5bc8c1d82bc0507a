"""Creates files and gives them new contents: the row and the content belong together."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from directus_tx.access import access_of, refusals
from directus_tx.context import Context
from directus_tx.db.session import Session
from directus_tx.errors import UploadForbidden
from directus_tx.files import contents, names
from directus_tx.files import quota as quotas
from directus_tx.files.content import types_in
from directus_tx.files.contents import Content
from directus_tx.files.embeds import Embed
from directus_tx.files.pictures import NO_PICTURE, Picture
from directus_tx.items.changes import Item
from directus_tx.items.read import Result, key_of, read_back
from directus_tx.items.rows import readable_keys
from directus_tx.items.service import Items
from directus_tx.items.write import Writer, in_transaction
from directus_tx.query import Query, WriteOptions
from directus_tx.schema.model import Snapshot
from directus_tx.schema.patterns import Matching

FILES = "directus_files"
MAX_TAGS = 255
"""The maximum length of the tags of a file, in characters, with the commas between them."""


def allowed_types(schema: Snapshot) -> Sequence[str]:
    """Returns the media types that may be uploaded. Empty: all."""
    return types_in(schema.setting("file_mimetype_whitelist"))


def check_upload(ctx: Context) -> None:
    """Raises UploadForbidden if the caller may not create any files."""
    grant = access_of(ctx).grant(FILES)
    grant.check_possible("create")
    if not grant.allows("create"):
        raise UploadForbidden("You may not upload files.")


async def find_replaced(ctx: Context, key: str) -> tuple[str, int]:
    """Returns the name on disk of a file that is to get new content, and the size of the present one. Raises ItemNotFound if there is no
    such file, or the caller may not read it, and UpdateForbidden if the caller may not change any files."""
    access = access_of(ctx)
    grant = access.grant(FILES)
    grant.check_possible("update")
    found = key_of(grant, key)
    if not await readable_keys(ctx, grant, [found]):
        raise refusals.unchangeable(grant, None, public=access.public, several=False)
    if not grant.allows("update"):
        raise UploadForbidden("You may not change files.")
    name_and_size = await contents.name_and_size(ctx.db, found)
    if name_and_size is None:
        raise refusals.no_item(grant)
    return name_and_size


async def create_file(
    service: Items,
    ctx: Context,
    payload: Item,
    content: Content | Embed,
    storage: str,
    query: Query,
    options: WriteOptions,
    *,
    quota: int,
    then: Callable[[Session, Any], Awaitable[None]] | None = None,
) -> Result:
    """Creates a file, and returns it. *payload* has the attributes that the client gives, `filename_disk` and `filename_download` among
    them; of the former only the extension and the title are used, or also a readable form if the setting file_naming says so. *storage* is
    the kind of storage that has the content, *quota* that of the project in bytes, 0 if there is none. *then* is called in the transaction,
    with its session and the key of the file.

    Raises the errors of `create_items`, and PayloadTooLarge; then the content does not belong to a file.
    """
    embed = isinstance(content, Embed)
    name = content.name if isinstance(content, Embed) else names.base_name(str(payload.get("filename_disk") or ""))
    given = _given(payload)
    found_out = {n: v for n, v in _found_out(content, name).items() if n not in given}
    shown = _shown(content, name)

    async def work(writer: Writer) -> Result:
        ctx = writer.ctx
        readable = not embed and ctx.schema.setting("file_naming") == "file_name"
        disk = await _free_name(ctx, name) if readable else names.unique_name(name)
        provided = {
            **found_out,
            **_described(content),
            "storage": storage,
            "filename_disk": disk,
            "private_hash": names.private_hash(),
            "type": content.type if isinstance(content, Embed) else names.media_type(disk),
            "uploaded_on": ctx.now.strftime("%Y-%m-%d %H:%M:%S"),
            "duration": 0,
            "embed": content.id if isinstance(content, Embed) else None,
        }
        await writer.before("file_save", key=None, content=shown)
        (key,) = await writer.create(FILES, [given], provided=provided)
        writer.after("file_save", key=key, content=shown)
        if isinstance(content, Content):
            await contents.assign(ctx, key, content)
        if then is not None:
            await then(ctx.db, key)
        if not embed:
            await quotas.check(ctx.db, quota)
        wanted = Query(meta=query.meta, lang=query.lang)
        return await read_back(service, ctx, FILES, wanted, [key], one=True, created=True)

    return await in_transaction(service, ctx, options, work)


async def check_new(service: Items, ctx: Context, payload: Item, options: WriteOptions) -> None:
    """Raises those errors of `create_file` that the payload alone causes, before there is a content. Writes nothing."""
    names.base_name(str(payload.get("filename_disk") or ""))
    matching = Matching(service.limits.max_matching_time, service.limits.max_matched_length)
    await Writer(service, ctx, options, matching).check_new(FILES, _given(payload))


def _given(payload: Item) -> Item:
    """Returns the attributes that the client gives without those that only the server chooses."""
    return {n: v for n, v in payload.items() if n not in ("filename_disk", "private_hash")}


async def replace_content(
    service: Items,
    ctx: Context,
    key: str,
    payload: Item,
    content: Content,
    query: Query,
    options: WriteOptions,
    *,
    quota: int,
) -> Result:
    """Gives a file new content, and changes attributes of it. What the IPTC data of a picture tells replaces the attributes that the
    client does not give. *quota* is that of the project in bytes, 0 if there is none. Returns a list with the file. Raises the errors of
    `update_items`, and PayloadTooLarge; then the content does not belong to a file."""
    given = {n: v for n, v in payload.items() if n != "id"}
    picture = content.picture
    told = {"description": picture.description, "location": picture.location, "tags": _fitting(picture.tags)}
    provided = {**_described(content), "embed": None, **{n: v for n, v in told.items() if v and n not in given}}

    async def work(writer: Writer) -> Result:
        found = key_of(writer.access.grant(FILES), key)
        former = await contents.name_and_size(writer.ctx.db, found) if quota else None
        shown = _shown(content, content.name)
        await writer.before("file_save", key=found, content=shown)
        await writer.update(FILES, [(found, {**given, "data": ""})], if_match=options.if_match, provided=provided)
        writer.after("file_save", key=found, content=shown)
        await contents.assign(writer.ctx, found, content)
        if former is not None and content.size > former[1]:
            await quotas.check(writer.ctx.db, quota)
        return await read_back(service, writer.ctx, FILES, query, [found], one=False)

    return await in_transaction(service, ctx, options, work)


def _described(content: Content | Embed) -> Item:
    """Returns the fields of a file that follow from its content."""
    if isinstance(content, Embed):
        return {"charset": None, "filesize": 0, "checksum": None, "width": content.width, "height": content.height}
    return {
        "charset": content.charset,
        "filesize": content.size,
        "checksum": content.md5,
        "width": content.picture.width,
        "height": content.picture.height,
    }


def _shown(content: Content | Embed, name: str) -> Item:
    """Returns what hooks of plugins are told about a content."""
    if isinstance(content, Embed):
        return {"name": name, "type": content.type}
    return {"name": name, **{n: getattr(content, n) for n in ("size", "md5", "sha256", "charset")}}


def _found_out(content: Content | Embed, name: str) -> Mapping[str, Any]:
    """Returns the attributes of a new file that the client need not give."""
    picture: Picture = NO_PICTURE if isinstance(content, Embed) else content.picture
    return {
        "title": content.title if isinstance(content, Embed) else names.title(name),
        "description": picture.description,
        "location": picture.location,
        "tags": _fitting(picture.tags),
        "filename_download": name,
    }


def _fitting(tags: Sequence[str]) -> list[str]:
    """Returns the first tags, as many as a file can have."""
    found: list[str] = []
    for tag in tags:
        plain = tag.replace(",", " ")
        if len(",".join((*found, plain))) > MAX_TAGS:
            break
        found.append(plain)
    return found


async def _free_name(ctx: Context, name: str) -> str:
    """Returns a readable name on disk that no file has. Other transactions that choose a name like it wait for this one."""
    candidates = names.readable_names(name)
    first = next(candidates)
    await contents.lock_name(ctx, first)
    some, number = [first], 10
    while True:
        taken = await contents.taken_names(ctx, some)
        free = next((each for each in some if each not in taken), None)
        if free is not None:
            return free
        some, number = list(islice(candidates, number)), number * 2
