"""Exports: the items of a query as a download of any size, JSON or CSV."""

import csv
import io
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from directus_tx.access import access_of
from directus_tx.compile.read import plan_for
from directus_tx.context import Context
from directus_tx.items.read import Item, stream_items
from directus_tx.items.service import Items
from directus_tx.query import Query

Write = Callable[[bytes], Awaitable[None]]


async def write_json(
    service: Items, ctx: Context, collection: str, query: Query, write: Write, *, start: bytes = b"[", end: bytes = b"]"
) -> None:
    """Writes the items as a JSON list, between what begins and ends it."""
    before = start

    async def sink(items: list[Item]) -> None:
        nonlocal before
        await write(before + orjson.dumps(items)[1:-1])
        before = b","

    await stream_items(service, ctx, collection, query, sink)
    await write(end if before == b"," else start + end)


async def write_csv(service: Items, ctx: Context, collection: str, query: Query, write: Write) -> None:
    """Writes the items as CSV with a header line. Items within items have columns with dots; lists and objects are JSON."""
    columns = plan_for(access_of(ctx), collection, query, service.limits, by_key=False).level.part.columns()
    out = io.StringIO()
    rows = csv.writer(out)
    rows.writerow(columns)

    async def sink(items: list[Item]) -> None:
        for item in items:
            # An item that shows nothing is an empty list.
            flat = _flat(item or {})
            rows.writerow([_cell(flat.get(name)) for name in columns])
        await write(out.getvalue().encode())
        out.seek(0)
        out.truncate()

    await stream_items(service, ctx, collection, query, sink)
    if out.tell():
        await write(out.getvalue().encode())


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
    if isinstance(value, (bool, dict, list)):
        return orjson.dumps(value).decode()
    return str(value)
