"""Permissions: the valid levels, the permissions of the caller's role, and explanations of what a user may do."""

from collections.abc import Mapping, Sequence
from typing import Any

from directus_tx.access import Access, Grant, access_of
from directus_tx.access.caller import require_administrator
from directus_tx.access.grant import ROW_LEVELS
from directus_tx.compile.operators import key_among
from directus_tx.context import Accountability, Context
from directus_tx.db.sql import SQL, Composable, Identifier, column
from directus_tx.errors import InvalidRequest, ItemNotFound
from directus_tx.items.changes import Change, Item
from directus_tx.items.read import keys_of
from directus_tx.items.rules import CollectionRules
from directus_tx.query import BindValues, Query
from directus_tx.suggestions import suggestion
from directus_tx.system.references import check_references

ACTIONS = ("create", "read", "update", "delete")
_ROWS = ("none", "mine", "role", "full")
LEVELS: Mapping[str, tuple[str, ...]] = {
    "create": ("none", "full"),
    "read": _ROWS,
    "update": _ROWS,
    "delete": _ROWS,
    "comment": ("none", "read", "create", "update", "full"),
    "explain": ("none", "create", "update", "always"),
}


class PermissionRules(CollectionRules):
    """The rules of directus_permissions."""

    async def prepare(self, ctx: Context, changes: Sequence[Change]) -> None:
        """Raises InvalidRequest for an unknown level."""
        async for change in ctx.in_slices(changes):
            for name, levels in LEVELS.items():
                if change.payload.get(name) is not None and change.payload[name] not in levels:
                    meant = suggestion(str(change.payload[name]), levels)
                    raise InvalidRequest(f'"{name}" must be one of {", ".join(levels)}{meant}')

    async def check(self, ctx: Context, grant: Grant, changes: Sequence[Change]) -> None:
        """Raises InvalidRequest for a role that does not exist. A permission may be for a collection that does not exist yet."""
        await check_references(ctx, changes)


def own_permissions(ctx: Context, collection: str | None = None) -> list[Item]:
    """Returns the permissions of the caller's role, for one collection or all, as the API shows them."""
    rows = ctx.schema.permissions_of(access_of(ctx).role)
    return [_shown(row) for row in rows if collection is None or row["collection"] == collection]


def _shown(row: Mapping[str, Any]) -> Item:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in row.items()}


async def explain(ctx: Context, collection: str, action: str, item: str | None, user: str | None) -> Item:
    """Explains why a user (None: the public) may or may not perform an action on a collection, or on one item of it.

    Returns `allowed` and its `reason`; the `role` of the user; the `permissions` of the role, with `counts` true for the one that
    decides; the `status` and `owner` of the item; the fields that are `hidden` and `unwritable`; and the `condition` on rows, as
    in the SQL, with its `parameters`. Raises InvalidRequest, CollectionNotFound or ItemNotFound.
    """
    require_administrator(ctx)
    if action not in ACTIONS:
        raise InvalidRequest(f'"action" must be one of {", ".join(ACTIONS)}{suggestion(action, ACTIONS)}')
    who, active = await _user(ctx, user)
    access = Access(ctx.schema, who)
    grant = access.grant(collection)
    field = grant.collection.status_field
    bound_values = BindValues(Query(), user=who.user)
    status: Any = field.default_value if field is not None and action == "create" else None
    found: Item = {}
    if item is not None and action != "create":
        found = await _item(ctx, grant, item, bound_values)
        status = found["status"]
    permission = grant.of(status)
    level = grant.level(permission, action)
    allowed, reason = _verdict(grant, action, level, found, status, decided=bool(found) or grant.statuses is None)
    if not active:
        allowed, reason = False, "The user is not active and is treated as the public."
    hidden = set(grant.hidden)
    for mask, shown in zip(grant.masks, found.get("shown", ()), strict=False):
        hidden |= mask.names if not shown else set()
    condition = grant.condition(action, "t") if action != "create" else None
    return {
        "collection": collection,
        "action": action,
        "item": item,
        "user": who.user,
        "role": access.role,
        "allowed": allowed,
        "reason": reason,
        "status": status,
        "owner": found.get("owner"),
        "permissions": [
            _shown(row) | {"counts": permission.id is not None and row["id"] == permission.id}
            for row in ctx.schema.permissions_of(access.role)
            if row["collection"] == collection
        ],
        "hidden": sorted(hidden),
        "unwritable": sorted(permission.unwritable),
        "condition": None if condition is None else condition.text,
        "parameters": [] if condition is None else condition.parameters(bound_values),
    }


async def _user(ctx: Context, user: str | None) -> tuple[Accountability, bool]:
    """Returns the accountability of a user, and whether the user is active. Raises ItemNotFound."""
    if user is None:
        return Accountability(), True
    keys = keys_of(ctx.schema.collections["directus_users"], [user])
    rows = await ctx.db.query("SELECT id, role, status FROM directus_users WHERE id = ANY(%s)", (keys,))
    if not rows:
        raise ItemNotFound("There is no such user.")
    id, role, status = rows[0]
    return Accountability(id, role), status == "active"


async def _item(ctx: Context, grant: Grant, item: str, bound_values: BindValues) -> Item:
    """Returns the status and owner of an item, the actions that are allowed on its row, and which masked fields are shown. Raises
    ItemNotFound."""
    collection = grant.collection
    judged = [grant.condition(action, "t") for action in ACTIONS[1:]] + [mask.shown for mask in grant.masks]
    status_field = collection.status_field
    columns: list[Composable] = [
        SQL("NULL") if status_field is None else column("t", status_field.field),
        SQL("NULL") if grant.owner is None else column("t", grant.owner),
    ]
    sql = SQL("SELECT {} FROM {} AS t WHERE {}").format(
        SQL(", ").join([*columns, *(clause.sql for clause in judged)]),
        Identifier(*collection.table),
        key_among("t", collection.primary_key),
    )
    bound = [value for clause in judged for value in clause.parameters(bound_values)]
    rows = await ctx.db.query(sql, [*bound, keys_of(collection, [item])])
    if not rows:
        raise ItemNotFound(f'There is no such item in "{collection.collection}".')
    status, owner, *verdicts = rows[0]
    actions = dict(zip(ACTIONS[1:], verdicts, strict=False))
    return {"status": status, "owner": owner, **actions, "shown": verdicts[3:]}


def _verdict(grant: Grant, action: str, level: str, found: Item, status: Any, *, decided: bool) -> tuple[bool, str]:
    """Whether an action is allowed, and the reason as a sentence."""
    if grant.admin:
        return True, "Administrators may do everything."
    such = f' with the status "{status}"' if grant.statuses is not None and status is not None else ""
    if not grant.allows(action):
        return False, f"No permission of the role allows the action {action} on items of this collection."
    if action == "create":
        return level == "full", f"The level of create for items{such} is {level}."
    if not decided:
        return True, "It depends on the item: the condition says which items are allowed."
    if not found:
        if level == "full":
            return True, "The level is full."
        return True, f"The level is {level}: it depends on the owner of the item."
    if level not in ROW_LEVELS:
        return False, f"The level for items{such} is none."
    if action != "read" and not found["read"]:
        return False, "The user may not read the item, so the server answers as if it did not exist."
    if not found[action]:
        return (
            False,
            f"The level for items{such} is {level}, and the owner is not {'in the role of ' if level == 'role' else ''}the user.",
        )
    return True, f"The level for items{such} is {level}."
