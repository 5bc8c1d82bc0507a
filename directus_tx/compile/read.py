"""Compiles reads. `compile_read` returns a `Plan`; `plan_for` caches plans on the snapshot by role and shape of the query."""

from collections.abc import Sequence

from attrs import evolve

from directus_tx.access import Access, Grant
from directus_tx.access.view import not_deleted
from directus_tx.compile.bounds import Bounds, check_query
from directus_tx.compile.custom import fenced
from directus_tx.compile.fields import Selector, parse_fields
from directus_tx.compile.filters import Conditions, grouping_column, lookup_of, of_scope, where_of
from directus_tx.compile.keyset import keyset_of
from directus_tx.compile.operators import base_column, grouped, key_among
from directus_tx.compile.order import UNORDERED, default_sort, order_of
from directus_tx.compile.output import Output
from directus_tx.compile.plan import Plan, Prepared, keep_plan, with_output
from directus_tx.compile.shape import ReadShape, read_shape_of
from directus_tx.compile.statements import FEW_TABLES, ONE, PAGE, Compiler, array
from directus_tx.config import LimitSettings
from directus_tx.db.sql import SQL, Clause, Statement, all_of, column
from directus_tx.errors import UnknownField
from directus_tx.query import Query


def plan_for(
    access: Access,
    collection: str,
    query: Query,
    limits: LimitSettings,
    *,
    by_key: bool = False,
    alone: bool = False,
    created: bool = False,
    version: bool = False,
    output: Output | None = None,
) -> Plan:
    """Returns the plan of a read, from the cache if possible. *by_key*: read the items with the keys in `BindValues`; *alone*: there is
    one key, and the page shows the first item; *created*: the caller has just created them; *version*: the last but one value of each row
    is the version of the item; *output*: what the items show, unless the plan says otherwise (`Plan.has_output`).

    Raises an ApiError if the caller may not read the collection, or the query does not fit it or exceeds a limit.
    """
    check_query(query, limits)
    shape = read_shape_of(collection, query, by_key=by_key, alone=alone, created=created, version=version, output=output)
    return keep_plan(access, shape, lambda: compile_read(access, shape, limits))


def compile_read(access: Access, shape: ReadShape, limits: LimitSettings) -> Plan:
    """Compiles a read. The limits are checked before SQL is built."""
    access = fenced(access, shape.narrowing, *shape.deep)
    grant = access.require_read(shape.collection)
    if shape.created:
        grant = grant.as_creator
    found = grant.collection
    bounds = Bounds(limits)
    selector = Selector(access, bounds)
    selection = selector.select(grant, parse_fields(shape.fields, bounds))
    lists = {".".join(path) for path in selector.lists}
    missing = [path for nested in shape.deep if (path := ".".join(nested.path)) not in lists]
    if missing:
        raise UnknownField(f"deep names no list that the fields open: {', '.join(missing)}.")
    conditions = Conditions(access, bounds)
    own = conditions.chain("t0", grant, shape.narrowing.scope, of_scope)
    visible = all_of([own, not_deleted("t0", found)])
    key = column("t0", found.primary_key.field) if shape.by_key else None
    if shape.by_key:
        wanted = Clause(key_among("t0", found.primary_key), (lambda values: array(values.keys),))
        where = all_of([own, wanted, not_deleted("t0", found)])
    else:
        where = all_of([own, where_of(conditions, grant, shape.narrowing)])
        if shape.groups:
            where = one_of_each(grant, shape.groups, where)
    # Unknown names are an error even where there is nothing to sort.
    named = order_of("t0", grant, shape.sort, nulls_last=access.schema.sort_null_last)
    order = UNORDERED if shape.alone else named
    keyset = None if shape.cursor is None else keyset_of(grant, order, shape.cursor)
    lookup = lookup_of(grant, shape.narrowing, shape.sort or default_sort(grant))
    items = Compiler(access, bounds, shape).items(
        selection,
        where,
        order,
        page=ONE if shape.alone else PAGE,
        key=key,
        version=shape.version,
        keyset=keyset,
        relations=conditions.relations,
        timing=None if shape.by_key else access.schema.statistics.of(lookup),
    )
    layout = None if shape.output is None else with_output(items.layout, shape.output)
    if layout is not None:
        items = evolve(items, layout=layout)
    filtered = bool(shape.narrowing.filter or shape.narrowing.where or shape.narrowing.search or shape.groups)
    return Plan(
        items,
        count(grant, where if filtered else visible, many_tables=conditions.relations > FEW_TABLES),
        count(grant, visible),
        status_count(grant, own),
        filtered,
        # A join may repeat a row: the declared key of a view need not be unique.
        not shape.by_key and (filtered or shape.narrowing.status == "default") and not items.layout.items,
        tuple(found.statuses),
        tuple(selector.unreadable),
        () if keyset is None else keyset.names,
        layout is not None,
    )


def one_of_each(grant: Grant, groups: Sequence[str], where: Clause) -> Clause:
    """Returns the condition that a row is the first by key among those with the same values of some fields."""
    collection = grant.collection
    key = base_column("t0", collection.primary_key)
    values = SQL(", ").join([grouped("t0", grouping_column(grant, name)) for name in groups])
    table = grant.table("t0")
    sql = SQL("{0} IN (SELECT DISTINCT ON ({1}) {0} FROM {2} WHERE {3} ORDER BY {1}, {0})").format(
        key, values, table.sql, where.sql
    )
    return Clause(sql, (*table.binds, *where.binds))


def count(grant: Grant, where: Clause, *, many_tables: bool = False) -> Prepared:
    """Counts the rows where *where* holds."""
    table = grant.table("t0")
    sql = SQL("SELECT count(*) FROM {} WHERE {}").format(table.sql, where.sql)
    return Prepared(Statement(sql, many_tables=many_tables), (*table.binds, *where.binds))


def status_count(grant: Grant, where: Clause) -> Prepared | None:
    """Returns the statement of `Plan.status_count`."""
    field = grant.collection.status_field
    if field is None or field.field in grant.hidden:
        return None
    table, visible = grant.table("t0"), not_deleted("t0", grant.collection)
    sql = SQL("SELECT {0}, count(*), count(*) FILTER (WHERE {1}) FROM {2} WHERE {3} GROUP BY 1 ORDER BY 1").format(
        column("t0", field.field), visible.sql, table.sql, where.sql
    )
    return Prepared(Statement(sql), (*visible.binds, *table.binds, *where.binds))
