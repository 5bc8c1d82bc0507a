"""From a Query to SQL: one statement for the items and what they lead to, one for each list below them, the caller's grant in all.
Pure: no I/O.

`compile_read` gives a `Plan`; `plan_for` keeps plans on the snapshot by the shape of the query and the caller's role.
"""

from collections.abc import Mapping, Sequence

from directus_tx.access import Access, Grant
from directus_tx.access.view import not_deleted
from directus_tx.compile.bounds import Bounds, check_query
from directus_tx.compile.filters import Conditions, of_scope, readable_column, shape, where_of, where_shape
from directus_tx.compile.levels import Tree, array, is_page, order_of, parse_fields
from directus_tx.compile.operators import comparison_type, folded
from directus_tx.compile.plan import Plan, Prepared, keep_plan
from directus_tx.config import LimitSettings
from directus_tx.db.sql import SQL, Clause, Statement, all_of, column
from directus_tx.errors import UnknownField
from directus_tx.query import Query
from directus_tx.schema.model import Field


def plan_for(
    access: Access,
    collection: str,
    query: Query,
    limits: LimitSettings,
    *,
    by_key: bool,
    created: bool = False,
    version: bool = False,
) -> Plan:
    """The plan of a read, compiled once a snapshot, role and shape of query. Raises ApiError where the caller may not read
    the collection, the query does not fit it, or asks for more than the limits allow. *created*: the caller has just created what is
    looked for by key. *version*: rows carry that of their item last but one."""
    check_query(query, limits)
    key = (
        collection,
        by_key,
        created,
        version,
        query.fields,
        query.sort,
        shape(query.scope),
        by_key or where_shape(query),
        bool(query.lang) and "*" not in query.lang,
        query.groups,
        tuple((path, asked.sort, shape(asked.filter), is_page(asked)) for path, asked in query.deep),
    )
    return keep_plan(
        access, key, lambda: compile_read(access, collection, query, limits, by_key=by_key, created=created, version=version)
    )


def compile_read(
    access: Access,
    collection: str,
    query: Query,
    limits: LimitSettings,
    *,
    by_key: bool,
    created: bool = False,
    version: bool = False,
) -> Plan:
    """The plan of a read, from scratch. *by_key*: the keys of `BindValues` are looked for, and filter, q and status ignored."""
    grant = access.require_read(collection)
    if created:
        grant = grant.as_creator
    found = grant.collection
    bounds = Bounds(limits)
    expressions = parse_fields(query.fields, bounds)
    conditions = Conditions(access, bounds)
    own = conditions.chain("t0", grant, query.scope, of_scope)
    visible = all_of([own, not_deleted("t0", found)])
    filtered = not by_key and bool(query.filter or query.q or query.groups)
    if by_key:
        where = all_of([own, key_among("t0", found.primary_key), not_deleted("t0", found)])
    else:
        where = all_of([own, where_of(conditions, grant, query)])
        if query.groups:
            where = one_of_each(grant, query.groups, where)
    order = order_of("t0", grant, query.sort, nulls_last=access.schema.sort_null_last)
    deep = {path: index for index, (path, _) in enumerate(query.deep)}
    unreadable: dict[str, None] = {}
    root = Tree(access, bounds, bool(query.lang) and "*" not in query.lang, query, deep, unreadable).level(
        grant,
        [expressions],
        where,
        order,
        paged=True,
        key=found.primary_key if by_key else None,
        version=version,
    )
    if deep:
        raise UnknownField("deep names no list that the fields open: " + ", ".join(".".join(path) for path in deep) + ".")
    return Plan(
        root,
        count(grant, where if filtered else visible),
        count(grant, visible),
        status_count(grant, own),
        filtered,
        tuple(found.statuses),
        tuple(unreadable),
    )


def one_of_each(grant: Grant, groups: Sequence[str], where: Clause) -> Clause:
    """Of the rows where *where* holds, the first by key for each value of some fields."""
    collection = grant.collection
    key = column("t0", collection.primary_key.field)
    values = SQL(", ").join([folded("t0", readable_column(grant, name)) for name in groups])
    table = grant.table("t0")
    sql = SQL("{0} IN (SELECT DISTINCT ON ({1}) {0} FROM {2} WHERE {3} ORDER BY {1}, {0})").format(
        key, values, table.sql, where.sql
    )
    return Clause(sql, (*table.binds, *where.binds))


def key_among(alias: str, key: Field) -> Clause:
    """The key is one of those asked for."""
    sql = SQL("{} = ANY(%s::" + comparison_type(key) + "[])").format(column(alias, key.field))
    return Clause(sql, (lambda asked: array(asked.keys),))


def count(grant: Grant, where: Clause) -> Prepared:
    table = grant.table("t0")
    sql = SQL("SELECT count(*) FROM {} WHERE {}").format(table.sql, where.sql)
    return Prepared(Statement(sql), (*table.binds, *where.binds))


def status_count(grant: Grant, where: Clause) -> Prepared | None:
    """Counts by status, or None for a collection without one."""
    field = grant.collection.status_field
    if field is None or field.field in grant.hidden:
        return None
    table = grant.table("t0")
    sql = SQL("SELECT {0}, count(*) FROM {1} WHERE {2} AND {0} IS NOT NULL GROUP BY 1 ORDER BY 1").format(
        column("t0", field.field), table.sql, where.sql
    )
    return Prepared(Statement(sql), (*table.binds, *where.binds))


def paging(query: Query, default_limit: int) -> tuple[int | None, int]:
    """The limit (None is all) and the offset that a query means."""
    limit = default_limit if query.limit is None else query.limit
    if limit < 0:
        return (1 if query.single else None), 0
    if query.offset is not None:
        offset = max(query.offset, 0)
    elif query.limit is not None and query.page is not None:
        offset = (max(query.page, 1) - 1) * limit
    else:
        offset = 0
    return (1 if query.single else limit), offset


def page_meta(query: Query, default_limit: int, filter_count: int) -> Mapping[str, int]:
    """The paging part of meta: limit, offset, page, page_count. A page past the end is reported as the last."""
    limit, offset = paging(query, default_limit)
    if query.limit is None or limit is None:
        limit = filter_count if limit is None else min(limit, filter_count)
    pages = max(-(-filter_count // limit), 1) if limit else 1
    page = min(offset // limit + 1, pages) if limit else 1
    if offset >= filter_count:
        offset = (page - 1) * limit
    return {"limit": limit, "offset": offset, "page": page, "page_count": pages}
