"""What delivers the messages of a kind."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

from attrs import frozen

from directus_tx.outbox.messages import Message


class Outcome(Enum):
    """How an attempt ended."""

    DELIVERED = "delivered"
    RETRY = "retry"
    """The receiver may accept the message later."""
    DEAD = "dead"
    """Trying again is useless."""
    HELD = "held"
    """The message cannot be delivered with the present settings. It is kept until somebody retries it."""


@frozen
class Attempt:
    """The result of an attempt. `status` is the status of the receiver's answer (of HTTP or SMTP) and `answer` its beginning, at most
    1 kB. `error` says in words why the message was not delivered. `retry_after` is the number of seconds that the receiver asks for."""

    outcome: Outcome
    status: int | None = None
    answer: str = ""
    error: str = ""
    retry_after: float | None = None


@frozen
class Delivery:
    """A message that is being delivered. `id` is its number in the outbox, `message_id` stays the same in all attempts, `attempt` is the
    number of this one, the first being 1."""

    id: int
    message_id: uuid.UUID
    attempt: int
    created_on: datetime
    message: Message


class Kind(Protocol):
    """Delivers the messages of a kind. `time_limit` is the maximum duration of `deliver` in seconds; later its answer is ignored, and
    the attempt has failed."""

    name: str
    time_limit: float

    async def deliver(self, project: Any, delivery: Delivery) -> Attempt:
        """Delivers a message of a project (`projects.project.Project`). An exception counts as RETRY and is logged."""


Kinds = Mapping[str, Kind]
"""The kinds by their names."""
