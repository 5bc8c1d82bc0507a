"""Webhooks that are asked before items are written: refusals, receivers that do not answer, and limits."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from standardwebhooks.webhooks import Webhook
from twisted.internet import defer, reactor
from twisted.internet.task import Clock

from directus_tx.config import OutgoingSettings
from directus_tx.outgoing.client import Client as Outgoing
from directus_tx.webhooks.before import BeforeWebhooks
from tests.api.test_webhooks import hook, things
from tests.conftest import Client, field
from tests.receiver import Receiver, receiving

ALLOWED = OutgoingSettings(allowed_networks=("127.0.0.0/8",))


@asynccontextmanager
async def asking(client: Client, timeout: float = 2.0, clock: Any = reactor) -> AsyncIterator[Receiver]:
    """A receiver that is asked."""
    http = Outgoing(reactor, ALLOWED)
    services = client.app.services
    gate = BeforeWebhooks(clock, http, timeout)
    client.app.services = evolve(services, items=evolve(services.items, gates=(gate,)))
    try:
        async with receiving() as receiver:
            yield receiver
            await http.close()
    finally:
        client.app.services = services
        await http.close()


def refusing(status: int = 403, body: bytes = b"") -> Any:
    def act(request: Any) -> None:
        request.setResponseCode(status)
        request.write(body)
        request.finish()

    return act


@ensureDeferred
async def test_a_receiver_is_asked_with_what_was_sent_and_signed(client: Client) -> None:
    await things(client)
    async with asking(client) as receiver:
        made = {
            action: await hook(client, f"{receiver.url}/{action}", f"item.{action}:before")
            for action in ("create", "update", "delete")
        }
        assert (await client.post("~/items/things", {"name": "a", "secret": "s3cret"})).status == 200
        assert (await client.patch("~/items/things/1", {"name": "b"})).status == 200
        assert (await client.delete("~/items/things/1")).status == 204
        bodies = {each.path[1:]: each.json for each in receiver.requests}
        assert bodies == {"create": {"name": "a"}, "update": {"id": 1, "name": "b"}, "delete": {"id": 1}}
        for each in receiver.requests:
            assert Webhook(made[each.path[1:]]["secret"]).verify(each.body, each.headers)


@ensureDeferred
async def test_a_refusal_says_why_and_nothing_is_written(client: Client) -> None:
    await things(client)
    await client.collection("owners", field("name"), {"field": "things", "type": "o2m", "interface": "one-to-many"})
    await client.post("~/fields/things", field("owner", "m2o", "INT", 11))
    relation = {"collection_many": "things", "field_many": "owner", "collection_one": "owners", "field_one": "things"}
    assert (await client.post("~/relations", relation)).status == 200
    assert (await client.post("~/items/things", {"name": "there"})).status == 200
    async with asking(client) as receiver:
        for action in ("create", "update", "delete"):
            await hook(client, f"{receiver.url}/{action}", f"item.{action}:before")

        def act(request: Any) -> int | None:
            if b"good" in request.content.getvalue():
                return 200
            refusing(422, b'{"message": "not\\n  today"}')(request)
            return None

        receiver.act = act
        before = (await client.get("~/items/things?meta=total_count")).json
        activity = (await client.get("~/activity?meta=total_count&limit=1")).json["meta"]
        for method, path, body in (
            ("POST", "~/items/things", {"name": "bad"}),
            ("POST", "~/items/things", [{"name": "good"}, {"name": "bad"}, {"name": "good"}]),
            ("POST", "~/items/owners", {"name": "o", "things": [{"name": "good"}, {"name": "bad"}]}),
            ("PATCH", "~/items/things/1", {"name": "bad"}),
            ("DELETE", "~/items/things/1", ...),
        ):
            answer = await client.call(method, path, body)
            assert (answer.status, answer.code) == (422, 4), path
            assert answer.json["error"]["message"].endswith("refuses the change: not today")
        assert (await client.get("~/items/things?meta=total_count")).json == before
        assert (await client.get("~/items/owners")).data == []
        assert (await client.get("~/activity?meta=total_count&limit=1")).json["meta"] == activity
        assert (await client.post("~/items/things", [{"name": "good"}] * 30)).status == 200


@ensureDeferred
async def test_a_receiver_does_not_get_related_items_and_their_secrets(client: Client) -> None:
    """It is asked about them by the webhooks of their collections, without secrets."""
    await things(client)
    await client.collection("owners", field("name"), {"field": "things", "type": "o2m", "interface": "one-to-many"})
    for name in ("owner", "editor"):
        await client.post("~/fields/things", field(name, "m2o", "INT", 11))
    relation = {"collection_many": "things", "field_many": "owner", "collection_one": "owners", "field_one": "things"}
    assert (await client.post("~/relations", relation)).status == 200
    relation = {"collection_many": "things", "field_many": "editor", "collection_one": "directus_users"}
    assert (await client.post("~/relations", relation)).status == 200
    user = {"email": "e@example.com", "password": "pass-word", "status": "active", "token": "to-ken"}
    async with asking(client) as receiver:
        for collection in ("things", "owners", "directus_users"):
            await hook(client, f"{receiver.url}/{collection}", "item.create:before", collection)
            await hook(client, f"{receiver.url}/{collection}", "item.update:before", collection)
        answer = await client.post("~/items/things", {"name": "a", "editor": user, "owner": {"name": "o"}})
        assert answer.status == 200, answer.body
        assert (await client.patch("~/items/things/1", {"owner": {"id": 1, "name": "p"}, "price": "2"})).status == 200
        made = {"name": "q", "things": [{"name": "b", "secret": "s3cret"}, {"id": 1, "name": "c"}]}
        assert (await client.post("~/items/owners", made)).status == 200
        bodies = [(each.path[1:], each.json) for each in receiver.requests]
        assert ("things", {"name": "a"}) in bodies
        assert ("directus_users", {"email": "e@example.com", "status": "active"}) in bodies
        assert ("owners", {"name": "o"}) in bodies
        assert ("things", {"id": 1, "owner": 1, "price": "2"}) in bodies
        assert ("owners", {"id": 1, "name": "p"}) in bodies
        assert ("owners", {"name": "q"}) in bodies
        # The related items know their owner.
        assert ("things", {"name": "b", "owner": 2}) in bodies
        assert ("things", {"id": 1, "name": "c", "owner": 2}) in bodies
        assert len({each.headers["webhook-id"] for each in receiver.requests}) == len(bodies) == 8


@ensureDeferred
async def test_a_receiver_is_asked_again_after_a_batch_that_took_all_the_time(client: Client) -> None:
    await things(client)
    clock = Clock()
    async with asking(client, clock=clock) as receiver:
        waiting: list[Any] = []

        def act(request: Any) -> None:
            # The first ten questions take 1.5 of 2 seconds. The next ones are not answered in the rest.
            waiting.append(request)
            if len(waiting) == 10:
                clock.advance(1.5)
                for each in waiting:
                    each.finish()

        receiver.act = act
        await hook(client, f"{receiver.url}/", "item.create:before")
        assert (await client.post("~/items/things", [{"name": str(n)} for n in range(20)])).status == 200
        assert len(receiver.requests) == 20
        receiver.act = refusing()
        assert (await client.post("~/items/things", {"name": "a"})).status == 422


@pytest.mark.parametrize("status", [200, 204, 302, 408, 429, 500, 503])
@ensureDeferred
async def test_other_answers_do_not_refuse(client: Client, status: int) -> None:
    await things(client)
    async with asking(client) as receiver:
        receiver.act = refusing(status, b"" if status in (204, 302) else b'{"message": "no"}')
        await hook(client, f"{receiver.url}/", "item.create:before")
        assert (await client.post("~/items/things", {"name": "a"})).status == 200
        assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "it answered 403."),
        (b"<h1>", "it answered 403."),
        (b'{"error": {"message": "x"}}', "x"),
        (b'{"error": "y"}', "y"),
        (b"[]", "it answered 403."),
        (b'{"message": 1}', "it answered 403."),
        (b'{"message": "' + b"z" * 999 + b'"}', "z" * 200),
    ],
)
@ensureDeferred
async def test_the_reason_is_what_the_receiver_says(client: Client, body: bytes, reason: str) -> None:
    await things(client)
    async with asking(client) as receiver:
        receiver.act = refusing(403, body)
        await hook(client, f"{receiver.url}/", "item.create:before")
        answer = await client.post("~/items/things", {"name": "a"})
        assert answer.json["error"]["message"] == f"Webhook 1 refuses the change: {reason}"


@ensureDeferred
async def test_a_receiver_that_hangs_is_asked_three_times_and_then_left_alone(client: Client) -> None:
    await things(client)
    async with asking(client, timeout=0.2) as receiver:
        receiver.act = lambda request: None
        await hook(client, f"{receiver.url}/", "item.create:before")
        for _ in range(6):
            assert (await client.post("~/items/things", {"name": "a"})).status == 200
        assert len(receiver.requests) == 3
        assert len((await client.get("~/items/things")).data) == 6


@ensureDeferred
async def test_all_questions_of_a_request_share_the_time(client: Client) -> None:
    await things(client)
    async with asking(client, timeout=0.3) as receiver:
        receiver.act = lambda request: None
        await hook(client, f"{receiver.url}/", "item.create:before")
        started = reactor.seconds()
        assert (await client.post("~/items/things", [{"name": str(n)} for n in range(100)])).status == 200
        assert len(receiver.requests) == 10
        assert reactor.seconds() - started < 10


@ensureDeferred
async def test_hanging_receivers_leave_connections_for_others(client: Client) -> None:
    await things(client)
    await client.collection("others", field("name"))
    async with asking(client, timeout=5.0) as receiver:
        requests: list[Any] = []
        receiver.act = requests.append
        await hook(client, f"{receiver.url}/", "item.create:before")
        writes = [defer.ensureDeferred(client.post("~/items/things", {"name": str(n)})) for n in range(30)]
        # Those beyond half of the pool are refused while the first ones wait.
        while sum(each.called for each in writes) < 25:
            await client.get("~/items/others")
        assert (await client.post("~/items/others", {"name": "a"})).status == 200
        assert len(requests) == 5
        for request in requests:
            request.finish()
        answers = await defer.gatherResults(writes)
        assert sorted(each.status for each in answers) == [200] * 5 + [503] * 25
        assert all(each.headers["retry-after"] for each in answers if each.status == 503)
        assert len((await client.get("~/items/things")).data) == 5


@ensureDeferred
async def test_owners_who_may_not_read_are_not_asked_for(client: Client) -> None:
    await things(client)
    async with asking(client) as receiver:
        receiver.act = refusing()
        await hook(client, f"{receiver.url}/", "item.create:before")
        role = (await client.post("~/roles", {"name": "R"})).data["id"]
        user = {"email": "r@example.com", "password": "password", "role": role, "status": "active", "token": "reader"}
        await client.post("~/users", user)
        for collection, permission in (("directus_webhooks", {"create": "full", "read": "full"}), ("things", {"read": "full"})):
            await client.post("~/permissions", {"collection": collection, "role": role} | permission)
        await client.delete("~/webhooks/1")
        await hook(client, f"{receiver.url}/", "item.create:before", token="reader")
        assert (await client.post("~/items/things", {"name": "a"})).status == 422
        await client.patch("~/users/2", {"status": "suspended"})
        assert (await client.post("~/items/things", {"name": "a"})).status == 200
        assert len(receiver.requests) == 1
