"""Webhooks from real processes: every committed event arrives, whenever processes are killed, and none of a transaction that was rolled
back; processes share the work without delivering twice; a backlog slows nothing."""

import concurrent.futures
import http.client
import os
import pathlib
import random
import re
import signal
import threading
import urllib.error
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import KEY, field
from tests.daemon import Daemon, wait_for
from tests.live.receiver import Receiver, receiving
from tests.live.test_processes import children

ALLOWED = {"DIRECTUS_OUTGOING_ALLOWED_NETWORKS": "127.0.0.0/8"}
BRIEF = {"DIRECTUS_OUTGOING_TOTAL_TIMEOUT": "1.0", "DIRECTUS_OUTBOX_POLL_INTERVAL": "1.0"}
"""Claims of processes that were killed run out 11 seconds later: the time limit of the kind, which is this and 5, and the margin."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def serving(directory: pathlib.Path, receiver: Receiver, processes: int = 1, **environment: str) -> Daemon:
    """A server with a project `p`, whose items of `things` have webhooks to the paths /create and /update."""
    daemon = Daemon(directory, "--processes", str(processes))
    daemon.environment |= ALLOWED | environment
    daemon.start()
    daemon.create_project("p")
    daemon.call("POST", "/p/collections", {"collection": "things", "fields": [KEY, field("name", unique=True)]})
    for action in ("create", "update"):
        hook(daemon, receiver, action)
    return daemon


def hook(daemon: Daemon, receiver: Receiver, action: str, collection: str = "things", path: str = "") -> int:
    url = f"{receiver.url}/{path or action}"
    webhook = {"collection": collection, "directus_action": f"item.{action}:after", "url": url, "status": "active"}
    return int(daemon.call("POST", "/p/webhooks", webhook)["data"]["id"])


def rows(daemon: Daemon, statement: str, *values: Any) -> list[Any]:
    connection = daemon.connect("p")
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def pending(daemon: Daemon) -> int:
    return int(rows(daemon, "SELECT count(*) FROM directus_outbox WHERE state = 'pending'")[0][0])


def committed(daemon: Daemon) -> Counter[tuple[str, str]]:
    """The keys and names that items have had, by their revisions, which are written in the same transactions."""
    found = rows(daemon, "SELECT item, data::json ->> 'name' FROM directus_revisions WHERE collection = 'things'")
    return Counter((str(item), name) for item, name in found)


def received(receiver: Receiver) -> set[tuple[str, str]]:
    return {(str(each.body["id"]), each.body["name"]) for each in receiver.requests}


def kill(daemon: Daemon) -> None:
    """Kills all processes of a server at once."""
    for pid in [daemon.pid, *children(daemon.pid)]:
        os.kill(pid, signal.SIGKILL)
    assert daemon.process is not None
    daemon.process.wait(30)


def test_a_server_that_is_killed_before_and_during_a_delivery_delivers_after_its_start(
    tmp_path: pathlib.Path, receiver: Receiver
) -> None:
    daemon = serving(tmp_path, receiver, DIRECTUS_OUTBOX_DESTINATION_CONCURRENCY="1", DIRECTUS_OUTGOING_TOTAL_TIMEOUT="3.0")
    try:
        receiver.hold("/create")
        for name in ("a", "b"):
            daemon.call("POST", "/p/items/things", {"name": name})
        wait_for(lambda: receiver.requests)
        # The first message is being delivered, the second one waits for its place.
        kill(daemon)
        assert len(receiver.requests) == 1
        first = receiver.requests[0]
        receiver.release()
        daemon.start()
        wait_for(lambda: not pending(daemon))
        assert Counter(each.body["name"] for each in receiver.requests) == {"a": 2, "b": 1}
        assert {each.message for each in receiver.requests if each.body["name"] == "a"} == {first.message}
        assert rows(daemon, "SELECT state, attempts FROM directus_outbox ORDER BY id") == [("delivered", 2), ("delivered", 1)]
    finally:
        if daemon.runs():
            daemon.stop()


def test_every_committed_event_arrives_whenever_processes_are_killed(tmp_path: pathlib.Path, receiver: Receiver) -> None:
    """1,000 requests: creating, changing, and lists whose last item violates a unique constraint. Requests whose connection is lost are not
    repeated: what was committed is what the revisions have."""
    daemon = serving(tmp_path, receiver, 2, **BRIEF)
    draw = random.Random(7)
    left = iter([draw.choice(["create", "create", "update", "fail"]) for _ in range(1000)])
    lock, made, refused, lost = threading.Lock(), [], Counter[tuple[str, int]](), Counter[str]()
    done = threading.Event()

    def write() -> None:
        while True:
            with lock:
                action, number = next(left, None), draw.randrange(10**12)
                key = draw.choice(made) if made else None
            if action is None:
                return
            try:
                if action == "update" and key is not None:
                    daemon.call("PATCH", f"/p/items/things/{key}", {"name": f"changed {number}"})
                elif action == "fail":
                    daemon.call("POST", "/p/items/things", [{"name": f"lost {number}"}, {"name": f"lost {number}"}])
                else:
                    item = daemon.call("POST", "/p/items/things", {"name": f"made {number}"})
                    with lock:
                        made.append(item["data"]["id"])
            except urllib.error.HTTPError as error:
                with lock:
                    refused[action, error.code] += 1
            except (OSError, http.client.HTTPException):
                with lock:
                    lost[action] += 1

    def kill_workers() -> None:
        """Kills a process each time that another hundred requests were received, so that the others go on."""
        for number in range(100, 700, 100):
            while len(receiver.requests) < number:
                if done.wait(0.01):
                    return
            found = children(daemon.pid)
            if len(found) == 2:
                os.kill(draw.choice(found), signal.SIGKILL)

    try:
        killer = threading.Thread(target=kill_workers)
        killer.start()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for each in [pool.submit(write) for _ in range(4)]:
                each.result(120)
        done.set()
        killer.join(10)
        kill(daemon)
        daemon.start()
        wait_for(lambda: not pending(daemon), 60)
        wanted = committed(daemon)
        assert len(wanted) > 500
        assert {action for action, code in refused if code != 503} == {"fail"}, refused
        assert received(receiver) == set(wanted)
        assert not [name for _, name in received(receiver) if name.startswith("lost")]
        # Each event has one message, however often it was delivered.
        assert len({each.message for each in receiver.requests}) == wanted.total()
        assert len(receiver.requests) - wanted.total() < 200
        assert rows(daemon, "SELECT DISTINCT state FROM directus_outbox") == [("delivered",)]
    finally:
        done.set()
        if daemon.runs():
            daemon.stop()


def test_two_processes_deliver_each_message_once_and_those_of_an_item_in_order(
    tmp_path: pathlib.Path, receiver: Receiver
) -> None:
    daemon = serving(tmp_path, receiver, 2)
    try:
        made = [daemon.call("POST", "/p/items/things", {"name": f"{n}:0"})["data"]["id"] for n in range(8)]

        def change(n: int) -> None:
            for place in range(1, 40):
                daemon.call("PATCH", f"/p/items/things/{made[n]}", {"name": f"{n}:{place}"})

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(change, range(8)))
        wait_for(lambda: not pending(daemon))
        assert len(receiver.requests) == len({each.message for each in receiver.requests}) == 8 * 40
        for n in range(8):
            names = [each.body["name"] for each in receiver.of("/update") if each.body["name"].startswith(f"{n}:")]
            assert names == [f"{n}:{place}" for place in range(1, 40)]
    finally:
        daemon.stop()


BACKLOG = """
INSERT INTO directus_outbox (message_id, kind, destination, subject, sequence, payload, erased, created_on, next_attempt)
SELECT gen_random_uuid(), 'webhook', %(destination)s, %(subject)s, 's' || n %% 1000,
       json_build_object('webhook', %(webhook)s, 'event', 'item.create:after', 'collection', 'slow', 'item', n::text,
                         'body', json_build_object('id', n, 'name', repeat('x', 200))),
       FALSE, now(), now()
