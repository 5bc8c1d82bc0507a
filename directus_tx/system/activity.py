"""Comments on items: activity records that users create, update and delete."""

from collections.abc import Mapping
from typing import Any

from directus_tx.access import Grant, Permission, access_of
from directus_tx.compile.operators import key_among
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
from directus_tx.items.changes import Key
from directus_tx.items.history import Record, record_activity
from directus_tx.items.read import Result, key_of, keys_of, read_back
from directus_tx.items.service import Items
from directus_tx.query import Query

ACTIVITY = "directus_activity"
ORIGIN = ("ip", "user_agent")
"""The fields that say where the request of a record came from."""

NO_COMMENT = "There is no such comment."


async def create_comment(service: Items, ctx: Context, payload: Mapping[str, Any], query: Query) -> Result:
    """Comments on an item and returns the record with all fields; `fields` of the query is ignored. The server sets the author
    and time.

    Raises InvalidRequest, InvalidPayload, CollectionNotFound, ItemNotFound, CreateForbidden (for the public) or
    CommentNotCreatable.
    """
    if ctx.accountability.public:
        raise CreateForbidden("Sign in to comment.")
    access = access_of(ctx)
    unknown = [name for name in payload if name not in ctx.schema.collections[ACTIVITY].fields]
    if unknown:
        raise InvalidPayload("Unknown attributes of a comment: " + ", ".join(f'"{name}"' for name in unknown) + ".")
    collection, item, text = payload.get("collection"), payload.get("item"), _text(payload)
    if not isinstance(collection, str) or not collection or isinstance(item, (dict, list)) or item in (None, ""):
        raise InvalidRequest('A comment requires "collection", "item" and "comment".')
    grant = access.grant(collection)
    if not grant.read:
        raise CommentNotCreatable
    key = key_of(grant, item)
    permission = await _permission(ctx, grant, key)
    if permission is None:
        raise ItemNotFound(f'There is no such item in "{collection}".')
    if permission.comment not in ("create", "update", "full"):
        raise CommentNotCreatable

    async def work(ctx: Context) -> Result:
        number = await record_activity(ctx, Record("comment", collection, str(key)), text)
        return await _shown(service, ctx, number, query)

    return await ctx.transaction(work)


async def update_comment(service: Items, ctx: Context, key: str, payload: Mapping[str, Any], query: Query) -> Result:
    """Updates the text of a comment and returns the record with all fields; `fields` of the query and other attributes of the
    payload are ignored. Raises ItemNotFound, InvalidRequest or CommentNotUpdatable."""
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
    """Marks a comment as deleted; it stays readable. Raises ItemNotFound or CommentNotDeletable."""
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
        raise InvalidRequest('"comment" must be a text that is not empty.')
    return text


async def _lock(ctx: Context, key: str) -> dict[str, Any]:
    """Returns the record of a comment and locks it. Raises ItemNotFound if it does not exist or is another kind of record."""
    names = ("id", "collection", "item", "action_by", "comment_deleted_on")
    listed = ", ".join(names)
    sql = f"SELECT {listed} FROM directus_activity WHERE id = ANY(%s) AND action = 'comment' FOR UPDATE"
    rows = await ctx.db.query(sql, (keys_of(ctx.schema.collections[ACTIVITY], [key]),))
    if not rows:
        raise ItemNotFound(NO_COMMENT)
    return dict(zip(names, rows[0], strict=True))


async def _may(ctx: Context, found: Mapping[str, Any]) -> bool:
    """Whether the caller may update or delete a comment: the level update allows it for the caller's own comments, full for all.
    Raises ItemNotFound if it is a comment by another user on an item that the caller may not read."""
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


async def _permission(ctx: Context, grant: Grant, item: Key) -> Permission | None:
    """Returns the caller's permission for an item, or None if it does not exist or the caller may not read it."""
    collection = grant.collection
    status = collection.status_field
    seen = grant.condition("read", "t")
    sql = SQL("SELECT {} FROM {} AS t WHERE {} AND {}").format(
        SQL("NULL") if status is None else column("t", status.field),
        Identifier(*collection.table),
        key_among("t", collection.primary_key),
        seen.sql,
    )
    bound_values = ctx.bind_values()
    rows = await ctx.db.query(sql, [keys_of(collection, [item]), *seen.parameters(bound_values)])
    return grant.of(rows[0][0]) if rows else None


async def _shown(service: Items, ctx: Context, key: int, query: Query) -> Result:
    """Returns a written comment as the caller reads it. If the caller may change the comment but may not read the activity of its
    author, it is returned without `ORIGIN`."""
    shown = await read_back(service, ctx, ACTIVITY, Query(meta=query.meta), [key], one=True)
    if shown.data is None:
        fields = ("*", *(f"-{name}" for name in ORIGIN))
        shown = await read_back(service, ctx, ACTIVITY, Query(fields=fields, meta=query.meta), [key], one=True, created=True)
    return shown
