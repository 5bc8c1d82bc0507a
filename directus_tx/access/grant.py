"""What a caller may do with a collection: the permissions of a role as conditions on rows and sets of fields. Pure: no I/O.

Whoever reads does so through `Grant.table`, the caller's view of a table: rows that may not be read are not in it, hidden fields are
no columns of it. So nothing that is built on it (filters, sorts, searches, joins, counts, aggregates) can tell about them.
Whoever writes asks the grant about each row, whose conditions are part of the statement that locks it.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import count
from typing import Any

from attrs import evolve, frozen

from directus_tx.access.view import Mask, Subjects, text_of
from directus_tx.db.sql import FALSE, SQL, TRUE, Bind, Clause, Composable, Identifier, all_of, among, any_of, column, constant
from directus_tx.errors import (
    ApiError,
    CommentRequired,
    CreateForbidden,
    DeleteForbidden,
    FieldNotWritable,
    HiddenField,
    UpdateForbidden,
)
from directus_tx.query import BindValues
from directus_tx.schema.datatypes import family
from directus_tx.schema.model import Collection
from directus_tx.schema.types import parse, stored_text

NO_FIELDS: frozenset[str] = frozenset()

SECRETS: Mapping[str, frozenset[str]] = {
    "directus_users": frozenset({"password"}),
    "directus_user_sessions": frozenset({"token"}),
}
"""Fields whose values nobody is ever shown, nor may ask about; the history does not keep them either."""

ACCOUNT_SECRETS = frozenset({"token", "2fa_secret", "password_reset_token"})
"""What lets one in as a user: shown to the user and to administrators, no question about it answered to others than those."""

PRIVATE: Mapping[str, frozenset[str]] = {
    "directus_users": ACCOUNT_SECRETS | {"email_notifications", "last_access_on", "last_page"},
}
"""Fields that others than administrators see in what is their own alone."""

BY_USER: Mapping[str, str] = {
    "directus_users": "id",
    "directus_files": "uploaded_by",
    "directus_activity": "action_by",
    "directus_collection_presets": "user",
}
"""The field that says whose an item of a system collection is; elsewhere the field of type owner does."""

BY_ROLE: Mapping[str, str] = {"directus_permissions": "role", "directus_roles": "id"}
"""Collections whose items belong to a role: `mine` and `role` mean the caller's."""

LEVEL_BEFORE_ITEM = frozenset(
    {"directus_roles", "directus_permissions", "directus_folders", "directus_settings", "directus_webhooks"}
)
"""Collections in which changing an item that the caller may not read is forbidden; elsewhere such an item does not exist."""

NOT_FOR_THE_PUBLIC = frozenset({"directus_roles", "directus_permissions", "directus_revisions", "directus_files"})
"""Collections of which the public, where it may not read them, is asked to sign in even for a single item."""

ROW_LEVELS = ("mine", "role", "full")


@frozen
class Permission:
    """A row of directus_permissions: levels, and sets of fields and statuses. Without any, nothing is allowed."""

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


