"""Permissions beyond their rows: what a role may do and why, and roles as a document that moves from one server to another."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from directus_tx.access import ROW_LEVELS, Access, Grant, access_of
from directus_tx.clauses import Asked, column
from directus_tx.context import ADMINISTRATOR, Accountability, Context
from directus_tx.db import SQL, Composable, Identifier
from directus_tx.errors import InvalidPayload, InvalidRequest, ItemNotFound, ReadForbidden
from directus_tx.items import Writer, keys_of, writing
from directus_tx.query import Query, WriteOptions
from directus_tx.schema.model import Snapshot
from directus_tx.system.permissions import LEVELS

Item = dict[str, Any]
ROLES, PERMISSIONS = "directus_roles", "directus_permissions"
LISTS = ("read_field_blacklist", "write_field_blacklist", "status_blacklist")
ROLE_ATTRIBUTES = ("description", "ip_whitelist", "module_listing", "collection_listing", "enforce_2fa")
ACTIONS = ("create", "read", "update", "delete")


def own_permissions(ctx: Context, collection: str | None = None) -> list[Item]:
    """The permissions of the caller's role, those of one collection or all, as the API shows them."""
    rows = ctx.schema.permissions_of(access_of(ctx).role)
    return [_shown(row) for row in rows if collection is None or row["collection"] == collection]


def _shown(row: Mapping[str, Any]) -> Item:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in row.items()}


def _require_administrator(ctx: Context) -> None:
    """Raises Unauthorized to the public, ReadForbidden to others than administrators."""
    access = access_of(ctx)
    if not access.admin:
        raise access.refused(ReadForbidden("Only administrators may do this."))


# --- explaining


async def explain(ctx: Context, collection: str, action: str, item: str | None, user: str | None) -> Item:
    """Why a user (None: the public) may or may not do something with a collection, or with one item of it.

    The answer: `allowed` and its `reason`; the user's `role`; the `permissions`, rows of the role, with `counts` true for the one that
    decides; the item's `status` and `owner`; the fields that are `hidden` and `unwritable`; and the `condition` on rows as it goes into
    the SQL, with its `parameters`. Raises InvalidRequest, CollectionNotFound, ItemNotFound.
    """
    _require_administrator(ctx)
    if action not in ACTIONS:
        raise InvalidRequest(f'"action" is one of {", ".join(ACTIONS)}.')
    who, active = await _user(ctx, user)
    access = Access(ctx.schema, who)
    grant = access.grant(collection)
    field = grant.collection.status_field
    asked = Asked(Query(), user=who.user)
    status: Any = field.default_value if field is not None and action == "create" else None
    found: Item = {}
    if item is not None and action != "create":
        found = await _item(ctx, grant, item, asked)
        status = found["status"]
    permission = grant.of(status)
    level = grant.level(permission, action)
    allowed, reason = _verdict(grant, action, level, found, status, decided=bool(found) or grant.statuses is None)
    if not active:
        allowed, reason = False, "The user is not active: to this server it is the public."
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
        "parameters": [] if condition is None else condition.parameters(asked),
    }


async def _user(ctx: Context, user: str | None) -> tuple[Accountability, bool]:
    """Who a user is to `access`, and whether it is active. Raises ItemNotFound."""
    if user is None:
        return Accountability(), True
    keys = keys_of(ctx.schema.collections["directus_users"], [user])
    rows = await ctx.db.query("SELECT id, role, status FROM directus_users WHERE id = ANY(%s)", (keys,))
    if not rows:
        raise ItemNotFound("There is no such user.")
    id, role, status = rows[0]
    return Accountability(id, role), status == "active"


async def _item(ctx: Context, grant: Grant, item: str, asked: Asked) -> Item:
    """What counts of an item: its status and owner, which actions its row allows, and which masked fields it shows."""
    collection = grant.collection
    judged = [grant.condition(action, "t") for action in ACTIONS[1:]] + [mask.shown for mask in grant.masks]
    status_field = collection.status_field
    columns: list[Composable] = [
        SQL("NULL") if status_field is None else column("t", status_field.field),
        SQL("NULL") if grant.owner is None else column("t", grant.owner),
    ]
    sql = SQL("SELECT {} FROM {} AS t WHERE {} = ANY(%s)").format(
        SQL(", ").join([*columns, *(clause.sql for clause in judged)]),
        Identifier(collection.collection),
        column("t", collection.primary_key.field),
    )
    bound = [value for clause in judged for value in clause.parameters(asked)]
    rows = await ctx.db.query(sql, [*bound, keys_of(collection, [item])])
    if not rows:
        raise ItemNotFound(f'There is no such item in "{collection.collection}".')
    status, owner, *verdicts = rows[0]
    actions = dict(zip(ACTIONS[1:], verdicts, strict=False))
    return {"status": status, "owner": owner, **actions, "shown": verdicts[3:]}


