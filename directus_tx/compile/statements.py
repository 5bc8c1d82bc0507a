"""Builds the statements of a read: one for the items, and one for each one-to-many field.

Many-to-one fields are joined to the statement of their items.
"""

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

from attrs import evolve, frozen

from directus_tx.access import Access, Grant
from directus_tx.access.view import not_deleted
from directus_tx.compile import file_data
from directus_tx.compile.bounds import Bounds
from directus_tx.compile.fields import ListSelection, Selection
from directus_tx.compile.filters import Conditions, asked_of, list_of, q_of, search
from directus_tx.compile.keyset import Keyset
from directus_tx.compile.operators import (
    base_column,
    equal_keys,
    key_among,
    key_text,
    one_of,
    same_kind_of_key,
)
from directus_tx.compile.order import Order, Term, order_of
from directus_tx.compile.plan import Cast, ItemLayout, ItemsPlan, ListPlan, Prepared, Width
from directus_tx.compile.shape import ReadShape
from directus_tx.db.sql import SQL, TRUE, Bind, Clause, Composable, Statement, all_of, column, renamed
from directus_tx.query import BindValues
from directus_tx.schema.datatypes import is_long
from directus_tx.schema.model import Field
from directus_tx.schema.showing import answer
from directus_tx.schema.statistics import Asked, Lookup, Timing

MAX_PLACE = 2**62
FEW_JOINS = 4
FEW_TABLES = 6
"""The number of joins, and of all tables, up to which PostgreSQL may search for the best join order: seven tables take some
milliseconds."""


