"""Sends mail by SMTP: one transaction for each recipient, over connections that serve several transactions one after the other."""

import socket
from io import BytesIO
from typing import Any

from attrs import frozen
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import defer
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError, TimeoutError
from twisted.internet.ssl import CertificateOptions, optionsForClientTLS
from twisted.mail.smtp import (
    AUTHDeclinedError,
    AUTHRequiredError,
    CramMD5ClientAuthenticator,
    EHLORequiredError,
    ESMTPClient,
    LOGINAuthenticator,
    PLAINAuthenticator,
    SMTPClientError,
    SMTPTimeoutError,
    TLSRequiredError,
)
from twisted.python.failure import Failure

from directus_tx.config import MailSettings
from directus_tx.mail.server import NONE, STARTTLS, TLS, MailServer
from directus_tx.outgoing.connecting import Trust
from directus_tx.outgoing.failures import tls_reason

IDLE_TIMEOUT = 5.0
"""Seconds for which a connection is kept for further mails."""

MAX_MAILS = 100
"""The number of mails after which a connection is replaced. Servers limit it, too."""


@frozen
class Reply:
    """The reply of a mail server to a mail: 250 if it was accepted. `text` is its text."""

    code: int
    text: str

    @property
    def accepted(self) -> bool:
        return 200 <= self.code < 300

    @property
    def temporary(self) -> bool:
        """Whether the server may accept the mail later."""
        return not self.accepted and not 500 <= self.code < 600


class MailFailed(Exception):
    """A mail server could not be used. The message says why. `lasting`: trying again is useless with these settings."""

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


class Mailer:
    """Sends mails. Connections are kept for IDLE_TIMEOUT seconds."""

    def __init__(self, reactor: Any, settings: MailSettings) -> None:
        self.reactor = reactor
        self.settings = settings
        self._idle: dict[MailServer, list[_Connection]] = {}

    async def send(self, server: MailServer, sender: str, recipient: str, data: bytes) -> Reply:
        """Sends a MIME message to one recipient and returns the reply of the server. *sender* is the address that bounces go to. Raises
        MailFailed, also if that takes longer than the time limit of the settings."""
        connection = self._kept(server)
        if connection is None:
            connection = await self._connected(server)
        try:
            reply = await connection.send(sender, recipient, data, self.settings.timeout)
        except BaseException:
            connection.abort()
            raise
        self._keep(server, connection)
        return reply

    def close(self) -> None:
        """Closes the connections that are kept."""
        for connections in self._idle.values():
            for each in connections:
                each.abort()
        self._idle.clear()

    def _tls(self, server: MailServer) -> Any:
        """Returns the options of TLS. Where encryption is not required, a certificate that cannot be verified is better than none."""
        if server.encryption == NONE:
            return CertificateOptions()
        trusted: Any = Trust(self.settings.ca_file)
        return optionsForClientTLS(server.host, trustRoot=trusted)

    def _kept(self, server: MailServer) -> "_Connection | None":
        connections = self._idle.get(server, [])
        while connections:
            connection = connections.pop()
            connection.take()
            if connection.open:
                return connection
        return None

    def _keep(self, server: MailServer, connection: "_Connection") -> None:
        if not connection.open or connection.sent >= MAX_MAILS:
            connection.quit()
            return
        self._idle.setdefault(server, []).append(connection)

        def close() -> None:
            connections = self._idle.get(server, [])
            if connection in connections:
                connections.remove(connection)
            if not connections:
                self._idle.pop(server, None)
            connection.quit()

        connection.rest(self.reactor.callLater(IDLE_TIMEOUT, close))

    async def _connected(self, server: MailServer) -> "_Connection":
        """Connects and signs in. Raises MailFailed."""
        tls = self._tls(server)
        endpoint: Any = HostnameEndpoint(self.reactor, server.host, server.port, timeout=self.settings.timeout)
        if server.encryption == TLS:
            endpoint = wrapClientTLS(tls, endpoint)
        connection = _Connection(server, tls)
        ready = connection.ready
        timer = self.reactor.callLater(self.settings.timeout, ready.cancel)
        try:
            connecting: defer.Deferred[Any] = connectProtocol(endpoint, connection)  # type: ignore[no-untyped-call]
            connecting.addErrback(connection.cannot_connect)
            await ready
        except defer.CancelledError:
            connecting.cancel()
            connection.abort()
            if timer.active():
                raise
            raise MailFailed(f"The mail server did not answer within {self.settings.timeout:g} seconds.") from None
        except Exception as error:
            connection.abort()
            raise explained(error) from error
        finally:
            if timer.active():
                timer.cancel()
        return connection


