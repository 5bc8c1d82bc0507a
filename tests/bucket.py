"""A server with the protocol of S3 (moto), and a proxy before it that makes faults."""

import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.request import Request, urlopen

import boto3
from attrs import define, field
from moto.server import ThreadedMotoServer

KEY, SECRET, BUCKET, REGION = "access-key", "secret-key", "files", "eu-central-1"


@define
class Bucket:
    """A bucket, and the URL of its server. `client` is the one of boto3."""

    endpoint: str
    client: Any

    def objects(self) -> list[str]:
        """The keys of all objects."""
        return sorted(each["Key"] for each in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", []))

    def unfinished(self) -> list[str]:
        """The keys of multipart uploads that were neither completed nor aborted."""
        return [each["Key"] for each in self.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])]

    def settings(self, endpoint: str = "", **more: Any) -> dict[str, Any]:
        """A table `storage`."""
        found = {"adapter": "s3", "bucket": BUCKET, "endpoint": endpoint or self.endpoint, "region": REGION, "key": KEY}
        return found | {"secret": SECRET} | more


@contextlib.contextmanager
def bucket() -> Iterator[Bucket]:
    """A server that runs in threads of this process, with an empty bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        # All servers of a process have the same buckets, also those of servers that have been stopped.
        with urlopen(Request(f"{endpoint}/moto-api/reset", method="POST"), timeout=30):
            pass
        client = boto3.client(
            "s3", endpoint_url=endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name=REGION
        )
        client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield Bucket(endpoint, client)
        client.close()
    finally:
        server.stop()


@define
class Asked:
    """A request that has reached the proxy."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Fault = Callable[[BaseHTTPRequestHandler, Asked], bool]
"""Answers a request, or changes its body. Returns whether it has answered."""


@define
class Proxy:
    """Passes requests on, unless the first of the `faults` answers them. Each fault is used once. `asked` are the requests."""

    endpoint: str
    faults: list[Fault] = field(factory=list)
    asked: list[Asked] = field(factory=list)
    lock: threading.Lock = field(factory=threading.Lock)

    def take(self) -> Fault | None:
        with self.lock:
            return self.faults.pop(0) if self.faults else None


@contextlib.contextmanager
def proxy(target: str, context: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """A proxy before a server, in threads of this process; with a *context*, by TLS."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Asked(self.command, self.path, dict(self.headers.items()), body)
            found.asked.append(request)
            fault = found.take()
            if fault is None or not fault(self, request):
                status, headers, answer = passed_on(target, request)
                send(self, status, answer, headers)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Prints nothing: clients close connections whose answers they do not need any more."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    found = Proxy(f"http{'' if context is None else 's'}://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def passed_on(target: str, asked: Asked) -> tuple[int, dict[str, str], bytes]:
    """The answer of the server to a request."""
    connection = HTTPConnection(target.removeprefix("http://"), timeout=30)
    with contextlib.closing(connection):
        connection.putrequest(asked.method, asked.path, skip_host=True, skip_accept_encoding=True)
        for name, value in asked.headers.items():
            if name.lower() != "connection":
                connection.putheader(name, value)
        connection.endheaders(asked.body)
        with connection.getresponse() as answer:
            return answer.status, dict(answer.headers.items()), answer.read()


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str], *, cut: int | None = None) -> None:
    """Sends an answer, or only so many bytes of its body and then a reset."""
    length = headers.get("Content-Length") if handler.command == "HEAD" else str(len(body))
    handler.send_response_only(status)
    for name, value in headers.items():
        if name.lower() not in ("content-length", "transfer-encoding", "connection"):
            handler.send_header(name, value)
    handler.send_header("Content-Length", length or "0")
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body if cut is None else body[:cut])
    if cut is not None:
        reset(handler)


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Closes the connection with a reset."""
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    handler.connection.close()
    handler.close_connection = True


def slow_down(handler: BaseHTTPRequestHandler, asked: Asked) -> bool:
    """The answer of S3 to too many requests."""
    text = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'
    send(handler, 503, text, {"Content-Type": "application/xml"})
    return True


def refuse(status: int, code: str) -> Fault:
    """A fault that answers with an error of S3."""

    def fault(handler: BaseHTTPRequestHandler, asked: Asked) -> bool:
        send(handler, status, f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode(), {})
        return True

    return fault


def reset_at_once(handler: BaseHTTPRequestHandler, asked: Asked) -> bool:
    """A connection that breaks before the answer."""
    reset(handler)
    return True


def reset_in_the_middle(target: str) -> Fault:
    """A fault that sends a part of the answer of a server."""

    def fault(handler: BaseHTTPRequestHandler, asked: Asked) -> bool:
        status, headers, body = passed_on(target, asked)
        send(handler, status, body, headers, cut=len(body) // 2)
        return True

    return fault


def nothing(handler: BaseHTTPRequestHandler, asked: Asked) -> bool:
    """No fault."""
    return False
