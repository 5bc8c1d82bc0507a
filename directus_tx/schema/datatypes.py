"""The field types and datatypes of Directus 8, and the PostgreSQL types that represent them."""

import re
from collections.abc import Mapping
from functools import lru_cache

from attrs import frozen

from directus_tx.errors import InvalidPayload, LengthForbidden, LengthRequired, UnknownType
from directus_tx.schema.custom import NOTHING_CUSTOM, FieldType
from directus_tx.schema.model import ALIAS_TYPES, Field, NativeType
from directus_tx.suggestions import suggestion

FIELD_TYPES = (
    "alias array binary boolean datetime date time file hash group integer decimal json lang m2o o2m slug sort"
    " status string translation uuid datetime_created datetime_updated owner user_updated user"
).split()
"""The field types, in the order of /types."""


@frozen
class Datatype:
    """A datatype. `column` is its PostgreSQL type, with "{}" for the length, and `bare` the type without a length or sign. `length` is
    "required", "optional" or "forbidden". `maximum` is the greatest (signed, unsigned) integer."""

    column: str
    length: str = "optional"
    bare: str | None = None
    maximum: tuple[int, int] | None = None


def _integer(column: str, bits: int, unsigned_column: str | None = None) -> Datatype:
    signed = 2 ** (bits - 1) - 1
    return Datatype(column, bare=unsigned_column, maximum=(signed, min(2**bits - 1, 2**63 - 1)))


_TEXT = Datatype("text", "forbidden")
_BLOB = Datatype("bytea", "forbidden")
_FLOAT = Datatype("numeric({})", bare="double precision")

DATATYPES: Mapping[str, Datatype] = {
    "CHAR": Datatype("character varying({})", "required"),
    "VARCHAR": Datatype("character varying({})", "required"),
    "TINYTEXT": _TEXT,
    "TEXT": _TEXT,
    "MEDIUMTEXT": _TEXT,
    "LONGTEXT": _TEXT,
    "JSON": Datatype("text"),
    "ENUM": Datatype("text", "required"),
    "SET": Datatype("text", "required"),
    "UUID": Datatype("character varying(36)"),
    "TINYINT": _integer("smallint", 8),
    "SMALLINT": _integer("smallint", 16, "integer"),
    "MEDIUMINT": _integer("integer", 24),
    "INT": _integer("integer", 32, "bigint"),
    "INTEGER": _integer("integer", 32, "bigint"),
    "BIGINT": _integer("bigint", 64),
    "SERIAL": _integer("bigint", 64),
    "YEAR": Datatype("smallint", maximum=(9999, 9999)),
    "BIT": Datatype("boolean"),
    "BOOL": Datatype("boolean"),
    "BOOLEAN": Datatype("boolean"),
    "DECIMAL": Datatype("numeric({})", "required"),
    "NUMERIC": Datatype("numeric({})", "required"),
    "FLOAT": _FLOAT,
    "DOUBLE": _FLOAT,
    "REAL": _FLOAT,
    "DATE": Datatype("date"),
    "TIME": Datatype("time(0) without time zone"),
    "DATETIME": Datatype("timestamp(0) without time zone"),
    "TIMESTAMP": Datatype("timestamp(0) without time zone"),
    "BINARY": Datatype("bytea"),
    "VARBINARY": Datatype("bytea", "required"),
    "TINYBLOB": _BLOB,
    "BLOB": _BLOB,
    "MEDIUMBLOB": _BLOB,
    "LONGBLOB": _BLOB,
}


_EXAMPLES = {"integer": "INT", "m2o": "INT", "sort": "INT", "boolean": "TINYINT", "decimal": "DECIMAL", "binary": "BLOB"} | {
    type: type.upper() for type in ("date", "datetime", "time")
}
"""Datatypes of field types, as examples. VARCHAR is one of the others."""


def check_type(type: str, custom: Mapping[str, FieldType] = NOTHING_CUSTOM.types) -> None:
    """Raises UnknownType if there is no such field type. *custom* are those of plugins."""
    if type not in FIELD_TYPES and type not in custom:
        raise UnknownType(f'There is no field type "{type}"{suggestion(type, (*FIELD_TYPES, *custom))}')


def column_type(
    type: str,
    datatype: str | None,
    length: str | None,
    signed: bool,
    custom: Mapping[str, FieldType] = NOTHING_CUSTOM.types,
) -> str | None:
    """Returns the PostgreSQL type of a declared field; None for an alias. *custom* are the types of plugins.

    Raises UnknownType, LengthRequired or LengthForbidden; InvalidPayload if the datatype is missing or the length is invalid.
    """
    check_type(type, custom)
    if type in ALIAS_TYPES:
        return None
    own = custom[type].datatypes if type in custom else {}
    if not datatype:
        example = next(iter(own), _EXAMPLES.get(type, "VARCHAR"))
        raise InvalidPayload(f'A field of type "{type}" needs a datatype, for example {example}.')
    if datatype.upper() in own:
        if length:
            raise LengthForbidden(f"{datatype.upper()} takes no length.")
        return own[datatype.upper()]
    found = DATATYPES.get(datatype.upper())
    if found is None:
        raise UnknownType(f'There is no datatype "{datatype}"{suggestion(datatype, (*DATATYPES, *own))}')
    if found.length == "required" and not length:
        raise LengthRequired(f"{datatype.upper()} needs a length.")
    if found.length == "forbidden" and length:
        raise LengthForbidden(f"{datatype.upper()} takes no length.")
    if length and found.length != "forbidden" and datatype.upper() not in ("ENUM", "SET"):
        _check_length(datatype.upper(), length)
    if type == "boolean":
        return "boolean"
    if found.maximum is not None:
        return found.column if signed or found.bare is None else found.bare
    if "{}" not in found.column:
        return found.column
    if not length:
        return found.bare
    numbers = [int(part) for part in length.split(",")]
    if not found.column.startswith("numeric"):
        return found.column.format(numbers[0])
    return f"numeric({numbers[0]},{numbers[1] if len(numbers) > 1 else 0})"


