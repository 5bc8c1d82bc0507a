"""One request. Limits the size of its body while it is received."""

import secrets
from io import BytesIO
from typing import Any, AnyStr

from twisted.web import server

from directus_tx.context import Accountability
from directus_tx.db.session import Session
from directus_tx.http.payload import PayloadLimits
from directus_tx.projects.registry import Project

LINGER = 30.0
"""Seconds for which a client may continue to send a body that has been refused. Many clients read the answer only after sending."""


class ApiRequest(server.Request):
    """A request. A body that exceeds its limit is refused at once, and the rest of it is dropped. `project`, `accountability` and `session`
    are set when they are known; the log uses them."""

    limits: PayloadLimits
    too_large = False
    received = 0
    """Number of bytes of the body that have been received."""
    project: Project | None = None
    accountability: Accountability | None = None
    session: Session | None = None
    _abandoned = False
    _answering = False
    _secure: bool | None = None

    def use(self, session: Session) -> None:
        """Sets the session of the request."""
        self.session = session
        if self._abandoned:
            session.abandon()

    def connectionLost(self, reason: Any) -> None:
        """Does what Twisted does, but leaves the body of a request that is being answered open until `close_body`. A write that has been
        received is performed even if the client disconnects."""
        content = self.content
        if self._answering:
            self.content = None
        super().connectionLost(reason)
        self.content = content

    def close_body(self) -> None:
        """Closes the body. Call this when the request has been answered."""
        if self.content is not None:
            self.content.close()

    def abandon(self) -> None:
        """Cancels the reads of the request, because its client has disconnected."""
        self._abandoned = True
        if self.session is not None:
            self.session.abandon()

    def gotLength(self, length: int | None) -> None:
        channel: Any = self.channel
        self.started = channel.site.reactor.seconds()
        self.request_id = secrets.token_hex(8)
        if length == 0:
            super().gotLength(0)
            return
        self.limits = channel.site.payloads.limits_of(self.getHeader("content-type") or "", credentials=self._has_credentials)
        if length is not None and length > self.limits.size:
            super().gotLength(0)
            self._refuse_body()
        else:
            super().gotLength(length)

    def handleContentChunk(self, data: bytes) -> None:
        self.received += len(data)
        if self.too_large:
            return
        if self.content is not None and self.content.tell() + len(data) > self.limits.size:
            self._refuse_body()
        else:
            super().handleContentChunk(data)

    def _refuse_body(self) -> None:
        """Answers before the whole body is received. Closes the connection when it is, or after LINGER seconds."""
        channel: Any = self.channel
        self.too_large = True
        self.content = BytesIO()
        # requestReceived would set these after the body. Without "Expect", Twisted does not ask for the body.
        self.method, self.uri, self.clientproto = channel._command, channel._path, channel._version
        self.path = self.uri.partition(b"?")[0]
        self.requestHeaders.removeHeader(b"expect")
        self.setHeader(b"Connection", b"close")
        channel.persistent = False
        closing = channel.site.reactor.callLater(LINGER, channel.loseConnection)
        self.notifyFinish().addBoth(lambda _: closing.active() and closing.cancel())
        self.write(channel.site.resource.app.refuse_body(self, self.limits.too_large()))

    def process(self) -> None:
        if self.too_large:
            self.finish()
        else:
            self._answering = True
            super().process()

    @property
    def _has_credentials(self) -> bool:
        """Whether the headers or the query string contain something that may be a token."""
        channel: Any = self.channel
        return self.requestHeaders.hasHeader(b"authorization") or b"access_token=" in channel._path

    def getHeader(self, key: AnyStr) -> AnyStr | None:
        """Returns a header as Twisted does, but replaces bytes that are not UTF-8. Twisted fails for them."""
        if isinstance(key, bytes):
            return super().getHeader(key)
        value = super().getHeader(key.encode())
        return None if value is None else value.decode("utf-8", "replace")

    def isSecure(self) -> bool:
        """Returns what Twisted returns, but computes it once: it is slow, and needed several times for each request."""
        if self._secure is None:
            self._secure = super().isSecure()
        return self._secure
