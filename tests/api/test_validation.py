"""The patterns of fields and of passwords, through the API: what is refused, in which words, and how much a request may match."""

from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred

from directus_tx.config import LimitSettings, Settings
from tests.conftest import Client, field


@pytest.fixture
def limits(request: pytest.FixtureRequest) -> LimitSettings:
    """The default limits, but for those that a test is parametrized with."""
    return LimitSettings(**getattr(request, "param", {}))


@pytest.fixture
def settings(settings: Settings, limits: LimitSettings) -> Settings:
    """The settings with those limits."""
    return evolve(settings, limits=limits)


async def refusal(client: Client, method: str, path: str, body: Any, **options: Any) -> tuple[int, int, str]:
    answer = await client.call(method, path, body, **options)
    assert "error" in answer.json, answer.body
    return answer.status, answer.code, answer.json["error"]["message"]


@ensureDeferred
async def test_patterns_in_the_forms_of_php_and_javascript_are_kept_and_matched(client: Client) -> None:
    patterns = {
        "slashes": ("/^[a-z]{2}$/i", "AB", "A1"),
        "hashes": ("#^[a-z]{2}$#i", "AB", "A1"),
        "tildes": (r"~^\w{2}$~u", "éü", "é-"),
        "braces": ("{^[a-z]{2}$}", "ab", "AB"),
        "brackets": ("[^[a-z]{2}$]D", "ab", "ab\n"),
        "parentheses": ("(^(a|b){2}$)", "ab", "ac"),
        "javascript": (r"/^caf\u00e9$/gi", "CAFÉ", "cafe"),
        "possessive": ("/^a++b$/", "aab", "a"),
        "bare": ("^[a-z]{2}$", "ab", "abc"),
        "class": ("[a-z]", "1b", "1"),
    }
    fields = [field(name, validation=pattern) for name, (pattern, _, _) in patterns.items()]
    await client.collection("things", *fields)
    for name, (pattern, good, bad) in patterns.items():
        assert (await client.get(f"~/fields/things/{name}")).data["validation"] == pattern
        assert (await client.post("~/items/things", {name: good})).data[name] == good
        wanted = (422, 4, f'"{name}" does not match its validation.')
        assert await refusal(client, "POST", "~/items/things", {name: bad}) == wanted
        assert await refusal(client, "PATCH", "~/items/things/1", {name: bad}) == wanted


@ensureDeferred
@pytest.mark.parametrize("pattern", ["[", "/a(/", "#a#k", "/(?C1)/", r"/\p{Elvish}/u", "((a{1000}){1000}){1000}", "   "])
async def test_a_broken_pattern_is_kept_and_refuses_values_by_name(client: Client, pattern: str) -> None:
    await client.collection("things", field("name"))
    made = await client.post("~/fields/things", field("broken", validation=pattern))
    assert (made.status, made.data["validation"]) == (200, pattern)
    status, code, message = await refusal(client, "POST", "~/items/things", [{"name": "a"}, {"broken": "x"}])
    assert (status, code) == (422, 12)
    assert message.startswith('"broken" cannot be matched: its validation is not a valid pattern: ')
    assert (await client.get("~/items/things")).data == []
    assert (await client.post("~/items/things", [{"name": "a"}, {"broken": None}, {"broken": ""}])).status == 200


@ensureDeferred
async def test_a_value_that_takes_too_many_steps_is_refused_whatever_the_machine(client: Client) -> None:
    await client.collection("things", field("name", "string", "TEXT", None, validation="/^(a+)+$/"))
    for _ in range(3):
        status, code, message = await refusal(client, "POST", "~/items/things", {"name": "a" * 5000 + "!"})
        assert (status, code) == (422, 4)
        assert message == '"name" cannot be matched: its validation exceeds a limit: more than 1000000 steps.'
    assert (await client.post("~/items/things", {"name": "a" * 5000})).status == 200


