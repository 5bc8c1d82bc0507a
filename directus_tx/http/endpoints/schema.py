"""/:project/schema: tables of the database that the server has not made."""

from typing import Any

from directus_tx.errors import InvalidPayload
from directus_tx.http.answers import Answer
from directus_tx.http.operations import ANY, FLAG, TEXT, Operation, record
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.items import Result
from directus_tx.schema_service import adopt

routes = Routes()

ADOPTED = record(
    collections={"type": "array", "items": TEXT},
    fields={"type": "array", "items": record(collection=TEXT, field=TEXT, type=TEXT, interface=TEXT)},
    relations={"type": "array", "items": ANY},
    left_out={"type": "array", "items": record(name=TEXT, kind=TEXT, reason=TEXT)},
)
ADOPTING = Operation(
    "Describe tables as collections, with their foreign keys as relations",
    ADOPTED,
    {
        "type": "object",
        "properties": {
            "tables": {"type": "array", "items": TEXT, "description": "Names of tables; all tables if it is missing."},
            "dry_run": {**FLAG, "description": "Write nothing, and answer with what would be written."},
        },
    },
)


@routes.post("/<project>/schema/adopt", Caller.ADMINISTRATOR, ADOPTING)
async def adopt_tables(call: Call) -> Answer:
    """Adopts the tables in the payload, all tables without it. With dry_run, writes nothing."""
    payload: dict[str, Any] = await call.item()
    unknown = sorted(set(payload) - {"tables", "dry_run"})
    if unknown:
        raise InvalidPayload(f'"{unknown[0]}" is not known here: the payload has "tables" and "dry_run".')
    names, dry_run = payload.get("tables"), payload.get("dry_run", False)
    if names is not None and not (isinstance(names, list) and all(isinstance(each, str) for each in names)):
        raise InvalidPayload('"tables" takes a list of names of collections.')
    if not isinstance(dry_run, bool):
        raise InvalidPayload('"dry_run" is true or false.')
    return call.answer(Result(await adopt(call.items, call.ctx, names, call.options(), dry_run=dry_run)))