@frozen
class Compiler:
    """Builds the statements of one read."""

    access: Access
    bounds: Bounds
    shape: ReadShape

    def items(
        self,
        selection: Selection,
        where: Clause,
        order: Order,
        *,
        page: Clause | None = None,
        key: Composable | None = None,
        version: bool = False,
        keyset: Keyset | None = None,
        relations: int = 0,
        timing: Timing | None = None,
    ) -> ItemsPlan:
        """Returns the statement that reads a selection of the rows that match *where*, a condition that follows *relations*
        relations. *page*: the LIMIT and OFFSET of a page; by default, `MOST`. *key*: the column that is the last value of each row;
        *version*: the value before it is the version of the item. *keyset*: how a page of a list with a cursor is read, in its order
        and not in *order*; the last values of each row are its texts. *timing*: that of the statement."""
        grant = selection.grant
        select = SelectBuilder()
        layout = self.layout(select, "t0", "", selection)
        if version:
            select.add_value("t0", grant.version("t0"))
        if key is not None:
            select.add_value("t0", key)
        if keyset is not None:
            order = keyset.order
            for text in keyset.texts:
                select.add_value("t0", text)
        table, paged, page = grant.table("t0"), page is not None, page or MOST
        joins = len(select.joins)
        # A page ordered by the key is read along its index, whatever is joined.
        sorts = len(order.terms) > 1
        if keyset is not None and keyset.parts:
            table, select.columns, order = rows_first(grant, select, keyset.within(where), order, FIRST)
            where = page = ALL
        elif joins > FEW_JOINS or (joins and paged and sorts):
            table, select.columns, order = rows_first(grant, select, [(where, order)], order, page)
            where = page = ALL
        found = select_sql(select.columns, [table, *select.joins], where, order, page)
        many = joins > FEW_JOINS or joins + relations > FEW_TABLES
        binds = (*select.binds, *found.binds)
        return ItemsPlan(Prepared(Statement(found.sql, many_tables=many), binds), layout, Width(select.long), timing)

    def layout(self, select: "SelectBuilder", alias: str, name: str, selection: Selection) -> ItemLayout:
        """Adds a selection of the table *alias* to a statement. Many-to-one fields are joined, which costs less than separate
        statements."""
        grant, names = selection.grant, selection.names
        fields = grant.collection.fields
        start = select.add(alias, names, grant)
        select.long += [start + place for place, name in enumerate(names) if fields[name].has_column and is_long(fields[name])]
        key = None if alias == "t0" else select.position(alias, grant.collection.primary_key.field)
        items = [
            self.key_alone(select, alias, field, below)
            if isinstance(below, str)
            else self.layout(select, select.join(alias, field, below.grant), field.field, below)
            for field, below in selection.items
        ]
        lists = []
        for each in selection.lists:
            mask = grant.mask_of(each.name)
            flag = None if mask is None else select.position(alias, mask.flag)
            lists.append(self.list_plan(select, alias, grant, each, flag))
        masks = []
        for mask in grant.masks:
            masked = tuple(each for each in (*names, *(below.name for below in items)) if each in mask.names)
            if masked:
                masks.append((select.position(alias, mask.flag), masked))
        casts = [(each, self.cast(fields[each])) for each in names]
        return ItemLayout(
            name,
            start,
            names,
            tuple((each, cast) for each, cast in casts if cast is not None),
            key,
            tuple(items),
            tuple(lists),
            tuple(masks),
        )

    def key_alone(self, select: "SelectBuilder", alias: str, field: Field, key: str) -> ItemLayout:
        """Returns the layout of a related item that the caller may not read: only its key, which the field holds."""
        # Added again even if the row has the column already: the values of an item must be adjacent.
        start = select.add(alias, (field.field,))
        cast = self.cast(field)
        return ItemLayout(field.field, start, (key,), () if cast is None else ((key, cast),), start)

    def cast(self, field: Field) -> Cast | None:
        """Returns the function that converts the values of a column for responses, or None if none is needed."""
        if not field.has_column:
            return file_data.shown(self.access.schema)
        return answer(field) if field.sealed is None else field.sealed.shown(self.access.keys)

    def list_plan(self, select: "SelectBuilder", alias: str, holder: Grant, opened: ListSelection, flag: int | None) -> ListPlan:
        """Returns the statement that reads a one-to-many field of all items at once. Adds the key of the table *alias* to the
        items' statement if it is missing."""
        grant = opened.selection.grant
        target = grant.collection
        here, there = holder.collection.primary_key, target.fields[opened.relation.field_many]
        if same_kind_of_key(here, there):
            source, key = select.position(alias, here.field), column("t0", there.field)
            looked_for = key_among("t0", there)
        else:
            source, key = select.add_value(alias, key_text(alias, here)), key_text("t0", there)
            looked_for = SQL("{} = ANY(%s::text[])").format(key)
        path = ".".join(opened.path)
        index = next((index for index, nested in enumerate(self.shape.deep) if ".".join(nested.path) == path), None)
        chain = Conditions(self.access, self.bounds)
        alive = not_deleted("t0", target)
        if index is not None:
            alive = chain.status("t0", grant, self.shape.deep[index].status, list_of(index))
        conditions = [Clause(looked_for, (lambda values: array(values.keys),)), alive]
        language = target.field_of_type("lang")
        if self.shape.languages and language is not None and language.field not in grant.unaskable:
            conditions.append(one_of("t0", language, lambda values: values.query.lang))
        sort = () if index is None else self.shape.deep[index].sort
        within = order_of("t0", grant, sort, nulls_last=self.access.schema.sort_null_last)
        where = all_of(conditions)
        if index is not None:
            where = self.narrowed(grant, key, where, chain, within, index)
        # The order of the lists does not matter, but this one keeps PostgreSQL from reading the whole table along its key.
        order = Order((Term(key), *within.terms))
        asked = asked_of(() if index is None else self.shape.deep[index].filter)
        # Among the alternatives of a filter, the condition that finds the list is in each one.
        found = (*asked, Asked(there.field, "key")) if all(each.logical == "and" for each in asked[1:]) else asked
        searched = index is not None and self.shape.deep[index].search
        timing = self.access.schema.statistics.of(Lookup(target.collection, found, (), searched))
        items = self.items(opened.selection, where, order, key=key, relations=chain.relations, timing=timing)
        return ListPlan(opened.name, items, source, flag)

    def narrowed(
        self, grant: Grant, holder: Composable, where: Clause, conditions: Conditions, order: Order, index: int
    ) -> Clause:
        """Returns *where* restricted by the filter, search, limit and offset of `deep`, applied to each list. *holder*: the column that
        identifies the list of a row; *index*: the index in `deep`."""
        nested = self.shape.deep[index]
        chain = conditions.chain("t0", grant, nested.filter, lambda query: query.deep[index][1].filter)
        where = all_of([where, chain, search("t0", grant, q_of(list_of(index))) if nested.search else TRUE])
        if not nested.paged:
            return where
        key = base_column("t0", grant.collection.primary_key)
        table = grant.table("t0")
        sql = SQL(
            "{0} IN (SELECT key FROM (SELECT {0} AS key, row_number() OVER (PARTITION BY {1} ORDER BY {2}) AS place"
            " FROM {3} WHERE {4}) AS ranked WHERE place > %s AND place <= %s)"
        ).format(key, holder, order.sql, table.sql, where.sql)

        def first(values: BindValues) -> int:
            return max(values.query.deep[index][1].offset or 0, 0)

        def last(values: BindValues) -> int:
            limit = values.query.deep[index][1].limit
            return MAX_PLACE if limit is None or limit < 0 else min(first(values) + limit, MAX_PLACE)

        return Clause(sql, (*table.binds, *where.binds, first, last))


