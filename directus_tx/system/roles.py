"""Roles: the permissions of new roles, the two roles that cannot be deleted, and the export and import of roles as a document."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from directus_tx.access import Grant
from directus_tx.access.caller import require_administrator
from directus_tx.context import ADMINISTRATOR, PUBLIC, Context
from directus_tx.db.sql import SQL, Identifier
from directus_tx.errors import InvalidPayload, InvalidRequest, Unauthorized, UpdateForbidden
from directus_tx.items import Writer, in_transaction
from directus_tx.items.changes import Change, Event, Item, Key
from directus_tx.items.history import Record, chunks, values
from directus_tx.items.rules import CollectionRules
from directus_tx.items.service import Items
from directus_tx.query import WriteOptions
from directus_tx.schema.model import Snapshot
from directus_tx.schema.system import CATALOGUE
from directus_tx.suggestions import suggestion
from directus_tx.system.permissions import LEVELS

ROLES, PERMISSIONS = "directus_roles", "directus_permissions"
LISTS = ("read_field_blacklist", "write_field_blacklist", "status_blacklist")
ROLE_ATTRIBUTES = ("description", "ip_whitelist", "module_listing", "collection_listing", "enforce_2fa")
_NAMES = ("collection", "status", "create", "read", "update", "delete", "comment", "explain")
_LEVELS = frozenset(_NAMES[2:])


_LEAVE = """
UPDATE directus_users AS u SET role = NULL
WHERE u.role = ANY(%s) AND NOT EXISTS (SELECT FROM directus_roles AS r WHERE r.id = u.role)"""


class RoleRules(CollectionRules):
    """The rules of directus_roles."""

    administrator_written = frozenset({"external_id"})

    async def prepare(self, ctx: Context, changes: Sequence[Change]) -> None:
        """Gives new roles an external id, by which other systems identify them. Raises UpdateForbidden if a caller who is not an
        administrator changes the administrators' role."""
        async for change in ctx.in_slices(changes):
            if change.new:
                change.payload["external_id"] = change.payload.get("external_id") or str(uuid.uuid4())
            elif change.key == ADMINISTRATOR and not ctx.accountability.admin:
                raise UpdateForbidden("Only administrators may change the administrators' role.")

    async def check(self, ctx: Context, grant: Grant, changes: Sequence[Change]) -> None:
        """Takes the role from users who have had a deleted role with the id of a new one: they are not members of the new one."""
        ids = [change.row["id"] for change in changes if change.new and change.row.get("id") is not None]
        if ids:
            await ctx.db.query(_LEAVE, (ids,))

    async def prepare_delete(self, ctx: Context, keys: Sequence[Key]) -> None:
        """Raises Unauthorized for the roles of administrators and of the public, which every project has."""
        if {ADMINISTRATOR, PUBLIC} & set(keys):
            raise Unauthorized("The roles of administrators and of the public cannot be deleted.")

    async def after(self, ctx: Context, events: Sequence[Event]) -> Sequence[Record]:
        """Gives new roles the permissions of the catalogue, and deletes the permissions of deleted roles."""
        new = [event.key for event in events if event.before is None]
        deleted = [event.key for event in events if event.after is None]
        rows = [(key, row) for key in new for row in CATALOGUE.role_permissions]
        names = SQL(", ").join([Identifier(name) for name in ("role", *_NAMES)])
        for chunk in chunks(rows):
            bound: list[Any] = []
            for key, row in chunk:
                bound += [key, *(row.get(name, "none" if name in _LEVELS else None) for name in _NAMES)]
            sql = SQL("INSERT INTO directus_permissions ({}) VALUES {}")
            await ctx.db.query(sql.format(names, values(len(chunk), len(_NAMES) + 1)), bound)
        if deleted:
            await ctx.db.query("DELETE FROM directus_permissions WHERE role = ANY(%s)", (deleted,))
        return ()


# --- documents


def export_roles(ctx: Context) -> Item:
    """Returns all roles with their permissions as a document, sorted by name. Default values are left out, and so is the
    administrators' role, which may do everything."""
    require_administrator(ctx)
    schema = ctx.schema
    roles = [role for id, role in schema.roles.items() if id != ADMINISTRATOR]
    return {"roles": [_described(schema, role) for role in sorted(roles, key=lambda role: role["name"].lower())]}


def _described(schema: Snapshot, role: Mapping[str, Any]) -> Item:
    rows = sorted(schema.permissions_of(role["id"]), key=lambda row: (row["collection"], row["status"] or "", row["id"]))
    attributes = {name: _plain(role[name]) for name in ROLE_ATTRIBUTES if role[name] not in (None, False, ())}
    return {"name": role["name"], **attributes, "permissions": [_permission(row) for row in rows]}


def _permission(row: Mapping[str, Any]) -> Item:
    """Returns a permission without default values, and without levels that do not exist, which allow nothing."""
    found = {"collection": row["collection"]}
    if row["status"] is not None:
        found["status"] = row["status"]
    found |= {name: row[name] for name, levels in LEVELS.items() if row[name] in levels and row[name] != "none"}
    return found | {name: list(row[name]) for name in LISTS if row[name]}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


