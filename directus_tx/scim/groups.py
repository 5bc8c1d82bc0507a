"""Roles as resources. The members of a group are the users of the role; a user has one role."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen

from directus_tx.access import access_of, refusals
from directus_tx.context import PUBLIC
from directus_tx.errors import UpdateForbidden
from directus_tx.items.changes import Item, Key
from directus_tx.items.rows import lock_rows
from directus_tx.items.write import Writer, in_transaction
from directus_tx.query import Condition
from directus_tx.scim.conditions import Filterable, constant, id_field, id_of, key_in, number_field, text_field
from directus_tx.scim.dialects import Dialect
from directus_tx.scim.documents import Document, Shown, checked_document, checked_value
from directus_tx.scim.errors import InvalidPath, InvalidValue, NotMutable, TooMany
from directus_tx.scim.filters import Comparison, Filter, Group
from directus_tx.scim.patch import Operation, apply, operations_of
from directus_tx.scim.resources import (
    Resources,
    Scim,
    Written,
    given_external_id,
    in_batches,
    read_all,
    without_external_id,
)
from directus_tx.scim.schemas import GROUPS, USERS
from directus_tx.scim.stored import Kept, read_kept, write_kept

USER_COLLECTION = "directus_users"
MEMBERS = "members"
_NAMES = ("id", "external_id", "role", "email", "first_name", "last_name")


@frozen
class Membership:
    """A change of the members of a group: users who join, and users who leave, by their ids; or everybody but those who join
    leaves."""

    joining: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()
    everybody: bool = False

    def __bool__(self) -> bool:
        return bool(self.joining or self.leaving or self.everybody)

    def then(self, action: str, ids: Sequence[str] | None) -> "Membership":
        """Returns this change followed by an operation. *ids* are None for all members."""
        if action == "replace" or ids is None:
            return Membership(tuple(dict.fromkeys(ids or ())), (), everybody=True)
        joining, leaving = dict.fromkeys(self.joining), dict.fromkeys(self.leaving)
        to, off = (joining, leaving) if action == "add" else (leaving, joining)
        for id in ids:
            off.pop(id, None)
            to[id] = None
        return Membership(tuple(joining), tuple(leaving), self.everybody)


class GroupResources(Resources):
    """The roles of a project."""

    kind = GROUPS
    collection = "directus_roles"
    fields = ("id", "external_id", "name")

    def filterables(self, dialect: Dialect) -> Mapping[str, Filterable]:
        return _STANDARD if dialect.standard else _DIRECTUS_8

    async def documents(self, scim: Scim, items: Sequence[Item], shown: Shown) -> list[Document]:
        with_members = shown.shows(MEMBERS)
        kept = await self.kept(scim, items)
        members = await self._members(scim, [item["id"] for item in items]) if with_members and items else {}
        found = []
        for item in items:
            attributes: Document = {"displayName": item.get("name")}
            if with_members:
                attributes[MEMBERS] = members.get(item["id"], [])
            found.append(self.finished(scim, item, attributes, kept.get(item["id"]), complete=with_members))
        return found

    async def _members(self, scim: Scim, keys: Sequence[Key]) -> dict[Key, list[Document]]:
        """Returns the members of groups that the caller may see, by the keys of the roles. Raises TooMany."""
        if not _sees_members(scim):
            return {}
        roles = Condition(("role",), "in", tuple([str(key) for key in keys]))
        users = await read_all(scim, USER_COLLECTION, _NAMES, roles, scim.max_members + 1)
        if len(users) > scim.max_members:
            text = f"The groups have more than {scim.max_members} members (scim.max_members)"
            raise TooMany(f"{text}: ask for fewer groups, or with excludedAttributes=members.")
        found: dict[Key, list[Document]] = {}
        for user in users:
            found.setdefault(user["role"], []).append(_member(scim, user))
        return found

    async def create(self, scim: Scim, body: Mapping[str, Any]) -> Written:
        document = checked_document(self.kind, body)
        if not document.get("displayName"):
            raise InvalidValue('A group needs a "displayName".')
        external_id = given_external_id(self.collection, scim, body, document)
        provided = {} if external_id is None else {"external_id": external_id}
        membership = Membership().then("add", _ids(scim, document.get(MEMBERS) or ()))

        async def work(writer: Writer) -> Written:
            (key,) = await writer.create(self.collection, [{"name": document["displayName"]}], provided=provided)
            inner = scim.within(writer.ctx)
            if scim.dialect.standard:
                await write_kept(writer, self.collection, key, None, Kept(external_id))
            await self._change_members(writer, inner, key, membership)
            return await self.written(inner, key)

        return await in_transaction(scim.items, scim.ctx, scim.options, work)

    async def change(self, scim: Scim, id: str, body: Mapping[str, Any], *, patch: bool) -> Written:
        membership, operations, given = Membership(), list[Operation](), Document()
        if patch:
            for each in operations_of(self.kind, body):
                if each.name == MEMBERS:
                    membership = membership.then(*_changed_members(scim, each))
                    _check_number(scim, len(membership.joining) + len(membership.leaving))
                else:
                    operations.append(each)
        else:
            given = checked_document(self.kind, without_external_id(scim, body))
            if MEMBERS in given:
                membership = membership.then("replace", _ids(scim, given.pop(MEMBERS) or ()))
        touched = {each.name for each in operations} | set(given)
        if not scim.dialect.standard:
            touched -= {"externalId"}
        key = (await self.find(scim, id))["id"]

        async def work(writer: Writer) -> Written:
            inner = scim.within(writer.ctx)
            locked = await self.lock(inner, key)
            kept = (await read_kept(writer.ctx, self.collection, [key])).get(key)
            hidden = access_of(writer.ctx).grant(self.collection).hidden_in(locked.row)
            before: Document = {}
            if "name" not in hidden:
                before["displayName"] = locked.row["name"]
            if "external_id" not in hidden:
                before["externalId"] = locked.row["external_id"] if kept is None else kept.external_id
            after = apply(operations, before) if patch else before | given
            # What is hidden counts as changed: whether it must be permitted does not depend on what is stored.
            changed = {name for name in touched if name not in before or after.get(name) != before[name]}
            if "displayName" in changed and not after["displayName"]:
                raise InvalidValue('A group needs a "displayName".')
            if changed:
                await writer.update(self.collection, [(key, {"name": after["displayName"]} if "displayName" in changed else {})])
            elif not membership:
                grant = access_of(writer.ctx).grant(self.collection)
                grant.check_update(locked.row, {}, scim.options.comment, update=locked.update, delete=locked.delete)
            if "externalId" in changed:
                await write_kept(writer, self.collection, key, kept, Kept(after["externalId"] or None))
            await self._change_members(writer, inner, key, membership)
            return await self.written(inner, key)

        return await in_transaction(scim.items, scim.ctx, scim.options, work)

    async def written(self, scim: Scim, key: Key) -> Written:
        try:
            return await super().written(scim, key)
        except TooMany:
            return Written(None)

    async def _change_members(self, writer: Writer, scim: Scim, role: Key, membership: Membership) -> None:
        """Gives users the role, and takes it from others. Raises InvalidValue if a user who joins does not exist, UpdateForbidden
        if the caller may not change the role of a user or may not know whether a user who leaves has it, LastAdministrator."""
        if not membership:
            return
        if role == PUBLIC and membership.joining:
            raise UpdateForbidden("The public role has no members.")
        joining = await self._users(scim, membership.joining)
        unknown = [id for id in membership.joining if id.lower() not in joining]
        if unknown:
            raise InvalidValue("There is no user " + ", ".join(f'"{id[:100]}"' for id in unknown[:10]) + ".")
        keys = set(joining.values())
        leaving = set((await self._users(scim, membership.leaving)).values())
        if membership.everybody and _sees_members(scim):
            present = await read_all(scim, USER_COLLECTION, ("id",), Condition(("role",), "eq", str(role)), scim.max_members + 1)
            if len(present) > scim.max_members:
                raise TooMany(
                    f"The group has more than {scim.max_members} members (scim.max_members): add or remove single ones."
                )
            leaving |= {user["id"] for user in present} - keys
        both = sorted(keys | leaving)
        if not both:
            return
        grant = access_of(scim.ctx).grant(USER_COLLECTION)
        locked = await lock_rows(scim.ctx, grant, both, lambda row: refusals.no_item(grant))
        changes: list[tuple[Key, Item]] = []
        for key in both:
            row = locked[key].row
            hidden = "role" in grant.hidden_in(row)
            if hidden and key not in keys:
                raise UpdateForbidden("You may not take users out of a group whose role you may not read.")
            # A role that is hidden counts as changed: whether that must be permitted does not depend on what is stored.
            if hidden or (row["role"] == role) != (key in keys):
                changes.append((key, {"role": role if key in keys else None}))
        if changes:
            await writer.update(USER_COLLECTION, changes, several=True)

    async def _users(self, scim: Scim, ids: Sequence[str]) -> dict[str, Key]:
        """Returns the keys of the users with these ids, by the ids in lower case. Directus 8 shows members by their addresses, so
        ids that nobody has can be addresses."""
        found: dict[str, Key] = {}
        keys = [str(key) for id in ids if (key := key_in(USER_COLLECTION, id)) is not None]
        for batch in in_batches(keys):
            condition = Condition(("id",), "in", tuple(batch))
            for user in await read_all(scim, USER_COLLECTION, ("id", "external_id"), condition, len(batch)):
                if not user.get("external_id"):
                    found[id_of(USER_COLLECTION, user["id"], None)] = user["id"]
        for name in ("external_id",) if scim.dialect.standard else ("external_id", "email"):
            left = [id for id in ids if id.lower() not in found]
            for batch in in_batches(left):
                condition = Condition((name,), "in", tuple(batch))
                for user in await read_all(scim, USER_COLLECTION, ("id", name), condition, len(batch)):
                    found[str(user.get(name)).lower()] = user["id"]
        return found


def _sees_members(scim: Scim) -> bool:
    """Whether the caller may see which role users have."""
    grant = access_of(scim.ctx).grant(USER_COLLECTION)
    return grant.read and "role" not in grant.hidden


def _member(scim: Scim, user: Item) -> Document:
    id = id_of(USER_COLLECTION, user["id"], user.get("external_id"))
    display = " ".join(part for part in (user.get("first_name"), user.get("last_name")) if part) or user.get("email")
    if scim.dialect.standard:
        return {"value": id, "$ref": scim.location(USERS, id), "type": "User"}
    return {"value": user.get("email"), "$ref": scim.location(USERS, id), "display": display}


def _ids(scim: Scim, members: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns the ids of members in a document. Raises InvalidValue if one has none, or there are too many."""
    found = []
    for member in members:
        id = member.get("value")
        if not id:
            raise InvalidValue('A member needs a "value", the id of a user.')
        found.append(id)
    _check_number(scim, len(found))
    return found