_MAX_CHARACTERS = 10_485_760
_MAX_DIGITS = 1000


def _check_length(datatype: str, length: str) -> None:
    """Raises InvalidPayload unless the length is a valid number, or two numbers for a decimal."""
    decimal = DATATYPES[datatype].column.startswith("numeric")
    found = re.fullmatch(r"\s*(\d{1,8})\s*" + (r"(?:,\s*(\d{1,4})\s*)?" if decimal else ""), length, re.ASCII)
    if found is not None:
        first = int(found[1])
        second = int(found[2] or 0) if decimal else 0
        if 1 <= first <= (_MAX_DIGITS if decimal else _MAX_CHARACTERS) and second <= first:
            return
    raise InvalidPayload(f'"{length}" is no length of {datatype}.')


def enumerated(length: str) -> list[str]:
    """Returns the values of an ENUM or SET, listed in its length: "'a','b'" or "a,b"."""
    quoted = re.findall(r"'((?:[^']|'')*)'", length)
    return [value.replace("''", "'") for value in quoted] or [value.strip() for value in length.split(",")]


LENGTH = re.compile(r"\((\d+)(?:,(-?\d+))?\)")

_KINDS: Mapping[str, tuple[str, str, str]] = {
    "character varying": ("text", "string", "VARCHAR"),
    "character": ("text", "string", "VARCHAR"),
    "bpchar": ("text", "string", "TEXT"),
    "text": ("text", "string", "TEXT"),
    "citext": ("text", "string", "TEXT"),
    "name": ("text", "string", "TEXT"),
    "smallint": ("integer", "integer", "SMALLINT"),
    "integer": ("integer", "integer", "INT"),
    "bigint": ("integer", "integer", "BIGINT"),
    "numeric": ("number", "decimal", "DECIMAL"),
    "double precision": ("number", "decimal", "DOUBLE"),
    "real": ("number", "decimal", "FLOAT"),
    "boolean": ("boolean", "boolean", "TINYINT"),
    "date": ("date", "date", "DATE"),
    "timestamp without time zone": ("datetime", "datetime", "DATETIME"),
    "timestamp with time zone": ("datetime", "datetime", "DATETIME"),
    "time without time zone": ("time", "time", "TIME"),
    "time with time zone": ("time", "time", "TIME"),
    "bytea": ("binary", "binary", "BLOB"),
    "uuid": ("uuid", "uuid", "VARCHAR"),
    "json": ("other", "json", "JSON"),
    "jsonb": ("other", "json", "JSON"),
}
"""PostgreSQL types without length: the family, and the nearest field type and datatype."""

_OTHER_KIND = ("other", "string", "TEXT")


def base_type(column: str | None) -> str:
    """Returns a PostgreSQL type without its length: "numeric" for "numeric(10,2)"; "" for an alias."""
    return LENGTH.sub("", column or "")


@lru_cache(maxsize=1024)
def _kind(column: str) -> tuple[str, str, str]:
    return _KINDS.get(base_type(column), _OTHER_KIND)


def has_datatype(column: str) -> bool:
    """Whether values of a PostgreSQL type are those of a datatype."""
    return _kind(column)[0] != "other"


def is_json(field: Field) -> bool:
    """Whether the column is json or jsonb."""
    return field.column_type in ("json", "jsonb")


def nearest(column: str, native: NativeType | None = None) -> tuple[str, str, str | None]:
    """Returns the nearest field type, datatype and length of a column that is not declared. *native* describes a type without a
    datatype: an enum is an ENUM of its labels."""
    _, type, datatype = _kind(column)
    if native is not None and native.member is not None:
        return "array", datatype, None
    if native is not None and native.labels:
        return type, "ENUM", ",".join("'" + label.replace("'", "''") + "'" for label in native.labels)
    if type == "uuid":
        return type, datatype, "36"
    found = LENGTH.search(column) if datatype in ("VARCHAR", "DECIMAL") else None
    if datatype == "VARCHAR" and found is None:
        return type, "TEXT", None
    return type, datatype, ",".join(part for part in found.groups() if part) if found else None


# --- families of columns


def family(field: Field) -> str:
    """Returns the kind of values of the column: text, integer, number, boolean, date, time, datetime, binary, uuid or other."""
    return _kind(field.column_type or "")[0]


SEARCHED_TYPES = frozenset({"string", "slug", "lang", "uuid", "array", "json", "integer", "decimal", "sort"})


def searched(field: Field) -> bool:
    """Whether searches look in the field: text and number fields, but not dates, foreign keys or secrets."""
    return (
        field.has_column
        and field.sealed is None
        and field.type in SEARCHED_TYPES
        and family(field) in ("text", "integer", "number")
    )


def is_float(field: Field) -> bool:
    """Whether the column is real or double precision."""
    return base_type(field.column_type) in ("double precision", "real")


LONG = 1000
"""Characters that a text may have without counting as long."""


def is_long(field: Field) -> bool:
    """Whether the values of the column may be long: texts and bytes without a maximum length or with a large one, JSON, arrays."""
    kind = family(field)
    if kind == "text":
        most = maximum_length(field)
        return most is None or most > LONG
    return kind in ("binary", "other")


def maximum_length(field: Field) -> int | None:
    """Returns the maximum length of a text column; None if it is not limited."""
    found = LENGTH.search(field.column_type or "")
    return int(found[1]) if found and family(field) == "text" else None