def _verdict(grant: Grant, action: str, level: str, found: Item, status: Any, *, decided: bool) -> tuple[bool, str]:
    """Whether something is allowed, and why, in a sentence."""
    if grant.admin:
        return True, "Administrators may do everything."
    such = f' with the status "{status}"' if grant.statuses is not None and status is not None else ""
    if not grant.allows(action):
        return False, f"No permission of the role lets {action} items of this collection."
    if action == "create":
        return level == "full", f"The level of create for items{such} is {level}."
    if not decided:
        return True, "It depends on the item: the condition says of which."
    if not found:
        if level == "full":
            return True, "The level is full."
        return True, f"The level is {level}: it depends on whose the item is."
    if level not in ROW_LEVELS:
        return False, f"The level for items{such} is none."
    if action != "read" and not found["read"]:
        return False, "The item may not be read, so it does not exist to the user."
    if not found[action]:
        return False, f"The level for items{such} is {level}, and the item is not the user's{' role' if level == 'role' else ''}."
    return True, f"The level for items{such} is {level}."


# --- moving


def export(ctx: Context) -> Item:
    """Roles with their permissions by the names of the roles, as a document: what is as by default is left out. The administrators'
    role is not in it: it may do everything anyway."""
    _require_administrator(ctx)
    schema = ctx.schema
    roles = [role for id, role in schema.roles.items() if id != ADMINISTRATOR]
    return {"roles": [_described(schema, role) for role in sorted(roles, key=lambda role: role["name"].lower())]}


def _described(schema: Snapshot, role: Mapping[str, Any]) -> Item:
    rows = sorted(schema.permissions_of(role["id"]), key=lambda row: (row["collection"], row["status"] or "", row["id"]))
    attributes = {name: _plain(role[name]) for name in ROLE_ATTRIBUTES if role[name] not in (None, False, ())}
    return {"name": role["name"], **attributes, "permissions": [_permission(row) for row in rows]}


def _permission(row: Mapping[str, Any]) -> Item:
    """A permission without what is as by default."""
    found = {"collection": row["collection"]}
    if row["status"] is not None:
        found["status"] = row["status"]
    found |= {name: row[name] for name in LEVELS if row[name] not in (None, "none")}
    return found | {name: list(row[name]) for name in LISTS if row[name]}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


async def import_(ctx: Context, document: Any, options: WriteOptions, *, dry_run: bool = False) -> Item:
    """Makes the roles of a document what it says, permissions included, and gives the `changes`; with *dry_run* it gives them alone.

    A change has `action` (create, update, delete), `role`, for permissions `collection` and `status`, and what it was `before` and is
    `after`. Roles that the document does not name stay as they are. Importing again changes nothing. Raises InvalidRequest,
    InvalidPayload.
    """
    _require_administrator(ctx)
    wanted = _checked(document)
    present = {role["name"].lower(): role for role in ctx.schema.roles.values()}
    changes: list[Item] = []
    for role in wanted:
        changes += _differences(ctx.schema, present.get(role["name"].lower()), role)
    if changes and not dry_run:

        async def work(writer: Writer) -> None:
            for role in wanted:
                await _bring(writer, present.get(role["name"].lower()), role, [c for c in changes if c["role"] == role["name"]])

        await writing(ctx, options, work)
    return {"dry_run": dry_run, "changes": [{n: v for n, v in each.items() if n != "id"} for each in changes]}


def _checked(document: Any) -> list[Item]:
    """The roles of a document. Raises InvalidRequest, InvalidPayload with the place of what is wrong."""
    if not isinstance(document, dict) or not isinstance(document.get("roles"), list):
        raise InvalidRequest('The document has a list of "roles".')
    names = set()
    for number, role in enumerate(document["roles"]):
        place = f"roles[{number}]"
        if not isinstance(role, dict) or not isinstance(role.get("name"), str) or not role["name"].strip():
            raise InvalidRequest(f'{place} needs a "name".')
        _known(role, ("name", "permissions", *ROLE_ATTRIBUTES), place)
        if role["name"].lower() in names:
            raise InvalidRequest(f'{place}: the role "{role["name"]}" is there twice.')
        names.add(role["name"].lower())
        if not isinstance(role.get("permissions", []), list):
            raise InvalidRequest(f'"permissions" of {place} is a list.')
        _check_permissions(role.get("permissions", []), place)
    return list(document["roles"])