class SelectBuilder:
    """The columns and joins of a statement that is being built."""

    def __init__(self) -> None:
        self.columns: list[Composable] = []
        self.joins: list[Clause] = []
        self.used: dict[str, None] = {}
        """The columns of the first table that are shown or joined by."""
        self.values: list[int] = []
        """The positions of expressions over the first table."""
        self.binds: list[Bind] = []
        """The bind values of the placeholders in the columns."""
        self.long: list[int] = []
        """The positions of columns that may hold long texts."""
        self._positions: dict[tuple[str, str], int] = {}

    def add_value(self, alias: str, value: Composable) -> int:
        """Adds an expression and returns its position."""
        position = len(self.columns)
        if alias == "t0":
            self.values.append(position)
        self.columns.append(value)
        return position

    def add(self, alias: str, names: Iterable[str], grant: Grant | None = None) -> int:
        """Adds adjacent columns and returns the position of the first. *grant* is that of the table; without it, all names are columns."""
        start = len(self.columns)
        for name in names:
            if grant is not None and not grant.collection.fields[name].has_column:
                self._add_file_data(alias, grant)
                continue
            self._positions.setdefault((alias, name), len(self.columns))
            self.columns.append(column(alias, name))
            if alias == "t0":
                self.used[name] = None
        return start

    def _add_file_data(self, alias: str, grant: Grant) -> None:
        self.columns.append(file_data.expression(grant, alias))
        self.binds.append(file_data.site)
        if alias == "t0":
            self.used |= dict.fromkeys(name for name in file_data.COLUMNS if name not in grant.hidden)

    def position(self, alias: str, name: str) -> int:
        """Returns the position of a column; adds it if it is missing."""
        if (alias, name) not in self._positions:
            self.add(alias, (name,))
        return self._positions[alias, name]

    def join(self, alias: str, field: Field, target: Grant) -> str:
        """Joins the item that a many-to-one field refers to, unless it is soft-deleted. Returns its alias."""
        joined = f"j{len(self.joins) + 1}"
        if alias == "t0":
            self.used[field.field] = None
        key = target.collection.primary_key
        table, alive = target.table(joined), not_deleted(joined, target.collection)
        on = equal_keys(alias, field, joined, key)
        sql = SQL(" LEFT JOIN {} ON {} AND {}").format(table.sql, on, alive.sql)
        self.joins.append(Clause(sql, (*table.binds, *alive.binds)))
        return joined


