"""/uploads/:project/originals: the contents of files; /:project/assets: the same by a secret hash, and thumbnails."""

from collections.abc import AsyncGenerator, Mapping
from datetime import datetime
from urllib.parse import quote

from attrs import evolve

from directus_tx.accounts import two_factor
from directus_tx.accounts.credentials import find_holder
from directus_tx.accounts.tokens import Bearer
from directus_tx.context import Context
from directus_tx.errors import ApiError, ItemNotFound, NotFound, Unauthorized
from directus_tx.files import contents, delivery
from directus_tx.files.contents import Original, Source, source_of
from directus_tx.files.focus import focus_of
from directus_tx.files.reading import UNSTORED, are_private, find_readable
from directus_tx.files.sharing import Share
from directus_tx.files.small import SMALL
from directus_tx.http import cors, ranges
from directus_tx.http.answers import Answer, Bare, Envelope, FileBytes, FileStream, Streamed
from directus_tx.http.operations import BYTES, Operation
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.schema.numbers import whole_number
from directus_tx.schema.thumbnail_sizes import AUTO, Size, allowed_sizes

routes = Routes()

THUMBNAIL = {
    "key": "The key of a size of thumbnails. It takes precedence over the following parameters.",
    "w": "The width of a thumbnail, in pixels.",
    "h": "The height of a thumbnail, in pixels.",
    "f": "How the picture fits in: contain or crop.",
    "q": "The quality of a thumbnail, from 0 to 100.",
    "format": "The format of a thumbnail: webp, avif, jpg, png, or auto for a smaller one that the client accepts.",
}
"""The parameters that ask for a thumbnail, with their descriptions."""

SIGNED = {
    "expires": "When the address expires, in seconds since 1970.",
    "by": "Which credential of which user the address was made with.",
    "download": "The name with which the content is downloaded.",
    "signature": "The signature of the address.",
}
"""The parameters of a shared address, beside those of thumbnails, with their descriptions."""

DETAILS = {
    "type": "object",
    "required": ["type"],
    "properties": {
        **{name: {"type": "string"} for name in ("type", "taken_on", "camera", "lens")},
        **{name: {"type": "integer"} for name in ("width", "height", "orientation", "pages")},
        **{name: {"type": "number"} for name in ("latitude", "longitude", "altitude")},
    },
}


RESOURCE_POLICY = "Cross-Origin-Resource-Policy"
"""The header that says which pages may embed an answer, also where they cannot read it."""

ANYWHERE = {RESOURCE_POLICY: "cross-origin"}
"""The header of contents for which the address is all that a reader needs: pages of other origins may embed them, also those that embed
nothing else without it (Cross-Origin-Embedder-Policy)."""

REVALIDATED = {"Cache-Control": "no-cache", **ANYWHERE}
"""The headers of contents that everybody may read: caches ask each time whether the content has changed."""

OWN_PAGES = {RESOURCE_POLICY: "same-origin"}
"""The header of contents that browsers ask for in the name of who is signed in, whichever page embeds them."""

PRIVATE = {"Cache-Control": "private, no-cache"}
"""The headers of contents that only some callers may read: only their browser keeps them, and asks each time, so that the server
checks each time whether the caller may still read them."""


@routes.get(
    "/uploads/<project>/originals/<name>", Caller.READER, Operation("Read the content of a file", BYTES, media_type="*/*")
)
async def original(call: Call) -> Answer | Streamed:
    found = await _find(call, contents.BY_DISK, NotFound)
    private = are_private(call.ctx.schema)
    return await _send(call, found, _private(call) if private else REVALIDATED, lasts=_left(call) if private else None)


@routes.get(
    "/<project>/assets/<name>",
    Caller.READER,
    Operation(
        "Read the content of a file by its hash, or a thumbnail of it",
        BYTES,
        query=tuple(THUMBNAIL.items()),
        media_type="*/*",
    ),
)
async def asset(call: Call) -> Answer | Streamed:
    schema = call.ctx.schema
    by_name = schema.setting("asset_url_naming") == "filename_download"
    found = await _find(call, contents.BY_DOWNLOAD if by_name else contents.BY_HASH, ItemNotFound)
    private = are_private(schema)
    asked = {name: call.params.tree[name] for name in THUMBNAIL if name in call.params.tree}
    if not asked:
        return await _send(call, found, _private(call) if private else REVALIDATED, lasts=_left(call) if private else None)
    kept = {"Cache-Control": f"public, max-age={call.services.thumbnails.settings.thumbnail_max_age}, immutable", **ANYWHERE}
    return await _send_thumbnail(call, found, allowed_sizes(schema).find(asked), _private(call) if private else kept)


