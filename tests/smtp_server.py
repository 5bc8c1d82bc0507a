"""Real SMTP servers on loopback, in threads, that keep what they receive and answer as they are told."""

import gc
import socket
import ssl
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from twisted.internet.threads import deferToThread


class Mailbox:
    """The handler of a server. *answer* returns the reply to a mail, None for 250. `mails` are the envelopes that were accepted."""

    def __init__(self, answer: Callable[[Any], str | None] = lambda envelope: None) -> None:
        self.answer = answer
        self.mails: list[Any] = []
        self.sessions: set[Any] = set()
        self.signed_in: list[tuple[bytes, bytes, str]] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address.startswith("unknown"):
            return "550 No such user here"
        if address.startswith("later"):
            return "451 Greylisted, try again"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.sessions.add(session.peer)
        answer = self.answer(envelope)
        if answer is None:
            self.mails.append(envelope)
        return answer or "250 Accepted"

    def __call__(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        self.signed_in.append((data.login, data.password, mechanism))
        return AuthResult(success=data.password == b"right", handled=False)

    def messages(self) -> list[EmailMessage]:
        """The mails as messages."""
        return [message_from_bytes(each.content, policy=default) for each in self.mails]  # type: ignore[misc]


@asynccontextmanager
async def mail_server(
    mailbox: Mailbox, *, tls: ssl.SSLContext | None = None, starttls: ssl.SSLContext | None = None, auth: bool = False
) -> AsyncIterator[int]:
    """A server. Yields its port."""
    controller = _controller(mailbox, tls, starttls, auth)
    controller.start()
    try:
        yield controller.port
    finally:
        # It waits until the clients, which may be in this process, have closed their connections.
        await deferToThread(controller.stop)
        # asyncio leaves connections whose handshake has failed to the garbage collector, which warns of them.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@contextmanager
def mail_server_for_processes(mailbox: Mailbox) -> Iterator[int]:
    """A server for clients in other processes. Yields its port."""
    controller = _controller(mailbox)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def _controller(
    mailbox: Mailbox, tls: ssl.SSLContext | None = None, starttls: ssl.SSLContext | None = None, auth: bool = False
) -> Controller:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    more: dict[str, Any] = {"tls_context": starttls} if starttls else {}
    if auth:
        warnings.filterwarnings("ignore", "Requiring AUTH")
        more |= {"authenticator": mailbox, "auth_require_tls": bool(starttls), "auth_required": True}
    return Controller(mailbox, hostname="127.0.0.1", port=port, ssl_context=tls, **more)


@contextmanager
def odd_server(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that calls *talk* with each connection, in a thread. Yields its port."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    try:
                        talk(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            done.set()
            # Its connections end when the reactor closes the other end, which it cannot do while this waits.
            listening.shutdown(socket.SHUT_RDWR)
