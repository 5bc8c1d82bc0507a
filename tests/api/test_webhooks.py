"""Webhooks: what is sent to whom, signatures and secrets, deliveries, and receivers that fail."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from twisted.internet import reactor

from directus_tx.config import OutboxSettings, OutgoingSettings
from directus_tx.outgoing.client import Client as Outgoing
from directus_tx.webhooks.delivery import WebhookKind
from tests.api.outbox import FAST, all_ended, delivering, rows, until
from tests.conftest import TOKEN, Client, field
from tests.receiver import Receiver, receiving

ALLOWED = OutgoingSettings(allowed_networks=("127.0.0.0/8",), read_timeout=0.5, total_timeout=0.5)
STATUS = {"status_mapping": {"open": {"name": "a"}, "gone": {"name": "b", "soft_delete": True}}}


@asynccontextmanager
async def sending(
    client: Client, outgoing: OutgoingSettings = ALLOWED, settings: OutboxSettings = FAST
) -> AsyncIterator[Receiver]:
    """A receiver of webhooks, and a deliverer."""
    http = Outgoing(reactor, outgoing)
    try:
        async with receiving() as receiver, delivering(client, WebhookKind(http), settings=settings):
            yield receiver
            await http.close()
    finally:
        await http.close()


async def hook(
    client: Client,
    url: str,
    action: str = "item.create:after",
    collection: str = "things",
    *,
    token: str = TOKEN,
    **more: Any,
) -> Any:
    """Makes an active webhook and returns it."""
    payload = {"collection": collection, "directus_action": action, "url": url, "status": "active"} | more
    answer = await client.post("~/webhooks", payload, token=token)
    assert answer.status == 200, answer.body
    return answer.data


async def things(client: Client) -> None:
    await client.collection(
        "things",
        field("name"),
        field("status", "status", options=STATUS),
        field("price", "decimal", "DECIMAL", "10,2"),
        field("tags", "array", "TEXT", None),
        field("secret", "hash"),
        field("slug", "slug", options={"mirroredField": "name"}),
        field("changed_by", "user_updated", "INT", 11),
        field("changed_on", "datetime_updated", "DATETIME", None),
    )


@ensureDeferred
async def test_payloads_are_flat_and_have_values_as_the_api_shows_them(client: Client) -> None:
    await things(client)
    async with sending(client) as receiver:
        for action in ("create", "update", "delete"):
            await hook(client, f"{receiver.url}/{action}", f"item.{action}:after")
        made = (await client.post("~/items/things", {"name": "A b", "price": "1.5", "tags": ["x", "y"], "secret": "s"})).data
        await client.patch("~/items/things/1", {"name": "c", "secret": "t"})
        await client.patch("~/items/things/1", {"status": "gone"})
        await client.delete("~/items/things/1")
        await all_ended(client)
        (created,) = receiver.of("/create")
        assert created.method == "POST"
        assert created.headers["content-type"] == "application/json"
        assert created.json == {name: value for name, value in made.items() if name != "secret"}
        renamed, removed = (each.json for each in receiver.of("/update"))
        assert {name: renamed[name] for name in ("id", "name", "slug")} == {"id": 1, "name": "c", "slug": "c"}
        assert renamed["changed_by"] == 1
        assert set(renamed) == {"id", "name", "slug", "changed_by", "changed_on"}
        assert removed["status"] == "gone"
        (deleted,) = receiver.of("/delete")
        assert (deleted.json["name"], deleted.json["price"], deleted.json["tags"]) == ("c", 1.5, ["x", "y"])
        assert b"argon2" not in b"".join(each.body for each in receiver.requests)


@ensureDeferred
async def test_every_write_of_an_item_is_sent_and_none_that_fails(client: Client) -> None:
    await things(client)
    await client.collection("owners", field("name"), {"field": "things", "type": "o2m", "interface": "one-to-many"})
    await client.post("~/fields/things", field("owner", "m2o", "INT", 11))
    relation = {"collection_many": "things", "field_many": "owner", "collection_one": "owners", "field_one": "things"}
    assert (await client.post("~/relations", relation)).status == 200
    async with sending(client) as receiver:
        await hook(client, f"{receiver.url}/things")
        await hook(client, f"{receiver.url}/inactive", status="inactive")
        await hook(client, f"{receiver.url}/owners", collection="owners")
        await client.post("~/items/things", [{"name": "a"}, {"name": "b"}])
        await client.post("~/items/owners", {"name": "o", "things": [{"name": "c"}, {"name": "d"}]})
        assert (await client.post("~/items/things", [{"name": "no"}, {"unknown": 1}])).status == 422
        await all_ended(client)
        assert sorted(each.json["name"] for each in receiver.of("/things")) == ["a", "b", "c", "d"]
        assert [each.json["name"] for each in receiver.of("/owners")] == ["o"]
        assert not receiver.of("/inactive")


@ensureDeferred
async def test_the_method_is_that_of_the_webhook_and_get_has_no_body(client: Client) -> None:
    await things(client)
    async with sending(client) as receiver:
        for method in ("get", "put", "PATCH", "delete", None):
            await hook(client, f"{receiver.url}/{method}", http_action=method)
        await client.post("~/items/things", {"name": "a"})
        await all_ended(client)
        found = {each.path[1:]: (each.method, bool(each.body)) for each in receiver.requests}
        assert found == {
            "get": ("GET", False),
            "put": ("PUT", True),
            "PATCH": ("PATCH", True),
            "delete": ("DELETE", True),
            "None": ("POST", True),
        }


@ensureDeferred
async def test_credentials_of_users_are_not_sent(client: Client) -> None:
    async with sending(client) as receiver:
        for action in ("create", "update", "delete"):
            await hook(client, f"{receiver.url}/{action}", f"item.{action}:after", "directus_users")
        user = {"email": "u@example.com", "password": "p4ssword", "token": "t0ken", "role": 1, "status": "active"}
        key = (await client.post("~/users", user)).data["id"]
        await client.patch(f"~/users/{key}", {"token": "t0ken-2", "password": "p4ssword-2", "title": "x"})
        await client.delete(f"~/users/{key}")
        await all_ended(client)
        sent = b"".join(each.body for each in receiver.requests)
        assert [len(receiver.of(f"/{action}")) for action in ("create", "update", "delete")] == [1, 1, 1]
        assert b"u@example.com" in sent
        assert not [secret for secret in (b"p4ssword", b"t0ken", b"argon2", b"2fa_secret", b"reset_token") if secret in sent]


async def member(client: Client, name: str, **permission: Any) -> tuple[int, int]:
    """A user of a role that may make webhooks and has a permission on things. Returns the role and the user."""
    role = (await client.post("~/roles", {"name": name})).data["id"]
    granted = {"create": "full", "read": "full", "update": "full", "delete": "full"}
    permissions = [
        {"collection": "directus_webhooks", "role": role} | granted,
        {"collection": "things", "role": role} | permission,
    ]
    assert (await client.post("~/permissions", permissions)).status == 200
    user = {"email": f"{name}@example.com", "password": "password", "role": role, "status": "active", "token": name}
    return role, (await client.post("~/users", user)).data["id"]


@ensureDeferred
async def test_a_webhook_sends_what_its_owner_may_still_read(client: Client) -> None:
    await things(client)
    role, user = await member(client, "wanda", read="full")
    ((permission,),) = await rows(client, f"SELECT id FROM directus_permissions WHERE role = {role} AND collection = 'things'")
    async with sending(client) as receiver:
        await hook(client, f"{receiver.url}/hook", token="wanda")
        changes = [
            ({"read": "mine"}, f"~/permissions/{permission}", 0),
            ({"read": "full"}, f"~/permissions/{permission}", 1),
            ({"read_field_blacklist": ["price"]}, f"~/permissions/{permission}", 1),
            ({"read_field_blacklist": []}, f"~/permissions/{permission}", 2),
            ({"status": "suspended"}, f"~/users/{user}", 2),
            ({"status": "active"}, f"~/users/{user}", 3),
            ({"role": 1}, f"~/users/{user}", 4),
            ({"role": 2}, f"~/users/{user}", 4),
        ]
        for payload, path, sent in changes:
            answer = await client.patch(path, payload)
            assert answer.status == 200, answer.body
            await client.post("~/items/things", {"name": "a"})
            await all_ended(client)
            assert len(receiver.requests) == sent, payload
        # An administrator who changes where it sends becomes the owner.
        await client.patch("~/webhooks/1", {"url": f"{receiver.url}/other"})
        await client.post("~/items/things", {"name": "a"})
        await all_ended(client)
        assert len(receiver.of("/other")) == 1
        await client.delete(f"~/users/{user}")
        await client.post("~/items/things", {"name": "a"})
        await all_ended(client)
        assert len(receiver.of("/other")) == 2


@ensureDeferred
async def test_the_secret_is_shown_once_and_signs_the_requests(client: Client) -> None:
    await things(client)
    async with sending(client) as receiver:
        made = await hook(client, f"{receiver.url}/")
        both = await client.post("~/webhooks", [{"collection": "things"}, {"collection": "things"}])
        secrets = [made["secret"], *(each["secret"] for each in both.data)]
        assert len(set(secrets)) == 3
        assert all(each.startswith("whsec_") and len(base64.b64decode(each[6:])) == 32 for each in secrets)
        for path in ("~/webhooks", "~/webhooks/1", "~/webhooks/1/revisions", "~/revisions", "~/activity"):
            assert b"whsec_" not in (await client.get(path)).body, path
        dump = json.dumps(await rows(client, "SELECT row_to_json(k)::text FROM directus_webhook_keys AS k"))
        assert not [secret for secret in secrets if secret[6:] in dump]

        await client.post("~/items/things", {"name": "ünïcödé"})
        await all_ended(client)
        (request,) = receiver.requests
        assert Webhook(made["secret"]).verify(request.body, request.headers)["name"] == "ünïcödé"
        with pytest.raises(WebhookVerificationError):
            Webhook(secrets[1]).verify(request.body, request.headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(made["secret"]).verify(request.body + b" ", request.headers)

        newer = (await client.post("~/webhooks/1/secret", {})).data["secret"]
        await client.post("~/items/things", {"name": "b"})
        await all_ended(client)
        for secret in (made["secret"], newer):
            assert Webhook(secret).verify(receiver.requests[-1].body, receiver.requests[-1].headers)
        newest = (await client.post("~/webhooks/1/secret?overlap=0", {})).data["secret"]
        await client.post("~/items/things", {"name": "c"})
        await all_ended(client)
        assert Webhook(newest).verify(receiver.requests[-1].body, receiver.requests[-1].headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(newer).verify(receiver.requests[-1].body, receiver.requests[-1].headers)


@ensureDeferred
async def test_deliveries_are_listed_and_can_be_made_again(client: Client) -> None:
    await things(client)
    async with sending(client) as receiver:
        statuses = [500, 200]
        receiver.act = lambda request: statuses.pop(0) if statuses else 200
        await hook(client, f"{receiver.url}/")
        await client.post("~/items/things", {"name": "a"})
        await all_ended(client)
        (found,) = (await client.get("~/webhooks/1/deliveries")).data
        assert [(each["outcome"], each["status"], each["answer"]) for each in found["attempts"]] == [
            ("retry", 500, "received"),
            ("delivered", 200, "received"),
        ]
        assert found["attempts"][0]["error"] == "The answer was 500."
        expected = {"event": "item.create:after", "collection": "things", "item": "1", "state": "delivered", "error": None}
        assert {name: found[name] for name in expected} == expected
        assert (await client.get(f"~/webhooks/1/deliveries/{found['id']}")).data == found
        again = await client.post(f"~/webhooks/1/deliveries/{found['id']}/replay", {})
        assert (again.status, again.data["state"]) == (200, "pending")
        await all_ended(client)
        ids = [each.headers["webhook-id"] for each in receiver.requests]
        assert ids == [found["message_id"]] * 3
        assert len({each.body for each in receiver.requests}) == 1
        for text, code in (("limit=x", 4), ("offset=-1", 4), ("state=lost", 4)):
            answer = await client.get(f"~/webhooks/1/deliveries?{text}")
            assert (answer.status, answer.code) == (422, code)
        assert (await client.get("~/webhooks/1/deliveries?limit=1&offset=1")).data == []
        assert len((await client.get("~/webhooks/1/deliveries?state=delivered")).data) == 1


@ensureDeferred
async def test_deliveries_and_secrets_are_for_those_who_may_see_and_change_the_webhook(client: Client) -> None:
    await things(client)
    async with sending(client) as receiver:
        await hook(client, f"{receiver.url}/")
        await hook(client, f"{receiver.url}/other")
        await client.post("~/items/things", {"name": "a"})
        await all_ended(client)
        paths = {each["subject"]: each["id"] for each in await _messages(client)}
        first = paths["webhook:1"]
        role = (await client.post("~/roles", {"name": "R"})).data["id"]
        user = {"email": "r@example.com", "password": "password", "role": role, "status": "active", "token": "reader"}
        await client.post("~/users", user)
        for token, code in ((None, 203), ("reader", 203)):
            for path in ("~/webhooks/1/deliveries", f"~/webhooks/1/deliveries/{first}"):
                answer = await client.get(path, token=token)
                assert (answer.status, answer.code) == (404, code), path
            for path in ("~/webhooks/1/secret", f"~/webhooks/1/deliveries/{first}/replay"):
                assert (await client.post(path, {}, token=token)).status == 404
        await client.post("~/permissions", {"collection": "directus_webhooks", "role": role, "read": "full"})
        await client.post("~/permissions", {"collection": "things", "role": role, "read": "full"})
        assert len((await client.get("~/webhooks/1/deliveries", token="reader")).data) == 1
        for path in ("~/webhooks/1/secret", f"~/webhooks/1/deliveries/{first}/replay"):
            answer = await client.post(path, {}, token="reader")
            assert (answer.status, answer.code) == (403, 302)
        # To update a webhook takes more than to update webhooks: to read everything that it sends.
        ((granted,),) = await rows(
            client, f"SELECT id FROM directus_permissions WHERE role = {role} AND collection = 'directus_webhooks'"
        )
        ((things_,),) = await rows(client, f"SELECT id FROM directus_permissions WHERE role = {role} AND collection = 'things'")
        await client.patch(f"~/permissions/{granted}", {"update": "full"})
        for hidden, status in ((["price"], 403), ([], 200)):
            assert (await client.patch(f"~/permissions/{things_}", {"read_field_blacklist": hidden})).status == 200
            assert (await client.patch("~/webhooks/1", {"status": "active"}, token="reader")).status == status
            for path in ("~/webhooks/1/secret", f"~/webhooks/1/deliveries/{first}/replay"):
                assert (await client.post(path, {}, token="reader")).status == status, path
            await all_ended(client)
        # The deliveries of other webhooks are not those of this one.
        for path in (f"~/webhooks/2/deliveries/{first}", "~/webhooks/1/deliveries/99", "~/webhooks/1/deliveries/x"):
            assert (await client.get(path)).status == 404
        for path in ("~/webhooks/9/deliveries", "~/webhooks/x/deliveries", "~/webhooks/1,2/deliveries"):
            assert (await client.get(path)).status == 404


async def _messages(client: Client) -> list[dict[str, Any]]:
    return [{"subject": subject, "id": id} for subject, id in await rows(client, "SELECT subject, id FROM directus_outbox")]


@ensureDeferred
async def test_a_receiver_that_fails_for_a_while_gets_everything_in_the_end(client: Client) -> None:
    await things(client)
    async with sending(client, settings=evolve(FAST, first_pause=0.01, max_pause=0.05)) as receiver:
        left = 10

        def act(request: Any) -> int | None:
            nonlocal left
            left -= 1
            if left < 0:
                return 200
            if left % 3 == 0:
                request.transport.abortConnection()
                return None
            return None if left == 4 else 500

        receiver.act = act
        await hook(client, f"{receiver.url}/")
        for name in "abc":
            await client.post("~/items/things", {"name": name})
        await all_ended(client)
        assert {state for state, *_ in await rows(client)} == {"delivered"}
        assert {each.json["name"] for each in receiver.requests[-3:]} <= set("abc")


@pytest.mark.parametrize(
    ("status", "headers", "outcome", "error"),
    [
        (410, {}, "dead", "The answer was 410."),
        (302, {"Location": "/elsewhere"}, "retry", "The answer was 302."),
        (404, {}, "retry", "The answer was 404."),
        (429, {"Retry-After": "600"}, "retry", "The answer was 429."),
        (503, {"Retry-After": "Fri, 27 Nov 2099 06:00:00 GMT"}, "retry", "The answer was 503."),
        (503, {"Retry-After": "soon"}, "retry", "The answer was 503."),
    ],
)
@ensureDeferred
async def test_the_answer_of_the_receiver_decides(
    client: Client, status: int, headers: dict[str, str], outcome: str, error: str
) -> None:
    await things(client)
    async with sending(client, settings=OutboxSettings()) as receiver:

        def act(request: Any) -> int:
            for name, value in headers.items():
                request.setHeader(name, value)
            return status

        receiver.act = act
        await hook(client, f"{receiver.url}/")
        await client.post("~/items/things", {"name": "a"})

        async def tried() -> bool:
            return bool(await rows(client, "SELECT FROM directus_outbox_attempts"))

        await until(tried)
        assert await rows(client, "SELECT outcome, status, error FROM directus_outbox_attempts") == [(outcome, status, error)]
        ((wait,),) = await rows(client, "SELECT extract(epoch FROM next_attempt - now())::float FROM directus_outbox")
        if outcome == "dead":
            assert wait is None
        elif "Retry-After" in headers and headers["Retry-After"] != "soon":
            assert wait > 500
        else:
            assert wait < 10
        assert [each.path for each in receiver.requests] == ["/"]


@ensureDeferred
async def test_addresses_that_are_not_allowed_are_not_connected_to(client: Client) -> None:
    await things(client)
    async with sending(client, outgoing=evolve(ALLOWED, allowed_networks=())) as receiver:
        await hook(client, f"{receiver.url}/")
        await client.post("~/items/things", {"name": "a"})
        await all_ended(client)
        ((state, attempts, error),) = await rows(client)
        assert (state, attempts) == ("dead", 1)
        assert "outgoing.allowed_networks" in error
        assert not receiver.requests


@ensureDeferred
async def test_a_webhook_that_was_switched_off_or_deleted_sends_nothing_more(client: Client) -> None:
    await things(client)
    async with receiving() as receiver:
        await hook(client, f"{receiver.url}/off")
        await hook(client, f"{receiver.url}/deleted")
        await client.post("~/items/things", {"name": "a"})
        await client.patch("~/webhooks/1", {"status": "inactive"})
        await client.delete("~/webhooks/2")
        http = Outgoing(reactor, ALLOWED)
        async with delivering(client, WebhookKind(http)):
            await all_ended(client)
        assert not receiver.requests
        errors = ["The webhook is not active any more.", "The webhook was deleted."]
        assert [error for *_, error in await rows(client)] == errors


@pytest.mark.parametrize("url", ["ftp://example.com/", "example.com", "http://user:pass@example.com/", "https://", "http://a:0/"])
@ensureDeferred
async def test_urls_that_nothing_can_be_sent_to_are_refused(client: Client, url: str) -> None:
    answer = await client.post("~/webhooks", {"collection": "tags", "url": url})
    assert (answer.status, answer.code) == (422, 4)
    assert '"url"' in answer.json["error"]["message"]
    await client.post("~/webhooks", {"collection": "tags"})
    assert (await client.patch("~/webhooks/1", {"url": url})).status == 422


@ensureDeferred
async def test_many_webhooks_for_an_event_are_one_row_until_they_are_due(client: Client) -> None:
    await things(client)
    async with receiving() as receiver:
        for number in range(5):
            await hook(client, f"{receiver.url}/{number}", http_action="get" if number == 4 else "post")
        await client.post("~/items/things", [{"name": f"'\"\\ {{}} ü {n}"} for n in range(30)])
        assert await rows(client, "SELECT kind, count(*) FROM directus_outbox GROUP BY kind") == [("copies", 30)]
        http = Outgoing(reactor, ALLOWED)
        async with delivering(client, WebhookKind(http), WebhookKind(http)):
            await all_ended(client)
        await http.close()
        assert await rows(client, "SELECT kind, count(*) FROM directus_outbox GROUP BY kind") == [("webhook", 150)]
        for number in range(4):
            names = [each.json["name"] for each in receiver.of(f"/{number}")]
            assert sorted(names) == sorted(f"'\"\\ {{}} ü {n}" for n in range(30))
        assert [each.body for each in receiver.of("/4")] == [b""] * 30
        assert len({each.headers["webhook-id"] for each in receiver.requests}) == 150
        assert len((await client.get("~/webhooks/1/deliveries")).data) == 30