class _Connection(ESMTPClient):
    """A connection to a mail server. `ready` fires when the server can be sent a mail. `sent` counts the mails."""

    # The log of Twisted would hold passwords.
    debug = False

    def __init__(self, server: MailServer, tls: Any) -> None:
        secret = server.password.encode() if server.username else None
        super().__init__(secret, tls, socket.gethostname())  # type: ignore[no-untyped-call]
        self.requireAuthentication = bool(server.username)
        self.requireTransportSecurity = server.encryption == STARTTLS
        if server.username:
            name = server.username.encode()
            for authenticator in (CramMD5ClientAuthenticator, PLAINAuthenticator, LOGINAuthenticator):
                self.registerAuthenticator(authenticator(name))  # type: ignore[no-untyped-call]
        self.ready: defer.Deferred[None] = defer.Deferred()
        self.sent = 0
        self.open = False
        self._mail: tuple[str, str, bytes] | None = None
        self._reply: defer.Deferred[Reply] | None = None
        self._result: Reply | None = None
        self._lost = False
        self._resting: Any = None

    async def send(self, sender: str, recipient: str, data: bytes, timeout: float) -> Reply:
        """Sends a mail and returns the reply. *timeout*: seconds without progress. Raises MailFailed."""
        self._mail = (sender, recipient, data)
        self._reply = defer.Deferred()
        self.setTimeout(timeout)  # type: ignore[no-untyped-call]
        self.sent += 1
        super().smtpState_from(250, b"")  # type: ignore[no-untyped-call]
        return await self._reply

    def rest(self, timer: Any) -> None:
        """Keeps the connection open until *timer* runs out."""
        self.setTimeout(None)  # type: ignore[no-untyped-call]
        self._resting = timer

    def take(self) -> None:
        """Ends the rest."""
        if self._resting is not None and self._resting.active():
            self._resting.cancel()

    def cannot_connect(self, failure: Failure) -> None:
        """Makes `ready` fail."""
        if not self.ready.called:
            self.ready.errback(failure)

    def quit(self) -> None:
        """Ends the session."""
        self.take()
        if self.open:
            self.setTimeout(5.0)  # type: ignore[no-untyped-call]
            self._disconnectFromServer()  # type: ignore[no-untyped-call]

    def abort(self) -> None:
        self.take()
        self.open = False
        transport: Any = self.transport
        if self.connected and not self._lost:
            transport.abortConnection()

    # what Twisted calls

    def smtpState_from(self, code: int, resp: bytes) -> None:
        # Twisted resets the session after each mail and calls this when the server has confirmed it.
        self.open = True
        if not self.ready.called:
            self.ready.callback(None)
        self._end()

    def getMailFrom(self) -> bytes:
        assert self._mail is not None
        return self._mail[0].encode("ascii")

    def getMailTo(self) -> list[bytes]:
        assert self._mail is not None
        return [self._mail[1].encode("ascii")]

    def getMailData(self) -> BytesIO:
        assert self._mail is not None
        data = self._mail[2]
        stuffed = data.replace(b"\r\n.", b"\r\n..")
        return BytesIO(b"." + stuffed if stuffed.startswith(b".") else stuffed)

    def transformChunk(self, chunk: bytes) -> bytes:
        # `getMailData` has done it for the whole mail: a line may begin at the beginning of a chunk.
        self.resetTimeout()  # type: ignore[no-untyped-call]
        return chunk

    def sentMail(self, code: int, resp: Any, numOk: int, addresses: Any, log: Any) -> None:
        if addresses and not numOk:
            (_, code, resp), *_ = addresses
        text = resp.decode("utf-8", "replace") if isinstance(resp, bytes) else str(resp)
        self._result = Reply(code, text[:500])

    def sendError(self, exc: Any) -> None:
        self._fail(exc)
        super().sendError(exc)  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Any = None) -> None:
        self._lost = True
        tls = isinstance(reason.value, (SSL.Error, VerificationError))
        self._fail(reason.value if tls else MailFailed("The mail server closed the connection."))
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def _fail(self, error: BaseException) -> None:
        self.open = False
        self.cannot_connect(Failure(error))  # type: ignore[no-untyped-call]
        if self._result is not None:
            self._end()
        elif self._reply is not None:
            reply, self._reply = self._reply, None
            reply.errback(explained(error))

    def _end(self) -> None:
        """Passes on the reply to the mail, if there is one."""
        result, self._result = self._result, None
        if result is not None and self._reply is not None:
            reply, self._reply = self._reply, None
            reply.callback(result)


def explained(error: BaseException) -> MailFailed:
    """Returns the error for an error of a connection to a mail server, without anything that could hold a password."""
    if isinstance(error, MailFailed):
        return error
    if isinstance(error, SSL.Error):
        return MailFailed(f"TLS failed: {tls_reason(error)}.")
    if isinstance(error, AUTHDeclinedError):
        return MailFailed(f"The mail server refused the user name or the password ({error.code}).")
    for kind, text in _REASONS:
        if isinstance(error, kind):
            return MailFailed(text)
    if isinstance(error, SMTPClientError):
        text = error.resp.decode("utf-8", "replace") if isinstance(error.resp, bytes) else str(error.resp)
        return MailFailed(f"The mail server answered {error.code}: {text[:300]}")
    return MailFailed("The connection to the mail server was lost.")


_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (VerificationError, "TLS failed: the certificate of the mail server is not for its name."),
    (DNSLookupError, "The name of the mail server cannot be resolved."),
    (ConnectionRefusedError, "The mail server refused the connection."),
    (TimeoutError, "There was no connection to the mail server in time."),
    (ConnectError, "The connection to the mail server failed."),
    (TLSRequiredError, "The mail server does not offer STARTTLS."),
    (AUTHRequiredError, "The mail server does not offer a way to sign in that this server knows."),
    (EHLORequiredError, "The mail server does not speak ESMTP."),
    (SMTPTimeoutError, "The mail server did not answer in time."),
)
