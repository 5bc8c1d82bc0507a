"""Webhooks of a server as a process: receivers with every fault get everything in the end, also if the server is killed meanwhile."""

import contextlib
import json
import pathlib
import signal
import socket
import socketserver
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from tests.conftest import KEY, field
from tests.daemon import Daemon, free_port, wait_for

SETTINGS = {
    "OUTGOING_ALLOWED_NETWORKS": "127.0.0.0/8",
    "OUTGOING_READ_TIMEOUT": "0.5",
    "OUTGOING_TOTAL_TIMEOUT": "1",
    "OUTBOX_FIRST_PAUSE": "0.05",
    "OUTBOX_MAX_PAUSE": "0.2",
    "OUTBOX_MAX_ATTEMPTS": "40",
    "OUTBOX_POLL_INTERVAL": "0.5",
}
FAULTS = ("slow", "hang", "reset", "cut", "garbage", "failing", "redirect", "endless", "drip")
"""What receivers do at first, named by their paths."""

NUMBER_OF_FAULTS = {"failing": 10}
"""How often they do it, if not twice."""


class Request:
    """A request that has arrived."""

    def __init__(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.path = path
        self.headers = headers
        self.body = body

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Receiver(socketserver.ThreadingTCPServer):
    """A server of webhooks in threads. The path of a request names the fault; after some faults a path answers with 200. `hold`: the path
    /held is answered only when this event is set."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.requests: list[Request] = []
        self.acknowledged: list[Request] = []
        self.faults: dict[str, int] = defaultdict(int)
        self.hold = threading.Event()
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The server has closed the connection, as it does with receivers that are too slow."""


class Handler(socketserver.StreamRequestHandler):
    """One connection, with one request."""

    server: Receiver
    timeout = 30

    def handle(self) -> None:
        path = self.rfile.readline().split()[1].decode()
        headers = {}
        while line := self.rfile.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        request = Request(path, headers, self.rfile.read(int(headers["content-length"])))
        fault = path.strip("/")
        with self.server.lock:
            self.server.requests.append(request)
            faulty = fault in FAULTS and self.server.faults[fault] < NUMBER_OF_FAULTS.get(fault, 2)
            self.server.faults[fault] += faulty
        if faulty:
            getattr(self, f"do_{fault}")()
            return
        if fault == "held":
            self.server.hold.wait(60)
        with self.server.lock:
            self.server.acknowledged.append(request)
        self.answer(200)

    def answer(self, status: int, *headers: str, body: bytes = b"", length: int | None = None) -> None:
        length = len(body) if length is None else length
        lines = [f"HTTP/1.1 {status} OK", f"Content-Length: {length}", "Connection: close", *headers, "", ""]
        self.wfile.write("\r\n".join(lines).encode() + body)

    def do_slow(self) -> None:
        time.sleep(0.2)
        self.answer(503, "Retry-After: 0")

    def do_hang(self) -> None:
        self.server.ended.wait(10)

    def do_reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def do_cut(self) -> None:
        self.answer(200, body=b"half", length=1000)

    def do_garbage(self) -> None:
        self.wfile.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")

    def do_failing(self) -> None:
        self.answer(500, body=b"failed")

    def do_redirect(self) -> None:
        self.answer(307, f"Location: {self.server.url}/elsewhere")

    def do_endless(self) -> None:
        self.wfile.write(b"HTTP/1.1 500 No\r\n\r\n")
        while not self.server.ended.is_set():
            self.wfile.write(b"x" * 65536)

    def do_drip(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not self.server.ended.wait(0.1):
            self.wfile.write(b"x")


@contextlib.contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    with Receiver(port) as receiver:
        thread = threading.Thread(target=receiver.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.ended.set()
            receiver.hold.set()
            receiver.shutdown()
            thread.join(30)


@pytest.fixture
def daemon(tmp_path: pathlib.Path) -> Iterator[Daemon]:
    found = Daemon(tmp_path)
    found.environment |= {f"DIRECTUS_{name}": value for name, value in SETTINGS.items()}
    found.start()
    found.create_project("p")
    found.call("POST", "/p/collections", {"collection": "things", "fields": [KEY, field("name")]})
    yield found
    assert found.stop() == 0


def hook(daemon: Daemon, url: str) -> Any:
    payload = {"collection": "things", "directus_action": "item.create:after", "url": url, "status": "active"}
    return daemon.call("POST", "/p/webhooks", payload)["data"]


def deliveries(daemon: Daemon, webhook: Any, **parameters: Any) -> Any:
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return daemon.call("GET", f"/p/webhooks/{webhook['id']}/deliveries?{query}")["data"]


def create(daemon: Daemon, *names: str) -> None:
    for name in names:
        assert daemon.call("POST", "/p/items/things", {"name": name})["data"]["name"] == name


def test_receivers_with_every_fault_get_everything_in_the_end(daemon: Daemon) -> None:
    names = ["a", "b", "c"]
    down = free_port()
    with receiving() as receiver:
        hooks = {fault: hook(daemon, f"{receiver.url}/{fault}") for fault in FAULTS}
        hooks["down"] = hook(daemon, f"http://127.0.0.1:{down}/down")
        hooks["good"] = hook(daemon, f"{receiver.url}/good")
        create(daemon, *names)
        wait_for(lambda: deliveries(daemon, hooks["down"])[-1]["attempts"])
        with receiving(down) as late:
            for fault, webhook in hooks.items():
                wait_for(lambda webhook=webhook: len(deliveries(daemon, webhook, state="delivered")) == len(names))
                got = [each for each in (*receiver.acknowledged, *late.acknowledged) if each.path == f"/{fault}"]
                assert {json.loads(each.body)["name"] for each in got} == set(names), fault
                for each in got:
                    Webhook(webhook["secret"]).verify(each.body, each.headers)
                found = deliveries(daemon, webhook)
                assert {each.id for each in got} == {each["message_id"] for each in found}, fault
                outcomes = [attempt["outcome"] for each in found for attempt in each["attempts"]]
                assert outcomes.count("delivered") == len(names)
                assert set(outcomes) == ({"delivered"} if fault == "good" else {"delivered", "retry"}), fault
                assert fault not in FAULTS or receiver.faults[fault] == NUMBER_OF_FAULTS.get(fault, 2)
                assert max(len(attempt["answer"] or "") for each in found for attempt in each["attempts"]) <= 1000
        assert not [each for each in receiver.requests if each.path == "/elsewhere"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_server_that_ends_while_it_delivers_delivers_again_when_it_is_back(daemon: Daemon, number: int) -> None:
    names = [f"n{each}" for each in range(20)]
    # The receiver answers nothing until the server has ended, so at least one message is being delivered then.
    with receiving() as receiver:
        webhook = hook(daemon, f"{receiver.url}/held")
        create(daemon, *names)
        wait_for(lambda: receiver.requests)
        assert daemon.stop(number) == (-number if number == signal.SIGKILL else 0)
        first = receiver.requests[0]
        receiver.hold.set()
        daemon.start()
        wait_for(lambda: len(deliveries(daemon, webhook, state="delivered")) == len(names))
        assert {json.loads(each.body)["name"] for each in receiver.acknowledged} == set(names)
        assert {each.id for each in receiver.requests} == {each["message_id"] for each in deliveries(daemon, webhook)}
        assert [each.id for each in receiver.requests].count(first.id) >= 2
        assert {each.body for each in receiver.requests if each.id == first.id} == {first.body}
