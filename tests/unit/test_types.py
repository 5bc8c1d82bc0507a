"""Field types as properties: what parse takes, what answer gives back, what a declaration means to PostgreSQL."""

import datetime
import json
import math
from decimal import Context, Decimal
from typing import Any

import orjson
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet import reactor

from directus_tx.db.connection import connected
from directus_tx.db.sql import SQL, Identifier
from directus_tx.errors import ApiError, InvalidPayload
from directus_tx.schema.comparing import NO_MATCH, comparable, member
from directus_tx.schema.datatypes import DATATYPES, FIELD_TYPES, column_type, family, nearest
from directus_tx.schema.model import ALIAS_TYPES, Field
from directus_tx.schema.parsing import MAX_JSON_DEPTH, integer_range, parse
from directus_tx.schema.showing import answer

COLUMN_TYPES = [name for name in FIELD_TYPES if name not in ALIAS_TYPES]
LENGTHS = {"DECIMAL": "10,2", "NUMERIC": "10,2", "ENUM": "'a','b'", "SET": "a,b"}
UNDECLARED = [
    "smallint",
    "integer",
    "bigint",
    "numeric",
    "numeric(5,2)",
    "real",
    "double precision",
    "boolean",
    "date",
    "time without time zone",
    "time with time zone",
    "timestamp without time zone",
    "timestamp with time zone",
    "timestamp(3) with time zone",
    "uuid",
    "json",
    "jsonb",
    "bytea",
    "text",
    "citext",
    "character(3)",
    "character varying",
    "integer[]",
    "text[]",
    "tsvector",
    "inet",
]


def declared(type: str, datatype: str, length: str | None = None, signed: bool = True) -> Field:
    """A field as somebody has declared it."""
    return Field("c", "f", type, datatype, length, signed, column_type=column_type(type, datatype, length, signed), id=1)


def undeclared(column: str) -> Field:
    """A field of a column that was there before."""
    type, datatype, length = nearest(column)
    return Field("c", "f", type, datatype, length, True, column_type=column)


def length_of(datatype: str) -> str | None:
    return None if DATATYPES[datatype].length == "forbidden" else LENGTHS.get(datatype, "20")


@st.composite
def fields(draw: Any) -> Field:
    """Any field that has a column: declared in any way, or not at all."""
    if draw(st.integers(0, 4)) == 0:
        return undeclared(draw(st.sampled_from(UNDECLARED)))
    datatype = draw(st.sampled_from(list(DATATYPES)))
    lengths = [length_of(datatype)] if DATATYPES[datatype].length != "optional" else [length_of(datatype), None]
    return declared(draw(st.sampled_from(COLUMN_TYPES)), datatype, draw(st.sampled_from(lengths)), draw(st.booleans()))


TEXTS = (
    st.text(max_size=40)
    | st.from_regex(r"[-+]?[0-9]{0,30}[.eE]?[-+]?[0-9]{0,25}", fullmatch=True)
    | st.from_regex(r"[0-9:TZ+\-. ]{0,26}", fullmatch=True)
    | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:?[0-9]{2})?)?", fullmatch=True)
    | st.from_regex(r"\d\d:\d\d:\d\d", fullmatch=True)
    | st.sampled_from(["NaN", "sNaN", "-Infinity", "1e999999999999999999999", "9" * 5000, "now", "true", " 1 ", "\x00", "1_0"])
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | TEXTS
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
"""What orjson makes of a body: its integers have 64 bits."""


# --- any value


@given(fields(), JSON)
def test_any_value_of_any_field_is_parsed_or_refused(field: Field, value: Any) -> None:
    try:
        parsed = parse(field, value)
    except ApiError as error:
        assert error.status == 422  # noqa: PT017 — most values are refused, not all
        return
    assert value is not None or parsed is None
    assert not (isinstance(parsed, str) and "\x00" in parsed)
    if family(field) == "integer" and field.type not in ("array", "json", "boolean") and parsed is not None:
        lowest, highest = integer_range(field)
        assert lowest <= parsed <= highest


def row_of(field: Field, parsed: Any) -> Any:
    """What the driver gives for what has been stored. Raises ValueError where PostgreSQL would not store it."""
    if parsed is None:
        return None
    kind = family(field)
    if kind == "integer":
        return int(parsed)
    if kind == "number":
        return float(parsed)
    if kind == "boolean":
        return parsed if isinstance(parsed, bool) else bool(int(parsed))
    if kind == "binary":
        return parsed if isinstance(parsed, bytes) else parsed.encode()
    return str(parsed)


