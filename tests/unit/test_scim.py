"""Filters and paths of SCIM are parsed as RFC 7644 says, and operations change documents."""

import contextlib
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from directus_tx.errors import ApiError, BadRequest, InvalidRequest
from directus_tx.scim.conditions import combined
from directus_tx.scim.dialects import STANDARD, dialect_of
from directus_tx.scim.documents import checked_document, shown_attributes
from directus_tx.scim.errors import InvalidFilter, InvalidOperation, InvalidPath, InvalidValue, NoTarget, NotMutable
from directus_tx.scim.filters import (
    MAX_DEPTH,
    Comparison,
    Filter,
    Group,
    Path,
    Target,
    Values,
    matches,
    parse_filter,
    parse_target,
)
from directus_tx.scim.patch import apply, operations_of
from directus_tx.scim.schemas import ENTERPRISE, USER, USERS
from directus_tx.scim.service import USERS as USER_RESOURCES


def path(*names: str) -> Path:
    return Path("", names)


A, B, C = (Comparison(path(name), "eq", 1) for name in "abc")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('userName eq "bjensen"', Comparison(path("userName"), "eq", "bjensen")),
        ('name.familyName CO "O\'Malley"', Comparison(path("name", "familyName"), "co", "O'Malley")),
        ('title eq "a \\"b\\" \\u00e9"', Comparison(path("title"), "eq", 'a "b" é')),
        (f'{USER}:userName sw "J"', Comparison(Path(USER, ("userName",)), "sw", "J")),
        ("title pr", Comparison(path("title"), "pr", None)),
        ("active eq True", Comparison(path("active"), "eq", True)),
        ("x eq null", Comparison(path("x"), "eq", None)),
        ("x gt -1.5", Comparison(path("x"), "gt", -1.5)),
        ("userName eq bob@example.com", Comparison(path("userName"), "eq", "bob@example.com")),
        ("a eq 1 and b eq 1 or c eq 1", Group("any", (Group("all", (A, B)), C))),
        ("a eq 1 or b eq 1 and c eq 1", Group("any", (A, Group("all", (B, C))))),
        ("(a eq 1 or b eq 1) and c eq 1", Group("all", (Group("any", (A, B)), C))),
        ("not (a eq 1) AND not(b eq 1)", Group("all", (Group("none", (A,)), Group("none", (B,))))),
        ('emails[type eq "work"]', Values(path("emails"), Comparison(path("type"), "eq", "work"))),
        ("x[a eq 1 and not (b eq 1)] or c eq 1", Group("any", (Values(path("x"), Group("all", (A, Group("none", (B,))))), C))),
    ],
)
def test_filters_are_parsed(text: str, wanted: Filter) -> None:
    assert parse_filter(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "userName",
        "userName eq",
        "userName xx 1",
        'userName eq "a',
        "eq eq",
        "(a eq 1",
        "a eq 1)",
        "a eq 1 b eq 1",
        "a eq 1 and",
        "not a eq 1",
        "emails[type eq 1",
        '"a" eq 1',
        "a..b eq 1",
        "a.b.c eq 1",
        'a eq "\\ud800"',
        "a eq 1; DROP TABLE directus_users",
        "x" * 20_000 + " pr",
        "(" * (MAX_DEPTH + 2) + "a pr" + ")" * (MAX_DEPTH + 2),
        "(" * 5000,
        "not(" * 3000 + "a pr" + ")" * 3000,
    ],
)
def test_malformed_filters_are_refused(text: str) -> None:
    with pytest.raises(InvalidFilter):
        parse_filter(text)


WORDS = st.sampled_from(
    [
        "userName",
        "eq",
        "and",
        "or",
        "not",
        "(",
        ")",
        "[",
        "]",
        '"x"',
        "1",
        "true",
        "emails",
        "type",
        ".",
        "pr",
        "urn:a:b",
        '"',
        "\\",
        "é",
    ]
)


