"""Exports the items of a query as CSV of any size.

Spreadsheets interpret a cell that begins with "=", "+", "-" or "@" as a formula, which can read other cells and send them elsewhere (CSV
injection). An apostrophe in front of such texts prevents that.
"""

import csv
import io
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import orjson

from directus_tx.access import access_of
from directus_tx.compile.bounds import Bounds
from directus_tx.compile.fields import Expressions, Path, parse_fields
from directus_tx.compile.plan import Item
from directus_tx.compile.read import plan_for
from directus_tx.context import Context
from directus_tx.items.read import long_list
from directus_tx.items.service import Items
from directus_tx.query import Query
from directus_tx.schema.datatypes import family
from directus_tx.schema.model import Snapshot

Write = Callable[[bytes], Awaitable[None]]

FORMULA = re.compile(
    r"'*[\t\r\n]"
    # Spreadsheets ignore these at the beginning of a cell: blanks, control and invisible characters, quotation marks.
    r"|[\s\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\"'`\u00b4\u2018-\u201f\uff02\uff07]*"
    # "= + - @", full-width and small ones too.
    r"[=+\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b]"
)
"""Matches the beginning of a text that a spreadsheet may interpret as a formula."""


async def write_csv(service: Items, ctx: Context, collection: str, query: Query, write: Write, *, raw: bool = False) -> None:
    """Writes the items as CSV with a header line. The columns of nested items have dots in their names; lists and objects are JSON.
    The columns are in the order of `fields`, or of the fields of the collection, whatever the items hold.
    Unless *raw*, an apostrophe is put in front of texts that a spreadsheet may interpret as formulas."""
    layout = plan_for(access_of(ctx), collection, query, service.limits).items.layout
    expressions = parse_fields(query.fields, Bounds(service.limits))
    paths = sorted(layout.paths(), key=lambda path: _place(ctx.schema, collection, expressions, path))
    as_they_are = frozenset(paths) if raw else _numeric(ctx.schema, collection, paths)
    out = io.StringIO()
    rows = csv.writer(out)
    names = [".".join(path) for path in paths]
    rows.writerow(names if raw else [escaped(name) for name in names])

    async def take(items: list[Item], meta: Mapping[str, Any] | None) -> None:
        for item in items:
            values = [(path, _value(item, path)) for path in paths]
            rows.writerow([escaped(v) if isinstance(v, str) and path not in as_they_are else _cell(v) for path, v in values])
        data = out.getvalue().encode()
        out.seek(0)
        out.truncate()
        await write(data)

    await long_list(service, ctx, collection, query).read(take)


def escaped(text: str) -> str:
    """Returns a text as a cell that spreadsheets do not interpret as a formula. To reverse this, remove the first apostrophe of a cell if
    the rest matches `FORMULA`."""
    # Most texts begin with a letter or digit and need no further check.
    return "'" + text if not text[:1].isalnum() and FORMULA.match(text) else text


def _place(schema: Snapshot, collection: str, expressions: Expressions, path: Path) -> tuple[int, ...]:
    """Returns a key that sorts the columns: by the first expression of `fields` that names them, and those of "*" in the order of the
    fields of the collection; the values of a nested item where its field is."""
    name, *rest = path
    owner = schema.collections[collection]
    found = [(n, head, each) for n, each in enumerate(expressions) for head in (name, "*") if f"{each}.".startswith(f"{head}.")]
    first, by_star = (found[0][0], found[0][1] == "*") if found else (0, False)
    place = (first, list(owner.fields).index(name) if by_star else 0)
    relation = schema.relations_of[collection].get(name)
    if not rest or relation is None or relation.collection_one is None:
        return place
    below = dict.fromkeys([each[len(head) + 1 :] for _, head, each in found if len(each) > len(head)])
    return place + _place(schema, relation.collection_one, below, tuple(rest))


def _numeric(schema: Snapshot, collection: str, paths: Iterable[Path]) -> frozenset[Path]:
    """Returns the paths of an export to numbers, including those that the API shows as text (BIGINT)."""
    found = set()
    for path in paths:
        *relations, name = path
        owner = schema.collections.get(collection)
        for each in relations:
            relation = schema.many_to_one.get((owner.collection, each)) if owner else None
            owner = schema.collections.get(relation.collection_one or "") if relation else None
        field = owner.fields.get(name) if owner else None
        if field is not None and field.has_column and family(field) in ("integer", "number"):
            found.add(path)
    return frozenset(found)


def _value(item: Any, path: Path) -> Any:
    """Returns the value at a path; None if the item has none there. An item without visible fields is an empty list."""
    for name in path:
        if not isinstance(item, dict):
            return None
        item = item.get(name)
    return item


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (bool, dict, list, orjson.Fragment)):
        return orjson.dumps(value).decode()
    return str(value)
