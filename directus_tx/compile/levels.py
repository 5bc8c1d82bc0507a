"""The levels of a read: what the expressions of `fields` show of each row, and the related items that they open.

Many-to-one fields are joined into their level's statement; each one-to-many field is a statement of its own.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import evolve, frozen

from directus_tx.access import Access, Grant
from directus_tx.access.view import not_deleted
from directus_tx.compile.filters import Conditions, comparable_keys, equal_keys
from directus_tx.compile.operators import comparison_type, folded, is_text
from directus_tx.compile.plan import Branch, Level, Part, Prepared
from directus_tx.config import LimitSettings
from directus_tx.db.sql import SQL, Clause, Composable, Statement, all_of, column
from directus_tx.errors import InvalidPayload, InvalidRequest, UnknownField
from directus_tx.query import BindValues, Query, Sort
from directus_tx.schema.model import Collection, Field, Relation
from directus_tx.schema.types import answer

MAX_PLACE = 2**62


def order_of(alias: str, grant: Grant, sort: Sequence[Sort], *, nulls_last: bool = True) -> Composable:
    """The ORDER BY list: the sorts asked for, or the sort field; ties go by the key, ascending."""
    collection = grant.collection
    key = collection.primary_key
    if not sort:
        own = collection.sort_field
        sort = [Sort(own.field)] if own is not None and own.field not in grant.hidden else []
    parts: list[Composable] = []
    for each in sort:
        if each.field == "?":
            parts.append(SQL("random()"))
            continue
        field = collection.fields.get(each.field)
        if field is None:
            raise UnknownField(f'"{collection.collection}" has no field "{each.field}" to sort by.')
        grant.check_question(field.field)
        if not field.has_column:
            raise InvalidPayload(f'"{each.field}" holds no value to sort by.')
        direction = "{} DESC" if each.descending else "{} ASC"
        if field.nullable and not field.primary_key:
            # Nulls are last both ways, or else the lowest. PostgreSQL's own default is that they are the highest.
            direction += " NULLS LAST" if nulls_last or each.descending else " NULLS FIRST"
        parts.append(SQL(direction).format(folded(alias, field)))
    if not any(each.field == key.field for each in sort) or is_text(key):
        parts.append(column(alias, key.field))
    return SQL(", ").join(parts)


def parse_fields(fields: Iterable[str]) -> list[tuple[str, ...]]:
    """The expressions of `fields`, split at the dots; those that leave a field out begin with "-". ("*",) where there is none."""
    return [tuple(field.split(".")) for field in fields if field] or [("*",)]


@frozen
class Tree:
    """Compiles the levels of one read. `deep` are the places in the query of what is asked of lists; a list that is opened takes its
    own out. Relations into what may not be read are noted in `unreadable`."""

    access: Access
    limits: LimitSettings
    lang: bool
    query: Query
    deep: dict[tuple[str, ...], int]
    unreadable: dict[str, None]

    def level(
        self,
        grant: Grant,
        fields: Sequence[tuple[str, ...]],
        where: Clause,
        order: Composable,
        *,
        paged: bool = False,
        key: Field | None = None,
        version: bool = False,
        path: tuple[str, ...] = (),
    ) -> Level:
        """The level that shows *fields* of the rows where *where* holds. *key*: the field whose value each row carries last; *version*:
        each carries that of its item before it."""
        select = Select()
        part = self.part(select, "t0", "", grant, fields, path)
        if version:
            select.columns.append(grant.version("t0"))
        if key is not None:
            select.columns.append(column("t0", key.field))
        table = grant.table("t0")
        sql = SQL("SELECT {} FROM {}{} WHERE {} ORDER BY {}").format(
            # Even where nothing of a row is shown it is one item of the answer.
            SQL(", ").join(select.columns or [SQL("1")]),
            table.sql,
            SQL("").join([join.sql for join in select.joins]),
            where.sql,
            order,
        )
        binds = (*table.binds, *(bind for join in select.joins for bind in join.binds), *where.binds)
        if paged:
            sql = SQL("{} LIMIT %s OFFSET %s").format(sql)
            binds = (*binds, lambda asked: asked.limit, lambda asked: asked.offset)
        return Level(Prepared(Statement(sql), binds), part)

    def part(
        self,
        select: "Select",
        alias: str,
        name: str,
        grant: Grant,
        fields: Sequence[tuple[str, ...]],
        path: tuple[str, ...],
    ) -> Part:
        """The part of a statement's rows that shows *fields* of the table called *alias*. Many-to-one fields are joined to it: the one
        row that they lead to costs less beside its item than in a statement of its own."""
        if len(path) > self.limits.max_depth:
            raise InvalidRequest(f"Fields may go down up to {self.limits.max_depth} relations (limits.max_depth).")
        collection = grant.collection
        shown, opened = self.resolve(grant, fields, top=not path)
        names = tuple(each for each in shown if each not in opened)
        start = select.add(alias, names)
        key = None if alias == "t0" else select.position(alias, collection.primary_key.field)
        casts = tuple((each, cast) for each in names if (cast := answer(collection.fields[each])) is not None)
        parts: list[Part] = []
        branches: list[Branch] = []
        for each, below in opened.items():
            field = collection.fields[each]
            relation = self.relation(collection, each)
            if relation is None:
                continue
            if field.has_column:
                target = self.access.grant(relation.collection_one or "")
                if not target.read:
                    parts.append(self.key_alone(select, alias, field, target, below, (*path, each)))
                    continue
                joined = select.join(alias, field, target)
                below = below or [(target.collection.primary_key.field,)]
                parts.append(self.part(select, joined, each, target, below, (*path, each)))
            else:
                source = select.position(alias, collection.primary_key.field)
                branch = self.branch(grant, each, relation, below, source, (*path, each))
                if branch is not None:
                    mask = grant.mask_of(each)
                    flag = None if mask is None else select.position(alias, mask.flag)
                    branches.append(evolve(branch, flag=flag))
        masks = []
        for mask in grant.masks:
            masked = tuple(each for each in (*names, *(part.name for part in parts)) if each in mask.names)
            if masked:
                masks.append((select.position(alias, mask.flag), masked))
        return Part(name, start, names, casts, key, tuple(parts), tuple(branches), tuple(masks))

    def key_alone(
        self, select: "Select", alias: str, field: Field, target: Grant, fields: Sequence[tuple[str, ...]], path: tuple[str, ...]
    ) -> Part:
        """What is shown of an item that a many-to-one field leads to and that may not be read: its key, as the field holds it."""
        key = target.collection.primary_key.field
        if any(each != (key,) for each in fields):
            self.unreadable[path[-1]] = None
        # A value of its own, beside any other that the row has of the field: an item's values stand side by side.
        select.columns.append(column(alias, field.field))
        start = len(select.columns) - 1
        cast = answer(field)
        return Part(field.field, start, (key,), () if cast is None else ((key, cast),), start)

    def relation(self, collection: Collection, name: str) -> Relation | None:
        field = collection.fields[name]
        schema = self.access.schema
        found = schema.many_to_one if field.has_column else schema.one_to_many
        return found.get((collection.collection, name))

    def resolve(
        self, grant: Grant, fields: Sequence[tuple[str, ...]], *, top: bool
    ) -> tuple[list[str], dict[str, list[tuple[str, ...]]]]:
        """What the expressions of one level mean: the names of the columns to show, in order, and the relations to open, each with the
        expressions below it. Where one expression goes deeper, the relations that the others only name are opened too; they have
        no expressions. Raises UnknownField."""
        collection = grant.collection
        shown: dict[str, None] = {}
        named: dict[str, None] = {}
        opened: dict[str, list[tuple[str, ...]]] = {}
        left_out: set[str] = set()
        for head, *rest in fields:
            if head == "*":
                shown.update(dict.fromkeys(collection.columns))
                named.update(dict.fromkeys(collection.fields))
                if rest:
                    for name in collection.fields:
                        if self.relation(collection, name) is not None:
                            opened.setdefault(name, []).append(tuple(rest))
                continue
            if top and head.startswith("-") and head not in collection.fields:
                left_out.add(head[1:])
                continue
            field = collection.fields.get(head)
            if field is None:
                raise UnknownField(f'"{collection.collection}" has no field "{head}".')
            if rest and self.relation(collection, head) is not None:
                opened.setdefault(head, []).append(tuple(rest))
                continue
            named[head] = None
            if field.has_column:
                shown[head] = None
        if opened:
            for name in named:
                if name not in opened and self.relation(collection, name) is not None:
                    opened[name] = []
        hidden = left_out | grant.hidden
        return [n for n in shown if n not in hidden], {n: below for n, below in opened.items() if n not in hidden}

    def branch(
        self,
        holder: Grant,
        name: str,
        relation: Relation,
        fields: Sequence[tuple[str, ...]],
        source: int,
        path: tuple[str, ...],
    ) -> Branch | None:
        """The statement that finds the related items of all items of a level at once, with the field that leads back where there are no
        expressions; None where the items may not be read, or not whose they are."""
        grant = self.access.grant(relation.collection_many)
        if not grant.read or relation.field_many in grant.hidden:
            if fields:
                self.unreadable[path[-1]] = None
            self.deep.pop(path, None)
            return None
        target = grant.collection
        here, there = holder.collection.primary_key, target.fields[relation.field_many]
        as_text = not comparable_keys(here, there)
        looked_for = "{}::text = ANY(%s::text[])" if as_text else "{} = ANY(%s::" + comparison_type(there) + "[])"
        conditions = [
            Clause(SQL(looked_for).format(column("t0", there.field)), (lambda asked: array(asked.keys),)),
            not_deleted("t0", target),
        ]
        language = target.field_of_type("lang")
        if self.lang and language is not None and language.field not in grant.unaskable:
            sql = SQL("{} = ANY(%s)").format(folded("t0", language))
            conditions.append(Clause(sql, (lambda asked: [lang.lower() for lang in asked.query.lang if "\x00" not in lang],)))
        index = self.deep.pop(path, None)
        sort = () if index is None else self.query.deep[index][1].sort
        inner = order_of("t0", grant, sort, nulls_last=self.access.schema.sort_null_last)
        where = all_of(conditions)
        if index is not None:
            where = self.deep_where(grant, there, where, inner, index)
        # Within each list its own order; that of the lists is nobody's, but it keeps PostgreSQL from reading the whole table
        # along its key.
        order = SQL("{}, {}").format(column("t0", there.field), inner)
        fields = fields or [(relation.field_many,)]
        return Branch(name, self.level(grant, fields, where, order, key=there, path=path), source, as_text)

    def deep_where(self, grant: Grant, there: Field, where: Clause, order: Composable, index: int) -> Clause:
        """The rows of lists, narrowed to what is asked of each list: by its filter, and by place within it."""
        asked = self.query.deep[index][1]
        chain = Conditions(self.access).chain("t0", grant, asked.filter, lambda query: query.deep[index][1].filter)
        where = all_of([where, chain])
        if not is_page(asked):
            return where
        key = column("t0", grant.collection.primary_key.field)
        table = grant.table("t0")
        sql = SQL(
            "{0} IN (SELECT key FROM (SELECT {0} AS key, row_number() OVER (PARTITION BY {1} ORDER BY {2}) AS place"
            " FROM {3} WHERE {4}) AS ranked WHERE place > %s AND place <= %s)"
        ).format(key, column("t0", there.field), order, table.sql, where.sql)

        def first(asked: BindValues) -> int:
            return max(asked.query.deep[index][1].offset or 0, 0)

        def last(asked: BindValues) -> int:
            limit = asked.query.deep[index][1].limit
            return MAX_PLACE if limit is None or limit < 0 else min(first(asked) + limit, MAX_PLACE)

        return Clause(sql, (*table.binds, *where.binds, first, last))


class Select:
    """The columns and joins of a statement in the making."""

    def __init__(self) -> None:
        self.columns: list[Composable] = []
        self.joins: list[Clause] = []
        self._positions: dict[tuple[str, str], int] = {}

    def add(self, alias: str, names: Iterable[str]) -> int:
        """Adds columns side by side and gives the position of the first."""
        start = len(self.columns)
        for name in names:
            self._positions.setdefault((alias, name), len(self.columns))
            self.columns.append(column(alias, name))
        return start

    def position(self, alias: str, name: str) -> int:
        """The position of a column, which is added if it is not there yet."""
        if (alias, name) not in self._positions:
            self.add(alias, (name,))
        return self._positions[alias, name]

    def join(self, alias: str, field: Field, target: Grant) -> str:
        """Joins the item that a many-to-one field leads to, unless it is soft-deleted, and gives its alias."""
        joined = f"j{len(self.joins) + 1}"
        key = target.collection.primary_key
        table, alive = target.table(joined), not_deleted(joined, target.collection)
        on = equal_keys(column(alias, field.field), field, column(joined, key.field), key)
        sql = SQL(" LEFT JOIN {} ON {} AND {}").format(table.sql, on, alive.sql)
        self.joins.append(Clause(sql, (*table.binds, *alive.binds)))
        return joined


def is_page(query: Query) -> bool:
    """Whether a query asks for a part of each list by its place."""
    return bool(query.offset) or (query.limit is not None and query.limit >= 0)


def array(keys: Sequence[Any]) -> Any:
    """Keys as what is bound for an array: numbers as PostgreSQL's own text of one, which the driver makes much faster."""
    if keys and all(type(key) is int for key in keys):
        return "{" + ",".join(map(str, keys)) + "}"
    return list(keys)
