"""What tests of the outbox share: deliverers in this process, the rows of the outbox, and waiting for them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import orjson
from twisted.internet import reactor

from directus_tx.config import OutboxSettings
from directus_tx.db.connection import pause
from directus_tx.db.session import Session
from directus_tx.jobs.delivery import Deliverer
from directus_tx.mail.delivery import KIND as MAIL
from directus_tx.outbox.kinds import Kind
from tests.conftest import Client

FAST = OutboxSettings(first_pause=0.05, poll_interval=0.5)


@asynccontextmanager
async def delivering(client: Client, *kinds: Kind, settings: OutboxSettings = FAST) -> AsyncIterator[list[Deliverer]]:
    """One deliverer for each kind. Several stand for several processes: only the last one is woken by the commits of this process."""
    deliverers = [Deliverer(reactor, client.backend.projects, {each.name: each}, settings) for each in kinds]
    for each in deliverers:
        each.startService()
    try:
        yield deliverers
    finally:
        for each in deliverers:
            await each.stopService()


async def rows(client: Client, sql: str = "SELECT state, attempts, error FROM directus_outbox ORDER BY id") -> list[Any]:
    return [tuple(row) for row in await Session(client.backend.projects.get(client.project).database).query(sql)]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(400):
        if await condition():
            return
        await pause(reactor, 0.05)
    raise AssertionError("it did not happen within 20 seconds")


async def all_ended(client: Client) -> None:
    async def ended() -> bool:
        return not await rows(client, "SELECT FROM directus_outbox WHERE state = 'pending'")

    await until(ended)


async def mails(client: Client) -> list[tuple[str, EmailMessage]]:
    """The mails in the outbox that have not been delivered, in order: to whom, and what."""
    keys = client.backend.projects.get(client.project).keys
    found = []
    for (payload,) in await rows(client, f"SELECT payload FROM directus_outbox WHERE kind = '{MAIL}' ORDER BY id"):
        mail = orjson.loads(keys.unseal(MAIL, orjson.loads(payload)["sealed"]))
        found.append((mail["to"], message_from_bytes(mail["data"].encode(), policy=default)))
    return found  # type: ignore[return-value]
