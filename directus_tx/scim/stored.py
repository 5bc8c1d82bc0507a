"""The values of resources that are no fields of users and roles: the id that the client gives a resource, and attributes of users that the
server only keeps. A resource without a row has its external id as `externalId`, and no such attributes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from attrs import field, frozen

from directus_tx.access.history import SCIM
from directus_tx.context import Context
from directus_tx.items.changes import Key
from directus_tx.items.history import Extra
from directus_tx.items.write import Writer
from directus_tx.scim.errors import InvalidValue

MAX_SIZE = 64 * 1024
"""The maximum size of the kept attributes of a user, in bytes as JSON."""

MAX_EXTERNAL_ID = 255
_TABLES: Mapping[str, tuple[str, str]] = {
    "directus_users": ("directus_scim_users", "user"),
    "directus_roles": ("directus_scim_groups", "role"),
}


@frozen
class Kept:
    """What is kept of a resource: the `external_id` that the client gives it, and `attributes` of users."""

    external_id: str | None = None
    attributes: Mapping[str, Any] = field(factory=dict)


async def read_kept(ctx: Context, collection: str, keys: Sequence[Key]) -> dict[Key, Kept]:
    """Returns what is kept of resources, by key."""
    table, column = _TABLES[collection]
    rows = await ctx.db.query(
        f'SELECT "{column}", external_id, attributes::text FROM {table} WHERE "{column}" = ANY(%s)', (list(keys),)
    )
    return {key: Kept(external_id, orjson.loads(attributes)) for key, external_id, attributes in rows}


async def write_kept(writer: Writer, collection: str, key: Key, former: Kept | None, kept: Kept) -> None:
    """Stores what is kept of a resource, instead of the *former* values, and has its revision tell of it. Raises InvalidValue if it is too
    large."""
    table, column = _TABLES[collection]
    if kept.external_id is not None and len(kept.external_id) > MAX_EXTERNAL_ID:
        raise InvalidValue(f'"externalId" may have up to {MAX_EXTERNAL_ID} characters.')
    attributes = orjson.dumps(dict(kept.attributes))
    if len(attributes) > MAX_SIZE:
        raise InvalidValue(f"The attributes that are kept of a user may take up to {MAX_SIZE} bytes.")
    await writer.ctx.db.query(
        f'INSERT INTO {table} ("{column}", external_id, attributes) VALUES (%s, %s, %s::jsonb) ON CONFLICT ("{column}")'
        " DO UPDATE SET external_id = excluded.external_id, attributes = excluded.attributes",
        (key, kept.external_id, attributes.decode()),
    )
    before, after = _shown(former or Kept()), _shown(kept)
    changed = {name: after.get(name) for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    if changed:
        writer.extras[collection, key] = Extra(SCIM, after, dict(sorted(changed.items())))


def _shown(kept: Kept) -> dict[str, Any]:
    """Returns what is kept as revisions show it."""
    return {**({} if kept.external_id is None else {"externalId": kept.external_id}), **kept.attributes}


async def find_external_ids(ctx: Context, collection: str, texts: Iterable[str]) -> list[tuple[Key, str | None, str | None]]:
    """Returns the key, the kept external id and that of the user or role, both in lower case, of each resource with a row of
    which one of the two is among *texts*."""
    table, column = _TABLES[collection]
    wanted = [text.lower() for text in texts if "\x00" not in text]
    if not wanted:
        return []
    found = f'SELECT s."{column}", lower(s.external_id), lower(t.external_id) FROM {table} s JOIN {collection} t ON t.id = s."{column}"'
    sql = f"{found} WHERE lower(s.external_id) = ANY(%s) UNION {found} WHERE lower(t.external_id) = ANY(%s)"
    return [(key, kept, own) for key, kept, own in await ctx.db.query(sql, (wanted, wanted))]
