"""What the values of a payload must be, known, of their type, valid, there where required; and those that the server fills in."""

from collections.abc import Mapping
from typing import Any, Protocol

from slugify import slugify

from directus_tx.access.grant import Grant
from directus_tx.context import Context
from directus_tx.errors import ApiError, InvalidPayload, InvalidRequest
from directus_tx.items.rules import Policy
from directus_tx.schema.model import Collection, Field
from directus_tx.schema.patterns import Matching
from directus_tx.schema.types import parse, plain_text

Item = dict[str, Any]


class Hasher(Protocol):
    """Hashes the values of fields of type hash."""

    async def hash(self, text: str) -> str:
        """The hash of a text."""


VALIDATION = "its validation"
"""What messages call the pattern of a field."""


class _Default:
    """Stands for the column's own default in a row to insert."""


DEFAULT = _Default()

# A slug is made for people who write these languages, not only for those who read ASCII.
GERMAN = [["ä", "ae"], ["ö", "oe"], ["ü", "ue"], ["Ä", "Ae"], ["Ö", "Oe"], ["Ü", "Ue"], ["ß", "ss"]]


def payload_of(value: Any) -> Item:
    """The payload of one item. Raises InvalidRequest where it is no object."""
    if not isinstance(value, dict):
        raise InvalidRequest("An item is an object of fields and values.")
    return value


def check_fields(collection: Collection, payload: Mapping[str, Any]) -> None:
    """Raises InvalidPayload where a field is unknown."""
    unknown = [name for name in payload if name not in collection.fields]
    if unknown:
        raise InvalidPayload(f'"{collection.collection}" has no field ' + ", ".join(f'"{name}"' for name in unknown) + ".")


def parse_all(collection: Collection, payload: Mapping[str, Any], matching: Matching, policies: Mapping[str, Policy]) -> Item:
    """The values of columns as they are stored. They must match the patterns of their fields, and those of *policies*, by field.

    Raises the error of the first value that is refused, InvalidPayload before others.
    """
    row: Item = {}
    refusal: ApiError | None = None
    for name, value in payload.items():
        field = collection.fields[name]
        try:
            if field.computed:
                raise InvalidRequest(f'"{name}" is computed by the database.')
            parsed = parse(field, value)
            if parsed is not None and parsed != "":
                if field.validation:
                    matching.check(_matched_text(field, value, parsed), field.validation, value=f'"{name}"', rule=VALIDATION)
                if name in policies:
                    policy = policies[name]
                    matching.check(_matched_text(field, value, parsed), policy.pattern, value=f'"{name}"', rule=policy.name)
        except ApiError as error:
            if refusal is None or (error.code == InvalidPayload.code != refusal.code):
                refusal = error
            continue
        row[name] = DEFAULT if parsed is None and field.primary_key and field.auto_increment else parsed
    if refusal is not None:
        raise refusal
    return row


def check_stored(
    collection: Collection, stored: Mapping[str, Any], payload: Mapping[str, Any], grant: Grant, matching: Matching
) -> None:
    """Raises what `parse_all` raises where a stored value that *payload* leaves as it is does not match its field's pattern, which may be
    younger than the value. Left out are hashes, since what they were made of is not known, and what the item hides from the caller, who
    would learn something of it."""
    for field in collection.patterned:
        name, value = field.field, stored[field.field]
        if name in payload or value in (None, "") or field.type == "hash" or name in grant.hidden_in(stored):
            continue
        matching.check(plain_text(value), field.validation or "", value=f'The stored value of "{name}"', rule=VALIDATION)


def _matched_text(field: Field, value: Any, parsed: Any) -> str:
    """What a pattern sees of a value: lists and objects as they are stored, everything else as it was sent. Whole numbers have no point,
    as in PHP."""
    if field.type in ("array", "json"):
        return str(parsed)
    return plain_text(int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value)


def waived(collection: Collection, payload: Mapping[str, Any]) -> bool:
    """Whether the status that a payload names asks for no required fields."""
    field = collection.status_field
    status = collection.statuses.get(str(payload.get(field.field))) if field else None
    return status is not None and not status.required_fields


def require_on_create(collection: Collection, payload: Mapping[str, Any]) -> None:
    """Raises InvalidRequest where a required field, or a key that nobody makes up, is missing or empty."""
    key = collection.primary_key
    if not key.auto_increment and key.default_value is None and payload.get(key.field) in (None, ""):
        raise InvalidRequest(f'"{key.field}" is the key: it must be given.')
    if waived(collection, payload):
        return
    for name, field in collection.columns.items():
        missing = name not in payload and field.default_value is None
        if needed(field) and (missing or (name in payload and payload[name] in (None, ""))):
            raise InvalidRequest(f'"{name}" is required.')


def require_on_update(collection: Collection, present: Mapping[str, Any], payload: Mapping[str, Any]) -> None:
    """Raises InvalidRequest where a required field would be empty afterwards."""
    if waived(collection, payload):
        return
    for name, field in collection.columns.items():
        if needed(field) and payload.get(name, present[name]) in (None, ""):
            raise InvalidRequest(f'"{name}" is required.')


FILLED_IN = frozenset({"owner", "user_updated", "datetime_created", "datetime_updated"})


def needed(field: Field) -> bool:
    """Whether a client must give the field's value: it is required, and the server does not fill it in."""
    return field.required and not field.auto_increment and field.type not in FILLED_IN


async def complete(
    hasher: Hasher,
    ctx: Context,
    collection: Collection,
    row: Item,
    payload: Mapping[str, Any],
    stored_row: Mapping[str, Any] | None,
) -> None:
    """Puts into *row* what the server fills in or transforms. *stored_row* is None on create."""
    for name, field in collection.columns.items():
        kind = field.type
        if kind == "user_updated" or (kind == "owner" and stored_row is None):
            row[name] = ctx.accountability.user
        elif kind == "datetime_updated" or (kind == "datetime_created" and stored_row is None):
            row[name] = ctx.now
        elif kind == "slug" and name not in payload:
            mirrored = (field.options or {}).get("mirroredField")
            if mirrored and isinstance(payload.get(mirrored), str):
                row[name] = slugify(payload[mirrored], replacements=GERMAN)
        elif kind == "hash" and row.get(name):
            row[name] = await hasher.hash(str(row[name]))


def is_soft_deleted(collection: Collection, row: Mapping[str, Any]) -> bool:
    """Whether writing *row* deletes the item softly."""
    field = collection.status_field
    return field is not None and str(row.get(field.field)) in collection.soft_deleted
