"""Users as resources."""

from collections.abc import Mapping, Sequence
from typing import Any

from directus_tx.access import access_of
from directus_tx.access.history import sees_kept
from directus_tx.errors import UpdateForbidden
from directus_tx.items.changes import Item, Key
from directus_tx.items.rows import Locked
from directus_tx.items.write import Writer, in_transaction
from directus_tx.scim.conditions import Filterable, constant, flag, id_field, id_of, number_field, text_field
from directus_tx.scim.dialects import Dialect
from directus_tx.scim.documents import Document, Shown, checked_document
from directus_tx.scim.errors import InvalidValue
from directus_tx.scim.patch import apply, operations_of
from directus_tx.scim.resources import Resources, Scim, Written, given_external_id, without_external_id
from directus_tx.scim.schemas import ENTERPRISE, GROUPS, USERS
from directus_tx.scim.stored import Kept, read_kept, write_kept

KEPT = frozenset(each.name for each in USERS.schema.attributes if each.stored) | {ENTERPRISE}
"""The attributes that the server only keeps."""

KEPT_PARTS = frozenset({"formatted", "middleName", "honorificPrefix", "honorificSuffix"})
"""The parts of a name that the server only keeps."""

ROLE_COLLECTION = "directus_roles"
ACTIVE, DEACTIVATED, NEW = "active", "suspended", "draft"
"""The statuses of users who are active, who have been deactivated, and who are created and not active."""

UNKNOWN = ""
"""The status of a stored user that is hidden from the caller."""


class UserResources(Resources):
    """The users of a project."""

    kind = USERS
    collection = "directus_users"
    fields = (
        "id",
        "external_id",
        "status",
        "email",
        "first_name",
        "last_name",
        "title",
        "locale",
        "timezone",
        "role.id",
        "role.external_id",
        "role.name",
    )

    def filterables(self, dialect: Dialect) -> Mapping[str, Filterable]:
        return _STANDARD if dialect.standard else _DIRECTUS_8

    async def documents(self, scim: Scim, items: Sequence[Item], shown: Shown) -> list[Document]:
        kept = await self.kept(scim, items)
        everything = _sees_kept(scim)
        return [self._document(scim, item, kept.get(item["id"]), everything=everything) for item in items]

    def _document(self, scim: Scim, item: Item, kept: Kept | None, *, everything: bool) -> Document:
        email, status = item.get("email"), item.get("status")
        first, last = item.get("first_name"), item.get("last_name")
        found: Document = {
            "userName": email,
            "name": {"familyName": last, "givenName": first},
            "emails": [{"value": email, "type": "work", "primary": True}] if email is not None else [],
            "locale": item.get("locale"),
            "timezone": item.get("timezone"),
            "active": None if status is None else status == ACTIVE,
        }
        if scim.dialect.standard:
            found["title"] = item.get("title")
            found["groups"] = _groups(scim, item.get("role"))
            if kept is not None and everything:
                found = _with_kept(found, kept.attributes)
        return self.finished(scim, item, found, kept)

    async def create(self, scim: Scim, body: Mapping[str, Any]) -> Written:
        document = checked_document(self.kind, body)
        payload = _payload(document, set(document), None)
        if not payload.get("email"):
            raise InvalidValue('A user needs a "userName", an e-mail address.')
        _check_address(payload)
        external_id = given_external_id(self.collection, scim, body, document)
        provided = {} if external_id is None else {"external_id": external_id}

        async def work(writer: Writer) -> Written:
            (key,) = await writer.create(self.collection, [payload], provided=provided)
            if scim.dialect.standard:
                await write_kept(writer, self.collection, key, None, Kept(external_id, _kept_of(document)))
            return await self.written(scim.within(writer.ctx), key)

        return await in_transaction(scim.items, scim.ctx, scim.options, work)

    async def change(self, scim: Scim, id: str, body: Mapping[str, Any], *, patch: bool) -> Written:
        return await self.change_key(scim, (await self.find(scim, id))["id"], body, patch=patch)

    async def change_key(self, scim: Scim, key: Key, body: Mapping[str, Any], *, patch: bool) -> Written:
        """Changes the user with a key, as `change` does."""
        operations = operations_of(self.kind, body) if patch else []
        given = {} if patch else checked_document(self.kind, without_external_id(scim, body))
        touched = {each.name for each in operations} | set(given)
        if not scim.dialect.standard:
            touched -= KEPT | {"externalId"}

        async def work(writer: Writer) -> Written:
            inner = scim.within(writer.ctx)
            locked = await self.lock(inner, key)
            kept = (await read_kept(writer.ctx, self.collection, [key])).get(key)
            hidden = access_of(writer.ctx).grant(self.collection).hidden_in(locked.row)
            before = _known_document(locked.row, kept, hidden, everything=_sees_kept(inner))
            after = apply(operations, before) if patch else _merged(before, given)
            await self._write(writer, inner, key, locked, kept, hidden, before, after, touched)
            return await self.written(inner, key)

        return await in_transaction(scim.items, scim.ctx, scim.options, work)

    async def _write(
        self,
        writer: Writer,
        scim: Scim,
        key: Key,
        locked: Locked,
        kept: Kept | None,
        hidden: frozenset[str],
        before: Document,
        after: Document,
        touched: set[str],
    ) -> None:
        payload = _payload(after, touched, UNKNOWN if "status" in hidden else locked.row["status"])
        # A PUT has all attributes, also those that the caller may not change. What is hidden counts as changed: whether it must be
        # permitted does not depend on what is stored. So does a password, of which the row has the hash.
        unknown = hidden | {"password"}
        payload = {name: value for name, value in payload.items() if name in unknown or value != locked.row[name]}
        _check_address(payload)
        changed = {name for name in touched & (KEPT | {"externalId"}) if (after.get(name) or None) != (before.get(name) or None)}
        # Of names and addresses, only parts are kept.
        changed |= {name for name in touched & {"name", "emails"} if _kept_of(after).get(name) != _kept_of(before).get(name)}
        if changed and not _sees_kept(scim):
            names = ", ".join(f'"{name}"' for name in sorted(changed))
            raise UpdateForbidden(f"You may not write {names}: only callers who may change all users may.")
        if payload or changed:
            await writer.update(self.collection, [(key, payload)])
        else:
            grant = access_of(scim.ctx).grant(self.collection)
            grant.check_update(locked.row, {}, scim.options.comment, update=locked.update, delete=locked.delete)
        if changed:
            stored = locked.row["external_id"] if kept is None else kept.external_id
            external_id = after.get("externalId") if "externalId" in touched else stored
            await write_kept(writer, self.collection, key, kept, Kept(external_id or None, _kept_of(after)))