PAGE = Clause(SQL(" LIMIT %s OFFSET %s"), (lambda values: values.limit, lambda values: values.offset))
FIRST = Clause(SQL(" LIMIT %s"), (lambda values: values.limit,))
ONE = Clause(SQL(" LIMIT 1"))
MOST = Clause(SQL(" LIMIT %s"), (lambda values: values.most,))
ALL = Clause(SQL(""))


def select_sql(columns: Sequence[Composable], tables: Sequence[Clause], where: Clause, order: Order, page: Clause) -> Clause:
    """Returns a SELECT. *tables*: the first table and its joins; *where*: a condition, or `ALL`."""
    condition = where if where is ALL else Clause(SQL(" WHERE {}").format(where.sql), where.binds)
    sql = SQL("SELECT {} FROM {}{}{}{}").format(
        # A row without visible columns is still an item of the result.
        SQL(", ").join(columns or [SQL("1")]),
        SQL("").join([table.sql for table in tables]),
        condition.sql,
        SQL(" ORDER BY {}").format(order.sql) if order.terms else SQL(""),
        page.sql,
    )
    return Clause(sql, tuple(bind for clause in (*tables, condition, page) for bind in clause.binds))


def rows_first(
    grant: Grant, select: SelectBuilder, parts: Sequence[tuple[Clause, Order]], order: Order, page: Clause
) -> tuple[Clause, list[Composable], Order]:
    """Returns a subquery that filters, sorts and limits the rows before other tables are joined, and the columns and order of the outer
    statement. Without it PostgreSQL may join all rows first. *parts*: conditions that divide the rows, each with the order of its rows;
    the page is that of each part."""
    names = (name for number in count() if (name := f"$row{number}") not in grant.collection.fields)
    inner = [column("t0", name) for name in select.used]
    terms = []
    columns = list(select.columns)
    for term in order.terms:
        name = next(names)
        inner.append(renamed(term.value, name))
        terms.append(evolve(term, value=column("t0", name)))
    for position in select.values:
        name = next(names)
        inner.append(renamed(columns[position], name))
        columns[position] = column("t0", name)
    # Its LIMIT keeps PostgreSQL from merging the subquery into the statement.
    found = [select_sql(inner, [grant.table("t0")], where, part, page) for where, part in parts]
    rows = found[0] if len(found) == 1 else in_turn(found)
    return Clause(renamed(SQL("({})").format(rows.sql), "t0"), rows.binds), columns, Order(tuple(terms))


def in_turn(selects: Sequence[Clause]) -> Clause:
    """Returns a SELECT of the first rows, up to the limit, of several SELECTs that have it, too. PostgreSQL does not run those whose rows
    are not needed."""
    parts: list[Clause] = []
    for number, select in enumerate(selects):
        sql, binds = select.sql, select.binds
        if number:
            # The limit inside lets PostgreSQL plan for a few rows. The one around it is known only when the other parts have run.
            before = " + ".join([f'(SELECT count(*) FROM "$part{each}")' for each in range(number)])
            sql = SQL(f"SELECT * FROM ({{}}) AS t0 LIMIT greatest(%s - ({before}), 0)").format(sql)
            binds = (*binds, *FIRST.binds)
        parts.append(Clause(SQL(f'"$part{number}" AS MATERIALIZED ({{}})').format(sql), binds))
    all_parts = " UNION ALL ".join([f'SELECT * FROM "$part{number}"' for number in range(len(parts))])
    sql = SQL("WITH {} {}").format(SQL(", ").join([each.sql for each in parts]), SQL(all_parts))
    return Clause(sql, tuple(bind for each in parts for bind in each.binds))


def array(keys: Sequence[Any]) -> Any:
    """Returns keys as the bind value of an array. Integers become PostgreSQL's array text, which is much faster to build."""
    if keys and all(type(key) is int for key in keys):
        return "{" + ",".join(map(str, keys)) + "}"
    return list(keys)