FROM generate_series(1, %(number)s) AS n"""


def memory(daemon: Daemon) -> float:
    """The resident memory of the process in MB."""
    status = pathlib.Path(f"/proc/{daemon.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found is not None
    return int(found[1]) / 1024


def test_a_backlog_for_a_receiver_that_hangs_holds_up_nothing(tmp_path: pathlib.Path, receiver: Receiver) -> None:
    daemon = serving(tmp_path, receiver)
    try:
        for n in range(20):
            daemon.call("POST", "/p/items/things", {"name": f"before {n}"})
        wait_for(lambda: not pending(daemon))
        before = memory(daemon)
        with receiving() as slow:
            slow.hold("/slow")
            daemon.call("POST", "/p/collections", {"collection": "slow", "fields": [KEY, field("name")]})
            webhook = hook(daemon, slow, "create", "slow", path="slow")
            values = {"destination": slow.url, "subject": f"webhook:{webhook}", "webhook": webhook, "number": 100_000}
            connection = daemon.connect("p")
            with connection, connection.cursor() as cursor:
                cursor.execute(BACKLOG, values)
            connection.close()
            wait_for(lambda: slow.requests)
            for n in range(100):
                daemon.call("POST", "/p/items/things", {"name": f"after {n}"})
            wait_for(lambda: len(receiver.of("/create")) == 120)
            # The receiver that hangs has as many requests as one receiver may have.
            assert len(slow.requests) <= 8 * 2
            wait_for(lambda: pending(daemon) == 100_000)
            assert memory(daemon) - before < 50
    finally:
        daemon.stop()