def _sees_kept(scim: Scim) -> bool:
    """Whether the caller may see and write what is kept of users: the attributes are no fields, so no permission names them."""
    return sees_kept(access_of(scim.ctx).grant("directus_users"))


def _groups(scim: Scim, role: Any) -> list[Document]:
    """Returns the group of a user. A caller who may not read roles sees none."""
    if not isinstance(role, dict) or role.get("id") is None:
        return []
    id = id_of(ROLE_COLLECTION, role["id"], role.get("external_id"))
    return [{"value": id, "$ref": scim.location(GROUPS, id), "display": role.get("name"), "type": "direct"}]


def _known_document(row: Mapping[str, Any], kept: Kept | None, hidden: frozenset[str], *, everything: bool) -> Document:
    """Returns what the caller may know of a stored user, as the document to which changes are applied. It is not shown. What is *hidden*
    is not in it, and what is kept only with *everything*: otherwise the errors of changes would tell what is stored."""
    fields = {name: value for name, value in row.items() if name not in hidden}
    email = {"value": fields["email"]} if "email" in fields else {}
    names = {"familyName": "last_name", "givenName": "first_name"}
    found: Document = {
        "name": {part: fields[name] for part, name in names.items() if name in fields},
        "emails": [{**email, "type": "work", "primary": True}],
        **{name: fields[name] for name in ("title", "locale", "timezone") if name in fields},
    }
    if "external_id" in fields:
        found["externalId"] = fields["external_id"] if kept is None else kept.external_id
    if "email" in fields:
        found["userName"] = fields["email"]
    if "status" in fields:
        found["active"] = fields["status"] == ACTIVE
    return _with_kept(found, kept.attributes) if kept is not None and everything else found