@given(fields(), JSON)
@example(declared("array", "INT", "11"), [5])
@example(declared("json", "BLOB"), {"a": 1})
@example(declared("datetime_created", "INT", "11"), 5)
def test_what_is_stored_can_be_answered(field: Field, value: Any) -> None:
    try:
        row = row_of(field, parse(field, value))
    except (ApiError, ValueError):
        return
    shown = answer(field)
    orjson.dumps(row if shown is None else shown(row))


@given(fields(), TEXTS, st.none() | st.datetimes())
def test_any_text_of_a_filter_compares_or_matches_nothing(field: Field, text: str, now: datetime.datetime | None) -> None:
    found = comparable(field, text, now)
    assert found is NO_MATCH or isinstance(found, (str, int, float, Decimal))
    assert not (isinstance(found, str) and "\x00" in found)
    assert member(field, text, now) in (found, NO_MATCH)


@pytest.mark.parametrize("text", ["1.5", "9223372036854775808", "-9223372036854775809", "1e400", "x", "²", "٣"])
def test_what_no_integer_column_can_hold_is_no_member_of_a_list(text: str) -> None:
    assert member(declared("integer", "BIGINT", "20"), text) is NO_MATCH


def test_numbers_that_are_too_great_for_floating_point_are_infinite_to_it() -> None:
    for text, number in (("1e400", float("inf")), ("-1e400", -float("inf")), ("1e-999", 0.0), ("0.1", 0.1)):
        assert comparable(undeclared("double precision"), text) == number
        assert comparable(undeclared("real"), text) == number


@pytest.mark.parametrize(
    "column",
    [
        "timeline",
        "texture",
        '"Integer"',
        "realm",
        "daterange",
        "datemultirange",
        "namespace",
        "timestamps",
        '"char"',
        "int4range",
    ],
)
def test_a_type_that_begins_like_another_is_of_another_kind(column: str) -> None:
    assert family(undeclared(column)) == "other"
    assert nearest(column) == ("string", "TEXT", None)


def test_json_that_is_too_deep_to_be_answered_is_neither_taken_nor_shown() -> None:
    deep: Any = []
    for _ in range(MAX_JSON_DEPTH - 1):
        deep = [deep]
    assert back(declared("json", "TEXT"), deep) == deep
    for more in (1, 30, 60, 700):
        deeper = "[" * (MAX_JSON_DEPTH + more) + "]" * (MAX_JSON_DEPTH + more)
        with pytest.raises(InvalidPayload):
            parse(declared("json", "TEXT"), orjson.loads(deeper))
        shown = answer(declared("json", "TEXT"))
        assert shown is not None
        assert shown(deeper) is None
    wide = [{"a": [1]}] * 1000
    assert back(declared("json", "TEXT"), wide) == wide


@given(st.sampled_from([declared("integer", "INT", "11"), declared("decimal", "DECIMAL", "10,2")]), st.floats(-9e5, 9e5))
def test_what_is_no_value_of_a_number_still_compares(field: Field, number: float) -> None:
    found = comparable(field, repr(number))
    assert float(found) == number


# --- there and back


def back(field: Field, value: Any) -> Any:
    """What the API shows of a payload's value once it has been stored."""
    parsed = parse(field, value)
    shown = answer(field)
    return parsed if shown is None else shown(parsed)


INTEGERS = [
    declared(type, datatype, "11", signed)
    for datatype in ("TINYINT", "SMALLINT", "MEDIUMINT", "INT", "INTEGER", "BIGINT", "SERIAL", "YEAR")
    for type in ("integer", "sort", "m2o")
    for signed in (True, False)
]


@given(st.sampled_from(INTEGERS), st.data())
def test_integers_come_back(field: Field, data: st.DataObject) -> None:
    lowest, highest = integer_range(field)
    number = data.draw(st.integers(lowest, highest))
    shown = str(number) if field.datatype == "BIGINT" else number
    assert back(field, number) == back(field, str(number)) == shown


@given(st.sampled_from(INTEGERS), st.data())
def test_integers_beyond_their_range_are_refused(field: Field, data: st.DataObject) -> None:
    lowest, highest = integer_range(field)
    number = data.draw(st.integers(highest + 1, highest + 2**70) | st.integers(lowest - 2**70, lowest - 1))
    with pytest.raises(InvalidPayload):
        parse(field, str(number))


