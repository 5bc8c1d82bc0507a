"""What delivers the messages of a kind."""

import math
import uuid
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any, Protocol

from attrs import Attribute, field, frozen
from attrs.validators import instance_of

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


def _is_status(_: "Attempt", __: "Attribute[int | None]", value: object) -> None:
    if value is not None and (not isinstance(value, int) or not -(2**31) <= value < 2**31):
        raise ValueError(f"status must be a whole number of at most 32 bits, not {value!r}")


def _is_pause(_: "Attempt", __: "Attribute[float | None]", value: object) -> None:
    if value is not None and (not isinstance(value, (int, float)) or not math.isfinite(value)):
        raise ValueError(f"retry_after must be a number of seconds, not {value!r}")


@frozen
class Attempt:
    """The result of an attempt. `status` is the status of the receiver's answer (of HTTP or SMTP) and `answer` its beginning, at most
    1 kB. `error` says in words why the message was not delivered. `retry_after` is the number of seconds that the receiver asks for.

    Raises TypeError or ValueError for other values: results are written together, and one that cannot be written would keep the others."""

    outcome: Outcome = field(validator=instance_of(Outcome))
    status: int | None = field(default=None, validator=_is_status)
    answer: str = field(default="", validator=instance_of(str))
    error: str = field(default="", validator=instance_of(str))
    retry_after: float | None = field(default=None, validator=_is_pause)


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
