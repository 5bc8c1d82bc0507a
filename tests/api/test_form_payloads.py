"""Payloads in forms, where all values are texts, have the effect of the same payloads in JSON."""

import uuid
from typing import Any
from urllib.parse import urlencode

import pytest
import pytest_twisted

from tests.api.test_assets import put_picture
from tests.conftest import Client, Reply, field

TYPES = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")


def encoded(kind: str, payload: dict[str, Any]) -> tuple[Any, str]:
    """A payload as a body of a media type, and its header Content-Type. Lists have brackets in forms."""
    if kind == TYPES[0]:
        return payload, kind
    pairs: list[tuple[str, str]] = []
    for name, value in payload.items():
        many = isinstance(value, list)
        for each in value if many else [value]:
            pairs.append((f"{name}[]" if many else name, str(each).lower() if isinstance(each, bool) else str(each)))
    if kind == TYPES[1]:
        return urlencode(pairs).encode(), kind
    boundary = uuid.uuid4().hex
    parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in pairs]
    return "".join([*parts, f"--{boundary}--\r\n"]).encode(), f"{kind}; boundary={boundary}"


async def send(client: Client, method: str, path: str, kind: str, payload: dict[str, Any]) -> Reply:
    body, content_type = encoded(kind, payload)
    return await client.call(method, path, body, headers={"Content-Type": content_type})


@pytest.mark.parametrize("kind", TYPES)
@pytest_twisted.ensureDeferred
async def test_a_named_token(client: Client, kind: str) -> None:
    await client.collection("articles", field("title"))
    limited = {"name": "night", "lifetime": 30, "read_only": True, "collections": ["articles", "directus_files"]}
    answer = await send(client, "POST", "~/users/me/tokens", kind, limited)
    assert answer.status == 200, answer.body
    assert (answer.data["read_only"], answer.data["collections"]) == (True, ["articles", "directus_files"])
    assert answer.data["expires_on"] is not None
    answer = await send(client, "POST", "~/users/me/tokens", kind, {"name": "day", "read_only": False})
    assert (answer.status, answer.data["read_only"], answer.data["collections"]) == (200, False, None)
    for wrong, said in (
        ({"name": "x", "lifetime": "soon"}, '"lifetime" must be a number of days from 1 to 36500.'),
        ({"name": "x", "lifetime": -1}, '"lifetime" must be a number of days from 1 to 36500.'),
        ({"name": "x", "lifetime": 1.5}, '"lifetime" must be a number of days from 1 to 36500.'),
        ({"name": "x", "read_only": "perhaps"}, '"read_only" must be true or false.'),
    ):
        answer = await send(client, "POST", "~/users/me/tokens", kind, wrong)
        assert (answer.status, answer.json["error"]) == (422, {"code": 4, "message": said}), wrong


@pytest.mark.parametrize("kind", TYPES)
@pytest_twisted.ensureDeferred
async def test_an_address_that_shares_a_file(client: Client, kind: str) -> None:
    file = await put_picture(client)
    answer = await send(
        client, "POST", f"~/files/{file['id']}/share", kind, {"seconds": 60, "w": 64, "h": 64, "f": "crop", "q": 80}
    )
    assert answer.status == 200, answer.body
    assert (await client.get(answer.data["relative_url"], token=None)).status == 200
    answer = await send(client, "POST", f"~/files/{file['id']}/share", kind, {"seconds": "60s"})
    assert (answer.status, answer.json["error"]["code"]) == (422, 4)


@pytest.mark.parametrize("kind", TYPES)
@pytest_twisted.ensureDeferred
async def test_fields_and_collections(client: Client, kind: str) -> None:
    await client.collection("articles", field("title"))
    new = field("code", length=20, unique=True, required=False)
    answer = await send(client, "POST", "~/fields/articles", kind, new)
    assert answer.status == 200, answer.body
    assert (answer.data["unique"], answer.data["required"], answer.data["length"]) == (True, False, "20")
    answer = await send(client, "PATCH", "~/fields/articles/code", kind, {"unique": False, "index": True})
    assert (answer.status, answer.data["unique"], answer.data["index"]) == (200, False, {"state": "ready"}), answer.body
    answer = await send(client, "PATCH", "~/fields/articles/code", kind, {"index": False})
    assert (answer.status, "index" in answer.data) == (200, False)
    answer = await send(client, "PATCH", "~/fields/articles/code", kind, {"index": "often"})
    assert (answer.status, answer.json["error"]["code"]) == (422, 4)
    answer = await send(client, "PATCH", "~/collections/articles", kind, {"hidden": True, "search_index": False})
    assert (answer.status, answer.data["hidden"], answer.data["search_index"]) == (200, True, False), answer.body


@pytest.mark.parametrize("kind", TYPES)
@pytest_twisted.ensureDeferred
async def test_adopting_tables(client: Client, kind: str) -> None:
    for dry_run in (True, False):
        answer = await send(client, "POST", "~/schema/adopt", kind, {"dry_run": dry_run})
        assert (answer.status, answer.data["collections"]) == (200, []), answer.body
    answer = await send(client, "POST", "~/schema/adopt", kind, {"dry_run": "no"})
    assert (answer.status, answer.json["error"]["message"]) == (422, '"dry_run" is true or false.')


@pytest.mark.parametrize("kind", TYPES)
@pytest_twisted.ensureDeferred
async def test_a_project(client: Client, kind: str) -> None:
    """The attributes of a project are checked before the super admin token."""
    payload = {"project": "other", "user_email": "a@example.com", "user_password": "password", "super_admin_token": "wrong"}
    for more, status, code in (
        ({"private": True, "existing": False, "force": False}, 401, 3),
        ({"private": "perhaps"}, 422, 4),
    ):
        answer = await send(client, "POST", "/server/projects", kind, {**payload, **more})
        assert (answer.status, answer.json["error"]["code"]) == (status, code), answer.body