@hypothesis.given(st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=12).map(" ".join)))
def test_any_text_is_a_filter_or_is_refused(text: str) -> None:
    with contextlib.suppress(InvalidFilter):
        combined(USERS, USER_RESOURCES.filterables(STANDARD), parse_filter(text), STANDARD)


def test_paths_of_operations_are_parsed() -> None:
    assert parse_target("name.givenName") == Target(path("name", "givenName"))
    work = Comparison(path("type"), "eq", "work")
    assert parse_target('emails[type eq "work"].value') == Target(path("emails"), work, "value")
    assert parse_target('members[value eq "1"]') == Target(path("members"), Comparison(path("value"), "eq", "1"))
    assert parse_target(f"{ENTERPRISE}:manager.value") == Target(Path(ENTERPRISE, ("manager", "value")))
    for text in ("emails[", 'emails[type eq "work"]value', 'emails[type eq "work"].a.b', "a b", "", "emails]"):
        with pytest.raises(InvalidFilter):
            parse_target(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('type eq "WORK"', True),
        ("type pr", True),
        ("display pr", False),
        ("primary eq true", True),
        ('primary eq "False"', False),
        ("primary ne false", True),
        ('value co "EXAMPLE"', True),
        ('value sw "a"', True),
        ('value ew ".com" and type ne "home"', True),
        ('not (type eq "work") or value gt "z"', False),
        ("display eq null", True),
        ("display ne null", False),
        ("value gt 5", True),
    ],
)
def test_value_filters_choose_values(text: str, wanted: bool) -> None:
    assert matches(parse_filter(text), {"value": "ann@example.com", "type": "work", "primary": True}) is wanted


# --- operations

ANN: dict[str, Any] = {
    "userName": "ann@example.com",
    "name": {"givenName": "Ann", "familyName": "Lee"},
    "emails": [{"value": "ann@example.com", "type": "work", "primary": True}],
    "active": True,
    "phoneNumbers": [{"value": "1", "type": "home"}, {"value": "2", "type": "work"}],
}


def after(*operations: dict[str, Any]) -> dict[str, Any]:
    return apply(operations_of(USERS, {"Operations": list(operations)}), ANN)


def test_operations_change_documents() -> None:
    assert after({"op": "replace", "path": "active", "value": False})["active"] is False
    assert after({"op": "Replace", "path": "active", "value": "False"})["active"] is False
    assert after({"op": "REPLACE", "path": "NAME.GIVENNAME", "value": "Eve"})["name"] == {"givenName": "Eve", "familyName": "Lee"}
    assert after({"op": "replace", "path": "name", "value": {"givenName": "Eve"}})["name"]["familyName"] == "Lee"
    assert after({"op": "remove", "path": "name.givenName"})["name"]["givenName"] is None
    assert after({"op": "remove", "path": 'phoneNumbers[type eq "home"]'})["phoneNumbers"] == [{"value": "2", "type": "work"}]
    assert after({"op": "remove", "path": "phoneNumbers"})["phoneNumbers"] == []
    assert after({"op": "replace", "path": 'phoneNumbers[type eq "work"].value', "value": "3"})["phoneNumbers"][1]["value"] == "3"
    added = after({"op": "add", "path": 'phoneNumbers[type eq "fax"].value', "value": "4"})["phoneNumbers"]
    assert added[2:] == [{"type": "fax", "value": "4"}]
    assert (
        after({"op": "add", "path": "phoneNumbers", "value": [{"value": "1", "type": "home"}]})["phoneNumbers"]
        == ANN["phoneNumbers"]
    )
    primary = after({"op": "add", "path": "emails", "value": {"value": "b@example.com", "primary": True}})["emails"]
    assert [each["primary"] for each in primary] == [False, True]
    without_path = after(
        {"op": "replace", "value": {"active": False, "name.givenName": "Eve", "nonsense": 1, "id": "x", "schemas": []}}
    )
    assert (without_path["active"], without_path["name"]["givenName"]) == (False, "Eve")