@routes.get(
    "/<project>/files/<key>/shared",
    Caller.ANONYMOUS,
    Operation(
        "Read the content of a file, or a thumbnail of it, at a signed address",
        BYTES,
        query=(*SIGNED.items(), *THUMBNAIL.items()),
        media_type="*/*",
    ),
)
async def shared(call: Call) -> Answer | Streamed:
    """Whatever is wrong with the address, the answer is the same."""
    given = {name: call.params.tree[name] for name in (*SIGNED, *THUMBNAIL) if name in call.params.tree}
    key, expires = whole_number(call.path["key"]), whole_number(str(given.get("expires", "")))
    now = int(call.ctx.now.timestamp())
    refusal = ItemNotFound("There is no such file, or the address is no longer valid.", headers=UNSTORED)
    if key is None or expires is None or expires <= now or not all(isinstance(each, str) for each in given.values()):
        raise refusal
    asked = {name: given[name] for name in THUMBNAIL if name in given}
    share = Share(key, expires, given.get("by", ""), asked, given.get("download", ""))
    holder = await find_holder(call.project, call.ctx.db, share.by, call.ctx.now)
    if holder is None or two_factor.is_missing(call.ctx.schema, holder.bearer):
        raise refusal
    try:
        found = await find_readable(_in_place_of(holder.bearer, call.ctx), contents.BY_KEY, key)
    except (ItemNotFound, Unauthorized):
        raise refusal from None
    if not share.has_signature(call.ctx.keys, found.private_hash, holder.mark, given.get("signature", "")):
        raise refusal
    if share.download:
        found = evolve(found, filename_download=share.download, attachment=True)
    if not asked:
        return await _send(call, found, {**PRIVATE, **ANYWHERE}, lasts=expires - now)
    seconds = min(expires - now, call.services.thumbnails.settings.thumbnail_max_age)
    headers = {"Cache-Control": f"private, max-age={seconds}", **ANYWHERE}
    return await _send_thumbnail(call, found, allowed_sizes(call.ctx.schema).find(asked), headers)


@routes.get(
    "/<project>/files/<key>/details",
    Caller.PUBLIC,
    Operation("Read the metadata in the content of a file: EXIF data of a picture, the pages of a PDF", DETAILS),
    scoped=True,
)
async def details(call: Call) -> Answer:
    key = whole_number(call.path["key"])
    if key is None:
        raise ItemNotFound("There is no such file.")
    found = await find_readable(call.ctx, contents.BY_KEY, key)
    return Envelope(
        await call.services.thumbnails.details.read(call.project.key, call.project.storage, found.name, call.ctx.db.caller)
    )


def _in_place_of(maker: Bearer, ctx: Context) -> Context:
    """Returns a context in which the user who has made an address reads, with the limits of the token."""
    who = evolve(ctx.accountability, user=maker.user, role=maker.role, scope=maker.scope)
    return evolve(ctx, accountability=who)


def _left(call: Call) -> int | None:
    """Returns the seconds until what identifies the caller expires, None if nothing does or it does not."""
    credential = call.ctx.accountability.credential
    if credential is None or credential.expires is None:
        return None
    return max(int(credential.expires - call.ctx.now.timestamp()), 1)


async def _find(call: Call, field: str, missing: type[ApiError]) -> Original:
    """Returns the content of the file with the name in the path, in one of its fields. Raises *missing* if there is none, and the errors of
    `find_readable` if assets are private."""
    if are_private(call.ctx.schema):
        return await find_readable(call.ctx, field, call.path["name"])
    found = await contents.find_original(call.ctx.db, field, call.path["name"])
    if found is None:
        raise missing("There is no such file.")
    return found


def _private(call: Call) -> Mapping[str, str]:
    """Returns the headers that depend on who may read a private content. Pages of all origins may embed it if the public may read it or the
    token is in the address, for then the page knows it. Otherwise the browser adds a cookie that the page does not know: only pages of the
    server's own origin, and of the origins that the project names, may embed it.

    The header differs between pages, but Vary does not say so: browsers ask again each time, and each answer, 304 too, has it."""
    anywhere = call.public or call.params.text("access_token") or cors.is_named_page(call.request)
    return {**PRIVATE, **(ANYWHERE if anywhere else OWN_PAGES)}