@given(st.integers(1, 30), st.integers(0, 30), st.decimals(allow_nan=False, allow_infinity=False))
@example(10, 2, Decimal("1." + "0" * 40 + "1"))
def test_decimals_that_are_accepted_lose_no_digit_in_their_column(precision: int, scale: int, number: Decimal) -> None:
    assume(scale <= precision)
    field = declared("decimal", "DECIMAL", f"{precision},{scale}")
    try:
        parsed = parse(field, str(number))
    except InvalidPayload:
        return
    exact = Context(prec=2000)
    assert parsed == number
    assert parsed == parsed.quantize(Decimal(1).scaleb(-scale), context=exact)
    assert abs(parsed) < Decimal(10) ** (precision - scale)


@given(st.decimals(-(10**8) + 1, 10**8 - 1, places=2))
def test_decimals_come_back(number: Decimal) -> None:
    field = declared("decimal", "DECIMAL", "10,2")
    assert back(field, str(number)) == back(field, float(number)) == float(number)


@given(st.floats(-1e300, 1e300))
def test_floats_come_back(number: float) -> None:
    assume(number == 0 or abs(number) > 1e-300)
    assert math.isclose(back(declared("decimal", "DOUBLE"), number), number, rel_tol=0, abs_tol=0)


@given(st.sampled_from(["TINYINT", "BIT", "BOOL", "BOOLEAN", "CHAR"]), st.booleans())
def test_booleans_come_back_however_they_are_said(datatype: str, value: bool) -> None:
    field = declared("boolean", datatype, "1")
    for said in (value, int(value), str(int(value)), str(value), str(value).lower(), f" {value} "):
        assert back(field, said) is value


@given(st.dates(min_value=datetime.date(1, 1, 1)))
def test_dates_come_back(value: datetime.date) -> None:
    assert back(declared("date", "DATE"), value.isoformat()) == value.isoformat()


@given(st.times())
def test_times_come_back(value: datetime.time) -> None:
    text = value.strftime("%H:%M:%S")
    assert back(declared("time", "TIME"), text) == text


@given(st.datetimes())
def test_datetimes_come_back(value: datetime.datetime) -> None:
    text = value.replace(microsecond=0).isoformat(" ")
    assert back(declared("datetime", "DATETIME"), text) == text


# Hypothesis takes naive limits only.
FIRST, LAST = datetime.datetime(2, 1, 1), datetime.datetime(9998, 12, 31)  # noqa: DTZ001


@given(st.datetimes(min_value=FIRST, max_value=LAST), st.integers(-1439, 1439))
def test_datetimes_with_an_offset_come_back_as_utc(value: datetime.datetime, minutes: int) -> None:
    local = value.replace(microsecond=0, tzinfo=datetime.timezone(datetime.timedelta(minutes=minutes)))
    utc = local.astimezone(datetime.UTC).replace(tzinfo=None)
    assert back(declared("datetime", "DATETIME"), local.isoformat()) == utc.isoformat(" ")
    assert comparable(declared("datetime", "DATETIME"), local.isoformat()) == utc.isoformat()


@given(st.lists(JSON, max_size=3) | st.dictionaries(st.text(max_size=5), JSON, max_size=3))
def test_json_comes_back(value: Any) -> None:
    assume("NaN" not in json.dumps(value) and "Infinity" not in json.dumps(value))
    assert back(declared("json", "TEXT"), value) == value


@given(st.lists(st.text(st.characters(exclude_characters=",\x00", exclude_categories=["Cs"]), min_size=1)))
def test_arrays_of_texts_without_commas_come_back(value: list[str]) -> None:
    assert back(declared("array", "TEXT"), value) == value


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30))
def test_texts_come_back_or_are_too_long(text: str) -> None:
    field = declared("string", "VARCHAR", "20")
    if len(text) > 20:
        with pytest.raises(InvalidPayload):
            parse(field, text)
    else:
        assert back(field, text) == text


@given(st.uuids())
def test_uuids_come_back_as_postgresql_writes_them(value: Any) -> None:
    for said in (str(value), str(value).upper(), value.hex, f"{{{value}}}"):
        assert back(undeclared("uuid"), said) == comparable(undeclared("uuid"), said) == str(value)


# --- declarations

