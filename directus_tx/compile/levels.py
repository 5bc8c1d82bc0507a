"""The levels of a read: what the expressions of `fields` show of each row, and the related items that they open.

Many-to-one fields are joined into their level's statement; each one-to-many field is a statement of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from attrs import evolve, frozen

from directus_tx.access import Access, Grant
from directus_tx.access.view import not_deleted
from directus_tx.compile.bounds import Bounds
from directus_tx.compile.filters import Conditions, comparable_keys, equal_keys
from directus_tx.compile.operators import comparison_type, folded, is_text
from directus_tx.compile.plan import Branch, Level, Part, Prepared
from directus_tx.db.sql import SQL, Clause, Composable, Statement, all_of, column, renamed
from directus_tx.errors import InvalidPayload, UnknownField
from directus_tx.query import BindValues, Query, Sort
from directus_tx.schema.model import Field, Relation
from directus_tx.schema.types import answer

MAX_PLACE = 2**62


MAX_REORDERED = 4
"""Joins up to which PostgreSQL may look for a better order of them than theirs."""


@frozen
class Order:
    """An ORDER BY list: what it sorts by, each with its direction, in which "{}" stands for it."""

    terms: tuple[tuple[Composable, str], ...]

    @property
    def sql(self) -> Composable:
        return SQL(", ").join([SQL(direction).format(each) for each, direction in self.terms])


def order_of(alias: str, grant: Grant, sort: Sequence[Sort], *, nulls_last: bool = True) -> Order:
    """The order of rows: by the sorts asked for, or the sort field; ties go by the key, ascending."""
    collection = grant.collection
    key = collection.primary_key
    if not sort:
        own = collection.sort_field
        sort = [Sort(own.field)] if own is not None and own.field not in grant.hidden else []
    terms: list[tuple[Composable, str]] = []
    for each in sort:
        if each.field == "?":
            terms.append((SQL("random()"), "{}"))
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
        terms.append((folded(alias, field), direction))
    if not any(each.field == key.field for each in sort) or is_text(key):
        terms.append((column(alias, key.field), "{}"))
    return Order(tuple(terms))


Expressions = Mapping[str, "Expressions"]
"""Expressions of `fields` by their first names, each with what follows its dot: `author.name,author.email` is
{"author": {"name": {}, "email": {}}}. Those that leave a field out begin with "-"."""


def parse_fields(fields: Iterable[str], bounds: Bounds) -> Expressions:
    """The expressions of `fields`; "*" where there is none. Raises InvalidRequest where one of them is too deep."""
    found: dict[str, Any] = {}
    for field in fields:
        if field:
            bounds.check_depth(field.count("."))
            place = found
            for name in field.split("."):
                place = place.setdefault(name, {})
    return found or {"*": {}}


@frozen
class Tree:
    """Compiles the levels of one read. `deep` are the places in the query of what is asked of lists; a list that is opened takes its
    own out. Relations into what may not be read are noted in `unreadable`."""

    access: Access
    bounds: Bounds
    lang: bool
    query: Query
    deep: dict[tuple[str, ...], int]
    unreadable: dict[str, None]

    def level(
        self,
        grant: Grant,
        fields: Sequence[Expressions],
        where: Clause,
        order: Order,
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
            select.add_value(grant.version("t0"))
        if key is not None:
            select.add("t0", (key.field,))
        self.bounds.check_columns(len(select.columns) + len(order.terms))
        table, page = grant.table("t0"), PAGE if paged else ALL
        reordered = len(select.joins) <= MAX_REORDERED
        if select.joins and (paged or not reordered):
            table, select.columns, order = rows_first(grant, select, where, order, page)
            where = page = ALL
        found = selected(select.columns, [table, *select.joins], where, order, page)
        return Level(Prepared(Statement(found.sql, keep_join_order=not reordered), found.binds), part)

    def part(
        self,
        select: "Select",
        alias: str,
        name: str,
        grant: Grant,
        fields: Sequence[Expressions],
        path: tuple[str, ...],
    ) -> Part:
        """The part of a statement's rows that shows *fields* of the table called *alias*. Many-to-one fields are joined to it: the one
        row that they lead to costs less beside its item than in a statement of its own."""
        self.bounds.check_depth(len(path))
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
            relation = self.access.schema.relations_of[collection.collection][each]
            if field.has_column:
                target = self.access.grant(relation.collection_one or "")
                if not target.read:
                    parts.append(self.key_alone(select, alias, field, target, below, (*path, each)))
                    continue
                self.bounds.count_join()
                joined = select.join(alias, field, target)
                below = below or [{target.collection.primary_key.field: {}}]
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
        self, select: "Select", alias: str, field: Field, target: Grant, fields: Sequence[Expressions], path: tuple[str, ...]
    ) -> Part:
        """What is shown of an item that a many-to-one field leads to and that may not be read: its key, as the field holds it."""
        key = target.collection.primary_key.field
        if any(each != {key: {}} for each in fields):
            self.unreadable[path[-1]] = None
        # A value of its own, beside any other that the row has of the field: an item's values stand side by side.
        start = select.add(alias, (field.field,))
        cast = answer(field)
        return Part(field.field, start, (key,), () if cast is None else ((key, cast),), start)

    def resolve(
        self, grant: Grant, fields: Sequence[Expressions], *, top: bool
    ) -> tuple[list[str], dict[str, list[Expressions]]]:
        """What the expressions of one level mean: the names of the columns to show, in order, and the relations to open, each with the
        expressions below it. Where one expression goes deeper, the relations that the others only name are opened too; they have
        no expressions. Raises UnknownField."""
        collection = grant.collection
        relations = self.access.schema.relations_of[collection.collection]
        shown: dict[str, None] = {}
        named: dict[str, None] = {}
        opened: dict[str, list[Expressions]] = {}
        left_out: set[str] = set()
        star = False
        for expressions in fields:
            for head, below in expressions.items():
                if head == "*":
                    if not star:
                        shown.update(dict.fromkeys(collection.columns))
                        named.update(dict.fromkeys(relations))
                        star = True
                    if below:
                        for name in relations:
                            opened.setdefault(name, []).append(below)
                    continue
                if top and head.startswith("-") and head not in collection.fields:
                    left_out.add(head[1:])
                    continue
                field = collection.fields.get(head)
                if field is None:
                    raise UnknownField(f'"{collection.collection}" has no field "{head}".')
                if head in relations:
                    named[head] = None
                    if below:
                        opened.setdefault(head, []).append(below)
                if field.has_column:
                    shown[head] = None
        if opened:
            for name in named:
                opened.setdefault(name, [])
        hidden = left_out | grant.hidden
        return [n for n in shown if n not in hidden], {n: below for n, below in opened.items() if n not in hidden}

    def branch(
        self,
        holder: Grant,
        name: str,
        relation: Relation,
        fields: Sequence[Expressions],
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
        order = Order(((column("t0", there.field), "{}"), *inner.terms))
        self.bounds.count_list()
        fields = fields or [{relation.field_many: {}}]
        return Branch(name, self.level(grant, fields, where, order, key=there, path=path), source, as_text)

    def deep_where(self, grant: Grant, there: Field, where: Clause, order: Order, index: int) -> Clause:
        """The rows of lists, narrowed to what is asked of each list: by its filter, and by place within it."""
        asked = self.query.deep[index][1]
        chain = Conditions(self.access, self.bounds).chain("t0", grant, asked.filter, lambda query: query.deep[index][1].filter)
        where = all_of([where, chain])
        if not is_page(asked):
            return where
        key = column("t0", grant.collection.primary_key.field)
        table = grant.table("t0")
        sql = SQL(
            "{0} IN (SELECT key FROM (SELECT {0} AS key, row_number() OVER (PARTITION BY {1} ORDER BY {2}) AS place"
            " FROM {3} WHERE {4}) AS ranked WHERE place > %s AND place <= %s)"
        ).format(key, column("t0", there.field), order.sql, table.sql, where.sql)

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
        self.used: dict[str, None] = {}
        """The columns of the first table that are shown, or that others are joined by."""
        self.values: list[int] = []
        """The positions of columns that are made of the first table."""
        self._positions: dict[tuple[str, str], int] = {}

    def add_value(self, value: Composable) -> None:
        """Adds a column that is made of the first table."""
        self.values.append(len(self.columns))
        self.columns.append(value)

    def add(self, alias: str, names: Iterable[str]) -> int:
        """Adds columns side by side and gives the position of the first."""
        start = len(self.columns)
        for name in names:
            self._positions.setdefault((alias, name), len(self.columns))
            self.columns.append(column(alias, name))
            if alias == "t0":
                self.used[name] = None
        return start

    def position(self, alias: str, name: str) -> int:
        """The position of a column, which is added if it is not there yet."""
        if (alias, name) not in self._positions:
            self.add(alias, (name,))
        return self._positions[alias, name]

    def join(self, alias: str, field: Field, target: Grant) -> str:
        """Joins the item that a many-to-one field leads to, unless it is soft-deleted, and gives its alias."""
        joined = f"j{len(self.joins) + 1}"
        if alias == "t0":
            self.used[field.field] = None
        key = target.collection.primary_key
        table, alive = target.table(joined), not_deleted(joined, target.collection)
        on = equal_keys(column(alias, field.field), field, column(joined, key.field), key)
        sql = SQL(" LEFT JOIN {} ON {} AND {}").format(table.sql, on, alive.sql)
        self.joins.append(Clause(sql, (*table.binds, *alive.binds)))
        return joined


PAGE = Clause(SQL(" LIMIT %s OFFSET %s"), (lambda values: values.limit, lambda values: values.offset))
ALL = Clause(SQL(""))
FENCE = Clause(SQL(" OFFSET 0"))
"""Keeps PostgreSQL from making one query of two."""


def selected(columns: Sequence[Composable], tables: Sequence[Clause], where: Clause, order: Order, page: Clause) -> Clause:
    """A SELECT. *tables*: the first, and the joins to it; *where*: a condition, or `ALL`."""
    condition = where if where is ALL else Clause(SQL(" WHERE {}").format(where.sql), where.binds)
    sql = SQL("SELECT {} FROM {}{} ORDER BY {}{}").format(
        # Even where nothing of a row is shown it is one item of the answer.
        SQL(", ").join(columns or [SQL("1")]),
        SQL("").join([table.sql for table in tables]),
        condition.sql,
        order.sql,
        page.sql,
    )
    return Clause(sql, tuple(bind for clause in (*tables, condition, page) for bind in clause.binds))


def rows_first(grant: Grant, select: Select, where: Clause, order: Order, page: Clause) -> tuple[Clause, list[Composable], Order]:
    """Rows as a table to join others to, where PostgreSQL would else join all rows of the table before it filters, sorts and cuts them;
    and the columns and the order of the statement that does."""
    names = (name for number in count() if (name := f"$row{number}") not in grant.collection.fields)
    inner = [column("t0", name) for name in select.used]
    terms = []
    columns = list(select.columns)
    for term, direction in order.terms:
        name = next(names)
        inner.append(renamed(term, name))
        terms.append((column("t0", name), direction))
    for position in select.values:
        name = next(names)
        inner.append(renamed(columns[position], name))
        columns[position] = column("t0", name)
    rows = selected(inner, [grant.table("t0")], where, order, FENCE if page is ALL else page)
    return Clause(renamed(SQL("({})").format(rows.sql), "t0"), rows.binds), columns, Order(tuple(terms))


def is_page(query: Query) -> bool:
    """Whether a query asks for a part of each list by its place."""
    return bool(query.offset) or (query.limit is not None and query.limit >= 0)


def array(keys: Sequence[Any]) -> Any:
    """Keys as what is bound for an array: numbers as PostgreSQL's own text of one, which the driver makes much faster."""
    if keys and all(type(key) is int for key in keys):
        return "{" + ",".join(map(str, keys)) + "}"
    return list(keys)