def test_operations_change_extensions() -> None:
    added = after({"op": "add", "path": f"{ENTERPRISE}:department", "value": "Sales"})
    assert added[ENTERPRISE] == {"department": "Sales"}
    whole = {"department": "Sales", "manager": {"value": "7"}}
    assert after({"op": "add", "path": ENTERPRISE, "value": whole})[ENTERPRISE] == whole
    assert after({"op": "add", "value": {ENTERPRISE: whole}})[ENTERPRISE] == whole
    assert after({"op": "add", "value": {f"{ENTERPRISE}:division": "West"}})[ENTERPRISE] == {"division": "West"}
    assert after({"op": "add", "path": f"{ENTERPRISE}:manager", "value": "7"})[ENTERPRISE] == {"manager": {"value": "7"}}
    assert after({"op": "remove", "path": ENTERPRISE})[ENTERPRISE] == {}


def test_operations_do_not_change_the_document_that_they_are_applied_to() -> None:
    before = repr(ANN)
    after(
        {"op": "add", "path": "emails", "value": {"value": "b@example.com", "primary": True}},
        {"op": "replace", "path": 'phoneNumbers[type eq "work"].value', "value": "3"},
        {"op": "remove", "path": "name.givenName"},
    )
    assert repr(ANN) == before


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        ({"op": "frobnicate", "path": "active", "value": True}, InvalidOperation),
        ({"path": "active", "value": True}, InvalidOperation),
        ({"op": 5}, InvalidOperation),
        ([], InvalidOperation),
        ({"op": "add", "path": "nonsense", "value": 1}, InvalidPath),
        ({"op": "add", "path": "urn:x:y:z:active", "value": 1}, InvalidPath),
        ({"op": "add", "path": "name[givenName eq 1].givenName", "value": "x"}, InvalidPath),
        ({"op": "add", "path": "emails[nonsense eq 1]", "value": {}}, InvalidPath),
        ({"op": "add", "path": "emails[", "value": {}}, InvalidPath),
        ({"op": "add", "path": {}, "value": {}}, InvalidPath),
        ({"op": "remove"}, NoTarget),
        ({"op": "replace", "path": 'phoneNumbers[type eq "fax"].value', "value": "1"}, NoTarget),
        ({"op": "replace", "path": "id", "value": "x"}, NotMutable),
        ({"op": "replace", "path": "groups", "value": []}, NotMutable),
        ({"op": "remove", "path": "meta.version"}, NotMutable),
        ({"op": "add", "path": "groups.value", "value": "x"}, NotMutable),
        ({"op": "replace", "path": "active", "value": "maybe"}, InvalidValue),
        ({"op": "replace", "path": "active"}, InvalidValue),
        ({"op": "replace", "path": "userName", "value": 5}, InvalidValue),
        ({"op": "replace", "path": "userName", "value": "a\0b"}, InvalidValue),
        ({"op": "replace", "path": "name", "value": "Ann"}, InvalidValue),
        ({"op": "replace", "path": "emails", "value": [[]]}, InvalidValue),
        ({"op": "replace", "value": "x"}, InvalidValue),
    ],
)
def test_malformed_operations_are_refused(operation: Any, error: type[ApiError]) -> None:
    with pytest.raises(error):
        after(operation)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["value", "type", "givenName", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
PATHS = st.sampled_from(
    ["userName", "name", "emails", 'emails[type eq "work"]', "emails[value pr].type", "active", ENTERPRISE, "phoneNumbers.value"]
)


@hypothesis.given(
    st.fixed_dictionaries({"op": st.sampled_from(["add", "replace", "remove"])}, optional={"path": PATHS | JSON, "value": JSON})
)
def test_any_operation_is_applied_or_refused(operation: dict[str, Any]) -> None:
    with contextlib.suppress(BadRequest, InvalidRequest):
        after(operation)


# --- documents


def test_the_values_and_comparisons_of_operations_are_bounded() -> None:
    """Each value that is added is compared with those that are there, and each comparison is made with each of them."""

    def adding(number: int, of: int) -> list[dict[str, Any]]:
        return [{"op": "add", "path": "photos", "value": [f"{n}.{m}" for m in range(of)]} for n in range(number)]

    assert len(after(*adding(10, 10))["photos"]) == 100
    # Those that are there already are not added.
    assert len(after(*adding(10, 10), *adding(10, 10))["photos"]) == 100
    for operations in (adding(101, 1), adding(2, 60), [*adding(1, 100), *adding(3, 40)]):
        with pytest.raises(InvalidValue, match="100 values"):
            after(*operations)
    chosen = " or ".join(['value eq "x"'] * 100)
    comparing = {"op": "remove", "path": f"photos[{chosen}]"}
    assert after(*[comparing] * 20)["photos"] == []
    for operations in ([comparing] * 21, [*[comparing] * 19, *adding(2, 60)], adding(30, 100)):
        with pytest.raises(InvalidOperation, match="2000"):
            after(*operations)


def test_documents_are_checked() -> None:
    body = {
        "schemas": [USER],
        "USERNAME": "a@example.com",
        "id": "x",
        "meta": {},
        "nonsense": 1,
        "groups": [],
        "name": {"FamilyName": "Lee", "x": 1},
        "active": "TRUE",
        ENTERPRISE.upper(): {"department": "Sales", "x": 1},
    }
    assert checked_document(USERS, body) == {
        "userName": "a@example.com",
        "name": {"familyName": "Lee"},
        "active": True,
        ENTERPRISE: {"department": "Sales"},
    }
    for wrong in ({"userName": []}, {"name": [1]}, {"emails": ["x", {"value": 1}]}, {"active": 1}, {ENTERPRISE: 5}):
        with pytest.raises(InvalidValue):
            checked_document(USERS, wrong)


def test_attributes_are_chosen() -> None:
    document = {"schemas": [USER], "id": "1", "meta": {}, **ANN, ENTERPRISE: {"department": "Sales", "division": "West"}}

    def shown(wanted: str = "", excluded: str = "") -> dict[str, Any]:
        names = ([each for each in text.split(",") if each] for text in (wanted, excluded))
        return shown_attributes(USERS, *names).of(USERS, document)

    assert shown("ACTIVE") == {"schemas": [USER], "id": "1", "userName": "ann@example.com", "active": True}
    assert shown("name.givenName")["name"] == {"givenName": "Ann"}
    assert shown(f"{USER}:name.givenName")["name"] == {"givenName": "Ann"}
    assert shown("emails.value")["emails"] == [{"value": "ann@example.com"}]
    assert shown(f"{ENTERPRISE}:department")[ENTERPRISE] == {"department": "Sales"}
    assert shown(ENTERPRISE)[ENTERPRISE] == document[ENTERPRISE]
    assert "emails" not in shown(excluded="emails")
    assert shown(excluded="emails.type,id,userName")["emails"] == [{"value": "ann@example.com", "primary": True}]
    assert {"id", "userName"} <= shown(excluded="id,userName").keys()
    assert ENTERPRISE not in shown(excluded=ENTERPRISE)
    assert shown(excluded=f"{ENTERPRISE}:division")[ENTERPRISE] == {"department": "Sales"}
    with pytest.raises(InvalidValue):
        shown("active", "emails")


def test_the_dialect_follows_from_what_is_accepted() -> None:
    assert not any(dialect_of(text).standard for text in (None, "*/*", "application/json", "application/scim"))
    for text in ("application/scim+json", "text/html, Application/SCIM+JSON;q=0.9"):
        assert dialect_of(text).standard
