"""Validates the values of items to be written, and fills in the values that the server provides."""

from collections.abc import Container, Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from slugify import slugify

from directus_tx.access.grant import Grant
from directus_tx.access.refusals import no_field
from directus_tx.compile.plan import Item
from directus_tx.context import Context
from directus_tx.errors import ApiError, InvalidPayload, InvalidRequest
from directus_tx.items.changes import Change
from directus_tx.items.rules import Policy
from directus_tx.schema.comparing import same_value
from directus_tx.schema.model import VIEW, Collection, Field
from directus_tx.schema.parsing import plain_text
from directus_tx.schema.patterns import Matching
from directus_tx.schema.showing import answer, in_history, needs_exact_text, stored_text


class Hasher(Protocol):
    """Hashes the values of fields of type hash."""

    async def hash_all(self, texts: Sequence[str]) -> list[str]:
        """Returns the hashes of the texts, in order."""


VALIDATION = "its validation"
"""The name of the validation pattern in messages."""


class _Default:
    """Represents the default of the column in a row to insert."""


DEFAULT = _Default()
EMPTY = (None, "", b"")
"""Parsed values that count as missing for a required field."""

# slugify would turn these into single letters.
GERMAN = [["ä", "ae"], ["ö", "oe"], ["ü", "ue"], ["Ä", "Ae"], ["Ö", "Oe"], ["Ü", "Ue"], ["ß", "ss"]]


MAX_MIRRORED = 10_000
"""Characters of a text that its slug is made of: a millisecond for each 800 of them, while the reactor waits."""


def payload_of(value: Any) -> Item:
    """Returns the payload of an item. Raises InvalidRequest if it is not an object."""
    if not isinstance(value, dict):
        raise InvalidRequest("An item is an object of fields and values.")
    return value


def check_fields(grant: Grant, payload: Mapping[str, Any]) -> None:
    """Raises InvalidPayload if a field is unknown."""
    unknown = [name for name in payload if name not in grant.collection.fields]
    if not unknown:
        return
    if len(unknown) == 1:
        if unknown[0].lstrip()[:1] in ("{", "["):
            raise InvalidPayload("The body seems to be JSON, but is sent as a form: set Content-Type to application/json.")
        raise no_field(grant, unknown[0], error=InvalidPayload)
    raise InvalidPayload(f'"{grant.collection.collection}" has no field ' + ", ".join(f'"{name}"' for name in unknown) + ".")


def parse_payload(
    change: Change,
    matching: Matching,
    policies: Mapping[str, Policy],
    pending: Container[str] = (),
    hidden: Container[str] = (),
) -> None:
    """Parses the values of the payload into the row, except *pending* fields, whose values are determined later. Values must match the
    patterns of their fields and those of *policies*, by field. Values that are sent back as responses show them stay as they are stored:
    the form of a response can be less exact, and the column may be one that only the database writes. *hidden* are the fields that are
    hidden from the caller in the item.

    Raises the error of the first invalid value; InvalidPayload takes precedence over other errors.
    """
    refusal: ApiError | None = None
    for name, value in change.payload.items():
        field = change.collection.columns.get(name)
        if field is None or name in pending:
            continue
        try:
            if change.stored is not None and _is_unchanged(change, field, value, hidden):
                change.row[name] = change.stored[name]
                change.unchanged.add(name)
                continue
            if field.computed:
                if value is None and change.new:
                    continue
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
        change.row[name] = DEFAULT if parsed is None and field.auto_increment and change.new else parsed
    if refusal is not None:
        raise refusal


def _is_unchanged(change: Change, field: Field, value: Any, hidden: Container[str]) -> bool:
    """Whether a value is the stored one in the form of responses, or of revisions if it comes from one.

    A response shows some nulls as 0, false, [] or "". Such a value is only unchanged if the payload is a whole item: on its own, it may be
    meant to replace the null.
    """
    collection = change.collection
    if collection.system or change.stored is None or field.field in hidden:
        return False
    stored = change.stored[field.field]
    if field.virtual:
        # Its expression is not evaluated for the stored row, and PostgreSQL does not write it.
        return True
    if change.from_history:
        revised = in_history(field)
        return same_value(value, stored if revised is None else revised(stored))
    shown = answer(field)
    if not same_value(value, stored if shown is None else shown(stored)):
        return False
    key = collection.primary_key.field
    return stored is not None or value is None or all(n in change.payload or n == key or n in hidden for n in collection.columns)


def naming_values(error: ApiError, collection: Collection, changes: Sequence[Change]) -> ApiError:
    """Returns an error of the statement that writes the changes with the names of the fields that it may concern, if the database does not
    name them: those whose domain has refused a value, or whose types limit the length of values without a datatype."""
    said = error.diagnostics
    if said is None or said.table is not None or said.sqlstate[:2] not in ("22", "23"):
        return error
    written = {name for change in changes for name in change.changed_row}
    if said.domain is not None:
        names = [name for name in collection.columns if name in written and _has_domain(collection.fields[name], said.domain)]
    else:
        limited = (
            name for name, field in collection.columns.items() if field.native is not None and "(" in (field.column_type or "")
        )
        names = [name for name in limited if name in written]
    if not names:
        return error
    message = f'{error.message.rstrip(".")}: {", ".join(names)} of "{collection.collection}".'
    return type(error)(message, headers=error.headers, diagnostics=said)