def _check_permissions(permissions: Iterable[Any], place: str) -> None:
    keys = set()
    for number, permission in enumerate(permissions):
        here = f"{place}.permissions[{number}]"
        if not isinstance(permission, dict) or not isinstance(permission.get("collection"), str):
            raise InvalidRequest(f'{here} needs a "collection".')
        _known(permission, ("collection", "status", *LEVELS, *LISTS), here)
        for name, levels in LEVELS.items():
            if permission.get(name, "none") not in levels:
                raise InvalidRequest(f'"{name}" of {here} is one of {", ".join(levels)}.')
        for name in LISTS:
            value = permission.get(name, [])
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise InvalidRequest(f'"{name}" of {here} is a list of names.')
        key = (permission["collection"], permission.get("status"))
        if key in keys:
            raise InvalidRequest(f"{here}: the collection is there twice with this status.")
        keys.add(key)


def _known(value: Mapping[str, Any], names: Sequence[str], place: str) -> None:
    unknown = [name for name in value if name not in names]
    if unknown:
        raise InvalidPayload(f"{place} has no attribute " + ", ".join(f'"{name}"' for name in unknown) + ".")


def _differences(schema: Snapshot, role: Mapping[str, Any] | None, wanted: Item) -> list[Item]:
    """What must change for a role to be as wanted."""
    name = wanted["name"]
    if role is not None and role["id"] == ADMINISTRATOR:
        raise InvalidRequest(f'The role "{role["name"]}" may do everything: it has no permissions to import.')
    before = _described(schema, role) if role is not None else {"permissions": []}
    changes: list[Item] = []
    attributes = {each: wanted.get(each) for each in ROLE_ATTRIBUTES if (wanted.get(each) or None) != before.get(each)}
    if role is None:
        after = {each: wanted[each] for each in ROLE_ATTRIBUTES if wanted.get(each)}
        changes.append({"action": "create", "role": name, "before": None, "after": after})
    elif attributes:
        old = {each: before.get(each) for each in attributes}
        changes.append({"action": "update", "role": name, "before": old, "after": attributes})
    ids: dict[tuple[str, str | None], list[int]] = {}
    for row in schema.permissions_of(role["id"]) if role is not None else ():
        ids.setdefault((row["collection"], row["status"]), []).append(row["id"])
    there = {(each["collection"], each.get("status")): each for each in reversed(before["permissions"])}
    for permission in wanted.get("permissions", []):
        key = (permission["collection"], permission.get("status"))
        after = _permission({**dict.fromkeys((*LEVELS, *LISTS)), "status": None, **permission})
        present = there.get(key)
        change = {"role": name, "collection": key[0], "status": key[1], "before": present, "after": after}
        if present is None:
            changes.append({"action": "create", **change})
        elif present != after:
            changes.append({"action": "update", **change, "id": ids[key][0]})
    named = {(each["collection"], each.get("status")) for each in wanted.get("permissions", [])}
    for key, found in ids.items():
        for id in found if key not in named else found[1:]:
            change = {"role": name, "collection": key[0], "status": key[1], "before": there[key], "after": None}
            changes.append({"action": "delete", **change, "id": id})
    return changes


async def _bring(writer: Writer, role: Mapping[str, Any] | None, wanted: Item, changes: Sequence[Item]) -> None:
    """Makes the changes of one role."""
    of_role = [change for change in changes if "collection" not in change]
    id = role["id"] if role is not None else None
    for change in of_role:
        if change["action"] == "create":
            (id,) = await writer.create(ROLES, [{"name": wanted["name"], **change["after"]}])
            # What every new role gets is not what the document says.
            await writer.ctx.db.query("DELETE FROM directus_permissions WHERE role = %s", (id,))
        else:
            await writer.update(ROLES, [(id, change["after"])])
    gone = [change["id"] for change in changes if change["action"] == "delete"]
    if gone:
        await writer.delete(PERMISSIONS, gone)
    new = [_whole(change["after"], id) for change in changes if change["action"] == "create" and "collection" in change]
    if new:
        await writer.create(PERMISSIONS, new)
    changed = [(c["id"], _whole(c["after"], id)) for c in changes if c["action"] == "update" and "collection" in c]
    if changed:
        await writer.update(PERMISSIONS, changed)


def _whole(permission: Mapping[str, Any], role: Any) -> Item:
    """A permission with everything that its row says."""
    return {"status": None, **dict.fromkeys(LEVELS, "none"), **{name: [] for name in LISTS}, **permission, "role": role}
