"""Validates the payloads of collections and fields."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import evolve

from directus_tx.errors import InvalidPayload, InvalidRequest
from directus_tx.schema.custom import NOTHING_CUSTOM, CustomSchema
from directus_tx.schema.datatypes import check_type, column_type
from directus_tx.schema.model import ALIAS_TYPES, ROW_ATTRIBUTES, Collection, Field
from directus_tx.schema.system import CATALOGUE
from directus_tx.suggestions import suggestion

Item = dict[str, Any]
COLLECTIONS, FIELDS = "directus_collections", "directus_fields"

COLLECTION_ATTRIBUTES = ("collection", "managed", "hidden", "single", "icon", "note", "translation")
"""Attributes of a collection that are columns of directus_collections."""

COLUMN_ATTRIBUTES = ("datatype", "length", "signed", "unique", "primary_key", "auto_increment", "default_value")
"""Attributes of a field that describe its column."""

FIELD_ATTRIBUTES = ("id", "collection", "field", *ROW_ATTRIBUTES, *COLUMN_ATTRIBUTES, "index")
"""Attributes that the payload of a field may have."""

ONCE = frozenset({"owner", "user_updated", "status", "sort", "lang", "datetime_created", "datetime_updated"})
"""Field types that a collection can have only once."""

MAX_NAME = 63
"""Maximum length of a name in bytes. PostgreSQL truncates longer names."""

IN_NO_COLLECTION = frozenset("/,")
"""Characters that names of new collections cannot contain, because they are separators in paths. (Many proxies decode %2F.)"""

IN_NO_FIELD = frozenset("/,.[]")
"""Characters that names of new fields cannot contain, because they have a meaning in `fields`, `sort` and `filter`."""

RESERVED = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid", "$delete"})
"""Reserved names: PostgreSQL's system columns, and the marker of nested payloads."""


def check_collection_name(name: Any) -> str:
    """Returns the name of a new collection. Raises InvalidRequest. Names that begin with "directus_" are reserved, and unqualified names
    that begin with "pg_" could refer to PostgreSQL's own tables."""
    checked = _check_name("collection", name, IN_NO_COLLECTION)
    if checked.startswith(("directus_", "pg_")):
        raise InvalidRequest('The name of a collection does not begin with "directus_" or "pg_".')
    return checked


def check_field_name(name: Any) -> str:
    """Returns the name of a new field. Raises InvalidRequest."""
    checked = _check_name("field", name, IN_NO_FIELD)
    if checked.startswith("-"):
        # It means exclusion in `fields` and descending order in `sort`.
        raise InvalidRequest('The name of a field does not begin with "-".')
    if checked in RESERVED:
        raise InvalidRequest(f'No field can have the name "{checked}": it is reserved.')
    return checked


def check_index_name(name: Any) -> str:
    """Returns the name of a new index. Raises InvalidRequest. Indexes are in the same schema as tables, and cannot have their names."""
    checked = _check_name("name", name, frozenset())
    if checked.startswith(("directus_", "pg_")):
        raise InvalidRequest('The name of an index does not begin with "directus_" or "pg_".')
    return checked


def _check_name(what: str, name: Any, forbidden: frozenset[str]) -> str:
    if not isinstance(name, str) or not any(character.isalnum() for character in name):
        raise InvalidRequest(f'"{what}" needs a name with a letter or digit.')
    if any(unicodedata.category(character) in _UNSEEN for character in name):
        raise InvalidRequest(f'"{what}" needs a name without control characters.')
    if len(name.encode()) > MAX_NAME:
        raise InvalidRequest(f'"{what}" takes a name of up to {MAX_NAME} bytes.')
    if name != name.strip():
        raise InvalidRequest(f'"{what}" takes a name without blanks around it.')
    if forbidden.intersection(name):
        raise InvalidRequest(f'"{what}" takes a name without any of {" ".join(sorted(forbidden))}')
    return name


_UNSEEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories of control characters, surrogates, and line and paragraph separators."""


_NONE: Mapping[str, Field] = {}


def new_field(
    collection: str, payload: Any, present: Mapping[str, Field] = _NONE, *, custom: CustomSchema = NOTHING_CUSTOM
) -> Field:
    """Returns the field that a payload describes. If it is one of the *present* fields of an existing table, any name is allowed, and
    the column keeps its type: a column that the server has not made is not declared, even if a datatype is sent. *custom* is what plugins
    add. Raises InvalidRequest,
    InvalidPayload, UnknownType, LengthRequired, LengthForbidden."""
    if not isinstance(payload, dict):
        raise InvalidPayload("A field is an object of attributes.")
    name = payload.get("field")
    if not isinstance(name, str) or name not in present:
        name = check_field_name(name)
    if not isinstance(payload.get("type"), str) or not payload["type"]:
        raise InvalidRequest(f'"{name}" needs a type.')
    only(payload, FIELD_ATTRIBUTES)
    old = present.get(name)
    if old is None or not old.has_column:
        return _declared(Field(collection, name, payload["type"]), payload, custom)
    if payload["type"] in ALIAS_TYPES:
        raise InvalidPayload(f'"{name}" has a column that the server has not made: it cannot become {payload["type"]}.')
    new = Field(collection, name, payload["type"], native=old.native, domain=old.domain, declared=False)
    attributes = {each: getattr(old, each) for each in ("default_value", "unique", "primary_key", "auto_increment")}
    return _declared(new, {**payload, **attributes}, custom, keep=old.column_type)


def changed_field(old: Field, payload: Mapping[str, Any], *, custom: CustomSchema = NOTHING_CUSTOM) -> Field:
    """Returns the field as changed by a payload. *custom* is what plugins add. If the datatype changes, the old length is dropped."""
    payload = dict(payload)
    datatype = payload.get("datatype")
    if isinstance(datatype, str) and "length" not in payload and datatype.upper() != old.datatype:
        payload["length"] = None
    if payload.get("type") is None:
        payload.pop("type", None)
    elif not isinstance(payload["type"], str):
        raise InvalidRequest(f'"{old.field}" needs a type.')
    if old.primary_key and payload.get("primary_key") is False:
        raise InvalidPayload("A collection needs its key.")
    payload.pop("primary_key", None)
    payload.pop("auto_increment", None)
    named = [name for name in ("datatype", "length", "signed") if name in payload and not _is_as_shown(old, name, payload[name])]
    kept = not named and (not old.declared or payload.get("type", old.type) == old.type)
    new = evolve(old, type=payload.get("type", old.type))
    if not kept:
        return evolve(_declared(new, payload, custom), declared=True, native=None, domain=None)
    if old.has_column and new.type in ALIAS_TYPES and old.type not in ALIAS_TYPES:
        raise InvalidPayload(f'"{old.field}" has a column that the server has not made: it cannot become {new.type}.')
    # The column keeps its type, even if it is not declared. The type of the field is only metadata if the server has not made the column.
    return _declared(new, payload, custom, keep=old.column_type)


def _is_as_shown(field: Field, name: str, value: Any) -> bool:
    """Whether an attribute in a payload is the one that responses show."""
    shown = getattr(field, name)
    if name == "signed":
        return bool(value) == shown and value in (None, True, False, 0, 1)
    if isinstance(value, (str, int)) and not isinstance(value, bool) and shown is not None:
        return (str(value).upper() if name == "datatype" else str(value)) == str(shown)
    return bool(value == shown)


def _declared(field: Field, payload: Mapping[str, Any], custom: CustomSchema, keep: str | None = None) -> Field:
    """Returns the field with the column attributes of the payload and the type of the column."""
    datatype = payload.get("datatype", field.datatype)
    length = payload.get("length", field.length)
    signed = payload.get("signed", field.signed)
    if datatype is not None and not isinstance(datatype, str):
        raise InvalidRequest(f'The datatype of "{field.field}" is a name.')
    if isinstance(length, bool) or not isinstance(length, (str, int, type(None))):
        raise InvalidRequest(f'The length of "{field.field}" is a number, or two.')
    for name in ("unique", "primary_key", "auto_increment", "signed"):
        if payload.get(name) not in (None, True, False, 0, 1):
            raise InvalidRequest(f'"{name}" of "{field.field}" is true or false.')
    length = None if length in (None, "") else str(length)
    alias = field.type in ALIAS_TYPES
    default = payload.get("default_value", field.default_value)
    if isinstance(default, (dict, list)):
        raise InvalidRequest(f'The default of "{field.field}" is a plain value.')
    if field.type == "hash" and payload.get("default_value") not in (None, ""):
        # PostgreSQL would store it as it is.
        raise InvalidRequest(f'"{field.field}" has no default: values of type hash are hashed before they are stored.')
    if isinstance(default, bool):
        default = "1" if default else "0"
    if "type" in payload:
        # A row that another program has written may have a type that there is not.
        check_type(field.type, custom.types)
    column = keep if keep is not None else column_type(field.type, datatype, length, bool(signed), custom.types)
    primary_key = bool(payload.get("primary_key", field.primary_key))
    auto_increment = bool(payload.get("auto_increment", field.auto_increment))
    if auto_increment and column not in ("smallint", "integer", "bigint"):
        raise InvalidPayload(f'"{field.field}" is no integer: it cannot have auto_increment.')
    return evolve(
        field,
        datatype=None if alias else datatype and datatype.upper(),
        length=None if alias else length,
        signed=bool(signed),
        unique=bool(payload.get("unique", field.unique)) and not alias,
        primary_key=primary_key,
        auto_increment=auto_increment,
        default_value=None if default is None or alias else str(default),
        required=bool(payload.get("required", field.required)),
        column_type=column,
        custom=custom.types.get(field.type),
    )


def check_together(fields: Sequence[Field], present: Collection | None) -> None:
    """Checks the fields of a new collection together."""
    names = [field.field for field in fields]
    if len(set(names)) < len(names):
        raise InvalidPayload("A field is there twice.")
    if present is None and sum(field.primary_key for field in fields) != 1:
        raise InvalidPayload("A collection needs one primary key.")
    if sum(field.auto_increment for field in fields) > 1:
        raise InvalidPayload("One field of a collection may have auto_increment.")
    check_once(fields)


def check_once(fields: Iterable[Field]) -> None:
    kinds = [field.type for field in fields if field.type in ONCE]
    twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
    if twice:
        raise InvalidRequest(f"A collection may have one field of type {', '.join(twice)}.")


def check_collection(payload: Mapping[str, Any]) -> None:
    only(payload, (*COLLECTION_ATTRIBUTES, "search_index", "indexes", "fields"))
    if not isinstance(payload.get("search_index"), (bool, type(None))):
        raise InvalidRequest('"search_index" is true or false.')


def only(payload: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raises InvalidPayload if a payload has other attributes than the known ones."""
    names = tuple(known)
    unknown = sorted(set(payload) - set(names))
    if unknown:
        meant = suggestion(unknown[-1], names)
        raise InvalidPayload("There is no attribute " + ", ".join(f'"{name}"' for name in unknown) + meant)


def built_in(collection: str) -> frozenset[str]:
    return frozenset(field["field"] for field in CATALOGUE.collections.get(collection, ()))
