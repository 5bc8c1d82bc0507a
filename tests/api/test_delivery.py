"""Messages of the outbox are delivered: in order, within limits, again after failures, and by one process at a time."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import defer, reactor
from twisted.logger import LogLevel, capturedLogs, formatEvent

from directus_tx.config import OutboxSettings
from directus_tx.context import Accountability, Context, current_time
from directus_tx.db.connection import pause
from directus_tx.db.session import Session
from directus_tx.outbox.kinds import Attempt, Delivery, Outcome
from directus_tx.outbox.messages import Message, enqueue
from tests.api.outbox import FAST, all_ended, delivering, rows, until
from tests.conftest import Client

DELIVERED = Attempt(Outcome.DELIVERED, 200, "thanks")


class Receiver:
    """A kind of message whose deliveries are recorded. *answer* is called with each delivery."""

    name = "test"
    time_limit = 2.0

    def __init__(self, answer: Callable[[Delivery], Awaitable[Attempt]] | None = None) -> None:
        self.answer = answer
        self.begun: list[Any] = []
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    async def deliver(self, project: Any, delivery: Delivery) -> Attempt:
        destination = delivery.message.destination
        self.begun.append(delivery.message.payload["n"])
        self.running[destination] += 1
        self.most[destination] = max(self.most[destination], self.running[destination])
        try:
            return DELIVERED if self.answer is None else await self.answer(delivery)
        finally:
            self.running[destination] -= 1


def message(n: Any, *, destination: str = "a", sequence: str = "", erased: bool = False) -> Message:
    return Message("test", destination, {"n": n}, "subject", sequence, erased)


async def send(client: Client, messages: Sequence[Message], *, fail: bool = False) -> None:
    """Writes messages in one transaction, which is rolled back if *fail*."""
    project = client.backend.projects.get(client.project)
    session = Session(project.database)
    ctx = Context(client.project, await project.snapshot(), Accountability(), current_time(), session, project.keys)

    async def work(ctx: Context) -> None:
        await enqueue(ctx, messages)
        if fail:
            raise KeyError

    try:
        await ctx.transaction(work)
    except KeyError:
        assert fail


@pytest_twisted.ensureDeferred
async def test_a_committed_message_is_delivered_once_and_a_rolled_back_one_never(client: Client) -> None:
    receiver = Receiver()
    async with delivering(client, receiver):
        await send(client, [message(1), message(2)])
        await send(client, [message(3)], fail=True)
        await send(client, [message(4)])
        await all_ended(client)
    assert sorted(receiver.begun) == [1, 2, 4]
    assert await rows(client) == [("delivered", 1, None)] * 3
    attempts = await rows(
        client, "SELECT outcome, status, answer, duration >= 0, started_on <= now() FROM directus_outbox_attempts"
    )
    assert attempts == [("delivered", 200, "thanks", True, True)] * 3


def _raise(error: BaseException) -> Any:
    raise error


@pytest.mark.parametrize(
    "fault",
    [
        lambda: _raise(ZeroDivisionError()),
        lambda: _raise(SystemExit(1)),
        lambda: _raise(asyncio.CancelledError()),
        lambda: _raise(defer.CancelledError()),
        lambda: None,
        lambda: "delivered",
        lambda: Attempt("delivered"),  # type: ignore[arg-type]
        lambda: Attempt(Outcome.DELIVERED, answer=b"thanks"),  # type: ignore[arg-type]
        lambda: Attempt(Outcome.DELIVERED, "200"),  # type: ignore[arg-type]
        lambda: Attempt(Outcome.DELIVERED, 2**31),
        lambda: Attempt(Outcome.RETRY, error=ValueError("x")),  # type: ignore[arg-type]
        lambda: Attempt(Outcome.RETRY, retry_after=float("nan")),
        lambda: Attempt(Outcome.RETRY, retry_after="1"),  # type: ignore[arg-type]
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_kind_that_fails_in_any_way_does_not_keep_other_messages(client: Client, fault: Callable[[], Any]) -> None:
    async def answer(delivery: Delivery) -> Any:
        return fault() if delivery.message.payload["n"] == "faulty" else DELIVERED

    receiver = Receiver(answer)
    settings = OutboxSettings(first_pause=0.01, max_attempts=3, concurrency=1, poll_interval=0.1)
    with capturedLogs() as events:
        async with delivering(client, receiver, settings=settings):
            await send(client, [message("faulty")])
            await send(client, [message(1), message(2)])
            await all_ended(client)
    failed = ("dead", 3, "The server has failed; its log says why.")
    assert await rows(client) == [failed, ("delivered", 1, None), ("delivered", 1, None)]
    assert receiver.begun.count("faulty") == 3
    assert any("delivering message" in (formatEvent(event) or "") and "(test)" in (formatEvent(event) or "") for event in events)


@pytest_twisted.ensureDeferred
async def test_large_messages_are_written_in_several_statements_in_order(client: Client) -> None:
    receiver = Receiver()
    texts = ["x" * (3 * 2**20), "y", "z" * (5 * 2**20), *map(str, range(2500))]
    await send(client, [message(text, sequence="s") for text in texts], fail=True)
    assert await rows(client) == []
    await send(client, [message(text, sequence="s") for text in texts])
    lengths = await rows(client, "SELECT length(payload) - 8 FROM directus_outbox ORDER BY id")
    assert [length for (length,) in lengths] == [len(text) for text in texts]
    async with delivering(client, receiver):

        async def begun() -> bool:
            return len(receiver.begun) >= 20

        await until(begun)
    assert receiver.begun[:20] == texts[:20]


@pytest_twisted.ensureDeferred
async def test_messages_written_before_the_server_starts_are_delivered(client: Client) -> None:
    await send(client, [message(1)])
    receiver = Receiver()
    async with delivering(client, receiver):
        await all_ended(client)
    assert receiver.begun == [1]


@pytest_twisted.ensureDeferred
async def test_notify_wakes_the_deliverer_for_messages_of_other_programs(client: Client) -> None:
    receiver = Receiver()
    async with delivering(client, receiver, settings=OutboxSettings(poll_interval=3600.0)):
        await client.backend.projects.get(client.project).snapshot()
        await Session(client.backend.projects.get(client.project).database).transaction(
            lambda session: session.query(
                "INSERT INTO directus_outbox (message_id, kind, destination, subject, sequence, payload, erased, created_on, next_attempt)"
                """ VALUES (gen_random_uuid(), 'test', 'a', '', '', '{"n": 1}', FALSE, now(), now())"""
            )
        )
        await all_ended(client)
    assert receiver.begun == [1]


@pytest_twisted.ensureDeferred
async def test_the_messages_of_a_sequence_are_delivered_in_order_and_others_meanwhile(client: Client) -> None:
    release: defer.Deferred[None] = defer.Deferred()
    order: list[Any] = []

    async def answer(delivery: Delivery) -> Attempt:
        if delivery.message.payload["n"] == "x0":
            await release
        order.append(delivery.message.payload["n"])
        return DELIVERED

    async with delivering(client, Receiver(answer)):
        await send(client, [message(f"{s}{n}", sequence=s) for n in range(20) for s in "xyz"])

        async def others_done() -> bool:
            return len(order) == 40

        await until(others_done)
        assert not [n for n in order if n.startswith("x")]
        release.callback(None)
        await all_ended(client)
    for sequence in "xyz":
        assert [n for n in order if n.startswith(sequence)] == [f"{sequence}{n}" for n in range(20)]


@pytest_twisted.ensureDeferred
async def test_a_message_that_failed_is_tried_again_and_does_not_hold_up_its_sequence(client: Client) -> None:
    async def answer(delivery: Delivery) -> Attempt:
        if delivery.message.payload["n"] == 1 and delivery.attempt <= 3:
            return Attempt(Outcome.RETRY, 503, "busy", "The answer was 503.")
        return DELIVERED

    receiver = Receiver(answer)
    async with delivering(client, receiver):
        await send(client, [message(n, sequence="s") for n in (1, 2, 3)])
        await all_ended(client)
    assert Counter(receiver.begun) == {1: 4, 2: 1, 3: 1}
    assert receiver.begun[-1] == 1
    assert await rows(client) == [("delivered", 4, None), ("delivered", 1, None), ("delivered", 1, None)]
    ids = await rows(client, "SELECT outcome, error FROM directus_outbox_attempts ORDER BY id")
    assert ids.count(("retry", "The answer was 503.")) == 3


@pytest_twisted.ensureDeferred
async def test_messages_end_dead_or_held_and_say_why(client: Client) -> None:
    async def answer(delivery: Delivery) -> Attempt:
        match delivery.message.payload["n"]:
            case "dead":
                return Attempt(Outcome.DEAD, 410, error="The receiver is gone.")
            case "held":
                return Attempt(Outcome.HELD, error="There is no mail server.")
            case "retry":
                return Attempt(Outcome.RETRY, error="refused")
            case "raises":
                raise KeyError("a secret")
        await pause(reactor, 60.0)
        return DELIVERED

    receiver = Receiver(answer)
    receiver.time_limit = 0.1
    other = Message("unknown", "a", {})
    async with delivering(client, receiver, settings=OutboxSettings(first_pause=0.01, max_attempts=2)):
        await send(client, [*(message(n) for n in ("dead", "held", "retry", "raises", "late")), other])
        await all_ended(client)
    assert await rows(client) == [
        ("dead", 1, "The receiver is gone."),
        ("held", 1, "There is no mail server."),
        ("dead", 2, "refused"),
        ("dead", 2, "The server has failed; its log says why."),
        ("dead", 2, "The delivery took longer than 0.1 seconds."),
        ("held", 1, 'There is no kind of message "unknown" on this server.'),
    ]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(("reminder", "told"), [(300.0, 1), (0.0, 4)])
async def test_the_log_says_of_each_destination_why_its_messages_are_tried_again(
    client: Client, monkeypatch: pytest.MonkeyPatch, reminder: float, told: int
) -> None:
    async def answer(delivery: Delivery) -> Attempt:
        if delivery.message.destination == "good":
            return DELIVERED
        return Attempt(Outcome.RETRY, 503, "the text of the answer", "The answer was 503.")

    monkeypatch.setattr("directus_tx.jobs.delivery.REMINDER", reminder)
    with capturedLogs() as events:
        async with delivering(client, Receiver(answer), settings=OutboxSettings(first_pause=0.01, max_attempts=3)):
            await send(client, [message(n, destination=name) for n in range(2) for name in ("bad", "good", "worse")])
            await all_ended(client)
    warnings = [formatEvent(event) for event in events if event["log_level"] is LogLevel.warn]
    for name in ("bad", "worse"):
        found = [each for each in warnings if f"(test to {name}) is tried again in " in each]
        assert len(found) == told
        assert all(
            each.startswith(f"project {client.project}: message ") and each.endswith(": The answer was 503.") for each in found
        )
    assert len(warnings) == 2 * told


@pytest_twisted.ensureDeferred
async def test_a_destination_that_hangs_does_not_hold_up_others(client: Client) -> None:
    hanging: list[defer.Deferred[None]] = []

    async def answer(delivery: Delivery) -> Attempt:
        if delivery.message.destination.startswith("slow"):
            hanging.append(defer.Deferred())
            await hanging[-1]
        return DELIVERED

    receiver = Receiver(answer)
    settings = OutboxSettings(concurrency=30, destination_concurrency=3)
    async with delivering(client, receiver, settings=settings):
        await send(client, [message(n, destination=f"slow{n % 5}") for n in range(500)])
        await send(client, [message(n, destination=f"fast{n % 5}") for n in range(500)])

        async def fast_ones_done() -> bool:
            return not await rows(client, "SELECT FROM directus_outbox WHERE state = 'pending' AND destination LIKE 'fast%%'")

        await until(fast_ones_done)
        assert max(receiver.most.values()) == 3
        assert sum(receiver.running.values()) == 15
    assert {row[0] for row in await rows(client, "SELECT claim FROM directus_outbox")} == {None}


@pytest_twisted.ensureDeferred
async def test_the_number_of_deliveries_in_all_is_limited(client: Client) -> None:
    total, most = 0, 0

    async def answer(delivery: Delivery) -> Attempt:
        nonlocal total, most
        total += 1
        most = max(most, total)
        await pause(reactor, 0.01)
        total -= 1
        return DELIVERED

    receiver = Receiver(answer)
    async with delivering(client, receiver, settings=OutboxSettings(concurrency=5)):
        await send(client, [message(n, destination=f"d{n % 20}") for n in range(200)])
        await all_ended(client)
    assert sorted(receiver.begun) == list(range(200))
    assert most == 5


@pytest_twisted.ensureDeferred
async def test_several_processes_deliver_no_message_twice_and_keep_the_order(client: Client) -> None:
    order: list[Any] = []

    async def answer(delivery: Delivery) -> Attempt:
        order.append(delivery.message.payload["n"])
        await pause(reactor, 0.005)
        return DELIVERED

    receivers = [Receiver(answer), Receiver(answer), Receiver(answer)]
    async with delivering(client, *receivers, settings=evolve(FAST, destination_concurrency=1)) as deliverers:
        project = client.backend.projects.get(client.project)

        def wake_all(project: Any) -> None:
            for each in deliverers:
                each.wake(project)

        project.on_outbox = wake_all
        for start in range(0, 300, 30):
            await send(
                client, [message(n, destination=f"d{n % 10 % 3}", sequence=f"s{n % 10}") for n in range(start, start + 30)]
            )
        await all_ended(client)
    assert sorted(order) == list(range(300))
    assert len([each for each in receivers if each.begun]) > 1
    for sequence in range(10):
        assert [n for n in order if n % 10 == sequence] == list(range(sequence, 300, 10))


@pytest_twisted.ensureDeferred
async def test_a_message_whose_process_was_killed_is_due_again(client: Client) -> None:
    await send(client, [message(1), message(2)])
    database = client.backend.projects.get(client.project).database
    # What processes leave that are killed in their first and in their last attempt.
    await Session(database).transaction(
        lambda session: session.query(
            "UPDATE directus_outbox SET claim = gen_random_uuid(), claimed_until = clock_timestamp() + interval '0.3 s',"
            " attempts = CASE (payload::json ->> 'n') WHEN '1' THEN 1 ELSE 12 END"
        )
    )
    receiver = Receiver()
    async with delivering(client, receiver):
        await all_ended(client)
    assert receiver.begun == [1]
    assert await rows(client) == [("delivered", 2, None), ("dead", 12, "The process that was delivering the message ended.")]


@pytest_twisted.ensureDeferred
async def test_stopping_makes_the_messages_that_are_being_delivered_due_again(client: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr("directus_tx.jobs.delivery.STOP_PATIENCE", 0.2)

    async def answer(delivery: Delivery) -> Attempt:
        if delivery.message.payload["n"] == 1:
            await defer.Deferred()
        await pause(reactor, 0.1)
        return DELIVERED

    receiver = Receiver(answer)
    async with delivering(client, receiver):
        await send(client, [message(1), message(2)])

        async def begun() -> bool:
            return len(receiver.begun) == 2

        await until(begun)
    assert await rows(client) == [("pending", 0, None), ("delivered", 1, None)]
    assert await rows(client, "SELECT count(*) FROM directus_outbox_attempts") == [(1,)]


@pytest_twisted.ensureDeferred
async def test_the_payload_of_a_delivered_message_can_be_erased(client: Client) -> None:
    async with delivering(client, Receiver()):
        await send(client, [message("secret", erased=True), message("kept")])
        await all_ended(client)
    assert await rows(client, "SELECT payload FROM directus_outbox ORDER BY id") == [(None,), ('{"n":"kept"}',)]


@pytest_twisted.ensureDeferred
async def test_stopping_takes_no_connection_if_there_is_nothing_to_write(client: Client, monkeypatch: Any) -> None:
    database = client.backend.projects.get(client.project).database
    taken: list[Any] = []
    async with delivering(client, Receiver()):
        await send(client, [message(1)])
        await all_ended(client)
        acquire = database.acquire_for_writing
        monkeypatch.setattr(database, "acquire_for_writing", lambda *values: taken.append(values) or acquire(*values))
    assert taken == []
