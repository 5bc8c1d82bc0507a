"""Values: from JSON to columns, back again, and what filters compare."""

from typing import Any

import pytest

from directus_tx.errors import (
    ApiError,
    InvalidFieldValue,
    InvalidPayload,
    InvalidRequest,
    LengthForbidden,
    LengthRequired,
    UnknownType,
)
from directus_tx.schema.comparing import NO_MATCH, comparable
from directus_tx.schema.datatypes import column_type, nearest
from directus_tx.schema.model import Field
from directus_tx.schema.parsing import parse
from directus_tx.schema.showing import answer


def declared(type: str, datatype: str, length: str | None = None, signed: bool = False) -> Field:
    column = column_type(type, datatype, length, signed)
    return Field("c", "f", type, datatype, length, signed, column_type=column, id=1)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("nope", "INT", None), UnknownType),
        (("string", "NOPE", None), UnknownType),
        (("string", None, None), InvalidPayload),
        (("string", "VARCHAR", None), LengthRequired),
        (("decimal", "DECIMAL", None), LengthRequired),
        (("string", "TEXT", "9"), LengthForbidden),
        (("string", "VARCHAR", "x"), InvalidPayload),
        (("string", "VARCHAR", "1); DROP TABLE x"), InvalidPayload),
        (("decimal", "DECIMAL", "2,5"), InvalidPayload),
    ],
)
def test_declarations_that_are_none_are_refused(arguments: tuple[Any, ...], error: type[ApiError]) -> None:
    with pytest.raises(error):
        column_type(*arguments, False)


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        (declared("integer", "INT", "11", True), 1.5, 2),
        (declared("integer", "INT", "11", True), -2.5, -3),
        (declared("integer", "INT", "11"), "7", 7),
        (declared("integer", "INT", "11"), 4294967295, 4294967295),
        (declared("boolean", "TINYINT", "1"), "0", False),
        (declared("datetime", "DATETIME"), "2024-02-29T10:11:12+02:00", "2024-02-29 08:11:12"),
        (declared("date", "DATE"), "", None),
        (declared("array", "VARCHAR", "20"), [1, "a,b"], "1,a,b"),
        (declared("json", "TEXT"), {"b": 1, "a": {}}, '{"b":1,"a":{}}'),
        (declared("binary", "BLOB"), "abc", b"abc"),
    ],
)
def test_values_are_stored_as_their_columns_want_them(field: Field, value: Any, wanted: Any) -> None:
    assert parse(field, value) == wanted


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        (declared("integer", "INT", "11"), -1, InvalidPayload),
        (declared("integer", "INT", "11"), 4294967296, InvalidPayload),
        (declared("integer", "INT", "11", True), 2147483648, InvalidPayload),
        (declared("integer", "INT", "11"), float("nan"), InvalidRequest),
        (declared("integer", "INT", "11"), "abc", InvalidRequest),
        (declared("integer", "INT", "11"), [1], InvalidFieldValue),
        (declared("decimal", "DECIMAL", "5,2"), 1.234, InvalidPayload),
        (declared("decimal", "DECIMAL", "5,2"), 1000, InvalidPayload),
        (declared("string", "VARCHAR", "3"), "abcd", InvalidPayload),
        (declared("string", "VARCHAR", "3"), "a\x00", InvalidRequest),
        (declared("date", "DATE"), "2023-02-29", InvalidRequest),
        (declared("datetime", "DATETIME"), "2024-02-29", InvalidRequest),
        (declared("string", "ENUM", "'a','b'"), "c", InvalidRequest),
    ],
)
def test_values_that_do_not_fit_are_refused(field: Field, value: Any, error: type[ApiError]) -> None:
    with pytest.raises(error):
        parse(field, value)


def test_what_cannot_be_a_value_matches_nothing() -> None:
    assert comparable(declared("integer", "INT", "11"), "1abc") is NO_MATCH
    assert comparable(declared("datetime", "DATETIME"), "someday") is NO_MATCH
    assert comparable(declared("integer", "INT", "11"), "9" * 30) == int("9" * 30)


def test_nulls_are_shown_as_their_type_shows_nothing() -> None:
    for type, datatype, length, wanted in (
        ("decimal", "DECIMAL", "5,2", 0),
        ("boolean", "TINYINT", "1", False),
        ("array", "VARCHAR", "9", []),
        ("binary", "BLOB", None, ""),
        ("json", "TEXT", None, None),
    ):
        cast = answer(declared(type, datatype, length))
        assert cast is not None
        assert cast(None) == wanted


def test_columns_that_nobody_declared_get_the_nearest_names() -> None:
    assert nearest("character varying(30)") == ("string", "VARCHAR", "30")
    assert nearest("numeric(8,2)") == ("decimal", "DECIMAL", "8,2")
    assert nearest("timestamp with time zone") == ("datetime", "DATETIME", None)
    assert nearest("time without time zone") == ("time", "TIME", None)
    assert nearest("uuid") == ("uuid", "VARCHAR", "36")
    assert nearest("tsvector") == ("string", "TEXT", None)