async def import_roles(service: Items, ctx: Context, document: Any, options: WriteOptions, *, dry_run: bool = False) -> Item:
    """Changes roles and their permissions to match a document and returns the `changes`. With *dry_run* nothing is written.

    A change has the `action` (create, update or delete), the `role`, for permissions also `collection` and `status`, and the
    values `before` and `after`. Roles that are not in the document are not changed. Importing the same document again changes
    nothing. Raises InvalidRequest or InvalidPayload.
    """
    require_administrator(ctx)
    wanted = _checked(document)
    present = {role["name"].lower(): role for role in ctx.schema.roles.values()}
    changes: list[Item] = []
    for role in wanted:
        changes += _differences(ctx.schema, present.get(role["name"].lower()), role)
    if changes and not dry_run:

        async def work(writer: Writer) -> None:
            for role in wanted:
                await _bring(writer, present.get(role["name"].lower()), role, [c for c in changes if c["role"] == role["name"]])

        await in_transaction(service, ctx, options, work)
    return {"dry_run": dry_run, "changes": [{n: v for n, v in each.items() if n != "id"} for each in changes]}


def _checked(document: Any) -> list[Item]:
    """Returns the roles of a document. Raises InvalidRequest or InvalidPayload, naming the place of the fault."""
    if not isinstance(document, dict) or not isinstance(document.get("roles"), list):
        raise InvalidRequest('The document must contain a list of "roles".')
    names = set()
    for number, role in enumerate(document["roles"]):
        place = f"roles[{number}]"
        if not isinstance(role, dict) or not isinstance(role.get("name"), str) or not role["name"].strip():
            raise InvalidRequest(f'{place} requires a "name".')
        _known(role, ("name", "permissions", *ROLE_ATTRIBUTES), place)
        if role["name"].lower() in names:
            raise InvalidRequest(f'{place}: the role "{role["name"]}" appears twice.')
        names.add(role["name"].lower())
        if not isinstance(role.get("permissions", []), list):
            raise InvalidRequest(f'"permissions" of {place} must be a list.')
        _check_permissions(role.get("permissions", []), place)
    return list(document["roles"])


def _check_permissions(permissions: Iterable[Any], place: str) -> None:
    for number, permission in enumerate(permissions):
        here = f"{place}.permissions[{number}]"
        if not isinstance(permission, dict) or not isinstance(permission.get("collection"), str):
            raise InvalidRequest(f'{here} requires a "collection".')
        _known(permission, ("collection", "status", *LEVELS, *LISTS), here)
        if not isinstance(permission.get("status"), (str, type(None))):
            raise InvalidRequest(f'"status" of {here} must be a text.')
        for name, levels in LEVELS.items():
            if permission.get(name, "none") not in levels:
                meant = suggestion(str(permission[name]), levels)
                raise InvalidRequest(f'"{name}" of {here} must be one of {", ".join(levels)}{meant}')
        for name in LISTS:
            value = permission.get(name, [])
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise InvalidRequest(f'"{name}" of {here} must be a list of names.')


def _known(value: Mapping[str, Any], names: Sequence[str], place: str) -> None:
    unknown = [name for name in value if name not in names]
    if unknown:
        meant = suggestion(unknown[0], names) if len(unknown) == 1 else "."
        raise InvalidPayload(f"Unknown attributes of {place}: " + ", ".join(f'"{name}"' for name in unknown) + meant)


_Place = tuple[str, str | None]
"""The collection and the status of a permission."""


def _differences(schema: Snapshot, role: Mapping[str, Any] | None, wanted: Item) -> list[Item]:
    """Returns the changes that make a role match *wanted*."""
    name = wanted["name"]
    if role is not None and role["id"] == ADMINISTRATOR:
        raise InvalidRequest(f'Permissions of the role "{role["name"]}" cannot be imported: it may do everything.')
    before = _described(schema, role) if role is not None else {"permissions": []}
    changes: list[Item] = []
    attributes = {each: wanted.get(each) for each in ROLE_ATTRIBUTES if (wanted.get(each) or None) != before.get(each)}
    if role is None:
        after = {each: wanted[each] for each in ROLE_ATTRIBUTES if wanted.get(each)}
        changes.append({"action": "create", "role": name, "before": None, "after": after})
    elif attributes:
        old = {each: before.get(each) for each in attributes}
        changes.append({"action": "update", "role": name, "before": old, "after": attributes})
    # A role can have several permissions for a collection and status. They are compared in the order of their ids, because it decides
    # which of them counts.
    there: dict[_Place, list[tuple[int, Item]]] = {}
    for row in schema.permissions_of(role["id"]) if role is not None else ():
        there.setdefault((row["collection"], row["status"]), []).append((row["id"], _permission(row)))
    for permission in wanted.get("permissions", []):
        place = (permission["collection"], permission.get("status"))
        after = _permission({**dict.fromkeys((*LEVELS, *LISTS)), "status": None, **permission})
        change = {"role": name, "collection": place[0], "status": place[1]}
        present = there.get(place)
        if not present:
            changes.append({"action": "create", **change, "before": None, "after": after})
            continue
        id, old = present.pop(0)
        if old != after:
            changes.append({"action": "update", **change, "before": old, "after": after, "id": id})
    for place, left in there.items():
        for id, old in left:
            change = {"role": name, "collection": place[0], "status": place[1], "before": old, "after": None}
            changes.append({"action": "delete", **change, "id": id})
    return changes


async def _bring(writer: Writer, role: Mapping[str, Any] | None, wanted: Item, changes: Sequence[Item]) -> None:
    """Writes the changes of one role."""
    of_role = [change for change in changes if "collection" not in change]
    id = role["id"] if role is not None else None
    for change in of_role:
        if change["action"] == "create":
            (id,) = await writer.create(ROLES, [{"name": wanted["name"], **change["after"]}])
            # Remove the permissions that new roles get: the role has only those of the document.
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
    """Returns a permission with a value for every column."""
    return {"status": None, **dict.fromkeys(LEVELS, "none"), **{name: [] for name in LISTS}, **permission, "role": role}