async def _send(call: Call, original: Original, caching: Mapping[str, str], lasts: int | None = None) -> Answer | Streamed:
    """Returns the content of a file, or the part of it that the client asks for, or a redirect to where the storage sends it. *caching* has
    the headers that depend on who may read it, *lasts* the seconds for which the client may read the content, if that is limited. Raises
    NotFound if the storage has none."""
    source = await source_of(call.project.storage, original)
    headers = _headers(original, f'"{quote(source.tag[:40])}"', source.modified, caching)
    if ranges.is_unchanged(call.request, headers["ETag"], source.modified):
        return Bare(304, headers)
    address = await _redirected(call, original, source, lasts)
    if address is not None:
        # The next request needs a new address.
        return Bare(307, {"Location": address, "Cache-Control": "no-store", RESOURCE_POLICY: caching[RESOURCE_POLICY]})
    return await _content(call, original, headers, original.name, source)


async def _redirected(call: Call, original: Original, source: Source, lasts: int | None) -> str | None:
    """Returns the URL at which the storage sends a content, also parts of it, with the same type and Content-Disposition. None if the
    server sends it itself: because it is small, the storage has no such URLs, the client asks for the headers only, for which the URL is
    not valid, or the content needs headers that the storage does not send."""
    settings = call.services.settings.files
    if not settings.redirect_size or source.size < settings.redirect_size or call.request.method != b"GET":
        return None
    if delivery.needs_policy(original):
        return None
    seconds = settings.redirect_seconds if lasts is None else min(settings.redirect_seconds, lasts)
    url: str | None = await call.project.storage.signed_url(
        original.name,
        seconds,
        content_type=delivery.content_type(original),
        disposition=delivery.content_disposition(original),
    )
    return url


async def _send_thumbnail(call: Call, original: Original, size: Size, caching: Mapping[str, str]) -> Answer | Streamed:
    """Returns a thumbnail of a file, or the part of it that the client asks for. *caching* has the headers that depend on who may read
    it. Raises NotFound if the storage has no content, and the errors of `Thumbnails`."""
    source = await source_of(call.project.storage, original)
    thumbnails = call.services.thumbnails
    accept = ",".join(call.request.requestHeaders.getRawHeaders("accept", ())) if size.format == AUTO else ""
    thumbnail = thumbnails.plan(
        original.name,
        source.tag,
        original.type,
        size,
        original.width,
        original.height,
        focus=focus_of(original.metadata),
        accept=accept,
    )
    shown = evolve(original, type=thumbnail.encoding.media_type, charset="")
    headers = _headers(shown, f'"{thumbnail.tag}"', source.modified, caching)
    if size.format == AUTO:
        headers["Vary"] = "Accept"
    if ranges.is_unchanged(call.request, headers["ETag"], source.modified):
        return Bare(304, headers)
    kept = call.services.small.find(call.project.key, thumbnail.name, thumbnail.tag)
    if kept is not None:
        return await _content(call, shown, headers, thumbnail.name, Source(len(kept), thumbnail.tag, source.modified))
    stored = await thumbnails.provide(call.project.key, call.project.storage, thumbnail, call.ctx.db.caller)
    part = Source(stored.size, thumbnail.tag, source.modified, stored.version)
    return await _content(call, shown, headers, stored.name, part)


def _headers(shown: Original, tag: str, modified: datetime, caching: Mapping[str, str]) -> dict[str, str]:
    """Returns the headers of an answer with a content, or with a thumbnail of it."""
    return {
        "ETag": tag,
        "Last-Modified": ranges.http_date(modified),
        **caching,
        "Accept-Ranges": "bytes",
        **delivery.headers(shown),
    }


async def _content(call: Call, shown: Original, headers: dict[str, str], name: str, source: Source) -> Answer | Streamed:
    """Returns what the storage has under a name, or the part of it that the client asks for. Raises the errors of `SmallContents` for a
    small one."""
    try:
        part = ranges.part_of(call.request, source.size, headers["ETag"], source.modified)
    except ranges.NoSuchPart:
        return Bare(416, headers | {"Content-Range": f"bytes */{source.size}", "Cache-Control": "no-store"})
    if part is not None:
        headers |= {"Content-Range": f"bytes {part.start}-{part.end - 1}/{source.size}"}
    start, end = (0, source.size) if part is None else (part.start, part.end)
    status = 200 if part is None else 206
    storage, head = call.project.storage, call.request.method == b"HEAD"
    if source.size <= SMALL and not head:
        whole = await call.services.small.read(call.project.key, storage, name, source)
        return FileBytes(whole if part is None else whole[start:end], delivery.content_type(shown), headers, status)

    def pieces() -> AsyncGenerator[bytes, None]:
        return storage.read(name, start, end, version=source.version)

    return FileStream(pieces, end - start, delivery.content_type(shown), headers, status, head)
