"""A real HTTP server on loopback that records the requests it gets, and answers as it is told."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from attrs import frozen
from twisted.internet import defer, reactor
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site


@frozen
class Received:
    """A request. `headers` have lower-case names."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Act = Callable[[Request], Any]
"""Answers a request: returns a status, or None if the answer is made later or never."""


class Receiver(Resource):
    """The resource of all paths. `act` is called for each request after it is recorded; by default the answer is 200."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Received] = []
        self.act: Act = lambda request: 200
        self.url = ""

    def render(self, request: Any) -> Any:
        headers = {name.decode().lower(): values[-1].decode() for name, values in request.requestHeaders.getAllRawHeaders()}
        self.requests.append(Received(request.method.decode(), request.uri.decode(), headers, request.content.read()))
        status = self.act(request)
        if status is None:
            return NOT_DONE_YET
        request.setResponseCode(status)
        return b"received"

    def of(self, path: str) -> list[Received]:
        """The requests for a path."""
        return [each for each in self.requests if each.path == path]


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver, listening."""
    receiver = Receiver()
    site = Site(receiver)
    port = reactor.listenTCP(0, site, interface="127.0.0.1")
    receiver.url = f"http://127.0.0.1:{port.getHost().port}"
    try:
        yield receiver
    finally:
        await defer.maybeDeferred(port.stopListening)
