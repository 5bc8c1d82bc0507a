"""Webhooks that are asked before items are written, and can refuse.

They are asked within the request and its transaction, so they are limited: in time, and in the number of requests of a project that are
asking. A receiver that does not answer is left alone for a while. Only an answer refuses. Whatever else happens is logged, and the write
goes on.
"""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from twisted.internet import defer
from twisted.logger import Logger

from directus_tx.context import Context
from directus_tx.errors import InvalidRequest, ServiceUnavailable
from directus_tx.items.history import logged
from directus_tx.outgoing.client import Answer, Client
from directus_tx.outgoing.failures import RequestFailed
from directus_tx.schema.model import Collection, Snapshot, Webhook
from directus_tx.webhooks import secrets
from directus_tx.webhooks.events import BODILESS, may_send
from directus_tx.webhooks.signing import signed_headers

log = Logger()
AT_ONCE = 10
"""The number of questions that one request asks at the same time."""

FAILURES = 3
"""The number of failures in a row after which a webhook is not asked for REST seconds."""

REST = 30.0

NO_REFUSALS = frozenset({408, 425, 429})
"""Statuses of 4xx that say that the receiver cannot answer now."""

MAX_REASON = 200
"""The maximum length of the reason of a refusal, in characters."""


class BeforeWebhooks:
    """Asks the `before` webhooks: a `Gate`. *timeout* is the time in seconds that all questions of one request may take together. *now*
    returns the seconds since 1970."""

    def __init__(self, reactor: Any, client: Client, timeout: float, now: Callable[[], float] = time.time) -> None:
        self.reactor = reactor
        self.client = client
        self.timeout = timeout
        self.now = now
        self._asking: dict[str, int] = {}
        self._failures: dict[tuple[str, int, str], tuple[int, float]] = {}
        """Of webhooks that have failed, by project, id and URL: how often in a row, and when last."""

    async def check(
        self, ctx: Context, collection: Collection, action: str, items: Sequence[Mapping[str, Any]], spent: float
    ) -> float:
        """Asks whether items may be written, and returns the seconds that this took. *items* are what is to be written, as sent, and the
        keys of items that exist. *spent*: the seconds that the request has asked before. Raises InvalidRequest if a receiver refuses, and
        ServiceUnavailable if too many requests are asking."""
        webhooks = ctx.schema.webhooks_of.get((collection.collection, f"item.{action}:before"), ())
        webhooks = tuple(each for each in webhooks if may_send(ctx.schema, each, collection) and not self._rests(ctx, each))
        if not webhooks or spent >= self.timeout:
            return 0.0
        most = max(ctx.db.database.pool_size // 2, 1)
        if self._asking.get(ctx.project, 0) >= most:
            raise ServiceUnavailable("Too many changes wait for webhooks; try again shortly.", headers={"Retry-After": "1"})
        self._asking[ctx.project] = self._asking.get(ctx.project, 0) + 1
        started = self.reactor.seconds()
        try:
            keys = {each.id: await _keys(ctx, each.id) for each in webhooks}
            questions = iter([(webhook, item) for item in items for webhook in webhooks])

            async def ask_all() -> None:
                for webhook, item in questions:
                    left = started + self.timeout - spent - self.reactor.seconds()
                    if left <= 0:
                        return
                    sent = logged(collection, flat(ctx.schema, collection, item))
                    await self._ask(ctx, webhook, keys[webhook.id], sent, left)

            workers = [defer.Deferred.fromCoroutine(ask_all()) for _ in range(min(AT_ONCE, len(items) * len(webhooks)))]
            try:
                await defer.gatherResults(workers, consumeErrors=True)
            except defer.FirstError as error:
                for each in workers:
                    each.cancel()
                error.subFailure.raiseException()
        finally:
            self._asking[ctx.project] -= 1
            if not self._asking[ctx.project]:
                del self._asking[ctx.project]
        return float(self.reactor.seconds() - started)

    async def _ask(self, ctx: Context, webhook: Webhook, keys: Sequence[str], item: Mapping[str, Any], left: float) -> None:
        """Asks one webhook about one item, for at most *left* seconds. Raises InvalidRequest if it refuses."""
        method = (webhook.http_action or "post").lower()
        body = None if method in BODILESS else orjson.dumps(item, default=str)
        headers = dict(signed_headers(keys, f"msg_{uuid.uuid4()}", int(self.now()), body or b""))
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            answer = await self.client.request(
                method.upper(), webhook.url, headers=headers, body=body, total_timeout=left, repeatable=True
            )
        except RequestFailed as error:
            # A receiver that got less than half of the time, because others had used it up, has not failed.
            if left >= self.timeout / 2:
                self._failed(ctx, webhook, str(error))
            return
        if 400 <= answer.status < 500 and answer.status not in NO_REFUSALS:
            self._failures.pop(_name(ctx, webhook), None)
            raise InvalidRequest(f"Webhook {webhook.id} refuses the change: {_reason(answer)}")
        if 200 <= answer.status < 300:
            self._failures.pop(_name(ctx, webhook), None)
        else:
            self._failed(ctx, webhook, f"The answer was {answer.status}.")

    def _rests(self, ctx: Context, webhook: Webhook) -> bool:
        failures, last = self._failures.get(_name(ctx, webhook), (0, 0.0))
        return failures >= FAILURES and self.reactor.seconds() < last + REST

    def _failed(self, ctx: Context, webhook: Webhook, why: str) -> None:
        failures, _ = self._failures.get(_name(ctx, webhook), (0, 0.0))
        self._failures[_name(ctx, webhook)] = (failures + 1, self.reactor.seconds())
        if failures < FAILURES:
            log.warn(
                "project {project}: webhook {id} was asked and is ignored: {why}", project=ctx.project, id=webhook.id, why=why
            )


def flat(schema: Snapshot, collection: Collection, item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the values of an item without its related items. Of an object in a many-to-one field, the key in it remains. Receivers are
    asked about related items as items of their own collections, by the webhooks whose owners may read those."""
    found: dict[str, Any] = {}
    for name, value in item.items():
        if (collection.collection, name) in schema.one_to_many:
            continue
        relation = schema.many_to_one.get((collection.collection, name))
        if relation is not None and isinstance(value, dict):
            target = schema.collections[relation.collection_one or ""].primary_key.field
            if target in value:
                found[name] = value[target]
        elif relation is None or not isinstance(value, list):
            found[name] = value
    return found


def _name(ctx: Context, webhook: Webhook) -> tuple[str, int, str]:
    return ctx.project, webhook.id, webhook.url


async def _keys(ctx: Context, webhook: int) -> Sequence[str]:
    """Returns the secrets of a webhook, none if the project does not have the key that they were sealed with."""
    try:
        return await secrets.valid(ctx.db, ctx.keys, webhook)
    except ValueError:
        return ()


def _reason(answer: Answer) -> str:
    """Returns what a receiver says: the text `message` or `error` of a JSON object, otherwise its status."""
    try:
        found = orjson.loads(answer.body)
    except ValueError:
        found = None
    for name in ("message", "error"):
        text = found.get(name) if isinstance(found, dict) else None
        text = text.get("message") if isinstance(text, dict) else text
        if isinstance(text, str) and text.strip():
            return " ".join(text.split())[:MAX_REASON]
    return f"it answered {answer.status}."