@ensureDeferred
@pytest.mark.parametrize("limits", [{"max_matching_time": 1e-9}], indirect=True)
async def test_all_values_of_a_request_share_its_time(client: Client) -> None:
    await client.collection("things", field("name", validation="/^a/"), field("other", validation="/^a/"))
    assert (await client.post("~/items/things", {"name": "a"})).status == 200
    for body in ([{"name": "a"}, {"name": "a"}], {"name": "a", "other": "a"}):
        status, code, message = await refusal(client, "POST", "~/items/things", body)
        assert (status, code) == (422, 4)
        assert "limits.max_matching_time" in message
    assert len((await client.get("~/items/things")).data) == 1


@ensureDeferred
@pytest.mark.parametrize("limits", [{"max_matching_time": 0.2}], indirect=True)
async def test_a_request_of_many_values_that_are_long_to_match_is_refused(client: Client) -> None:
    """Each takes about a millisecond: none too much, all together seconds."""
    await client.collection("things", field("name", validation=r"/^(?:(?:a+)+b|a+)$/"))
    text = "a" * 15
    assert (await client.post("~/items/things", {"name": text})).status == 200
    status, code, message = await refusal(client, "POST", "~/items/things", [{"name": text}] * 10_000)
    assert (status, code) == (422, 4)
    assert "limits.max_matching_time" in message
    assert len((await client.get("~/items/things")).data) == 1


@ensureDeferred
@pytest.mark.parametrize("limits", [{"max_matched_length": 10}], indirect=True)
async def test_a_value_that_is_too_long_to_match_names_the_setting(client: Client) -> None:
    await client.collection("things", field("name", validation="/a/"), field("free"))
    assert (await client.post("~/items/things", {"name": "a" * 10, "free": "a" * 11})).status == 200
    status, code, message = await refusal(client, "POST", "~/items/things", {"name": "a" * 11})
    assert (status, code) == (422, 12)
    assert message.startswith('"name" is too long for its validation')
    assert "limits.max_matched_length" in message


@ensureDeferred
async def test_values_that_are_no_text_are_matched_as_they_were_sent_or_are_stored(client: Client) -> None:
    fields = [
        field("number", "integer", "INT", 11, validation=r"/^\d{2}$/"),
        field("price", "decimal", "DECIMAL", "10,2", validation=r"/^\d+(\.\d)?$/"),
        field("flag", "boolean", "TINYINT", 1, validation="/^1$/"),
        field("tags", "array", "VARCHAR", 50, validation="/^a,b/"),
        field("object", "json", "TEXT", None, validation='/^{"a":[0-9]+}$/'),
        field("day", "date", "DATE", None, validation="/^20/"),
    ]
    await client.collection("things", *fields)
    for name, good, bad in (
        ("number", 12, 123),
        ("number", "12", "123"),
        ("number", 12.0, 1.0),
        ("price", 1.5, 1.25),
        ("flag", True, False),
        ("tags", ["a", "b", "c"], ["b"]),
        ("object", {"a": 1}, {"b": 1}),
        ("day", "2020-01-01", "1999-01-01"),
    ):
        made = await client.post("~/items/things", {name: good})
        assert made.status == 200, made.body
        status, code, message = await refusal(client, "POST", "~/items/things", {name: bad})
        assert (status, code, message) == (422, 4, f'"{name}" does not match its validation.')


@ensureDeferred
async def test_an_address_that_is_none_is_called_so(client: Client) -> None:
    await client.collection("people", field("mail", validation="$email"))
    assert (await client.post("~/items/people", {"mail": "ada@example.com"})).status == 200
    wanted = (422, 4, '"mail" is not an e-mail address.')
    assert await refusal(client, "POST", "~/items/people", {"mail": "ada"}) == wanted
    wanted = (422, 4, '"email" is not an e-mail address.')
    assert (
        await refusal(client, "POST", "~/users", {"email": "ada", "password": "secret", "role": 1, "status": "active"}) == wanted
    )