WANTED = {
    "CHAR": ("20", "character varying(20)", "character varying(20)"),
    "VARCHAR": ("20", "character varying(20)", "character varying(20)"),
    "TINYTEXT": (None, "text", "text"),
    "TEXT": (None, "text", "text"),
    "MEDIUMTEXT": (None, "text", "text"),
    "LONGTEXT": (None, "text", "text"),
    "JSON": (None, "text", "text"),
    "ENUM": ("'a','b'", "text", "text"),
    "SET": ("a,b", "text", "text"),
    "UUID": (None, "character varying(36)", "character varying(36)"),
    "TINYINT": ("1", "smallint", "smallint"),
    "SMALLINT": ("6", "smallint", "integer"),
    "MEDIUMINT": ("9", "integer", "integer"),
    "INT": ("11", "integer", "bigint"),
    "INTEGER": (None, "integer", "bigint"),
    "BIGINT": ("20", "bigint", "bigint"),
    "SERIAL": (None, "bigint", "bigint"),
    "YEAR": ("4", "smallint", "smallint"),
    "BIT": ("1", "boolean", "boolean"),
    "BOOL": (None, "boolean", "boolean"),
    "BOOLEAN": (None, "boolean", "boolean"),
    "DECIMAL": ("10,2", "numeric(10,2)", "numeric(10,2)"),
    "NUMERIC": ("7", "numeric(7,0)", "numeric(7,0)"),
    "FLOAT": (None, "double precision", "double precision"),
    "DOUBLE": ("7, 3", "numeric(7,3)", "numeric(7,3)"),
    "REAL": (None, "double precision", "double precision"),
    "DATE": (None, "date", "date"),
    "TIME": (None, "time(0) without time zone", "time(0) without time zone"),
    "DATETIME": (None, "timestamp(0) without time zone", "timestamp(0) without time zone"),
    "TIMESTAMP": (None, "timestamp(0) without time zone", "timestamp(0) without time zone"),
    "BINARY": ("20", "bytea", "bytea"),
    "VARBINARY": ("20", "bytea", "bytea"),
    "TINYBLOB": (None, "bytea", "bytea"),
    "BLOB": (None, "bytea", "bytea"),
    "MEDIUMBLOB": (None, "bytea", "bytea"),
    "LONGBLOB": (None, "bytea", "bytea"),
}


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_is_the_column_that_it_says(datatype: str) -> None:
    length, signed, unsigned = WANTED[datatype]
    assert column_type("string", datatype, length, True) == signed
    assert column_type("string", datatype.lower(), length, False) == unsigned
    assert column_type("boolean", datatype, length, True) == "boolean"
    assert column_type("o2m", datatype, length, True) is None


@ensureDeferred
async def test_postgresql_calls_every_column_as_we_do(postgres: dict[str, Any]) -> None:
    """Introspection compares the names."""
    wanted = {f"{datatype} {i}": column for datatype, (_, *both) in WANTED.items() for i, column in enumerate(both)}
    columns = [SQL("{} {}").format(Identifier(name), SQL(column)) for name, column in wanted.items()]
    async with connected(reactor, postgres) as connection:
        await connection.run("DROP TABLE IF EXISTS every_datatype")
        await connection.run(SQL("CREATE TABLE every_datatype ({})").format(SQL(", ").join(columns)))
        found = await connection.run(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = 'every_datatype'::regclass AND attnum > 0"
        )
        await connection.run("DROP TABLE every_datatype")
    assert dict(found) == wanted


@given(st.sampled_from(FIELD_TYPES), st.sampled_from(list(DATATYPES)), st.none() | st.text(max_size=12), st.booleans())
@example("string", "VARCHAR", "²", True)
@example("string", "VARCHAR", "9" * 5000, True)
@example("decimal", "DECIMAL", "²,1", True)
def test_any_length_is_taken_or_refused(type: str, datatype: str, length: str | None, signed: bool) -> None:
    try:
        column = column_type(type, datatype, length, signed)
    except ApiError as error:
        assert error.status == 422  # noqa: PT017 — most lengths are refused, not all
        return
    assert column is None or column in {c for _, *both in WANTED.values() for c in both} or column.endswith(")")


@given(st.sampled_from(["BINARY", "VARBINARY", "ENUM", "SET"]), st.text(min_size=1, max_size=5), TEXTS)
@example("VARBINARY", "abc", "x")
@example("BINARY", "5,2", "x")
def test_a_length_that_is_taken_breaks_no_value(datatype: str, length: str, value: str) -> None:
    try:
        field = declared("string", datatype, length)
    except ApiError:
        return
    try:
        parse(field, value)
    except ApiError as error:
        assert error.status == 422  # noqa: PT017 — most values are refused, not all


@given(
    st.one_of(st.from_regex(r"[0-9]{1,25}", fullmatch=True), st.text(st.characters(categories=["Nd"]), min_size=1, max_size=5))
)
@example("007")
@example(str(2**63 - 1))
@example(str(2**63))
@example("１２")
def test_a_whole_key_is_a_number_that_the_column_can_hold(text: str) -> None:
    expected = int(text) if text.isascii() and int(text) < 2**63 else NO_MATCH
    assert member(declared("integer", "INT", "11"), text) == member(declared("sort", "BIGINT", "20"), text) == expected
