"""The values of items to be written: that fields are known, values fit and are there where required, and those that the server fills in."""

from collections.abc import Container, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from slugify import slugify

from directus_tx.access.grant import Grant
from directus_tx.compile.plan import Item
from directus_tx.context import Context
from directus_tx.errors import ApiError, InvalidPayload, InvalidRequest
from directus_tx.items.changes import Change
from directus_tx.items.rules import Policy
from directus_tx.schema.model import Collection, Field
from directus_tx.schema.patterns import Matching
from directus_tx.schema.types import needs_exact_text, plain_text, stored_text


class Hasher(Protocol):
    """Hashes the values of fields of type hash."""

    async def hash_all(self, texts: Sequence[str]) -> list[str]:
        """The hashes of texts, in their order."""


VALIDATION = "its validation"
"""What messages call the pattern of a field."""


class _Default:
    """Stands for the column's own default in a row to insert."""


DEFAULT = _Default()
EMPTY = (None, "", b"")
"""The parsed values that a required field does not take."""

FILLED_IN = frozenset({"owner", "user_updated", "datetime_created", "datetime_updated"})
"""The types of fields that the server fills in."""

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


def parse_payload(change: Change, matching: Matching, policies: Mapping[str, Policy], pending: Container[str] = ()) -> None:
    """Puts the payload's values into the row as they are stored, but for the *pending* fields, whose values come later. Values that were
    sent must match the patterns of their fields, and those of *policies*, by field.

    Raises the error of the first value that is refused, InvalidPayload before others.
    """
    refusal: ApiError | None = None
    for name, value in change.payload.items():
        field = change.collection.columns.get(name)
        if field is None or name in pending:
            continue
        try:
            if field.computed:
                raise InvalidRequest(f'"{name}" is computed by the database.')
            parsed = change.parse(field, value)
            if parsed not in EMPTY and not change.from_history:
                if field.validation:
                    matching.check(_matched_text(field, value, parsed), field.validation, value=f'"{name}"', rule=VALIDATION)
                if name in policies:
                    policy = policies[name]
                    matching.check(_matched_text(field, value, parsed), policy.pattern, value=f'"{name}"', rule=policy.name)
        except ApiError as error:
            if refusal is None or (error.code == InvalidPayload.code != refusal.code):
                refusal = error
            continue
        change.row[name] = DEFAULT if parsed is None and field.primary_key and field.auto_increment else parsed
    if refusal is not None:
        raise refusal


def check_stored(change: Change, grant: Grant, matching: Matching) -> None:
    """Raises what `parse_payload` raises where a stored value that the payload leaves as it is does not match its field's pattern, which
    may be younger than the value. Left out are hashes, since what they were made of is not known, and what the item hides from the
    caller, who would learn something of it."""
    if change.stored is None:
        return
    for field in change.collection.patterned:
        name, value = field.field, change.stored[field.field]
        if name in change.payload or value in EMPTY or field.type == "hash" or name in grant.hidden_in(change.stored):
            continue
        text = format(Decimal(value).normalize(), "f") if needs_exact_text(field) else plain_text(value)
        matching.check(text, field.validation or "", value=f'The stored value of "{name}"', rule=VALIDATION)


def _matched_text(field: Field, value: Any, parsed: Any) -> str:
    """What a pattern sees of a value: lists and objects as they are stored, everything else as it was sent. Whole numbers have no point,
    as in PHP."""
    if field.type in ("array", "json"):
        return str(parsed)
    return plain_text(int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value)


def check_required(change: Change, grant: Grant, pending: Container[str] = ()) -> None:
    """Raises InvalidRequest where a required field, or a key that nobody makes up, would have no value; but for *pending* fields. Of
    stored values those that the item hides from the caller are left out, who would learn something of them."""
    collection, row = change.collection, change.row
    if change.new and _must_have_key(collection) and row.get(collection.primary_key.field) in EMPTY:
        raise InvalidRequest(f'"{collection.primary_key.field}" is the key: it must be given.')
    if _required_fields_waived(change):
        return
    for name, field in collection.columns.items():
        if not _is_required(field) or name in pending:
            continue
        if name in row:
            missing = row[name] in EMPTY
        elif change.stored is None:
            missing = field.default_value is None
        else:
            missing = change.stored[name] in EMPTY and name not in grant.hidden_in(change.stored)
        if missing:
            raise InvalidRequest(f'"{name}" is required.')


def _must_have_key(collection: Collection) -> bool:
    """Whether the client must give the key of a new item."""
    key = collection.primary_key
    return not key.auto_increment and key.default_value is None


def _is_required(field: Field) -> bool:
    """Whether a client must give the field's value: it is required, and the server does not fill it in."""
    return field.required and not field.auto_increment and field.type not in FILLED_IN


def _required_fields_waived(change: Change) -> bool:
    """Whether the status that the payload names asks for no required fields."""
    status = change.collection.statuses.get(status_of(change) or "")
    return status is not None and not status.required_fields


def status_of(change: Change) -> str | None:
    """The text of the status that the payload names; None where it names none."""
    field = change.collection.status_field
    return None if field is None else stored_text(field, change.row.get(field.field))


def is_soft_deleted(change: Change) -> bool:
    """Whether the change deletes the item softly."""
    return status_of(change) in change.collection.soft_deleted


async def complete(hasher: Hasher, ctx: Context, changes: Sequence[Change]) -> None:
    """Puts into the rows what the server fills in or transforms: who and when, slugs, hashes."""
    to_hash: list[tuple[Item, str]] = []
    for change in changes:
        row, payload = change.row, change.payload
        for name, field in change.collection.columns.items():
            kind = field.type
            if kind == "user_updated" or (kind == "owner" and change.new):
                row[name] = ctx.accountability.user
            elif kind == "datetime_updated" or (kind == "datetime_created" and change.new):
                row[name] = ctx.now
            elif kind == "slug" and name not in payload:
                mirrored = (field.options or {}).get("mirroredField")
                if mirrored and isinstance(payload.get(mirrored), str):
                    row[name] = slugify(payload[mirrored], replacements=GERMAN)
            elif kind == "hash" and row.get(name):
                to_hash.append((row, name))
    if to_hash:
        hashes = await hasher.hash_all([str(row[name]) for row, name in to_hash])
        for (row, name), hashed in zip(to_hash, hashes, strict=True):
            row[name] = hashed