def _has_domain(field: Field, domain: str) -> bool:
    """Whether the column or the members of its arrays have a domain, which is named without its schema."""
    if field.domain is not None and field.domain.rpartition(".")[2].strip('"') == domain:
        return True
    return field.native is not None and field.native.member is not None and _has_domain(field.native.member, domain)


def check_stored(change: Change, grant: Grant, matching: Matching) -> None:
    """Raises the errors of `parse_payload` if a stored value that the payload does not change fails to match the pattern of its
    field, which may have been set after the value. Hashes are not checked because their text is unknown, and hidden fields are
    not checked because the error would reveal something about them."""
    if change.stored is None:
        return
    for field in change.collection.patterned:
        name, value = field.field, change.stored[field.field]
        sent = name in change.payload and name not in change.unchanged
        if sent or value in EMPTY or field.type == "hash" or name in grant.hidden_in(change.stored):
            continue
        text = format(Decimal(value).normalize(), "f") if needs_exact_text(field) else plain_text(value)
        matching.check(text, field.validation or "", value=f'The stored value of "{name}"', rule=VALIDATION)


def _matched_text(field: Field, value: Any, parsed: Any) -> str:
    """Returns the text that a pattern is matched with: lists and objects as stored, other values as sent. Whole numbers have no decimal
    point, as in PHP."""
    if field.type in ("array", "json"):
        return str(parsed)
    return plain_text(int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value)


def check_required(change: Change, grant: Grant, pending: Container[str] = ()) -> None:
    """Raises InvalidRequest if a required field, or a key that is not generated, would have no value, except *pending* fields.
    Stored values of hidden fields are not checked because the error would reveal something about them."""
    collection, row = change.collection, change.row
    if change.new and _must_have_key(collection) and row.get(collection.primary_key.field) in EMPTY:
        raise InvalidRequest(f'"{collection.primary_key.field}" is the key: it must be given.')
    if not collection.required or _required_fields_waived(change):
        return
    for name, field in collection.required.items():
        if name in pending:
            continue
        # A column that is NOT NULL, without a row in directus_fields, may be empty.
        empty = EMPTY if field.id is not None else (None,)
        if name in row:
            missing = row[name] in empty
        elif change.stored is None:
            missing = field.default_value is None
        else:
            missing = change.stored[name] in empty and name not in grant.hidden_in(change.stored)
        if missing:
            raise InvalidRequest(f'"{name}" is required.')


def _must_have_key(collection: Collection) -> bool:
    """Whether a new item needs a key from the client."""
    key = collection.primary_key
    # What a trigger of a view provides is not known.
    return not key.auto_increment and key.default_value is None and collection.kind != VIEW


def _required_fields_waived(change: Change) -> bool:
    """Whether the payload sets a status that waives required fields."""
    status = change.collection.statuses.get(status_of(change) or "")
    return status is not None and not status.required_fields


def status_of(change: Change) -> str | None:
    """Returns the status in the payload as text; None if there is none."""
    field = change.collection.status_field
    return None if field is None else stored_text(field, change.row.get(field.field))


def is_soft_deleted(change: Change) -> bool:
    """Whether the change soft-deletes the item."""
    soft_deleted = change.collection.soft_deleted
    return bool(soft_deleted) and status_of(change) in soft_deleted


async def complete(hasher: Hasher, ctx: Context, changes: Sequence[Change]) -> None:
    """Fills in the values that the server provides in changes of one collection: users and times, slugs, hashes."""
    provided = changes[0].collection.provided if changes else {}
    if not provided:
        return
    to_hash: list[tuple[Item, str]] = []
    async for change in ctx.in_slices(changes):
        row, payload = change.row, change.payload
        for name, field in provided.items():
            kind = field.type
            if kind == "user_updated" or (kind == "owner" and change.new):
                row[name] = ctx.accountability.user
            elif kind == "datetime_updated" or (kind == "datetime_created" and change.new):
                row[name] = ctx.now
            elif kind == "slug" and name not in payload:
                mirrored = (field.options or {}).get("mirroredField")
                if mirrored and isinstance(payload.get(mirrored), str):
                    row[name] = slugify(payload[mirrored][:MAX_MIRRORED], replacements=GERMAN)
            elif kind == "hash" and row.get(name) and name not in change.unchanged:
                to_hash.append((row, name))
    if to_hash:
        hashes = await hasher.hash_all([str(row[name]) for row, name in to_hash])
        for (row, name), hashed in zip(to_hash, hashes, strict=True):
            row[name] = hashed
