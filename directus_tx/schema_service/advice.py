"""Which indexes the lists of a project need, by the statistics of what they are filtered and sorted by."""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from attrs import field as attribute
from attrs import frozen

from directus_tx.access import Access
from directus_tx.compile.operators import compares_as_text, has_order, is_text
from directus_tx.context import ADMINISTRATOR, Accountability, Context
from directus_tx.errors import ApiError, InvalidRequest
from directus_tx.schema import ddl
from directus_tx.schema.datatypes import searched
from directus_tx.schema.model import OF_DATABASE, READY, TABLE, Collection, Field, Index, Snapshot
from directus_tx.schema.statistics import Asked, Lookup, Timing
from directus_tx.schema_service.definitions import check_indexable
from directus_tx.schema_service.payloads import Item

SMALL = 1000
"""The number of rows of a table below which no index is advised."""

RANGES = frozenset({"lt", "lte", "gt", "gte", "between"})
SEARCHES = frozenset({"contains", "like", "rlike"})
OF_ITEMS = frozenset({"empty", "nempty", "null", "nnull", "has", "all"})
"""Operators on a one-to-many field that are about all related items of each item."""


UNNAMEABLE = '"{}" begins with a minus, which means descending order in declarations of indexes: index the column in PostgreSQL.'


# --- the rule


