"""What a caller may do with a collection: the permissions of a role as conditions and sets of fields, without any I/O.

Every read, write and change of the schema asks here. Administrators may do everything; everybody else may do what rows of
directus_permissions say.
"""

from collections.abc import Mapping

from attrs import frozen

from directus_tx.context import Accountability, Context
from directus_tx.errors import (
    AlterForbidden,
    ApiError,
    CollectionNotFound,
    CreateForbidden,
    DeleteForbidden,
    ItemNotFound,
    ReadForbidden,
    Unauthorized,
    UpdateForbidden,
)
from directus_tx.schema.model import Collection, Snapshot

NO_FIELDS: frozenset[str] = frozenset()

SECRETS: Mapping[str, frozenset[str]] = {
    "directus_users": frozenset({"password"}),
    "directus_user_sessions": frozenset({"token"}),
}
"""Fields whose values nobody is ever shown, nor may ask about; the history does not keep them either."""


@frozen
class Rights:
    """What one caller may do with one collection. `hidden` are the fields that are never shown, filtered, sorted or searched."""

    collection: Collection
    read: bool = False
    create: bool = False
    update: bool = False
    delete: bool = False
    hidden: frozenset[str] = NO_FIELDS


@frozen
class Access:
    """The permissions of one caller over one snapshot."""

    schema: Snapshot
    accountability: Accountability

    @property
    def key(self) -> int | None:
        """What tells this caller's compiled statements from those of others: the role."""
        return self.accountability.role

    def rights(self, collection: str) -> Rights:
        """The rights on a collection. Raises CollectionNotFound."""
        found = self.schema.collections.get(collection)
        if found is None:
            raise CollectionNotFound(f'There is no collection "{collection}".')
        admin = self.accountability.admin
        return Rights(found, admin, admin, admin, admin, SECRETS.get(collection, NO_FIELDS))

    def require_read(self, collection: str) -> Rights:
        """The rights, where items may be listed. Raises Unauthorized to the public, ReadForbidden to others."""
        rights = self.rights(collection)
        if not rights.read:
            raise self.refused(ReadForbidden(f'You may not read items of "{collection}".'))
        return rights

    def require_create(self, collection: str) -> Rights:
        rights = self.rights(collection)
        if not rights.create:
            raise CreateForbidden(f'You may not create items in "{collection}".')
        return rights

    def require_update(self, collection: str) -> Rights:
        """The rights, where items may be changed. What cannot even be read does not exist: ItemNotFound."""
        rights = self.rights(collection)
        if not rights.read:
            raise ItemNotFound
        if not rights.update:
            raise UpdateForbidden(f'You may not change items of "{collection}".')
        return rights

    def require_delete(self, collection: str) -> Rights:
        rights = self.rights(collection)
        if not rights.delete:
            raise DeleteForbidden(f'You may not delete items of "{collection}".')
        return rights

    def require_schema(self, *, delete: bool = False) -> None:
        """Refuses whoever is no administrator to create or change (Unauthorized) or delete (AlterForbidden) collections."""
        if not self.accountability.admin:
            raise (
                AlterForbidden("Only administrators may delete collections.")
                if delete
                else Unauthorized("Only administrators may change the schema.")
            )

    def refused(self, error: ApiError) -> ApiError:
        """The refusal as this caller hears it: the public is asked to sign in."""
        return Unauthorized() if self.accountability.public else error


def access_of(ctx: Context) -> Access:
    """The permissions of the caller of *ctx*."""
    return Access(ctx.schema, ctx.accountability)