def _check_number(scim: Scim, number: int) -> None:
    """Raises InvalidValue if a request names more members than it may."""
    if number > scim.max_members:
        raise InvalidValue(f"A request may name up to {scim.max_members} members (scim.max_members).")


def _changed_members(scim: Scim, operation: Operation) -> tuple[str, list[str] | None]:
    """Returns the action of an operation on members, and the ids that it names, None for all. Raises InvalidValue, InvalidPath,
    NotMutable."""
    if operation.part is not None or (operation.filter is not None and operation.action != "remove"):
        raise NotMutable("Members are added and removed, but not changed.")
    if operation.filter is not None:
        return operation.action, list(_named(operation.filter))
    assert operation.attribute is not None
    if operation.action == "remove" and operation.value is None:
        return "remove", None
    # Entra ID names the members to remove in the value.
    return operation.action, _ids(scim, checked_value(operation.attribute, operation.value) or ())


def _named(filter: Filter) -> Iterable[str]:
    """Yields the ids that a filter of members names."""
    if isinstance(filter, Group) and filter.kind == "any":
        for each in filter.members:
            yield from _named(each)
    elif (
        isinstance(filter, Comparison)
        and filter.operator == "eq"
        and filter.path.names[0].lower() == "value"
        and isinstance(filter.value, (str, int))
    ):
        yield str(filter.value)
    else:
        raise InvalidPath('Members are chosen by their ids: members[value eq "..."].')


_COMMON: Mapping[str, Filterable] = {
    "id": id_field("directus_roles"),
    "displayname": text_field("name"),
    "meta.resourcetype": constant("Group"),
}
_STANDARD = {
    **_COMMON,
    "members": id_field(USER_COLLECTION, "users"),
    "members.value": id_field(USER_COLLECTION, "users"),
}
_DIRECTUS_8 = {
    **_COMMON,
    "externalid": number_field("id"),
    "members": text_field("users", "email"),
    "members.value": text_field("users", "email"),
}