@frozen
class Need:
    """An index that a lookup needs: on the `equal` fields in any order, then on those of `order`, with "-" in front for descending order,
    or else on the field `range`. `search`: the search indexes of the collection. `key`: the index is for finding items by the key that
    a relation holds in the equal field. `filtered` are the fields that every row is filtered by, on which partial indexes may
    depend."""

    collection: str
    equal: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    range: str | None = None
    search: bool = False
    key: bool = False
    filtered: frozenset[str] = attribute(default=frozenset(), eq=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The fields of the index."""
        return (*self.equal, *self.order, *(() if self.range is None else (self.range,)))


@frozen
class Needs:
    """What a lookup needs: the indexes, and sentences that say why others do not serve. A part that no index serves is not mentioned if
    an index serves another part."""

    needs: tuple[Need, ...]
    reasons: tuple[str, ...]


def needs_of(schema: Snapshot, lookup: Lookup) -> Needs:
    """Returns which indexes a lookup needs. Raises KeyError if a collection or a field no longer exists."""
    collection = schema.collections[lookup.collection]
    for each in lookup.sort:
        name = each.removeprefix("-")
        if name != "?" and name not in collection.columns:
            # As in `sort`, "-name" is a field of this name if there is no field "name".
            collection.columns[each]
            return Needs((), (UNNAMEABLE.format(each),))
    groups: list[list[Asked]] = [[]]
    for asked in lookup.filter:
        if asked.logical == "or" and groups[-1]:
            groups.append([])
        groups[-1].append(asked)
    if len(groups) == 1:
        return _unique(_Part(schema, collection, groups[0]).needs(lookup.sort, search=lookup.search))
    # PostgreSQL combines indexes of the alternatives, if each has one on the table itself.
    parts = [_Part(schema, collection, group) for group in groups]
    alternatives = [part.needs(()) for part in parts]
    if all(found.needs for found in alternatives) and not any(part.relational for part in parts):
        return _unique(Needs(tuple(need for found in alternatives for need in found.needs), ()))
    reason = "One of the alternatives that OR joins cannot use an index of the table, so all rows are read."
    rest = _Part(schema, collection, []).needs(lookup.sort, search=lookup.search)
    return _unique(Needs(rest.needs, (reason, *rest.reasons)))


def _unique(found: Needs) -> Needs:
    return Needs(tuple(dict.fromkeys(found.needs)), () if found.needs else tuple(dict.fromkeys(found.reasons)))


class _Part:
    """Conditions that all hold, and the indexes that serve them. `relational`: one of them follows a relation."""

    def __init__(self, schema: Snapshot, collection: Collection, conditions: Iterable[Asked]) -> None:
        self.schema = schema
        self.collection = collection
        self.relational = False
        self.equal: list[str] = []
        self.among: list[str] = []
        self.ranges: list[str] = []
        self.filtered: set[str] = set()
        self.key: str | None = None
        self.others: list[Need] = []
        self.reasons: list[str] = []
        for asked in conditions:
            self._add(asked)

    def _add(self, asked: Asked) -> None:
        name, rest = self._divide(self.collection, asked.field.split("."))
        field = self.collection.fields[name]
        if rest or not field.has_column or self._searches_related(self.collection, field, asked.operator):
            self.relational = True
            self._follow(asked)
            return
        self.filtered.add(name)
        if asked.operator == "key":
            self.key = name
            return
        kind = self._kind(field, asked)
        if kind == "search":
            self.others.append(Need(self.collection.collection, search=True))
        elif kind is not None:
            {"eq": self.equal, "in": self.among, "range": self.ranges}[kind].append(name)

    def _divide(self, collection: Collection, path: Sequence[str]) -> tuple[str, Sequence[str]]:
        """Returns the field that a path begins with, and the rest. Fields of tables of other programs may have dots in their names."""
        grant = Access(self.schema, Accountability(None, ADMINISTRATOR), trusted=True).grant(collection.collection)
        return grant.divide(path, self.schema.relations_of[collection.collection])

    def _searches_related(self, collection: Collection, field: Field, operator: str) -> bool:
        return operator in SEARCHES and (collection.collection, field.field) in self.schema.many_to_one

    def _kind(self, field: Field, asked: Asked) -> str | None:
        """Returns how an index serves a condition: "eq", "in", "range" or "search". None if none does, and adds the reason."""
        operator, said = asked.operator, f'"{asked.operator}" of "{asked.field}"'
        if operator in SEARCHES:
            if searched(field):
                return "search"
            self.reasons.append(f"{said}: search indexes contain text and number fields only.")
            return None
        null = operator == "null" and field.native is None and not compares_as_text(field)
        if not (operator in ("eq", "in") or operator in RANGES or null):
            self.reasons.append(f"{said}: no index finds such items.")
        elif field.field.startswith("-"):
            self.reasons.append(UNNAMEABLE.format(field.field))
        elif field.virtual:
            self.reasons.append(f"{said}: the field is computed when it is read.")
        elif not has_order(field):
            self.reasons.append(f"{said}: values of the type have no order, so they cannot be indexed.")
        else:
            return "range" if operator in RANGES else "in" if operator == "in" else "eq"
        return None

    def _follow(self, asked: Asked) -> None:
        """Adds the needs of a condition through relations: the index of the field at the end, and those of the columns that hold keys."""
        schema, collection = self.schema, self.collection
        keys: list[Need] = []
        path: Sequence[str] = asked.field.split(".")
        while True:
            name, path = self._divide(collection, path)
            field = collection.fields[name]
            many = schema.one_to_many.get((collection.collection, name))
            upward = schema.many_to_one.get((collection.collection, name)) if field.has_column else None
            if many is not None:
                keys.append(Need(many.collection_many, (many.field_many,), key=True))
                collection = schema.collections[many.collection_many]
                if not path:
                    field = collection.fields.get(many.junction_field or "") or collection.primary_key
                    break
            elif path or self._searches_related(collection, field, asked.operator):
                if upward is None:
                    raise KeyError(name)
                keys.append(Need(collection.collection, (name,), key=True))
                collection = schema.collections[upward.collection_one or ""]
                if not path:
                    self.others += [*keys, Need(collection.collection, search=True)]
                    return
            elif field.has_column:
                break
            else:
                raise KeyError(name)
        if many is not None and asked.operator in OF_ITEMS:
            self.reasons.append(f'"{asked.operator}" of "{asked.field}" is asked of every item, so all rows are read.')
            return
        kind = self._kind(field, asked)
        if kind is None:
            return
        end = collection.collection
        if kind == "search":
            need = Need(end, search=True)
        elif kind == "range":
            need = Need(end, range=field.field)
        else:
            need = Need(end, (field.field,))
        self.others += [*keys, need]

    def needs(self, sort: Sequence[str], *, search: bool = False) -> Needs:
        """Returns the needs of the conditions, the order and the search together."""
        name, others, reasons = self.collection.collection, list(self.others), list(self.reasons)
        equal = tuple(dict.fromkeys([*self.equal, *self.among]))
        if search:
            if any(searched(field) for field in self.collection.columns.values()):
                others.append(Need(name, search=True))
            else:
                reasons.append("A search finds nothing: the collection has no text and number fields.")
        if self.key is not None:
            others.append(Need(name, (self.key,), key=True))
        elif equal or not any(need.search and need.collection == name for need in others):
            order = self._order(sort, equal, reasons)
            between = next((each for each in self.ranges if each not in equal), None) if not order else None
            if equal or order or between is not None:
                others.append(Need(name, equal, order, between, filtered=frozenset(self.filtered)))
        return Needs(tuple(others), tuple(reasons))

    def _order(self, sort: Sequence[str], equal: Sequence[str], reasons: list[str]) -> tuple[str, ...]:
        """Returns the part of the order that the index needs: without fields that are equal in all rows, and without the key that comes
        last in any order."""
        if "?" in sort:
            reasons.append("The order is random, so all rows that the filter finds are read.")
            return ()
        found: list[str] = []
        for each in sort:
            name = each.removeprefix("-")
            if self.collection.columns[name].virtual:
                reasons.append(f'"{name}" is computed when it is read: no index has its order.')
                return ()
            if name not in self.equal and name not in {other.removeprefix("-") for other in found}:
                found.append(each)
        key = self.collection.key
        if key is not None and not is_text(key) and found and found[-1] == key.field and (equal or len(found) > 1):
            found.pop()
        return tuple(found)


def serves(collection: Collection, index: Index, need: Need, *, folded: bool = True, nulls_last: bool = True) -> bool:
    """Whether an index serves a need of its collection. *folded*: an index from another program is on texts in lower case. *nulls_last*:
    the setting sort_null_last."""
    if index.state != READY or not index.described or not index.fields or not set(index.where or ()) <= need.filtered:
        return False
    names = [name.removeprefix("-") for name in index.fields]
    lower = index.origin != OF_DATABASE or folded
    if need.key:
        # Keys that are texts are compared as they are.
        return names[0] == need.equal[0] and not (lower and is_text(collection.columns[names[0]]))
    if not lower and any(is_text(collection.columns[name.removeprefix("-")]) for name in need.names):
        return False
    if need.equal and index.unique and set(names) <= set(need.equal):
        return True
    number = len(need.equal)
    if set(names[:number]) != set(need.equal):
        return False
    if need.range is not None:
        return names[number : number + 1] == [need.range]
    fields = index.fields[number : number + len(need.order)]
    own = index.origin != OF_DATABASE
    return not need.order or in_order(collection, fields, need.order, nulls_last=nulls_last, own=own)


def in_order(collection: Collection, fields: Sequence[str], sort: Sequence[str], *, nulls_last: bool, own: bool = True) -> bool:
    """Whether an index on *fields* has the order *sort*, read forward or backward. *own*: NULLs are last in both directions of the index,
    as in those of the server; otherwise first in descending order."""
    if [each.removeprefix("-") for each in fields] != [each.removeprefix("-") for each in sort]:
        return False
    forward = backward = True
    for there, wanted in zip(fields, sort, strict=True):
        field = collection.columns[wanted.removeprefix("-")]
        nulls = field.nullable and not field.primary_key
        down, descending = there.startswith("-"), wanted.startswith("-")
        wanted_first = not (nulls_last or descending)
        first = down and not own
        forward = forward and down == descending and (not nulls or wanted_first == first)
        backward = backward and down != descending and (not nulls or wanted_first != first)
    return forward or backward


def declaration(collection: Collection, need: Need, *, nulls_last: bool = True) -> Item:
    """Returns what declares the index of a need: attributes of a field, or of a collection. Raises InvalidRequest if the collection can
    have no declared index."""
    check_indexable(collection)
    if need.search:
        return {"collection": collection.collection, "search_index": True}
    names = need.names
    if len(names) == 1:
        return {"collection": collection.collection, "field": names[0].removeprefix("-"), "index": True}
    turned = tuple(each[1:] if each.startswith("-") else f"-{each}" for each in need.order)
    if need.order and not in_order(collection, need.order, need.order, nulls_last=nulls_last):
        # Nulls are first: an index in the other direction is read backward.
        names = (*need.equal, *turned)
    return {"collection": collection.collection, "indexes": [{"fields": list(names)}]}


# --- the answer


async def read_advice(ctx: Context, *, every: bool = False) -> list[Item]:
    """Returns what lists have been filtered and sorted by since the server was started, those first that took the most time in all, with
    the indexes that serve them or the declarations that would. *every*: also for small tables."""
    schema = ctx.schema
    found: list[tuple[Timing, Needs]] = []
    for timing in schema.statistics:
        try:
            found.append((timing, needs_of(schema, timing.lookup)))
        except (KeyError, InvalidRequest):
            # The collection, a field or a key has been deleted.
            continue
    found = sorted([each for each in found if each[0].count], key=lambda each: -each[0].total)
    concerned = {timing.lookup.collection for timing, _ in found} | {need.collection for _, each in found for need in each.needs}
    rows = await _rows(ctx, [schema.collections[name] for name in concerned])
    folded = await _folded(ctx, [schema.collections[name] for name in concerned])
    trigrams = any(installed or allowed for installed, allowed in await ctx.db.query(ddl.TRIGRAMS))

    def is_large(name: str) -> bool:
        number = rows[name]
        return every or number is None or number >= SMALL

    shown = []
    for timing, needs in found:
        if is_large(timing.lookup.collection) or any(is_large(need.collection) for need in needs.needs):
            large = [need for need in needs.needs if is_large(need.collection)]
            advice = _advice(schema, large, folded, trigrams=trigrams)
            advice["reasons"] = [*needs.reasons, *advice["reasons"]]
            shown.append(_answer(timing, rows[timing.lookup.collection]) | advice)
    return shown


def _answer(timing: Timing, rows: int | None) -> Item:
    lookup = timing.lookup
    return {
        "collection": lookup.collection,
        "rows": rows,
        "filter": [each._asdict() for each in lookup.filter],
        "sort": list(lookup.sort),
        "search": lookup.search,
        "count": timing.count,
        "mean_ms": round(timing.total / timing.count * 1000, 2),
        "max_ms": round(timing.longest * 1000, 2),
        "total_ms": round(timing.total * 1000, 2),
    }


def _advice(schema: Snapshot, needs: Iterable[Need], folded: AbstractSet[tuple[str, str]], *, trigrams: bool) -> Item:
    """Returns the indexes that serve needs, the declarations that would, and the reasons why there are none."""
    served: list[Item] = []
    declare: list[Item] = []
    reasons: list[str] = []
    for need in needs:
        collection = schema.collections[need.collection]
        if need.search and collection.search_index:
            served.append({"collection": need.collection, "index": "search_index"})
            continue
        index = next((each for each in collection.indexes if _serves(schema, collection, each, need, folded)), None)
        if index is not None:
            served.append({"collection": need.collection, "index": index.name})
        elif collection.system:
            reasons.append(f'"{need.collection}" belongs to the server, which makes its indexes.')
        elif need.search and not trigrams:
            reasons.append("Searches need the extension pg_trgm, which this PostgreSQL does not have, or may not be installed.")
        elif need.key and is_text(collection.columns[need.equal[0]]):
            reasons.append(f'"{need.equal[0]}" of "{need.collection}" holds keys that are texts: index the column in PostgreSQL.')
        else:
            try:
                found = declaration(collection, need, nulls_last=schema.sort_null_last)
            except ApiError as error:
                reasons.append(error.message)
            else:
                if found not in declare:
                    declare.append(found)
    return {"served_by": served, "declare": declare, "reasons": list(dict.fromkeys(reasons))}


def _serves(schema: Snapshot, collection: Collection, index: Index, need: Need, folded: AbstractSet[tuple[str, str]]) -> bool:
    if need.search:
        return False
    lower = (collection.collection, index.name) in folded
    return serves(collection, index, need, folded=lower, nulls_last=schema.sort_null_last)


async def _rows(ctx: Context, collections: Sequence[Collection]) -> dict[str, int | None]:
    """Returns how many rows tables have, as PostgreSQL estimates; None for views and foreign tables."""
    # Before the first ANALYZE there is no estimate: a row is then taken for 100 bytes.
    sql = (
        "SELECT t.name, CASE WHEN c.reltuples > 0 THEN c.reltuples ELSE pg_relation_size(c.oid) / 100 END"
        " FROM unnest(%s::text[], %s::text[], %s::text[]) AS t (name, namespace, relation)"
        " JOIN pg_namespace n ON n.nspname = t.namespace"
        " JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.relation"
    )
    tables = [each for each in collections if each.kind == TABLE]
    found: dict[str, int | None] = {each.collection: None for each in collections}
    found |= {name: int(number) for name, number in await ctx.db.query(sql, _places(ctx, tables))}
    return found


async def _folded(ctx: Context, collections: Sequence[Collection]) -> set[tuple[str, str]]:
    """Returns the indexes on texts in lower case, by collection and name."""
    sql = (
        "SELECT t.name, i.indexname FROM unnest(%s::text[], %s::text[], %s::text[]) AS t (name, namespace, relation)"
        " JOIN pg_indexes i ON i.schemaname = t.namespace AND i.tablename = t.relation WHERE i.indexdef LIKE '%%lower(%%'"
    )
    rows = await ctx.db.query(sql, _places(ctx, collections))
    return {(name, index) for name, index in rows}


def _places(ctx: Context, collections: Sequence[Collection]) -> tuple[list[str], list[str], list[str]]:
    """Returns the names of collections, and the schemas and tables that they are."""
    return (
        [each.collection for each in collections],
        [each.schema_with(ctx.db.database.system_schema) for each in collections],
        [each.table[-1] for each in collections],
    )