@frozen(eq=False)
class Grant:
    """What the members of one role may do with one collection.

    `permission` counts for all items, or, where the role has rows with a status, `statuses` for those of each status, and for others
    nothing.
    """

    collection: Collection
    role: int | None
    permission: Permission
    statuses: Mapping[str, Permission] | None = None
    admin: bool = False
    subjects: Subjects | None = None
    """Of a collection whose rows are about other things: what the caller sees of them because of those."""

    def of(self, status: Any) -> Permission:
        """What counts for items of a status: a stored value, or its text."""
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
        """The field that says whose an item is."""
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
        """The level that counts: where nothing says whose an item is, only `full` does."""
        level: str = getattr(permission, action)
        if level in ("mine", "role") and self.owner is None:
            return "none"
        if action == "delete" and level == "mine" and self.collection.collection == "directus_users":
            # Every role has it, and yet users do not delete themselves.
            return "none"
        return level

    def allows(self, action: str) -> bool:
        """Whether there may be items that the caller may create, read, update or delete."""
        levels = ("full",) if action == "create" else ROW_LEVELS
        return any(self.level(permission, action) in levels for permission in self.permissions)

    @cached_property
    def read(self) -> bool:
        """Whether there may be items that the caller may read: what every read asks first."""
        return self.allows("read")

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
        """The rows of the table called *alias* that the caller may read, update or delete."""
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
        """The items that a level is about. Of those that are not the caller's own, only what is about things that the caller may know
        of."""
        items = self._whose(level, alias)
        own = self._whose("mine", alias)
        if self.subjects is None or items is FALSE or level == "mine" or (level == "role" and self.by_role):
            return items
        return all_of([items, any_of([own, self.subjects.visible(alias)])])

    def _whose(self, level: str, alias: str) -> Clause:
        """The items that a level is about: all, those of members of the role, or one's own."""
        if level == "full":
            return TRUE
        if level not in ROW_LEVELS or self.owner is None:
            return FALSE
        owner = column(alias, self.owner)
        if self.by_role:
            return Clause(SQL("{} = %s").format(owner), (constant(self.role),))
        # Users are numbers; an owner's column may hold anything else.
        cast = "" if family(self.collection.fields[self.owner]) in ("integer", "number") else "::text"
        if level == "mine":
            return Clause(SQL("{}" + cast + " = %s" + cast).format(owner), (_user,))
        sql = SQL("{}" + cast + ' IN (SELECT "id"' + cast + ' FROM "directus_users" WHERE "role" = %s)').format(owner)
        return Clause(sql, (_signed_in(self.role),))

    # fields

    @cached_property
    def hidden(self) -> frozenset[str]:
        """Fields that no item shows to the caller."""
        return self.concealed | SECRETS.get(self.collection.collection, NO_FIELDS)

    @cached_property
    def concealed(self) -> frozenset[str]:
        """Fields that the caller may not even know of: those that permissions hide in every item."""
        if self.admin:
            return NO_FIELDS
        readable = self._blacklists
        status = self.collection.status_field
        always = {self.collection.primary_key.field, *([status.field] if status else [])}
        everywhere = frozenset.intersection(*readable) if readable else frozenset(self.collection.fields)
        # The key and the status tell items apart: what one item hides of them, all do.
        return everywhere | frozenset(name for name in always if any(name in hidden for hidden in readable))

    @cached_property
    def hidden_somewhere(self) -> frozenset[str]:
        """Fields that some item hides, be they still there or not."""
        masked = (mask.names for mask in self.masks)
        return self.hidden.union(*self._blacklists, *masked) if not self.admin else self.hidden

    @property
    def _blacklists(self) -> list[frozenset[str]]:
        """What each permission by which items may be read hides of them."""
        return [p.hidden for p in self.permissions if self.level(p, "read") in ROW_LEVELS]

    def hidden_in(self, row: Mapping[str, Any]) -> frozenset[str]:
        """Fields that one item, as it is stored, does not show to the caller."""
        field = self.collection.status_field
        return self.hidden if self.admin else self.hidden | self.of(row.get(field.field) if field else None).hidden

    @cached_property
    def unaskable(self) -> frozenset[str]:
        """Fields that the caller can neither filter, sort nor search by."""
        if self.admin or self.collection.collection != "directus_users":
            return self.hidden
        return self.hidden | ACCOUNT_SECRETS

    def check_question(self, name: str) -> None:
        """Raises HiddenField where no question about a field is answered."""
        if name in self.unaskable:
            raise HiddenField(f'You may not ask about "{name}".')

    @cached_property
    def masks(self) -> tuple[Mask, ...]:
        """The fields that only some of the rows show."""
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
        """The table as the caller sees it, to select from: the table itself, or a query in parentheses."""
        condition = self.condition("read", "t")
        replaced = self.subjects.columns("t") if self.subjects is not None else {}
        if self.admin or (condition is TRUE and not self.masks and not self.hidden and not replaced):
            return Clause(Identifier(self.collection.collection))
        internal = {self.collection.primary_key.field}
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
        fence = " OFFSET 0" if any(field.virtual for field in self.collection.columns.values()) else ""
        sql = SQL("(SELECT {} FROM {} AS t{} WHERE {}" + fence + ")").format(
            SQL(", ").join(columns), Identifier(self.collection.collection), joined.sql, condition.sql
        )
        return Clause(sql, (*binds, *joined.binds, *condition.binds))

    @property
    def whole(self) -> bool:
        """Whether the view is the table itself."""
        return isinstance(self.view.sql, Identifier)

    def version(self, alias: str) -> Composable:
        """What differs between the versions of a row of the view called *alias*: the transaction that wrote it, or where the view does
        not show all of it, what it shows. So nobody learns from it that a hidden value has changed."""
        if self.whole:
            return column(alias, "xmin")
        shown = [*(mask.flag for mask in self.masks), *(name for name in self.collection.columns if name not in self.hidden)]
        return SQL("md5(ROW({})::text)").format(SQL(", ").join([column(alias, name) for name in shown]))

    def table(self, alias: str) -> Clause:
        """The view under a name, for FROM or JOIN."""
        return Clause(SQL("{} AS {}").format(self.view.sql, Identifier(alias)), self.view.binds)

    @cached_property
    def as_creator(self) -> "Grant":
        """The grant on an item that the caller has just created: one's own, even where the caller is nobody."""

        def widened(permission: Permission) -> Permission:
            return permission if permission.read == "none" else evolve(permission, read="full")

        statuses = self.statuses and {status: widened(each) for status, each in self.statuses.items()}
        return evolve(self, permission=widened(self.permission), statuses=statuses)

    # writing

    def check_create(self, payload: Mapping[str, Any], comment: str | None) -> None:
        """Raises CreateForbidden, CommentRequired, FieldNotWritable where an item may not be created so."""
        status = self._named_status(payload)
        permission = self.of(status)
        if permission.create != "full":
            raise CreateForbidden(f'You may not create {self._such(status)}items in "{self.collection.collection}".')
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
        """Raises UpdateForbidden, DeleteForbidden, CommentRequired, FieldNotWritable where an item may not be changed so. *update* and
        *delete*: the levels allow to do that to the item as it is."""
        field = self.collection.status_field
        before = None if field is None else stored_text(field, stored[field.field])
        after = self._named_status(payload) if field is not None and field.field in payload else before
        moved = after != before
        present, wanted = self.of(before), self.of(after)
        if moved and after in self.collection.soft_deleted:
            if not delete:
                raise DeleteForbidden(f'You may not delete this item of "{self.collection.collection}".')
        elif not update:
            raise UpdateForbidden(f'You may not change this item of "{self.collection.collection}".')
        elif moved and wanted is NOTHING:
            raise UpdateForbidden(f'You have no rights on items with the status "{after}".')
        if moved and after in present.forbidden_statuses | wanted.forbidden_statuses:
            raise UpdateForbidden(f'You may not give an item the status "{after}".')
        if not comment and {present.explain, wanted.explain} & {"update", "always"}:
            raise CommentRequired
        _check_fields(payload, present.unwritable | wanted.unwritable)

    def check_delete(self, statuses: Iterable[Any], comment: str | None) -> None:
        """Raises CommentRequired where items of these statuses may not be deleted without one."""
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


def _check_fields(payload: Mapping[str, Any], unwritable: frozenset[str]) -> None:
    named = [name for name in payload if name in unwritable]
    if named:
        raise FieldNotWritable("You may not write " + ", ".join(f'"{name}"' for name in named) + ".")


def _user(values: BindValues) -> int | None:
    return values.user


def _signed_in(role: int | None) -> Bind:
    """The role, to whoever is a member of it: the public is nobody, and NULL is nobody's."""
    return lambda values: None if values.user is None else role
