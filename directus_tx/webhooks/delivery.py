"""Delivers the messages of webhooks."""

import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from directus_tx.db.session import Session
from directus_tx.outbox.kinds import Attempt, Delivery, Outcome
from directus_tx.outgoing.client import Answer, Client
from directus_tx.outgoing.failures import Refused, Unreachable
from directus_tx.webhooks import secrets
from directus_tx.webhooks.events import BODILESS, KIND
from directus_tx.webhooks.signing import signed_headers

ANSWER_LENGTH = 1000
"""The number of characters of an answer that are kept."""

GONE = 410
"""The status by which a receiver says that it wants no more requests."""

BUSY = frozenset({429, 503})
"""Statuses whose Retry-After is respected."""


class WebhookKind:
    """Delivers messages as HTTP requests to the URLs that the webhooks have at that time. *now* returns the seconds since 1970."""

    name = KIND

    def __init__(self, client: Client, now: Callable[[], float] = time.time) -> None:
        self.client = client
        self.now = now
        # The request, and reading the webhook before it.
        self.time_limit = client.settings.total_timeout + 5.0

    async def deliver(self, project: Any, delivery: Delivery) -> Attempt:
        """Makes the request. A message of a webhook that was deleted or is no longer active is dead."""
        payload = delivery.message.payload
        session = Session(project.database)
        rows = await session.query("SELECT url, http_action, status FROM directus_webhooks WHERE id = %s", (payload["webhook"],))
        if not rows:
            return Attempt(Outcome.DEAD, error="The webhook was deleted.")
        ((url, http_action, status),) = rows
        if status != "active":
            return Attempt(Outcome.DEAD, error="The webhook is not active any more.")
        try:
            keys = await secrets.valid(session, project.keys, payload["webhook"])
        except ValueError:
            return Attempt(Outcome.HELD, error="The secret of the webhook is sealed with another key; make a new one.")
        method = (http_action or "post").lower()
        body = None if method in BODILESS else orjson.dumps(payload["body"])
        headers = dict(signed_headers(keys, f"msg_{delivery.message_id}", int(self.now()), body or b""))
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            answer = await self.client.request(method.upper(), url or "", headers=headers, body=body, repeatable=True)
        except Refused as error:
            return Attempt(Outcome.DEAD, error=str(error))
        except Unreachable as error:
            return Attempt(Outcome.RETRY, error=str(error))
        return self._attempt(answer)

    def _attempt(self, answer: Answer) -> Attempt:
        text = answer.text[:ANSWER_LENGTH]
        if 200 <= answer.status < 300:
            return Attempt(Outcome.DELIVERED, answer.status, text)
        outcome = Outcome.DEAD if answer.status == GONE else Outcome.RETRY
        retry_after = self._seconds(answer.headers.get("retry-after", "")) if answer.status in BUSY else None
        return Attempt(outcome, answer.status, text, f"The answer was {answer.status}.", retry_after)

    def _seconds(self, text: str) -> float | None:
        """Returns the seconds that a Retry-After header asks for, which is a number or a date."""
        if text.isascii() and text.isdigit():
            return float(text[:9])
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(moment.timestamp() - self.now(), 0.0)
