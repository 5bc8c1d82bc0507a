"""The permissions of a role on a collection, as conditions on rows and sets of fields. This module performs no I/O.

Reads select from `Grant.table`, the caller's view of a table. It contains only the rows and columns that the caller may read, so filters,
sorts, searches, joins, counts and aggregates built on it cannot reveal others. Writes evaluate the conditions of the grant in the statement
that locks the rows.
"""

from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import count
from typing import Any, TypeVar

from attrs import evolve, frozen
from attrs import field as attribute

from directus_tx.access.view import Mask, Subjects, text_of
from directus_tx.context import Scope
from directus_tx.db.sql import FALSE, SQL, TRUE, Bind, Clause, Composable, Identifier, all_of, among, any_of, column, constant
from directus_tx.errors import (
    ApiError,
    CommentRequired,
    CreateForbidden,
    DeleteForbidden,
    FieldNotWritable,
    HiddenField,
    ReadOnlyDatabase,
    UpdateForbidden,
)
from directus_tx.query import BindValues
from directus_tx.schema.datatypes import family
from directus_tx.schema.model import FOREIGN, VIEW, Collection
from directus_tx.schema.parsing import parse
from directus_tx.schema.showing import stored_text

T = TypeVar("T")
NO_FIELDS: frozenset[str] = frozenset()

SECRETS: Mapping[str, frozenset[str]] = {
    "directus_users": frozenset({"password"}),
    "directus_user_sessions": frozenset({"token"}),
}
"""Fields that are never shown, filtered by, or kept in revisions."""

ACCOUNT_SECRETS = frozenset({"token", "2fa_secret", "password_reset_token"})
"""Credentials of a user. Only the user and administrators can read them, and only administrators can filter or sort by them."""

PRIVATE: Mapping[str, frozenset[str]] = {
    "directus_users": ACCOUNT_SECRETS | {"email_notifications", "last_access_on", "last_page"},
}
"""Fields that callers who are not administrators can read only in their own items."""

BY_USER: Mapping[str, str] = {
    "directus_users": "id",
    "directus_files": "uploaded_by",
    "directus_activity": "action_by",
    "directus_collection_presets": "user",
}
"""The field that holds the owner of an item, for system collections. Other collections have a field of type owner."""

BY_ROLE: Mapping[str, str] = {"directus_permissions": "role", "directus_roles": "id"}
"""Collections whose items belong to a role. The levels `mine` and `role` both mean the caller's role."""

WRITTEN_BY_TOKENS = frozenset({"directus_files", "directus_folders"})
"""The system collections that can be written with a token that is limited."""

READ_BY_TOKENS = frozenset({"directus_collections", "directus_fields", "directus_relations"})
"""The system collections that can be read with every token, as far as they are about the collections that the token is for."""

ROW_LEVELS = ("mine", "role", "full")


@frozen
class Permission:
    """A row of directus_permissions. The defaults allow nothing."""

    id: int | None = None
    create: str = "none"
    read: str = "none"
    update: str = "none"
    delete: str = "none"
    comment: str = "none"
    explain: str = "none"
    hidden: frozenset[str] = NO_FIELDS
    unwritable: frozenset[str] = NO_FIELDS
    forbidden_statuses: frozenset[str] = NO_FIELDS


NOTHING = Permission()
EVERYTHING = Permission(None, "full", "full", "full", "full", "full")
READ_ONLY = Permission(None, "none", "full", "none", "none", "full")


def permission_of(row: Mapping[str, Any]) -> Permission:
    levels = {name: row[name] or "none" for name in ("create", "read", "update", "delete", "comment", "explain")}
    return Permission(
        row["id"],
        **levels,
        hidden=frozenset(row["read_field_blacklist"]),
        unwritable=frozenset(row["write_field_blacklist"]),
        forbidden_statuses=frozenset(row["status_blacklist"]),
    )


def within_scope(scope: Scope, collection: str, permission: Permission) -> Permission:
    """Returns a permission on a collection within the scope of a token: what the token may be used for at most.

    Items of the system collections can only be read, except WRITTEN_BY_TOKENS, so that a token can change neither users nor permissions. It
    cannot read the credentials of its user either, which could do more than itself.
    """
    if not scope.includes(collection) and collection not in READ_BY_TOKENS:
        return NOTHING
    found = permission
    if collection == "directus_users":
        found = evolve(found, hidden=found.hidden | ACCOUNT_SECRETS)
    if scope.read_only or (collection.startswith("directus_") and collection not in WRITTEN_BY_TOKENS):
        found = evolve(found, create="none", update="none", delete="none", comment="none")
    return found


