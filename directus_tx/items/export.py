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
    Unless *raw*, an apostrophe is put in front of texts that a spreadsheet may interpret as formulas."""
    columns = plan_for(access_of(ctx), collection, query, service.limits).items.layout.columns()
    as_they_are = frozenset(columns) if raw else _numeric(ctx.schema, collection, columns)
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(columns if raw else [escaped(name) for name in columns])

    async def take(items: list[Item], meta: Mapping[str, Any] | None) -> None:
        for item in items:
            # An item without visible fields is an empty list.
            flat = _flat(item or {})
            cells = [(name, flat.get(name)) for name in columns]
            rows.writerow([escaped(v) if isinstance(v, str) and name not in as_they_are else _cell(v) for name, v in cells])
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


def _numeric(schema: Snapshot, collection: str, columns: Iterable[str]) -> frozenset[str]:
    """Returns the columns of an export that hold numbers, including those that the API shows as text (BIGINT)."""
    found = set()
    for column in columns:
        *relations, name = column.split(".")
        owner = schema.collections.get(collection)
        for each in relations:
            relation = schema.many_to_one.get((owner.collection, each)) if owner else None
            owner = schema.collections.get(relation.collection_one or "") if relation else None
        field = owner.fields.get(name) if owner else None
        if field is not None and field.has_column and family(field) in ("integer", "number"):
            found.add(column)
    return frozenset(found)


def _flat(item: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in item.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        flat[f"{prefix}{name}"] = value
    return flat


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (bool, dict, list, orjson.Fragment)):
        return orjson.dumps(value).decode()
    return str(value)