def _with_kept(document: Document, kept: Mapping[str, Any]) -> Document:
    """Returns a document with what is kept of a user, also of the name and of the address."""
    emails = [{**each, **kept.get("emails", {})} for each in document["emails"]]
    return {**kept, **document, "name": {**kept.get("name", {}), **document["name"]}, "emails": emails}


def _merged(before: Document, given: Document) -> Document:
    """Returns a document with the attributes that are given. What is not given stays, as in Directus 8, which RFC 7644 allows."""
    name = given.get("name")
    return before | given | ({"name": {**before["name"], **name}} if isinstance(name, dict) else {})


def _payload(document: Document, touched: set[str], status: Any) -> Item:
    """Returns the fields of a user that follow from the attributes *touched*. *status* is the present one, None for a new user
    and UNKNOWN for one whose status is hidden. Raises InvalidValue."""
    payload: Item = {}
    address = _address(document.get("emails")) if "emails" in touched else None
    if address is None and "userName" in touched:
        address = document.get("userName")
    if address:
        payload["email"] = address
    elif status is not None and touched & {"emails", "userName"}:
        raise InvalidValue("A user needs an e-mail address.")
    if "name" in touched:
        name = document.get("name") or {"familyName": None, "givenName": None}
        parts = {"familyName": "last_name", "givenName": "first_name"}
        payload |= {field: name[part] for part, field in parts.items() if part in name}
    payload |= {name: document.get(name) for name in ("title", "locale") if name in touched}
    if "timezone" in touched:
        payload["timezone"] = document.get("timezone") or "UTC"
    if "active" in touched:
        active = bool(document.get("active"))
        if status == UNKNOWN or active != (status == ACTIVE):
            payload["status"] = ACTIVE if active else DEACTIVATED
    if document.get("password") and "password" in touched:
        payload["password"] = document["password"]
    return payload


def _check_address(payload: Item) -> None:
    """Raises InvalidValue for an address without an at sign: the error of the validation would name a field that clients do not know."""
    if "@" not in str(payload.get("email", "@")):
        raise InvalidValue('"userName" must be an e-mail address, unless "emails" has one.')


def _address(emails: Any) -> str | None:
    """Returns the address of a user: the primary one, otherwise that of the type work, otherwise the first one."""
    return next((str(each["value"]) for each in _best(emails)), None)


def _best(emails: Any) -> list[Document]:
    """Returns the address of a user, as the only one of a list, with its sub-attributes. The list is empty if there is none."""
    found = [each for each in emails or () if each.get("value")]
    return sorted(found, key=lambda each: (each.get("primary") is not True, str(each.get("type")).lower() != "work"))[:1]


def _kept_of(document: Document) -> Document:
    """Returns the attributes of a document that are kept as they are, without those that have no value."""
    found = {name: document[name] for name in KEPT if document.get(name)}
    if isinstance(found.get(ENTERPRISE), dict):
        found[ENTERPRISE] = {name: value for name, value in found[ENTERPRISE].items() if value}
    found["name"] = {name: value for name, value in (document.get("name") or {}).items() if name in KEPT_PARTS and value}
    if any(each.get("primary") is False for each in _best(document.get("emails"))):
        found["emails"] = {"primary": False}
    return {name: value for name, value in found.items() if value}


_COMMON: Mapping[str, Filterable] = {
    "id": id_field("directus_users"),
    "username": text_field("email"),
    "emails": text_field("email"),
    "emails.value": text_field("email"),
    "emails.type": constant("work"),
    "name.familyname": text_field("last_name"),
    "name.givenname": text_field("first_name"),
    "title": text_field("title"),
    "locale": text_field("locale"),
    "timezone": text_field("timezone"),
    "active": flag("status", ACTIVE),
    "groups": id_field(ROLE_COLLECTION, "role"),
    "groups.value": id_field(ROLE_COLLECTION, "role"),
    "groups.display": text_field("role", "name"),
    "meta.resourcetype": constant("User"),
}
_STANDARD = _COMMON
_DIRECTUS_8 = {**_COMMON, "externalid": number_field("id")}