@frozen(eq=False)
class Grant:
    """What members of a role may do with a collection.

    `permission` applies to all items. If the role has permissions by status, `statuses` applies instead: items with another status are not
    accessible.
    """

    collection: Collection
    role: int | None
    permission: Permission
    statuses: Mapping[str, Permission] | None = None
    admin: bool = False
    fenced: bool = False
    """Whether PostgreSQL evaluates what statements ask of rows only for those of the view, if this is not the table itself."""

    subjects: Subjects | None = None
    """The part of the view that depends on other collections, if the rows describe collections, fields or items."""

    _kept: dict[Any, Any] = attribute(factory=dict, init=False, repr=False)

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """Returns a value derived from the grant, such as a statement; calls *make* if there is none yet."""
        found: T | None = self._kept.get(key)
        if found is None:
            found = self._kept[key] = make()
        return found

    def of(self, status: Any) -> Permission:
        """Returns the permission that applies to items of a status, given as stored or as text."""
        if self.statuses is None:
            return self.permission
        field = self.collection.status_field
        text = None if field is None else stored_text(field, status)
        return NOTHING if text is None else self.statuses.get(text, NOTHING)

    @property
    def permissions(self) -> list[Permission]:
        return [self.permission] if self.statuses is None else list(self.statuses.values())

    # rows

    @cached_property
    def owner(self) -> str | None:
        """The field that holds the owner of an item; None if there is none."""
        name = self.collection.collection
        if name in BY_USER or name in BY_ROLE:
            return BY_USER.get(name) or BY_ROLE[name]
        field = self.collection.field_of_type("owner")
        return field.field if field is not None else None

    @property
    def by_role(self) -> bool:
        """Whether the items belong to a role rather than to a user."""
        return self.collection.collection in BY_ROLE

    def level(self, permission: Permission, action: str) -> str:
        """Returns the effective level of an action. Without an owner field, `mine` and `role` become `none`."""
        level: str = getattr(permission, action)
        if level in ("mine", "role") and self.owner is None:
            return "none"
        if action == "delete" and level == "mine" and self.collection.collection == "directus_users":
            # New roles have this level, but users cannot delete themselves.
            return "none"
        return level

    def allows(self, action: str) -> bool:
        """Whether the caller may perform an action on some items of the collection, and the database allows it."""
        if action in self.collection.refused:
            return False
        levels = ("full",) if action == "create" else ROW_LEVELS
        return any(self.level(permission, action) in levels for permission in self.permissions)

    @cached_property
    def read(self) -> bool:
        """Whether the caller may read some items of the collection."""
        return self.allows("read")

    @property
    def title(self) -> str:
        """The name of the collection in messages. A caller who may do nothing with its items is not told the name."""
        known = self.admin or any(self.allows(action) for action in ("create", "read", "update", "delete"))
        return f'"{self.collection.collection}"' if known else "this collection"

    @cached_property
    def reads_all(self) -> bool:
        """Whether the caller may read every item, so that no item is hidden."""
        return self.condition("read", "t") is TRUE

    def hides_status(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is hidden because of its status, whoever it belongs to."""
        field = self.collection.status_field
        permission = self.of(row[field.field] if field else None)
        return self.level(permission, "read") not in ROW_LEVELS

    def condition(self, action: str, alias: str) -> Clause:
        """Returns the condition on rows of the table *alias* that the caller may read, update or delete."""
        if self.statuses is None:
            return self._within(self.level(self.permission, action), alias)
        if self.collection.status_field is None:
            return FALSE
        status = text_of(alias, self.collection.status_field)
        by_level: dict[str, list[str]] = {}
        for name, permission in self.statuses.items():
            by_level.setdefault(self.level(permission, action), []).append(name)
        return any_of(
            all_of([among(status, names), self._within(level, alias)]) for level, names in by_level.items() if level in ROW_LEVELS
        )

    def _within(self, level: str, alias: str) -> Clause:
        """Returns the condition of a level. Rows that describe other collections, fields or items must also be visible to the caller,
        unless they belong to the caller."""
        items = self._whose(level, alias)
        own = self._whose("mine", alias)
        if self.subjects is None or items is FALSE or level == "mine" or (level == "role" and self.by_role):
            return items
        return all_of([items, any_of([own, self.subjects.visible(alias)])])

    def _whose(self, level: str, alias: str) -> Clause:
        """Returns the condition of a level: all rows, rows owned by members of the caller's role, or rows owned by the caller."""
        if level == "full":
            return TRUE
        if level not in ROW_LEVELS or self.owner is None:
            return FALSE
        owner = column(alias, self.owner)
        if self.by_role:
            return Clause(SQL("{} = %s").format(owner), (constant(self.role),))
        # The ids of users are integers; an owner column may have any type.
        cast = "" if family(self.collection.fields[self.owner]) in ("integer", "number") else "::text"
        if level == "mine":
            return Clause(SQL("{}" + cast + " = %s" + cast).format(owner), (_user,))
        sql = SQL("{}" + cast + ' IN (SELECT "id"' + cast + ' FROM "directus_users" WHERE "role" = %s)').format(owner)
        return Clause(sql, (_signed_in(self.role),))

    # fields

    @cached_property
    def hidden(self) -> frozenset[str]:
        """Fields that are hidden in every item, including fields that are never shown."""
        return self.concealed | SECRETS.get(self.collection.collection, NO_FIELDS)

    @cached_property
    def concealed(self) -> frozenset[str]:
        """Fields that permissions hide in every item. Their existence is not revealed either."""
        if self.admin:
            return NO_FIELDS
        readable = self._blacklists
        status = self.collection.status_field
        always = {*(key.field for key in self.collection.order_columns), *([status.field] if status else [])}
        everywhere = frozenset.intersection(*readable) if readable else frozenset(self.collection.fields)
        # If one status hides the key or the status field, hide it everywhere: its presence would reveal the status.
        return everywhere | frozenset(name for name in always if any(name in hidden for hidden in readable))

    @cached_property
    def hidden_somewhere(self) -> frozenset[str]:
        """Fields that are hidden in at least one item, including names of fields that no longer exist."""
        masked = (mask.names for mask in self.masks)
        return self.hidden.union(*self._blacklists, *masked) if not self.admin else self.hidden

    @property
    def _blacklists(self) -> list[frozenset[str]]:
        """The hidden fields of each permission that allows reading."""
        return [p.hidden for p in self.permissions if self.level(p, "read") in ROW_LEVELS]

    def hidden_in(self, row: Mapping[str, Any]) -> frozenset[str]:
        """Returns the fields of a stored row that are hidden from the caller."""
        field = self.collection.status_field
        return self.hidden if self.admin else self.hidden | self.of(row.get(field.field) if field else None).hidden

    @cached_property
    def unaskable(self) -> frozenset[str]:
        """Fields that the caller cannot filter, sort, search or aggregate by."""
        if self.admin or self.collection.collection != "directus_users":
            return self.hidden
        return self.hidden | ACCOUNT_SECRETS

    @cached_property
    def dotted(self) -> frozenset[str]:
        """The fields with a dot in their name that the caller can ask about. Only tables that other programs have made have such."""
        return frozenset([name for name in self.collection.fields if "." in name]) - self.unaskable

    def divide(self, path: Sequence[str], relations: Container[str]) -> tuple[str, Sequence[str]]:
        """Returns the field that a path begins with, and the rest of the path. *path* is an expression split at its dots; *relations* are
        the fields of the collection that lead to others. A field with the whole name counts, then the longest that leads further."""
        if self.dotted:
            most = 1 + max(name.count(".") for name in self.dotted)
            for end in range(min(len(path), most), 1, -1):
                name = ".".join(path[:end])
                if name in self.dotted and (end == len(path) or name in relations):
                    return name, path[end:]
        return path[0], path[1:]

    def check_question(self, name: str) -> None:
        """Raises HiddenField if the caller cannot filter, sort, search or aggregate by a field."""
        if name in self.unaskable:
            raise HiddenField(f'You may not ask about "{name}".')

    @cached_property
    def masks(self) -> tuple[Mask, ...]:
        """The fields that are hidden in some rows and shown in others, in groups with the same condition."""
        if self.admin:
            return ()
        private = PRIVATE.get(self.collection.collection, NO_FIELDS)
        groups: dict[tuple[frozenset[str] | None, bool], set[str]] = {}
        readable = {s: p for s, p in (self.statuses or {}).items() if self.level(p, "read") in ROW_LEVELS}
        for name in self.collection.fields:
            if name in self.hidden:
                continue
            shown = frozenset(status for status, permission in readable.items() if name not in permission.hidden)
            key = (None if len(shown) == len(readable) else shown, name in private)
            if key != (None, False):
                groups.setdefault(key, set()).add(name)
        flags = (name for number in count() if (name := f"$shown{number}") not in self.collection.fields)
        return tuple(
            Mask(flag, frozenset(names), self._shown(statuses, own=own))
            for flag, ((statuses, own), names) in zip(flags, groups.items(), strict=False)
        )

    def _shown(self, statuses: Iterable[str] | None, *, own: bool) -> Clause:
        clauses = [self._whose("mine", "t")] if own else []
        if statuses is not None and self.collection.status_field is not None:
            clauses.append(among(text_of("t", self.collection.status_field), statuses))
        return all_of(clauses)

    def mask_of(self, name: str) -> Mask | None:
        return next((mask for mask in self.masks if name in mask.names), None)

    # the view

    @cached_property
    def view(self) -> Clause:
        """The caller's view of the table, for FROM: the name of the table, or a subquery in parentheses."""
        condition = self.condition("read", "t")
        replaced = self.subjects.columns("t") if self.subjects is not None else {}
        if self.admin or (condition is TRUE and not self.masks and not self.hidden and not replaced):
            return Clause(Identifier(*self.collection.table))
        internal = {key.field for key in self.collection.order_columns}
        if self.collection.status_field is not None:
            internal.add(self.collection.status_field.field)
        columns: list[Composable] = []
        binds: list[Bind] = []
        for mask in self.masks:
            columns.append(SQL("{} AS {}").format(mask.shown.sql, Identifier(mask.flag)))
            binds += mask.shown.binds
        for name in self.collection.columns:
            masked = self.mask_of(name)
            if masked is not None:
                columns.append(
                    SQL("CASE WHEN {} THEN {} END AS {}").format(masked.shown.sql, column("t", name), Identifier(name))
                )
                binds += masked.shown.binds
            elif name in replaced and name not in self.hidden:
                columns.append(SQL("{} AS {}").format(replaced[name].sql, Identifier(name)))
                binds += replaced[name].binds
            elif name in internal or name not in self.hidden:
                columns.append(column("t", name))
        joined = self.subjects.join("t") if replaced and self.subjects is not None else Clause(SQL(""))
        # Where reading a column may fail, PostgreSQL must not read it of other rows than these: it does not look into this query then.
        computes = self.collection.kind in (VIEW, FOREIGN) or any(field.virtual for field in self.collection.columns.values())
        fence = " OFFSET 0" if computes or self.fenced else ""
        sql = SQL("(SELECT {} FROM {} AS t{} WHERE {}" + fence + ")").format(
            SQL(", ").join(columns), Identifier(*self.collection.table), joined.sql, condition.sql
        )
        return Clause(sql, (*binds, *joined.binds, *condition.binds))

    @property
    def whole(self) -> bool:
        """Whether the view is the table itself."""
        return isinstance(self.view.sql, Identifier)

    def version(self, alias: str) -> Composable:
        """Returns an expression that changes when a row of the view *alias* changes: the id of the transaction that wrote the row, or a
        hash of the visible columns if some are hidden, or if rows have no such id. So it does not reveal changes of hidden values."""
        if self.whole and self.collection.versioned:
            return column(alias, "xmin")
        shown = [*(mask.flag for mask in self.masks), *(name for name in self.collection.columns if name not in self.hidden)]
        return SQL("md5(ROW({})::text)").format(SQL(", ").join([column(alias, name) for name in shown]))

    def table(self, alias: str) -> Clause:
        """Returns the view with an alias, for FROM or JOIN."""
        return Clause(SQL("{} AS {}").format(self.view.sql, Identifier(alias)), self.view.binds)

    @cached_property
    def as_creator(self) -> "Grant":
        """The grant on an item that the caller has just created: it counts as owned by the caller, even by the public."""

        def widened(permission: Permission) -> Permission:
            return permission if permission.read == "none" else evolve(permission, read="full")

        statuses = self.statuses and {status: widened(each) for status, each in self.statuses.items()}
        return evolve(self, permission=widened(self.permission), statuses=statuses)

    # writing

    def check_possible(self, action: str) -> None:
        """Raises CreateForbidden, UpdateForbidden or DeleteForbidden if nobody can create, update or delete items of the collection, and
        ReadOnlyDatabase if nothing of the project can be written."""
        if self.collection.read_only:
            raise ReadOnlyDatabase
        reason = self.collection.refused.get(action)
        if reason is not None:
            error, verb = _IMPOSSIBLE[action]
            refusal = error(f"You may not {verb} items of {self.title}" + (f": {reason}." if self.read else "."))
            refusal.depends_on_schema = True
            raise refusal

    def check_create(self, payload: Mapping[str, Any], comment: str | None) -> None:
        """Raises CreateForbidden, CommentRequired or FieldNotWritable if the caller may not create such an item."""
        status = self._named_status(payload)
        permission = self.of(status)
        if permission.create != "full":
            raise CreateForbidden(f"You may not create {self._such(status)}items in {self.title}.")
        if status in permission.forbidden_statuses:
            raise CreateForbidden(f'You may not give an item the status "{status}".')
        if permission.explain in ("create", "always") and not comment:
            raise CommentRequired
        _check_fields(payload, permission.unwritable)

    def check_update(
        self,
        stored: Mapping[str, Any],
        payload: Mapping[str, Any],
        comment: str | None,
        *,
        update: bool,
        delete: bool,
    ) -> None:
        """Raises UpdateForbidden, DeleteForbidden, CommentRequired or FieldNotWritable if the caller may not make the change. *update*
        and *delete*: whether the levels allow updating and deleting the item as it is stored."""
        field = self.collection.status_field
        before = None if field is None else stored_text(field, stored[field.field])
        after = self._named_status(payload) if field is not None and field.field in payload else before
        moved = after != before
        present, wanted = self.of(before), self.of(after)
        if moved and after in self.collection.soft_deleted:
            if not delete:
                raise DeleteForbidden(f"You may not delete this item of {self.title}.")
        elif not update:
            raise UpdateForbidden(f"You may not change this item of {self.title}.")
        elif moved and wanted is NOTHING:
            raise UpdateForbidden(f'You have no rights on items with the status "{after}".')
        if moved and after in present.forbidden_statuses | wanted.forbidden_statuses:
            raise UpdateForbidden(f'You may not give an item the status "{after}".')
        if not comment and {present.explain, wanted.explain} & {"update", "always"}:
            raise CommentRequired
        _check_fields(payload, present.unwritable | wanted.unwritable)

    def check_delete(self, statuses: Iterable[Any], comment: str | None) -> None:
        """Raises CommentRequired if deleting items of these statuses requires a comment and there is none."""
        if not comment and any(self.of(status).explain == "always" for status in statuses):
            raise CommentRequired

    def _named_status(self, payload: Mapping[str, Any]) -> str | None:
        """The status that an item gets by a payload, as the text of what is stored: the default one where none is named. None where it is
        null, or can be no status: then it is not stored."""
        field = self.collection.status_field
        if field is None:
            return None
        try:
            return stored_text(field, parse(field, payload.get(field.field, field.default_value)))
        except ApiError:
            return None

    def _such(self, status: Any) -> str:
        return "" if status is None or self.statuses is None else f'"{status}" '


_IMPOSSIBLE: Mapping[str, tuple[type[ApiError], str]] = {
    "create": (CreateForbidden, "create"),
    "update": (UpdateForbidden, "change"),
    "delete": (DeleteForbidden, "delete"),
}


def _check_fields(payload: Mapping[str, Any], unwritable: frozenset[str]) -> None:
    if not unwritable.isdisjoint(payload):
        named = [name for name in payload if name in unwritable]
        raise FieldNotWritable("You may not write " + ", ".join(f'"{name}"' for name in named) + ".")


def _user(values: BindValues) -> int | None:
    return values.user


def _signed_in(role: int | None) -> Bind:
    """Returns a bind of the role, or of NULL for the public, so that the condition matches no row."""
    return lambda values: None if values.user is None else role
