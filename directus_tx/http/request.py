"""One request. Limits the size of its body while it is received."""

import os
import re
from io import BytesIO
from typing import Any, AnyStr

from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http, server

from directus_tx.context import Accountability
from directus_tx.db.session import Session
from directus_tx.errors import ApiError, ServiceUnavailable
from directus_tx.http.body_stream import BodyStream
from directus_tx.http.payload import MULTIPART, PayloadLimits
from directus_tx.http.spool import SpoolFile, SpoolFull
from directus_tx.projects.project import Project

log = Logger()

IN_MEMORY = 64 * 1024
"""Size in bytes up to which a body is kept in memory. A larger one is written to a temporary file."""

LINGER = 30.0
"""Seconds for which a client may continue to send a body that has been refused. Many clients read the answer only after sending."""


_FORM = re.compile(rb"/[^/?]+/files(/[^/?]+)?(\?|$)")
"""The paths of requests that upload files, if their bodies are multipart forms."""

_TUS = re.compile(rb"/[^/?]+/files/tus(/[^/?]*)?(\?|$)")
"""The paths of requests that upload files by the tus protocol, whatever their bodies are."""


class ApiRequest(server.Request):
    """A request. A body that exceeds its limit is refused at once, and the rest of it is dropped. `project`, `accountability`, `session`
    and `error_code`, the code of the error that is answered, are set when they are known; the log uses them. A request that uploads files
    is answered while its body, `stream`, is received."""

    content: Any
    limits: PayloadLimits
    refused = False
    """Whether the body has been refused. The rest of it is dropped."""
    received = 0
    """Number of bytes of the body that have been received."""
    gone = False
    """Whether the client has disconnected."""
    stream: BodyStream | None = None
    """The body of a request that uploads files."""
    _finishing = False
    """Whether the answer is complete, but the body is not."""
    project: Project | None = None
    accountability: Accountability | None = None
    session: Session | None = None
    error_code: int | None = None
    abandonable = False
    """Whether the request only reads, so that its reads are cancelled when its client disconnects."""
    _abandoned = False
    _answering = False
    _secure: bool | None = None
    _known = False
    """Whether the caller is known to be a user."""
    _held: list[bytes] | None = None
    """The part of the body that arrives while the caller is being identified."""
    _complete: tuple[Any, ...] | None = None
    """The arguments of `requestReceived`, if the whole body arrives meanwhile."""

    def use(self, session: Session) -> None:
        """Sets the session of the request."""
        self.session = session
        if self._abandoned:
            session.abandon()

    def connectionLost(self, reason: Any) -> None:
        """Does what Twisted does, but leaves the body of a request that is being answered open until `close_body`. A write that has been
        received is performed even if the client disconnects."""
        self.gone = True
        if self.stream is not None:
            self.stream.fail()
        content = self.content
        if self._answering:
            self.content = None
        super().connectionLost(reason)
        self.content = content
        if self.abandonable:
            self.abandon()

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
        self.request_id = os.urandom(8).hex()
        if length == 0:
            self.content = BytesIO()
            return
        self.limits = channel.site.payloads.limits_of(self.getHeader("content-type") or "", credentials=self._has_credentials)
        self.content = BytesIO()
        if self._uploads_files():
            self.stream = BodyStream(self._pause)
            self._set_path()
            self.process()
        elif length is not None and length > self.limits.size:
            self._refuse_body(self.limits.too_large())

    def _uploads_files(self) -> bool:
        """Whether the body contains files, which the endpoint stores while they are received."""
        channel: Any = self.channel
        if channel._command not in (b"POST", b"PATCH"):
            return False
        kind = (self.getHeader("content-type") or "").partition(";")[0].strip().lower()
        return (kind == MULTIPART and _FORM.match(channel._path) is not None) or _TUS.match(channel._path) is not None

    def handleContentChunk(self, data: bytes) -> None:
        self.received += len(data)
        if self.refused:
            return
        if self.stream is not None:
            self.stream.add(data)
            return
        if self._held is not None:
            self._held.append(data)
            self._pause(True)
            return
        size = self.content.tell() + len(data)
        if size > self.limits.size:
            self._refuse_body(self.limits.too_large())
        elif size <= IN_MEMORY:
            self.content.write(data)
        else:
            self._spool(data)

    def _spool(self, data: bytes) -> None:
        """Writes a part of the body to a temporary file. The caller is identified first if the body is larger than it may be for callers
        without a valid token, or if there is no room for more bodies of such callers."""
        channel: Any = self.channel
        payloads = channel.site.payloads
        if not self._known and self.content.tell() + len(data) > payloads.public.size:
            self._identify(data)
            return
        try:
            if not isinstance(self.content, SpoolFile):
                file = (payloads.spool if self._known else payloads.unknown_spool).open_file()
                try:
                    file.write(self.content.getvalue())
                except BaseException:
                    file.close()
                    raise
                self.content = file
            self.content.write(data)
        except SpoolFull:
            if not self._known and self._has_credentials:
                self._identify(data)
            else:
                self._refuse_body(_no_room())
        except OSError as error:
            log.warn("cannot write the body of a request to a temporary file: {error}", error=str(error))
            self._refuse_body(_no_room())

    def _identify(self, data: bytes) -> None:
        """Finds out whether the caller is a user. Meanwhile no more of the body is received."""
        channel: Any = self.channel
        self._held = [data]
        self._pause(True)
        self._set_path()
        work = defer.Deferred.fromCoroutine(channel.site.resource.app.is_user(self))
        work.addCallbacks(self._identified, self._not_identified)
        work.addErrback(lambda failure: log.failure("the body of a request cannot be received", failure))

    def _identified(self, known: bool) -> None:
        channel: Any = self.channel
        if channel is None or self.content is None or self.refused:
            # The client has disconnected, or its time was over.
            return
        held, self._held = self._held or [], None
        self._known = known
        if known and isinstance(self.content, SpoolFile):
            try:
                self.content.move(channel.site.payloads.spool)
            except SpoolFull:
                self._refuse_body(_no_room())
        elif not known:
            self.limits = channel.site.payloads.public
            size = self.content.tell() + sum(map(len, held))
            self._refuse_body(self.limits.too_large() if size > self.limits.size else _no_room())
        self.received -= sum(map(len, held))
        for data in held:
            self.handleContentChunk(data)
        self._pause(False)
        if self._complete is not None:
            self.requestReceived(*self._complete)

    def _not_identified(self, failure: Any) -> None:
        """Refuses the body if the database cannot be asked."""
        channel: Any = self.channel
        if channel is None or self.content is None or self.refused:
            return
        self._held = None
        error = failure.value
        if not isinstance(error, ApiError):
            log.failure("the caller of request {request_id} cannot be identified", failure, request_id=self.request_id)
            error = _no_room()
        self._refuse_body(error)
        self._pause(False)
        if self._complete is not None:
            self.requestReceived(*self._complete)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Answers the request. Unlike Twisted, does not parse the query string and forms, which endpoints do."""
        if self.stream is not None:
            self.stream.end()
            if self._finishing:
                super().finish()
            return
        if self._held is not None:
            self._complete = (command, path, version)
            return
        self.content.seek(0)
        self.method, self.uri, self.clientproto = command, path, version
        self.path = path.partition(b"?")[0]
        self.process()

    def _pause(self, paused: bool) -> None:
        """Stops or resumes receiving."""
        channel: Any = self.channel
        if channel is not None:
            channel.pause_receiving() if paused else channel.resume_receiving()

    def _set_path(self) -> None:
        """Sets what `requestReceived` would set after the body."""
        channel: Any = self.channel
        if self._complete is None and not self.uri.startswith(b"/"):
            self.method, self.uri, self.clientproto = channel._command, channel._path, channel._version
            self.path = self.uri.partition(b"?")[0]

    def _refuse_body(self, error: ApiError) -> None:
        """Answers before the whole body is received. Closes the connection when it is, or after LINGER seconds."""
        channel: Any = self.channel
        if self.content is not None:
            self.content.close()
        self.content = BytesIO()
        self._set_path()
        self._drop_body()
        self.write(channel.site.resource.app.refuse_body(self, error))

    def _drop_body(self) -> None:
        """Drops the rest of the body. Closes the connection when all of it has been received, or after LINGER seconds."""
        channel: Any = self.channel
        self.refused = True
        # Without "Expect", Twisted does not ask for the body.
        self.requestHeaders.removeHeader(b"expect")
        self.setHeader(b"Connection", b"close")
        channel.persistent = False
        closing = channel.site.reactor.callLater(LINGER, channel.loseConnection)
        self.notifyFinish().addBoth(lambda _: closing.active() and closing.cancel())

    def process(self) -> None:
        """Lets the resource of the site answer the request, which answers all methods of all paths. Otherwise does what Twisted does."""
        if self.refused:
            super().finish()
            return
        self._answering = True
        channel: Any = self.channel
        self.site = channel.site
        if self.path == b"*":
            self._handleStar()
            return
        try:
            body = channel.site.resource.render(self)
        except BaseException:
            self.processingFailed(Failure())
            return
        if body is not server.NOT_DONE_YET:
            self.write(body)
            self.finish()

    def write(self, data: bytes) -> None:
        """Sends bytes of the body; before the first ones, the head of the answer."""
        channel: Any = self.channel
        if self.stream is not None and not self.stream.ended and not self.refused and channel is not None:
            # The answer refuses the body before all of it has been received.
            self._drop_body()
            self.stream.drop()
        super().write(data)
        if channel is not None:
            channel.send_head()

    def complete(self, body: bytes) -> None:
        """Sends an answer whose head has been set, in one piece, and ends the request. If bytes of the answer or of the request are
        still on the way, or the head does not say where the answer ends, does this as Twisted does, which takes longer."""
        empty = self.code in http.NO_BODY_CODES
        ends = empty or self.responseHeaders.hasHeader(b"content-length")
        if self.startedWriting or self.stream is not None or self.refused or not ends:
            self.write(body)
            self.finish()
            return
        channel: Any = self.channel
        self.startedWriting = self.finished = 1
        if self.cookies:
            self.responseHeaders.setRawHeaders(b"Set-Cookie", self.cookies)
        channel.writeHeaders(self.clientproto, b"%d" % self.code, self.code_message, self.responseHeaders)
        channel.write(b"" if empty or self.method == b"HEAD" else body)
        self._cleanup()

    def finish(self) -> None:
        """Does what Twisted does, but not before the body has been received."""
        if self.stream is not None and not self.stream.ended:
            self._finishing = True
        else:
            super().finish()

    @property
    def _has_credentials(self) -> bool:
        """Whether the headers or the query string contain something that may be a token."""
        channel: Any = self.channel
        path: bytes = self.uri if self._complete else channel._path
        headers = self.requestHeaders
        return headers.hasHeader(b"authorization") or headers.hasHeader(b"cookie") or b"access_token=" in path

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


def _no_room() -> ServiceUnavailable:
    return ServiceUnavailable(
        "The server cannot store the body of the request now (server.body_spool_size); try again shortly.",
        headers={"Retry-After": "5"},
    )
