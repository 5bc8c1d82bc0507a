"""Comments on items: records of the activity that people write, change and delete."""

from collections.abc import Mapping
from typing import Any

from directus_tx.access import Grant, Permission, access_of
from directus_tx.context import Context
from directus_tx.db.sql import SQL, Identifier, column
from directus_tx.errors import (
    CommentNotCreatable,
    CommentNotDeletable,
    CommentNotUpdatable,
    CreateForbidden,
    InvalidPayload,
    InvalidRequest,
    ItemNotFound,
)
from directus_tx.items.history import Record, record
from directus_tx.items.read import Result, keys_of, read_back
from directus_tx.items.service import Items
from directus_tx.query import Query

ACTIVITY = "directus_activity"
ORIGIN = ("ip", "user_agent")
"""Fields that tell where a record came from."""

NO_COMMENT = "There is no such comment."


async def create_comment(service: Items, ctx: Context, payload: Mapping[str, Any], query: Query) -> Result:
    """Comments on an item, and gives the record, whatever `fields` says. Who and when are the server's to say.

    Raises InvalidRequest, InvalidPayload, CollectionNotFound, ItemNotFound, CreateForbidden (the public), CommentNotCreatable.
    """
    if ctx.accountability.public:
        raise CreateForbidden("Sign in to comment.")
    access = access_of(ctx)
    unknown = [name for name in payload if name not in ctx.schema.collections[ACTIVITY].fields]
    if unknown:
        raise InvalidPayload("A comment has no attribute " + ", ".join(f'"{name}"' for name in unknown) + ".")
    collection, item, text = payload.get("collection"), payload.get("item"), _text(payload)
    if not isinstance(collection, str) or not collection or isinstance(item, (dict, list)) or item in (None, ""):
        raise InvalidRequest('A comment needs "collection", "item" and "comment".')
    grant = access.grant(collection)
    if not grant.read:
        raise CommentNotCreatable
    permission = await _permission(ctx, grant, str(item))
    if permission is None:
        raise ItemNotFound(f'There is no such item in "{collection}".')
    if permission.comment not in ("create", "update", "full"):
        raise CommentNotCreatable
    # As the rest of the history names the item: "1" where " 01" was sent, or nobody would find the comment by its item.
    named = str(keys_of(grant.collection, [item])[0])

    async def work(ctx: Context) -> Result:
        ((key,),) = [await record(ctx, [Record("comment", collection, named)], text)]
        return await _shown(service, ctx, key, query)

    return await ctx.transaction(work)


async def update_comment(service: Items, ctx: Context, key: str, payload: Mapping[str, Any], query: Query) -> Result:
    """Changes a comment's text and gives the record, whatever `fields` says; other attributes are left alone. Raises ItemNotFound,
    InvalidRequest, CommentNotUpdatable."""
    text = _text(payload)
    if ctx.accountability.public:
        raise CommentNotUpdatable

    async def work(ctx: Context) -> Result:
        found = await _lock(ctx, key)
        if not await _may(ctx, found):
            raise CommentNotUpdatable
        await ctx.db.query(
            "UPDATE directus_activity SET comment = %s, edited_on = %s WHERE id = %s", (text, ctx.now, found["id"])
        )
        return await _shown(service, ctx, found["id"], query)

    return await ctx.transaction(work)


async def delete_comment(ctx: Context, key: str) -> None:
    """Marks a comment as deleted; it stays readable. Raises ItemNotFound, CommentNotDeletable."""
    if ctx.accountability.public:
        raise CommentNotDeletable

    async def work(ctx: Context) -> None:
        found = await _lock(ctx, key)
        if not await _may(ctx, found):
            raise CommentNotDeletable
        if found["comment_deleted_on"] is None:
            await ctx.db.query("UPDATE directus_activity SET comment_deleted_on = %s WHERE id = %s", (ctx.now, found["id"]))

    await ctx.transaction(work)


def _text(payload: Mapping[str, Any]) -> str:
    text = payload.get("comment")
    if not isinstance(text, str) or not text.strip() or "\x00" in text:
        raise InvalidRequest('"comment" needs a text.')
    return text


async def _lock(ctx: Context, key: str) -> dict[str, Any]:
    """The record of a comment. Raises ItemNotFound where it is another kind of record, or none."""
    names = ("id", "collection", "item", "action_by", "comment_deleted_on")
    listed = ", ".join(names)
    sql = f"SELECT {listed} FROM directus_activity WHERE id = ANY(%s) AND action = 'comment' FOR UPDATE"
    rows = await ctx.db.query(sql, (keys_of(ctx.schema.collections[ACTIVITY], [key]),))
    if not rows:
        raise ItemNotFound(NO_COMMENT)
    return dict(zip(names, rows[0], strict=True))


async def _may(ctx: Context, found: Mapping[str, Any]) -> bool:
    """Whether the caller may change or delete a comment: their own with the level update, anybody's with full. Raises ItemNotFound
    where it is somebody else's comment on an item that the caller may not read."""
    access = access_of(ctx)
    if access.admin:
        return True
    permission, name = None, found["collection"]
    if name in ctx.schema.collections and access.grant(name).read:
        permission = await _permission(ctx, access.grant(name), found["item"])
    own = found["action_by"] == ctx.accountability.user
    if permission is None:
        if own:
            return False
        raise ItemNotFound(NO_COMMENT)
    return permission.comment == "full" or (permission.comment == "update" and own)


async def _permission(ctx: Context, grant: Grant, item: str) -> Permission | None:
    """What the caller may do with an item; None where it is missing, or out of sight."""
    collection = grant.collection
    status = collection.status_field
    seen = grant.condition("read", "t")
    sql = SQL("SELECT {} FROM {} AS t WHERE {} = ANY(%s) AND {}").format(
        SQL("NULL") if status is None else column("t", status.field),
        Identifier(collection.collection),
        column("t", collection.primary_key.field),
        seen.sql,
    )
    asked = ctx.bind_values()
    rows = await ctx.db.query(sql, [keys_of(collection, [item]), *seen.parameters(asked)])
    return grant.of(rows[0][0]) if rows else None


async def _shown(service: Items, ctx: Context, key: int, query: Query) -> Result:
    """A written comment as the caller reads it. One that the caller may change, but not read among the activity of others, is shown
    without where it came from."""
    shown = await read_back(service, ctx, ACTIVITY, Query(meta=query.meta), [key], one=True)
    if shown.data is None:
        fields = ("*", *(f"-{name}" for name in ORIGIN))
        shown = await read_back(service, ctx, ACTIVITY, Query(fields=fields, meta=query.meta), [key], one=True, created=True)
    return shown
