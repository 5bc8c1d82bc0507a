"""A receiver of webhooks in threads of this process, for tests of servers that are processes of their own."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from attrs import field, frozen


@frozen
class Received:
    """A request: its path, the id of the message, and its body."""

    path: str
    message: str
    body: Any


@frozen
class Receiver:
    """What was received, in the order of arrival. A request for a path in `held` is not answered until the path is removed from it with
    `release`."""

    url: str
    requests: list[Received] = field(factory=list)
    held: set[str] = field(factory=set)
    changed: threading.Condition = field(factory=threading.Condition)

    def hold(self, *paths: str) -> None:
        with self.changed:
            self.held.update(paths)

    def release(self) -> None:
        with self.changed:
            self.held.clear()
            self.changed.notify_all()

    def of(self, path: str) -> list[Received]:
        """The requests for a path."""
        with self.changed:
            return [each for each in self.requests if each.path == path]

    def receive(self, request: Received) -> None:
        with self.changed:
            self.requests.append(request)
            # Bounded, so that a thread does not outlive the test for long.
            self.changed.wait_for(lambda: request.path not in self.held, 60)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # Hundreds of connections may be made at once.
    request_queue_size = 1024
    receiver: Receiver

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A server that was killed leaves connections that cannot be answered."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.receiver.receive(Received(self.path, self.headers["webhook-id"], json.loads(body)))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver, listening on loopback."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield server.receiver
        finally:
            server.receiver.release()
            server.shutdown()
