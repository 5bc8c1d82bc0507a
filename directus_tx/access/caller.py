"""The grants of one caller on each collection, and the errors raised when a grant does not allow a request."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import frozen

from directus_tx.access import history, subjects
from directus_tx.access.grant import (
    EVERYTHING,
    LEVEL_BEFORE_ITEM,
    NOT_FOR_THE_PUBLIC,
    NOTHING,
    READ_ONLY,
    Grant,
    Permission,
    permission_of,
)
from directus_tx.access.view import Subjects
from directus_tx.context import ADMINISTRATOR, PUBLIC, Accountability, Context
from directus_tx.errors import (
    AlterForbidden,
    ApiError,
    CollectionNotFound,
    DeleteForbidden,
    ItemNotFound,
    ReadForbidden,
    Unauthorized,
    UpdateForbidden,
)
from directus_tx.schema.model import ADMINISTRATOR_WRITTEN, SERVER_WRITTEN, Snapshot

Row = Mapping[str, Any]
SUBJECTS: Mapping[str, Callable[[Snapshot, subjects.GrantOf], Subjects]] = {
    "directus_activity": history.of_activity,
    "directus_collection_presets": subjects.of_named_collections,
    "directus_collections": subjects.of_collections,
    "directus_fields": subjects.of_fields,
    "directus_permissions": subjects.of_permissions,
    "directus_relations": subjects.of_relations,
    "directus_revisions": history.of_revisions,
    "directus_settings": subjects.of_settings,
    "directus_webhooks": subjects.of_named_collections,
}
"""Functions that build the view of collections whose rows describe collections, fields, relations or items, by collection."""


@frozen
class Access:
    """The permissions of one caller in one snapshot. If `trusted`, the server itself writes and every permission check passes."""

    schema: Snapshot
    accountability: Accountability
    trusted: bool = False

    @property
    def role(self) -> int | None:
        """The role whose permissions apply: Public for callers who are not signed in, None for a user without a role."""
        return PUBLIC if self.accountability.public else self.accountability.role

    @property
    def key(self) -> tuple[int | None, bool]:
        """The part of the caller that compiled statements depend on; used in cache keys."""
        return self.role, self.trusted

    @property
    def admin(self) -> bool:
        return self.trusted or self.role == ADMINISTRATOR

    def grant(self, collection: str) -> Grant:
        """Returns the grant on a collection. Raises CollectionNotFound."""
        return self.schema.kept(("grant", self.key, collection), lambda: self._grant(collection))

    def _grant(self, name: str) -> Grant:
        collection = self.schema.collections.get(name)
        if collection is None:
            raise CollectionNotFound(f'There is no collection "{name}".')
        if self.admin:
            whole = EVERYTHING if self.trusted or name not in SERVER_WRITTEN else READ_ONLY
            return Grant(collection, self.role, whole, admin=True)
        rows = [row for row in self.schema.permissions_of(self.role) if row["collection"] == name]
        plain = [permission_of(row) for row in rows if row["status"] is None]
        statuses = None
        if any(row["status"] is not None for row in rows):
            statuses = {row["status"]: self._bounded(name, permission_of(row)) for row in rows if row["status"] is not None}
        permission = self._bounded(name, plain[0] if plain else NOTHING)
        about = SUBJECTS.get(name)
        return Grant(
            collection,
            self.role,
            permission,
            statuses,
            subjects=None if about is None else about(self.schema, self.grant),
        )

    def _bounded(self, name: str, permission: Permission) -> Permission:
        """Returns the permission without the levels that only the server, or only administrators, can have on this collection."""
        if name not in SERVER_WRITTEN | ADMINISTRATOR_WRITTEN:
            return permission
        return Permission(permission.id, "none", permission.read, comment=permission.comment, hidden=permission.hidden)

    # refusals

    def require_read(self, collection: str) -> Grant:
        """Returns the grant if the caller may list items. Otherwise raises Unauthorized for the public and ReadForbidden for others."""
        grant = self.grant(collection)
        if not grant.read:
            raise self.refused(ReadForbidden(f'You may not read items of "{collection}".'))
        return grant

    def require_one(self, collection: str) -> Grant:
        """Returns the grant if the caller may read single items. Otherwise raises ItemNotFound, as if the item did not exist."""
        grant = self.grant(collection)
        if not grant.read:
            missing = ItemNotFound(f'There is no such item in "{collection}".')
            raise self.refused(missing) if collection in NOT_FOR_THE_PUBLIC else missing
        return grant

    def unchangeable(self, grant: Grant, row: Row | None, *, several: bool) -> ApiError:
        """The refusal to change an item that is not there (*row* is None), or that the caller may not read. Both are refused in the same
        way, but for users and roles, where clients rely on the difference. *several*: it is one of a list."""
        name = grant.collection.collection
        missing = ItemNotFound(f'There is no such item in "{name}".')
        if grant.reads_all or (row is None and self._tells_missing(grant)):
            return missing
        if name == "directus_users":
            return ReadForbidden("You may not read this user.") if row is None or grant.hides_status(row) else missing
        if name in LEVEL_BEFORE_ITEM and not (several and self.accountability.public):
            return UpdateForbidden(f'You may not change this item of "{name}".')
        return self.refused(missing) if name == "directus_files" else missing

    def unrevertable(self, grant: Grant) -> ApiError:
        """The refusal to revert an item that is not there, or that the caller may not read."""
        name = grant.collection.collection
        if grant.reads_all:
            return ItemNotFound(f'There is no such item in "{name}".')
        return UpdateForbidden(f'You may not change this item of "{name}".')

    def undeletable(self, grant: Grant, *, seen: int, hidden: Sequence[Row], missing: int) -> ApiError:
        """The refusal to delete items: how many the caller may read but not delete, the rows of those that it may not read either, and
        how many are not there. The last two are refused in the same way, but for users, where clients rely on the difference."""
        name = grant.collection.collection
        forbidden = DeleteForbidden(f'You may not delete this item of "{name}".')
        not_found = ItemNotFound(f'There is no such item in "{name}".')
        if not (hidden or missing):
            return forbidden
        if grant.reads_all:
            return forbidden if seen else not_found
        if name == "directus_users" and self._tells_missing(grant):
            return forbidden if seen or any(grant.hides_status(row) for row in hidden) else not_found
        if name in NOT_FOR_THE_PUBLIC and self.accountability.public:
            return Unauthorized()
        return not_found if name in ("directus_roles", "directus_files") else forbidden

    def _tells_missing(self, grant: Grant) -> bool:
        """Whether an item that is not there is told from one that is hidden, as clients rely on it: users and roles, by those who may
        read some of them."""
        return grant.read and grant.collection.collection in ("directus_users", "directus_roles")

    def require_schema(self, *, delete: bool = False) -> None:
        """Raises Unauthorized, or AlterForbidden for a deletion, unless the caller is an administrator."""
        if not self.accountability.admin:
            raise (
                AlterForbidden("Only administrators may delete collections.")
                if delete
                else Unauthorized("Only administrators may change the schema.")
            )

    def naming_fields(self, error: ApiError) -> ApiError:
        """Returns a database error with the names of the fields it concerns, except those hidden from the caller."""
        said = error.diagnostics
        if said is None or said.table is None or (said.constraint is None and said.column is None):
            return error
        collection = self.schema.collections.get(said.table)
        names = None
        if collection is not None:
            names = (said.column,) if said.constraint is None else collection.constraints.get(said.constraint)
        if collection is None or names is None or not all(name in collection.fields for name in names):
            # The constraint may have been created after the snapshot was read.
            error.depends_on_schema = True
            return error
        grant = self.grant(said.table)
        known = [f'"{name}"' for name in names if grant.read and name not in grant.concealed]
        if not known:
            return error
        message = f'{error.message.rstrip(".")}: {", ".join(known)} of "{said.table}".'
        return type(error)(message, headers=error.headers, diagnostics=said)

    def refused(self, error: ApiError) -> ApiError:
        """Returns Unauthorized instead of *error* if the caller is not signed in."""
        return Unauthorized() if self.accountability.public else error


def access_of(ctx: Context, *, trusted: bool = False) -> Access:
    """Returns the permissions of the caller of *ctx*. If *trusted*, the server itself writes."""
    return Access(ctx.schema, ctx.accountability, trusted)


def require_administrator(ctx: Context) -> None:
    """Raises Unauthorized for the public and ReadForbidden for other callers who are not administrators."""
    access = access_of(ctx)
    if not access.admin:
        raise access.refused(ReadForbidden("Only administrators may do this."))
