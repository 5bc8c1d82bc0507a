"""The grants of one caller on each collection, and the errors raised when a grant does not allow a request."""

from collections.abc import Callable, Mapping
from typing import Any

from attrs import evolve, frozen

from directus_tx.access import history, refusals, subjects
from directus_tx.access.grant import (
    EVERYTHING,
    NOTHING,
    READ_ONLY,
    Grant,
    Permission,
    permission_of,
    within_scope,
)
from directus_tx.access.view import Subjects
from directus_tx.context import ADMINISTRATOR, PUBLIC, Accountability, Context
from directus_tx.errors import (
    AlterForbidden,
    ApiError,
    ReadForbidden,
    Unauthorized,
)
from directus_tx.schema.model import ADMINISTRATOR_WRITTEN, SERVER_WRITTEN, Snapshot
from directus_tx.sealing import Keys

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
    """The permissions of one caller in one snapshot. If `trusted`, the server itself writes and every permission check passes. `keys` are
    the secret keys of the project, by which statements find and show the values of sealed fields. `fenced`: PostgreSQL evaluates the
    conditions of lists only for the rows that the caller may read."""

    schema: Snapshot
    accountability: Accountability
    trusted: bool = False
    keys: Keys | None = None
    fenced: bool = False

    @property
    def role(self) -> int | None:
        """The role whose permissions apply: Public for callers who are not signed in, None for a user without a role."""
        who = self.accountability
        return PUBLIC if who.role is None and who.user is None else who.role

    @property
    def public(self) -> bool:
        return self.accountability.public

    @property
    def key(self) -> tuple[Any, ...]:
        """The part of the caller that compiled statements depend on; used in cache keys."""
        scope = self.accountability.scope
        return (self.role, self.trusted) if scope is None else (self.role, self.trusted, scope)

    @property
    def admin(self) -> bool:
        return self.trusted or self.accountability.admin

    def grant(self, collection: str) -> Grant:
        """Returns the grant on a collection. Raises CollectionNotFound."""
        if self.fenced:
            grant: Grant = evolve(self, fenced=False).grant(collection)
            return evolve(grant, fenced=True)
        if self.accountability.scope is not None:
            # Users choose the scopes of tokens, so there can be many.
            found: Grant = self.schema.plans.get(self.key, ("grant", collection), lambda: self._grant(collection), _weigh_grant)
            return found
        return self.schema.kept(("grant", self.key, collection), lambda: self._grant(collection))

    def _grant(self, name: str) -> Grant:
        collection = self.schema.collections.get(name)
        if collection is None:
            raise refusals.no_collection(name, (each for each in self.schema.collections if self.grant(each).read))
        if self.admin:
            whole = EVERYTHING if self.trusted or name not in SERVER_WRITTEN else READ_ONLY
            return Grant(collection, self.role, whole, admin=True)
        plain, rows = [EVERYTHING], []
        if self.role != ADMINISTRATOR:
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
        """Returns the permission without the levels that only the server, or only administrators, can have on this collection, and within
        the scope of the caller's token."""
        scope = self.accountability.scope
        if scope is not None:
            permission = within_scope(scope, name, permission)
        if name not in SERVER_WRITTEN | ADMINISTRATOR_WRITTEN:
            return permission
        return Permission(permission.id, "none", permission.read, comment=permission.comment, hidden=permission.hidden)

    def require_read(self, collection: str) -> Grant:
        """Returns the grant if the caller may list items. Otherwise raises Unauthorized for the public and ReadForbidden for others."""
        grant = self.grant(collection)
        if not grant.read:
            raise refusals.unlisted(grant, public=self.public)
        return grant

    def require_one(self, collection: str) -> Grant:
        """Returns the grant if the caller may read single items. Otherwise raises ItemNotFound, as if the item did not exist."""
        grant = self.grant(collection)
        if not grant.read:
            raise refusals.unread(grant, public=self.public)
        return grant

    def require_schema(self, *, delete: bool = False) -> None:
        """Raises Unauthorized, or AlterForbidden for a deletion, unless the caller is an administrator."""
        if not self.accountability.admin:
            raise (
                AlterForbidden("Only administrators may delete collections.")
                if delete
                else Unauthorized("Only administrators may change the schema.")
            )

    def naming_denied(self, error: ApiError) -> ApiError:
        """Returns an error for lack of a privilege in the database with the name of the object, for administrators, who can grant it."""
        if error.diagnostics is None or error.diagnostics.denied is None or not self.admin:
            return error
        message = f"{error.message.rstrip('.')} with the {error.diagnostics.denied}."
        return type(error)(message, headers=error.headers, diagnostics=error.diagnostics)

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


def _weigh_grant(grant: Grant) -> int:
    """Returns the approximate size of a grant in bytes, with its view and what is kept in it."""
    return 4000 + 100 * len(grant.collection.fields)


def access_of(ctx: Context, *, trusted: bool = False) -> Access:
    """Returns the permissions of the caller of *ctx*. If *trusted*, the server itself writes."""
    return Access(ctx.schema, ctx.accountability, trusted, ctx.keys)


def require_administrator(ctx: Context) -> None:
    """Raises Unauthorized for the public and ReadForbidden for other callers who are not administrators."""
    access = access_of(ctx)
    if not access.admin:
        raise refusals.for_caller(ReadForbidden("Only administrators may do this."), public=access.public)