@ensureDeferred
async def test_an_update_is_refused_where_a_stored_value_no_longer_matches(client: Client) -> None:
    await client.collection("things", field("name"), field("code"), field("secret", "hash"))
    await client.post("~/items/things", [{"name": "a", "code": "x1", "secret": "s"}, {"name": "b"}])
    await client.patch("~/fields/things/code", {"validation": "/^[a-z]+$/"})
    await client.patch("~/fields/things/secret", {"validation": "/^s$/"})
    status, code, message = await refusal(client, "PATCH", "~/items/things/1", {"name": "c"})
    assert (status, code, message) == (422, 4, 'The stored value of "code" does not match its validation.')
    assert (await client.patch("~/items/things/1,2", {"name": "c"})).status == 422
    assert (await client.patch("~/items/things/2", {"name": "c"})).status == 200
    assert (await client.patch("~/items/things/1", {"name": "c", "code": "x"})).status == 200
    assert (await client.patch("~/items/things/1", {"name": "d"})).status == 200


@ensureDeferred
async def test_what_is_hidden_decides_nothing_about_an_update(client: Client) -> None:
    await client.collection("things", field("name"), field("code"))
    await client.post("~/items/things", [{"name": "a", "code": "1"}, {"name": "a", "code": "a"}])
    await client.patch("~/fields/things/code", {"validation": "/^[a-z]+$/"})
    role = (await client.post("~/roles", {"name": "Writers"})).data["id"]
    user = {"email": "w@example.com", "password": "password", "role": role, "status": "active", "token": "writer"}
    await client.post("~/users", user)
    levels = {"read": "full", "update": "full", "read_field_blacklist": ["code"]}
    await client.post("~/permissions", {"collection": "things", "role": role, **levels})
    for key in (1, 2):
        assert (await client.patch(f"~/items/things/{key}", {"name": "b"}, token="writer")).status == 200
    assert (await client.patch("~/items/things/1", {"name": "c"})).status == 422


@ensureDeferred
@pytest.mark.parametrize(
    "policy", ["/^(?=.*[0-9])(?=.*[A-Z]).{6,}$/", "#^(?=.*[0-9])(?=.*[A-Z]).{6,}$#", "^(?=.*[0-9])(?=.*[A-Z]).{6,}$"]
)
async def test_passwords_match_the_policy(client: Client, policy: str) -> None:
    await password_policy(client, policy)
    user = {"email": "u@example.com", "status": "active"}
    for bad in ("Abcdefgh", "Abc1", 12345678, "abcdefg1"):
        wanted = (422, 4, '"password" does not match the setting password_policy.')
        assert await refusal(client, "POST", "~/users", user | {"password": bad}) == wanted
        assert await refusal(client, "PATCH", "~/users/1", {"password": bad}) == wanted
    assert (await client.post("~/users", user | {"password": "Abcdef1"})).status == 200
    assert (await client.post("~/users", user | {"email": "v@example.com"})).status == 200


@ensureDeferred
@pytest.mark.parametrize(
    ("policy", "password", "code", "about"),
    [
        ("/^(/", "a", 12, "the setting password_policy is not a valid pattern: missing closing parenthesis"),
        ("#a#k", "a", 12, 'the setting password_policy is not a valid pattern: unknown flag "k"'),
        ("/^(a+)+$/", "a" * 40 + "!", 4, "the setting password_policy exceeds a limit: more than 1000000 steps"),
    ],
)
async def test_a_policy_that_cannot_be_matched_refuses_passwords(
    client: Client, policy: str, password: str, code: int, about: str
) -> None:
    await password_policy(client, policy)
    status, found, message = await refusal(client, "PATCH", "~/users/1", {"password": password})
    assert (status, found) == (422, code)
    assert message.startswith(f'"password" cannot be matched: {about}')
    assert (await client.patch("~/users/1", {"first_name": "A"})).status == 200


async def password_policy(client: Client, policy: str) -> None:
    found = (await client.get("~/settings?filter[key]=password_policy&single=1")).data
    assert (await client.patch(f"~/settings/{found['id']}", {"value": policy})).status == 200
