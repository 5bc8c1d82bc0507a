"""/:project/webhooks/...: the secrets and the deliveries of webhooks, and creating them. `system` has the other routes."""

from datetime import datetime, timedelta
from typing import Any

from directus_tx.errors import InvalidRequest, ItemNotFound
from directus_tx.http.answers import Answer, Envelope
from directus_tx.http.endpoints import items
from directus_tx.http.operations import INTEGER, TEXT, Operation, record
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.items.read import read_items
from directus_tx.outbox import records
from directus_tx.query import Query
from directus_tx.schema.numbers import whole_number
from directus_tx.system.webhooks import check_update
from directus_tx.webhooks import secrets
from directus_tx.webhooks.events import subject_of

routes = Routes()
WEBHOOKS = "directus_webhooks"
ONE = "/<project>/webhooks/<key>"
MAX_LIMIT = 200
"""The maximum number of deliveries in an answer."""

MAX_OVERLAP = 30 * 24 * 3600
"""The longest time for which the former secret can stay valid, in seconds."""

MAYBE_TEXT = {"type": ["string", "null"]}
DELIVERY = record(
    id=INTEGER,
    message_id=TEXT,
    event=MAYBE_TEXT,
    collection=MAYBE_TEXT,
    item=MAYBE_TEXT,
    state={"type": "string", "enum": list(records.STATES)},
    created_on=TEXT,
    next_attempt=MAYBE_TEXT,
    ended_on=MAYBE_TEXT,
    error=MAYBE_TEXT,
    attempts={
        "type": "array",
        "items": record(
            started_on=TEXT,
            duration={"type": "number", "description": "In seconds."},
            outcome={"type": "string", "enum": ["delivered", "retry", "dead", "held"]},
            status={"type": ["integer", "null"]},
            answer=MAYBE_TEXT,
            error=MAYBE_TEXT,
        ),
    },
)
PAGE = (
    ("limit", f"Number of deliveries, at most {MAX_LIMIT}; 50 by default."),
    ("offset", "Number of newer deliveries to leave out."),
    ("state", f"Only deliveries in this state: {', '.join(records.STATES)}."),
)


@routes.post("/<project>/webhooks", Caller.PUBLIC, items.CREATING)
async def create(call: Call) -> Answer:
    """Creates webhooks. The answer has the secret of each, which is not shown again."""
    answer = await items.creating(call, WEBHOOKS)
    if isinstance(answer, Envelope):
        made = answer.data if isinstance(answer.data, list) else [answer.data]
        found = await secrets.read(call.ctx, [each["id"] for each in made if "id" in each])
        for each in made:
            if each.get("id") in found:
                each["secret"] = found[each["id"]]
    return answer


@routes.post(
    f"{ONE}/secret",
    Caller.PUBLIC,
    Operation(
        "Give a webhook a new secret, which is shown this once",
        record(secret=TEXT),
        query=(("overlap", f"Seconds for which the former secret stays valid, at most {MAX_OVERLAP}; a day by default."),),
    ),
)
async def rotate(call: Call) -> Answer:
    webhook = await _checked(call, update=True)
    overlap = _number(call, "overlap", int(secrets.OVERLAP.total_seconds()))
    if overlap > MAX_OVERLAP:
        raise InvalidRequest(f'"overlap" must be at most {MAX_OVERLAP} seconds.')
    return Envelope({"secret": await secrets.rotate(call.ctx, webhook, timedelta(seconds=overlap))})


@routes.get(
    f"{ONE}/deliveries",
    Caller.PUBLIC,
    Operation("List the deliveries of a webhook", {"type": "array", "items": DELIVERY}, query=PAGE),
)
async def list_deliveries(call: Call) -> Answer:
    webhook = await _checked(call)
    state = call.params.text("state")
    if state is not None and state not in records.STATES:
        raise InvalidRequest(f'"state" must be one of {", ".join(records.STATES)}.')
    limit, offset = (_number(call, name, default) for name, default in (("limit", 50), ("offset", 0)))
    found = await records.read(call.ctx.db, subject=subject_of(webhook), state=state, limit=min(limit, MAX_LIMIT), offset=offset)
    return Envelope([_shown(each) for each in found])


@routes.get(f"{ONE}/deliveries/<delivery>", Caller.PUBLIC, Operation("Read a delivery of a webhook", DELIVERY))
async def read_delivery(call: Call) -> Answer:
    return Envelope(_shown(await _delivery(call, await _checked(call))))


@routes.post(f"{ONE}/deliveries/<delivery>/replay", Caller.PUBLIC, Operation("Deliver a message of a webhook again", DELIVERY))
async def replay(call: Call) -> Answer:
    """Makes a message due now, with the same message id. Raises InvalidRequest if it is being delivered."""
    webhook = await _checked(call, update=True)
    found = await _delivery(call, webhook)
    if not await records.retry(call.ctx.db, ids=[found["id"]], subject=subject_of(webhook)):
        raise InvalidRequest("The message is being delivered.")
    return Envelope(_shown(await _delivery(call, webhook)))


async def _checked(call: Call, *, update: bool = False) -> int:
    """Returns the id of the webhook in the path. Raises ItemNotFound if the caller may not read it, and UpdateForbidden if *update* and the
    caller may not update it."""
    key = call.path["key"]
    number = whole_number(key)
    if number is None:
        raise ItemNotFound("There is no such webhook.")
    await read_items(call.items, call.ctx, WEBHOOKS, Query(fields=("id",)), [str(number)])
    if update:
        await check_update(call.ctx, number)
    return number


async def _delivery(call: Call, webhook: int) -> records.Record:
    number = whole_number(call.path["delivery"])
    found = [] if number is None else await records.read(call.ctx.db, ids=[number], subject=subject_of(webhook))
    if not found:
        raise ItemNotFound("The webhook has no such delivery.")
    return found[0]


def _number(call: Call, name: str, default: int) -> int:
    text = call.params.text(name)
    number = default if text is None else whole_number(text)
    if number is None:
        raise InvalidRequest(f'"{name}" must be a number.')
    return number


def _shown(found: records.Record) -> dict[str, Any]:
    """Returns a delivery as it is shown. The destination follows from the webhook."""
    shown = {name: _text(found[name]) for name in DELIVERY["properties"] if name != "attempts"}
    shown["message_id"] = f"msg_{found['message_id']}"
    return shown | {"attempts": [{name: _text(value) for name, value in each.items()} for each in found["attempts"]]}


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
