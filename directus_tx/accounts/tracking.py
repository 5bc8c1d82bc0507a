"""Where users have been: the page that the admin app shows them next time."""

from collections.abc import Mapping
from typing import Any

from directus_tx.context import Context
from directus_tx.errors import InvalidPayload, InvalidRequest, ItemNotFound, Unauthorized, UpdateForbidden
from directus_tx.items import Result, keys_of, read_back
from directus_tx.query import Query

USERS = "directus_users"
LENGTH = 192


async def track_page(ctx: Context, key: str, payload: Mapping[str, Any], query: Query) -> Result:
    """Notes the page that a user has opened, and when; gives the user. It leaves no activity.

    Raises InvalidRequest without a `last_page`, ItemNotFound, UpdateForbidden where it is neither the user nor an administrator.
    """
    who = ctx.accountability
    if who.public:
        raise Unauthorized
    if "last_page" not in payload:
        raise InvalidRequest('"last_page" is needed.')
    page = payload["last_page"]
    if not isinstance(page, (str, type(None))) or "\x00" in (page or ""):
        raise InvalidRequest('"last_page" takes text.')
    if page is not None and len(page) > LENGTH:
        raise InvalidPayload(f'"last_page" takes at most {LENGTH} characters.')
    keys = keys_of(ctx.schema.collections[USERS], [key])
    if not who.admin and keys != [who.user]:
        raise UpdateForbidden("The last page of a user is the user's own.")

    async def work(ctx: Context) -> Result:
        sql = f"UPDATE {USERS} SET last_page = %s, last_access_on = %s WHERE id = ANY(%s) RETURNING id"
        rows = await ctx.db.query(sql, (page, ctx.now, keys))
        if not rows:
            raise ItemNotFound("There is no such user.")
        return await read_back(ctx, USERS, query, [rows[0][0]], one=True)

    return await ctx.transaction(work)
