"""Reads what the catalogue says about the types of columns."""

from collections.abc import Iterable
from typing import Any

import orjson
from attrs import frozen

from directus_tx.db.session import Session
from directus_tx.schema import datatypes
from directus_tx.schema.model import Field, NativeType

# The types of columns, by their oids, and those that they are made of: domains of their base, arrays of their members, composite types of
# their attributes. PostgreSQL compares values with the operators of the default operator class for the type itself, for a pseudo-type that
# it belongs to, or for a type that it is binary coercible to. Types that are binary coercible to oid are shown as names of objects. They
# are sorted by the numbers of the objects, but names are compared as text: to parse a name would tell whether the object exists.
_TYPES = """
WITH RECURSIVE used(oid) AS (
    SELECT unnest(%s::oid[])
    UNION
    SELECT below.oid FROM used JOIN pg_type t ON t.oid = used.oid CROSS JOIN LATERAL (
        SELECT t.typbasetype WHERE t.typtype = 'd'
        UNION ALL SELECT t.typelem WHERE t.typelem <> 0
        UNION ALL SELECT a.atttypid FROM pg_attribute a
                  WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    ) AS below(oid)
), types AS (
    SELECT t.*, ARRAY[
        t.oid,
        CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN 'anyarray'::regtype WHEN t.typtype = 'e' THEN 'anyenum'::regtype
             WHEN t.typtype = 'r' THEN 'anyrange'::regtype WHEN t.typtype = 'c' THEN 'record'::regtype
             WHEN t.typtype = 'm' THEN to_regtype('anymultirange') END
    ] || ARRAY(
        SELECT casttarget FROM pg_cast
        WHERE castsource = t.oid AND castmethod = 'b' AND castcontext = 'i'
    ) AS compared, m.oid AS member, m.typdelim AS delimiter
    FROM used JOIN pg_type t ON t.oid = used.oid
    LEFT JOIN pg_type m ON m.oid = t.typelem AND m.typarray = t.oid
)
SELECT t.oid, format_type(t.oid, -1), t.typtype, t.typbasetype, format_type(t.typbasetype, t.typtypmod), t.typnotnull, t.typdefault,
       t.member, t.delimiter,
       (SELECT json_agg(e.enumlabel ORDER BY e.enumsortorder)::text FROM pg_enum e WHERE e.enumtypid = t.oid),
       (SELECT json_agg(a.atttypid::bigint)::text FROM pg_attribute a
        WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped),
       EXISTS (SELECT FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod
               WHERE o.opcdefault AND m.amname IN ('btree', 'hash') AND o.opcintype = ANY (t.compared)
               AND (o.opcintype <> 'oid'::regtype OR t.oid = 'oid'::regtype)),
       EXISTS (SELECT FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod
               WHERE o.opcdefault AND m.amname = 'btree' AND o.opcintype = ANY (t.compared)),
       EXISTS (SELECT FROM pg_aggregate g JOIN pg_proc p ON p.oid = g.aggfnoid
               WHERE p.proname = 'min' AND p.pronamespace = 'pg_catalog'::regnamespace AND p.pronargs = 1
               AND p.proargtypes[0] = ANY (t.compared[1:2])),
       'oid'::regtype = ANY (t.compared[2:])
FROM types t
"""


@frozen
class _Type:
    """A row of `_TYPES`. `base` is the type below a domain: its oid and its text with the length."""

    oid: int
    name: str
    kind: str
    base: tuple[int, str]
    not_null: bool
    default: str | None
    member: int | None
    delimiter: str | None
    labels: tuple[str, ...]
    attributes: tuple[int, ...]
    equatable: bool
    ordered: bool
    minimum: bool
    named: bool


class Types:
    """The types of columns by oid, with what a Field needs to know of them."""

    def __init__(self, rows: Iterable[tuple[Any, ...]]) -> None:
        self._types: dict[int, _Type] = {}
        for oid, name, kind, base, base_text, not_null, default, member, delimiter, labels, attributes, *operators in rows:
            self._types[int(oid)] = _Type(
                int(oid),
                name,
                kind,
                (int(base), base_text),
                not_null,
                default,
                None if member is None else int(member),
                delimiter,
                tuple(orjson.loads(labels) if labels else ()),
                tuple(orjson.loads(attributes) if attributes else ()),
                *operators,
            )

    def attributes(self, oid: int, text: str) -> dict[str, Any]:
        """Returns the attributes of a Field that follow from the type of its column, by its oid and its text."""
        found = self._types.get(oid)
        attributes: dict[str, Any] = {}
        if found is None:
            # Another program has dropped the type, with its column, after the columns were read.
            return {"column_type": text, "native": None}
        if found.kind == "d":
            attributes["domain"] = found.name
            # The constraints and the default of the outer domain come first.
            not_null = False
            default: str | None = None
            while found.kind == "d":
                not_null, default = not_null or found.not_null, found.default if default is None else default
                (oid, text), found = found.base, self._types[found.base[0]]
            attributes |= {"domain_not_null": not_null, "domain_default": default}
        return attributes | {"column_type": text, "native": self._native(found, text)}

    def _native(self, found: _Type, text: str) -> NativeType | None:
        if datatypes.has_datatype(text):
            return None
        member = None
        if found.member is not None:
            name = self._types[found.member].name
            attributes = {n: v for n, v in self.attributes(found.member, name).items() if not n.startswith("domain")}
            type, datatype, length = datatypes.nearest(attributes["column_type"], attributes["native"])
            member = Field("", "", type, datatype, length, True, **attributes)
        return NativeType(
            found.name,
            equatable=self._compares(found.oid, "equatable"),
            ordered=self._compares(found.oid, "ordered"),
            minimum=found.minimum and self._compares(found.oid, "ordered"),
            named=self._any_named(found.oid),
            labels=found.labels,
            member=member,
            delimiter=found.delimiter or ",",
        )

    def _compares(self, oid: int, how: str) -> bool:
        """Whether a type and all that it is made of can be compared. Arrays and composite types raise an error otherwise."""
        found = self._types[oid]
        return (found.kind == "d" or bool(getattr(found, how))) and all(self._compares(part, how) for part in self._parts(oid))

    def _any_named(self, oid: int) -> bool:
        """Whether a type or a type that it is made of is named."""
        return self._types[oid].named or any(self._any_named(part) for part in self._parts(oid))

    def _parts(self, oid: int) -> tuple[int, ...]:
        """Returns the types that a type is made of."""
        found = self._types[oid]
        if found.kind == "d":
            return (found.base[0],)
        return found.attributes if found.member is None else (found.member,)


async def read_types(session: Session, oids: Iterable[int]) -> Types:
    """Returns the types with these oids, and those that they are made of."""
    return Types(await session.query(_TYPES, (sorted(oids),)))
