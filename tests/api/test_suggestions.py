"""Messages that suggest the name that was meant, and never one that the caller may not know."""

from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from tests.conftest import Client, field

MISTAKES = {
    "~/items/articls": "articles",
    "~/items/articles?fields=titel": "title",
    "~/items/articles?sort=-titel": "title",
    "~/items/articles?filter[titel]=x": "title",
    "~/items/articles?filter[titel.x]=x": "title",
    "~/items/articles?filter[title][contians]=x": "contains",
    "~/items/articles?aggregate[cuont]=*": "count",
    "~/items/articles?groupby=titel&aggregate[count]=*": "title",
    "~/items/articles?groupby=title&aggregate[count]=*&sort=-titel": "title",
    "~/items/articles?aggregate[sum]=titel": "title",
    "~/items/articles?deep[x][limt]=1": "limit",
    "~/permissions/explain?collection=articles&action=raed": "read",
}


@pytest.mark.parametrize("path", MISTAKES)
@ensureDeferred
async def test_a_similar_name_is_suggested(client: Client, path: str) -> None:
    await client.collection("articles", field("title"), field("body"))
    answer = await client.get(path)
    assert answer.status in (404, 422)
    assert f'did you mean "{MISTAKES[path]}"?' in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("path", "payload", "said"),
    [
        ("~/items/articles", {"titel": "x"}, 'did you mean "title"?'),
        ("~/fields/articles", {"field": "x", "type": "sting"}, 'did you mean "string"?'),
        ("~/fields/articles", {"field": "x", "type": "string", "datatype": "VARCHA", "length": 9}, 'did you mean "VARCHAR"?'),
        ("~/fields/articles", {"field": "x", "type": "string", "datatype": "TEXT", "requird": True}, 'did you mean "required"?'),
        ("~/collections", {"collection": "x", "fields": [], "hiden": True}, 'did you mean "hidden"?'),
        ("~/permissions", {"collection": "articles", "role": 2, "read": "ful"}, 'did you mean "full"?'),
        ("~/permissions", {"collection": "articles", "role": 2, "raed": "full"}, 'did you mean "read"?'),
        ("~/users", {"email": "x@example.com", "password": "x", "status": "activ"}, 'did you mean "active"?'),
        ("~/settings", {"key": "x", "valeu": "y"}, 'did you mean "value"?'),
        ("~/permissions/import", {"roles": [{"name": "A", "permisions": []}]}, 'did you mean "permissions"?'),
        ("~/fields/articles", {"field": "x", "type": "integer"}, "needs a datatype, for example INT."),
    ],
)
@ensureDeferred
async def test_payloads_are_told_what_was_meant(client: Client, path: str, payload: Any, said: str) -> None:
    await client.collection("articles", field("title"))
    answer = await client.post(path, payload)
    assert answer.status == 422
    assert said in answer.json["error"]["message"]


@ensureDeferred
async def test_json_that_is_sent_as_a_form_is_told_so(client: Client) -> None:
    await client.collection("articles", field("title"))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await client.post("~/items/articles", b'{"title": "x"}', headers=form)
    assert (answer.status, answer.code) == (422, 12)
    assert "Content-Type" in answer.json["error"]["message"]


@ensureDeferred
async def test_names_that_the_caller_may_not_read_are_not_suggested(client: Client) -> None:
    await client.collection("articles", field("title"), field("secret_code"))
    await client.collection("secrets", field("name"))
    role = (await client.post("~/roles", {"name": "Readers"})).data["id"]
    permission: dict[str, Any] = {"collection": "articles", "role": role, "read": "full", "read_field_blacklist": ["secret_code"]}
    await client.post("~/permissions", permission)
    user = {"email": "r@example.com", "password": "password", "role": role, "status": "active", "token": "reader-token"}
    await client.post("~/users", user)
    for path in (
        "~/items/secretz",
        "~/items/articles?fields=secret_cod",
        "~/items/articles?filter[secret_cod]=1",
        "~/items/articles?sort=secret_cod",
    ):
        answer = await client.get(path, token="reader-token")
        assert answer.status in (404, 422), path
        assert "did you mean" not in answer.json["error"]["message"], path
        assert "did you mean" in (await client.get(path)).json["error"]["message"], path


@ensureDeferred
async def test_misspelled_parameters_are_told_in_messages(client: Client) -> None:
    await client.collection("articles", field("title"))
    await client.post("~/items/articles", [{"title": str(number)} for number in range(3)])
    for limit in ("limt=1", "limt=1&limit=-1"):
        answer = await client.get(f"~/items/articles?{limit}")
        assert (answer.status, len(answer.data)) == (200, 3)
        assert [each["message"] for each in answer.json["messages"]] == ['There is no parameter "limt"; did you mean "limit"?']
    assert "messages" not in (await client.get("~/items/articles?limit=1&unrelated=1")).json
