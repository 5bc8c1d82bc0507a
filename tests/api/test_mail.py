"""Mail: composing, sending to real servers, and servers that refuse, delay, hang or cannot be trusted."""

import secrets
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
import trustme
from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet import reactor

from directus_tx.checks import problems
from directus_tx.config import MailSettings, Settings
from directus_tx.db.connection import pause
from directus_tx.errors import InvalidPayload, InvalidRequest
from directus_tx.http.endpoints.mail import FEW
from directus_tx.mail import compose
from directus_tx.mail.addresses import in_ascii
from directus_tx.mail.compose import Mail, encoded, filled, mailbox
from directus_tx.mail.delivery import MailKind
from directus_tx.mail.server import MailServer, check_table
from directus_tx.mail.server import mail_server as configured
from directus_tx.mail.smtp import Mailer, MailFailed
from tests.api.outbox import all_ended, delivering, rows, until
from tests.conftest import SUPER_ADMIN_TOKEN, Client
from tests.smtp_server import Mailbox, mail_server, odd_server

NOW = datetime(2026, 11, 27, 6, 0, tzinfo=UTC)
SETTINGS = MailSettings(timeout=1.0)
BOB = mailbox("bob@example.com", "Bob")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


def parsed(mail: Mail) -> Any:
    data = encoded(mail, mailbox("sender@example.com"), NOW)
    assert data.isascii()
    assert max(len(line) for line in data.split(b"\r\n")) < 999
    assert b"\n" not in data.replace(b"\r\n", b"")
    return message_from_bytes(data, policy=default)


@given(TEXT, TEXT, TEXT)
def test_headers_and_texts_come_back_as_they_were_and_nothing_is_added(subject: str, name: str, text: str) -> None:
    message = parsed(Mail([mailbox("a@example.com", name)], subject, text))
    assert set(message.keys()) <= {
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "MIME-Version",
        "Content-Type",
        "Content-Transfer-Encoding",
    }
    assert [each.addr_spec for each in message["To"].addresses] == ["a@example.com"]
    assert message["Subject"].split() == compose._CONTROL.sub(" ", subject).split()
    expected = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    assert message.get_content().replace("\r", "").rstrip("\n") == expected.rstrip("\n")


PIECES = [
    "=?utf-8?q?",
    "=?utf-8?b?",
    "?=",
    "=0d=0a",
    "DQpCY2M6IHhAeS56",
    "DQoNCmJvZHk=",
    '"',
    "\\",
    "<x@example.com>",
    "@",
    ",",
    ";",
    ":",
    "(",
]
PIECES += ["[", ".", " ", "\t", "\r\n", "\u2028", "ä", "😀", "a", "b" * 30, "Smith, John"]
HOSTILE = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@example("=?utf-8?b?DQpCY2M6IHhAeS56?=", "=?utf-8?b?DQpCY2M6IHhAeS56?=", "=?utf-8?b?DQoNCmJvZHk=?=")
@example("=?utf-8?q?=0d=0aBcc:_x@y.z?=", "=?utf-8?q?=0d=0aBcc:_x@y.z?=", "=?utf-8?q?=0d=0a=0d=0abody?=")
@example("a" * 70 + '" <x@example.com>, "' + "b" * 70, "s", "a" * 70 + '" <x@example.com>, "' + "b" * 70)
@given(HOSTILE, HOSTILE, HOSTILE)
def test_no_text_in_a_header_becomes_another_header_or_address(name: str, subject: str, sender: str) -> None:
    to = [compose.Mailbox("a@example.com", name), compose.Mailbox("b@example.com", name)]
    author = compose.Mailbox("s@example.com", sender)
    message = parsed(Mail(to, subject, "text", sender=author, reply_to=author))
    assert [name for name in message if not name.startswith(("Content-", "MIME-"))] == [
        "From",
        "Reply-To",
        "To",
        "Subject",
        "Date",
        "Message-ID",
    ]
    assert [each.addr_spec for each in message["To"].addresses] == ["a@example.com", "b@example.com"]
    for header in ("From", "Reply-To"):
        assert [each.addr_spec for each in message[header].addresses] == ["s@example.com"]
    # Python's parser puts a blank between two encoded words of a name.
    shown = message["From"].addresses[0].display_name
    assert "".join(shown.split()) == "".join(compose._CONTROL.sub(" ", sender).split())
    assert message["Subject"].split() == compose._CONTROL.sub(" ", subject).split()
    assert message.get_content().strip() == "text"


@pytest.mark.parametrize(
    "injected", ["a\r\nBcc: x@example.com", "a\nBcc: x@example.com", "a\rBcc: x@example.com", "a\u2028Bcc: x"]
)
def test_line_ends_in_headers_are_blanks(injected: str) -> None:
    message = parsed(Mail([mailbox("a@example.com", injected)], injected, "text", sender=mailbox("s@example.com", injected)))
    assert "Bcc" not in message
    assert [each.addr_spec for each in message["From"].addresses] == ["s@example.com"]


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a",
        "a@example.com\r\nRCPT TO:<x@example.com>",
        "a b@example.com",
        "a@@example.com",
        "ä@example.com",
        "a@exam ple.com",
        "a@example.com, b@example.com",
        "<a@example.com>",
        "a@" + "x" * 260 + ".com",
        "a@exa\x00mple.com",
        "=?utf-8?q?a?=@example.com",
        "x.=?utf-8?b?DQpCY2M6IHhAeS56?=@example.com",
    ],
)
def test_addresses_that_mail_cannot_be_sent_to_are_refused(address: str) -> None:
    with pytest.raises(InvalidPayload):
        mailbox(address)


def test_long_addresses_are_refused_before_their_domain_is_encoded() -> None:
    class Domain(str):
        def encode(self, *_: Any) -> bytes:
            raise AssertionError

    class Text(str):
        def rpartition(self, _: Any) -> Any:
            return "a", "@", Domain("é" * 300)

    with pytest.raises(ValueError, match="not an e-mail address"):
        in_ascii(Text("a@" + "é." * 200 + "com"))


def test_names_of_domains_are_encoded() -> None:
    assert mailbox("a@bücher.example").addr_spec == "a@xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("body", "data", "shown"),
    [
        ("<b>{{name}}</b>", {"name": "<script>x</script>"}, "<b>&lt;script&gt;x&lt;/script&gt;</b>"),
        ("{{ a.b.c }}{{a.x}}{{n}}", {"a": {"b": {"c": 1}}, "n": None}, "1"),
        ('<a href="{{url}}" onclick="x">y</a>', {"url": "javascript:alert(1)"}, "<a>y</a>"),
        ('<a href="{{url}}">y</a>', {"url": "https://example.com/?a=b"}, '<a href="https://example.com/?a=b">y</a>'),
        ('<a href="{{url}}">y</a>', {"url": '"><img src=x>'}, None),
        ("<img src=x><style>p{}</style><iframe></iframe><p>a</p>", {}, "<p>a</p>"),
        ("{{a.b}}", {"a": [1]}, ""),
    ],
)
def test_html_of_callers_is_harmless(body: str, data: Any, shown: str | None) -> None:
    found = filled(body, data, html=True, most=1000)
    assert "<img" not in found
    assert "javascript" not in found
    if shown is not None:
        assert found == shown


def test_plain_texts_are_not_changed_otherwise() -> None:
    assert filled("<b> {{x}} & {{ y.z }}", {"x": "<i>", "y": {"z": 2}}, html=False, most=100) == "<b> <i> & 2"


@pytest.mark.parametrize("html", [True, False])
def test_the_length_counts_with_the_placeholders_replaced(html: bool) -> None:
    assert len(filled("{{a}}" * 10, {"a": "x" * 100}, html=html, most=1000)) == 1000
    for body, value in (("{{a}}" * 10 + "y", "x" * 100), ("{{a}}" * 10_000, "x" * 1_000_000)):
        with pytest.raises(InvalidRequest, match=r"mail\.max_size"):
            filled(body, {"a": value}, html=html, most=1000)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"transport": "smtp", "host": "h", "port": 2525}, MailServer("h", 2525)),
        ({"host": "h"}, MailServer("h", 25)),
        ({"host": "h", "encryption": "tls"}, MailServer("h", 587, "starttls")),
        ({"host": "h", "encryption": "ssl"}, MailServer("h", 465, "tls")),
        ({"host": "h", "encryption": "tls", "port": "465"}, MailServer("h", 465, "tls")),
        ({"host": "h", "encryption": "tls", "username": "u", "password": "p"}, MailServer("h", 587, "starttls", "u", "p")),
        ({"transport": "smtp"}, None),
        ({}, None),
    ],
)
def test_the_mail_server_is_that_of_the_project(table: Any, expected: MailServer | None) -> None:
    assert configured(table, "", MailSettings()) == expected


@pytest.mark.parametrize(
    "table",
    [
        {"host": 1},
        {"host": "h", "port": "x"},
        {"host": "h", "port": 70000},
        {"host": "h", "encryption": "md5"},
        {"host": "h", "password": 1},
    ],
)
def test_mistakes_in_the_table_of_a_project_are_named(table: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        check_table(table)


@pytest.mark.parametrize(
    "sender", ["shop", "Shop <shop@example.com>", "shöp@example.com", "a@" + "ü" * 80 + ".com", "a@-x.com", "a@x..y"]
)
def test_a_sender_that_is_no_address_is_named(sender: str) -> None:
    with pytest.raises(ValueError, match="mail_from is not an e-mail address"):
        configured({"host": "h"}, sender, MailSettings())
    with pytest.raises(ValueError, match=r"mail\.sender is not an e-mail address"):
        configured({}, "", MailSettings(host="h", sender=sender))


def test_another_transport_is_an_error_when_a_mail_is_to_be_sent() -> None:
    check_table({"transport": "sendmail", "host": "h", "more": 1})
    with pytest.raises(ValueError, match="must be smtp"):
        configured({"transport": "sendmail", "host": "h"}, "", MailSettings())


def test_a_password_is_not_sent_in_plain_text_to_another_machine() -> None:
    with pytest.raises(ValueError, match="encryption"):
        configured({"host": "mail.example.com", "username": "u", "password": "p"}, "", MailSettings())
    assert configured({"host": "127.0.0.1", "username": "u", "password": "p"}, "", MailSettings())


# sending


@pytest.fixture
def mailer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailer]:
    monkeypatch.setattr("directus_tx.mail.smtp.IDLE_TIMEOUT", 0.3)
    found = Mailer(reactor, SETTINGS)
    yield found
    found.close()


SHORT = b"Subject: x\r\n\r\nx\r\n"
DATA = b"Subject: x\r\n\r\n.\r\n..two\r\nlast" + b"\r\n." * 9000 + b"\r\n"


@ensureDeferred
async def test_mails_share_a_connection_and_arrive_as_they_were_sent(mailer: Mailer) -> None:
    box = Mailbox()
    async with mail_server(box) as port:
        server = MailServer("127.0.0.1", port)
        for number in range(3):
            reply = await mailer.send(server, "s@example.com", f"r{number}@example.com", DATA)
            assert (reply.code, reply.text) == (250, "Accepted")
        refused = await mailer.send(server, "s@example.com", "unknown@example.com", DATA)
        assert (refused.code, refused.accepted, refused.temporary) == (550, False, False)
        later = await mailer.send(server, "s@example.com", "later@example.com", DATA)
        assert (later.code, later.accepted, later.temporary) == (451, False, True)
        assert (await mailer.send(server, "s@example.com", "r3@example.com", DATA)).accepted
        assert [each.rcpt_tos for each in box.mails] == [[f"r{number}@example.com"] for number in range(4)]
        assert {each.original_content for each in box.mails} == {DATA}
        assert len(box.sessions) == 1


@ensureDeferred
async def test_a_kept_connection_that_the_server_has_closed_is_not_used(mailer: Mailer) -> None:
    connections: list[socket.socket] = []

    def one_mail(connection: socket.socket) -> None:
        connections.append(connection)
        for line in (b"220 hello", b"250 mail.example", b"250 OK", b"250 OK", b"354 Go", b"250 Accepted", b"250 Reset"):
            connection.sendall(line + b"\r\n")
            if line.startswith(b"354"):
                received = b""
                while not received.endswith(b"\r\n.\r\n"):
                    received += connection.recv(65536)
            elif not line.endswith(b"Reset"):
                connection.recv(4096)

    with odd_server(one_mail) as port:
        for number in range(3):
            assert (await mailer.send(MailServer("127.0.0.1", port), "s@example.com", "r@example.com", SHORT)).accepted
            await pause(reactor, 0.1)
            assert len(connections) == number + 1


def greeting(*lines: bytes) -> Any:
    """Sends a line after each one that arrives, and then waits until the client goes away."""

    def talk(connection: socket.socket) -> None:
        for line in lines:
            connection.sendall(line)
            if not connection.recv(4096):
                return
        while connection.recv(4096):
            pass

    return talk


@pytest.mark.parametrize(
    ("talk", "message"),
    [
        (lambda connection: None, "closed the connection"),
        (greeting(b""), "did not answer within 1 seconds"),
        (greeting(b"220 hello\r\n"), "did not answer within 1 seconds"),
        (greeting(b"554 go away\r\n"), "answered 554: go away"),
        (greeting(b"HTTP/1.1 400 Bad Request\r\n"), "answered|closed"),
        (greeting(b"220 hello\r\n", b"250 mail.example\r\n", b"250 OK\r\n", b"250 OK\r\n"), "did not answer in time"),
        (
            greeting(b"220 hello\r\n", b"250 mail.example\r\n", b"250 OK\r\n", b"250 OK\r\n", b"354 Go\r\n"),
            "did not answer in time",
        ),
    ],
)
@ensureDeferred
async def test_a_server_that_does_not_keep_to_smtp_is_an_error(mailer: Mailer, talk: Any, message: str) -> None:
    with odd_server(talk) as port, pytest.raises(MailFailed, match=message):
        await mailer.send(MailServer("127.0.0.1", port), "s@example.com", "r@example.com", DATA)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def context(authority: trustme.CA, name: str) -> ssl.SSLContext:
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(found)
    return found


@pytest.mark.parametrize("encryption", ["tls", "starttls"])
@pytest.mark.parametrize(
    ("name", "trusted", "message"),
    [("127.0.0.1", True, None), ("127.0.0.1", False, "TLS failed"), ("other.example", True, "TLS failed")],
)
@ensureDeferred
async def test_certificates_are_verified(
    authority: trustme.CA, tmp_path: Path, monkeypatch: Any, encryption: str, name: str, trusted: bool, message: str | None
) -> None:
    monkeypatch.setattr("directus_tx.mail.smtp.IDLE_TIMEOUT", 0.1)
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    mailer, box = Mailer(reactor, evolve(SETTINGS, ca_file=str(ca) if trusted else "")), Mailbox()
    options = {"tls" if encryption == "tls" else "starttls": context(authority, name)}
    try:
        async with mail_server(box, auth=encryption == "starttls", **options) as port:
            signed = ("user", "right") if encryption == "starttls" else ("", "")
            server = MailServer("127.0.0.1", port, encryption, *signed)
            sending = mailer.send(server, "s@example.com", "r@example.com", DATA)
            if message is None:
                assert (await sending).accepted
                assert len(box.mails) == 1
            else:
                with pytest.raises(MailFailed, match=message):
                    await sending
                assert not box.mails
                assert not box.signed_in
    finally:
        mailer.close()


@ensureDeferred
async def test_encryption_that_is_not_required_needs_no_certificate(authority: trustme.CA, mailer: Mailer) -> None:
    box = Mailbox()
    async with mail_server(box, starttls=context(authority, "other.example")) as port:
        assert (await mailer.send(MailServer("127.0.0.1", port), "s@example.com", "r@example.com", DATA)).accepted
        (envelope,) = box.mails
        assert envelope.original_content == DATA


@ensureDeferred
async def test_starttls_that_is_required_and_not_offered_is_an_error(mailer: Mailer) -> None:
    async with mail_server(Mailbox()) as port:
        with pytest.raises(MailFailed, match="does not offer STARTTLS"):
            await mailer.send(MailServer("127.0.0.1", port, "starttls"), "s@example.com", "r@example.com", DATA)


@ensureDeferred
async def test_signing_in(mailer: Mailer) -> None:
    box = Mailbox()
    async with mail_server(box, auth=True) as port:
        with pytest.raises(MailFailed, match=r"refused the user name or the password \(535\)") as wrong:
            await mailer.send(MailServer("127.0.0.1", port, "none", "user", "wr0ng"), "s@example.com", "r@example.com", DATA)
        assert "wr0ng" not in str(wrong.value)
        assert (
            await mailer.send(MailServer("127.0.0.1", port, "none", "user", "right"), "s@example.com", "r@example.com", DATA)
        ).accepted
        assert box.signed_in[-1][:2] == (b"user", b"right")
    async with mail_server(Mailbox()) as port:
        with pytest.raises(MailFailed, match="sign in"):
            await mailer.send(MailServer("127.0.0.1", port, "none", "user", "right"), "s@example.com", "r@example.com", DATA)


# through the API and the outbox


def use_server(client: Client, port: int, **more: Any) -> None:
    """Has the project use a mail server."""
    project = client.backend.projects.get(client.project)
    project.config = evolve(project.config, mail={"host": "127.0.0.1", "port": port, **more}, mail_from="project@example.com")
    client.backend.projects.files._read = {
        path: (stamp, project.config) for path, (stamp, _) in client.backend.projects.files._read.items()
    }


@ensureDeferred
async def test_a_mail_arrives_once_for_each_recipient_and_is_erased(client: Client, mailer: Mailer) -> None:
    box = Mailbox()
    async with mail_server(box) as port:
        use_server(client, port)
        async with delivering(client, MailKind(mailer)):
            body = {
                "to": ["a@example.com", 1, {"email": "b@example.com", "name": "B"}, "a@example.com"],
                "subject": "Hi",
                "body": "<p>t0p-secret</p>",
            }
            assert (await client.post("~/mail", body)).status == 204
            await all_ended(client)
        assert sorted(each.rcpt_tos[0] for each in box.mails) == ["a@example.com", "admin@example.com", "b@example.com"]
        assert len({each["Message-ID"] for each in box.messages()}) == 1
        message = box.messages()[0]
        assert message["From"].addresses[0].addr_spec == "admin@example.com"
        assert {each.mail_from for each in box.mails} == {"project@example.com"}
        assert message.get_body(("plain",)).get_content().strip() == "t0p-secret"
        assert "<p>t0p-secret</p>" in message.get_body(("html",)).get_content()
    assert await rows(client, "SELECT DISTINCT state, payload FROM directus_outbox") == [("delivered", None)]


@ensureDeferred
async def test_what_is_in_the_database_does_not_tell_the_mail(client: Client) -> None:
    await client.post("~/mail", {"to": "a@example.com", "subject": "subj3ct", "body": "t0p-secret"})
    ((payload,),) = await rows(client, "SELECT row_to_json(o)::text FROM directus_outbox AS o")
    assert not [word for word in ("t0p", "subj3ct", "a@example.com", "admin@example.com") if word in payload]


@ensureDeferred
async def test_a_project_without_a_mail_server_holds_its_mail_and_says_so(client: Client, mailer: Mailer) -> None:
    async with delivering(client, MailKind(mailer)):
        assert (await client.post("~/mail", {"to": "a@example.com", "body": "x"})).status == 204
        await all_ended(client)
        ((state, attempts, error),) = await rows(client)
        assert (state, attempts) == ("held", 1)
        assert "has no mail server" in error


@ensureDeferred
async def test_greylisting_and_refusals(client: Client, mailer: Mailer) -> None:
    answers = iter(["451 Greylisted", "421 Too busy", None])
    box = Mailbox(lambda envelope: next(answers))
    async with mail_server(box) as port:
        use_server(client, port)
        async with delivering(client, MailKind(mailer)):
            await client.post("~/mail", {"to": ["a@example.com"], "body": "x", "type": "plain"})
            await all_ended(client)
            await client.post("~/mail", {"to": ["unknown@example.com"], "body": "x", "type": "plain"})
            await all_ended(client)
    assert await rows(client) == [("delivered", 3, None), ("dead", 1, "The mail server answered 550.")]
    assert len(box.mails) == 1


@ensureDeferred
async def test_a_mail_waits_for_a_server_that_cannot_be_reached(client: Client, mailer: Mailer) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    use_server(client, port)
    async with delivering(client, MailKind(mailer)):
        await client.post("~/mail", {"to": "a@example.com", "body": "x"})

        async def tried() -> bool:
            return len(await rows(client, "SELECT FROM directus_outbox_attempts")) > 1

        await until(tried)
        ((state, _, error),) = await rows(client)
        assert (state, error) == ("pending", "The mail server refused the connection.")


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"to": "a@example.com", "body": "x", "type": "rtf"}, 4),
        ({"to": ["a@example.com"] * 101, "body": "x"}, 4),
        ({"to": "a@example.com", "body": "x" * (2**20 + 1)}, 4),
        ({"to": [f"a{n}@example.com" for n in range(20)], "body": "x" * 2**20}, 4),
        ({"to": ["a@example.com", None], "body": "x"}, 12),
        ({"to": -1, "body": "x"}, 12),
        ({"to": "a@example.com", "body": "x", "subject": "s" * 1001}, 4),
        ({"to": "a@example.com", "body": "{{a}}" * 2000, "data": {"a": "x" * 1000}}, 4),
        ({"to": {"email": "a@example.com", "name": "ü" * 201}, "body": "x"}, 12),
        ({"to": 2**70, "body": "x"}, 12),
        ({"to": {"email": "a@example.com\r\nBcc: b@example.com", "name": "n"}, "body": "x"}, 12),
    ],
)
@ensureDeferred
async def test_what_cannot_be_sent_is_refused(client: Client, payload: Any, code: int) -> None:
    answer = await client.post("~/mail", payload)
    assert (answer.status, answer.code) == (422, code)
    assert await rows(client) == []


@ensureDeferred
async def test_templates_of_the_project_replace_those_of_the_server(client: Client, mailer: Mailer) -> None:
    directory = client.backend.projects.files.directory / f"{client.project}.mail"
    directory.mkdir()
    (directory / "mail.html").write_text("<html>{{ project.name }}: {{ body }} {{ '<' }}</html>")
    box = Mailbox()
    async with mail_server(box) as port:
        use_server(client, port)
        async with delivering(client, MailKind(mailer)):
            await client.post("~/mail", {"to": "a@example.com", "body": "<i>x</i>"})
            await all_ended(client)
            assert box.messages()[0].get_body(("html",)).get_content().strip() == "<html>Test: <i>x</i> &lt;</html>"
            (directory / "mail.html").write_text("{% broken")
            assert (await client.post("~/mail", {"to": "a@example.com", "body": "x"})).status == 500
            (directory / "mail.html").write_text("{{ ''.__class__.__mro__ }}")
            assert (await client.post("~/mail", {"to": "a@example.com", "body": "x"})).status == 500
    assert len(await rows(client)) == 1


@pytest.mark.parametrize(
    "payload",
    [{"mail_from": "Shop <shop@example.com>"}, {"mail": {"host": "h", "port": "x"}}, {"mail": {"host": "h", "encryption": "x"}}],
)
@ensureDeferred
async def test_a_project_is_not_created_with_mail_settings_that_cannot_be_used(server: Client, payload: Any) -> None:
    project = {
        "project": f"t{secrets.token_hex(4)}",
        "super_admin_token": SUPER_ADMIN_TOKEN,
        "user_email": "admin@example.com",
        "user_password": "password",
    }
    answer = await server.post("/server/projects", project | payload, token=None)
    assert (answer.status, answer.code) == (422, 4), answer.body
    assert f'"{next(iter(payload))}"' in answer.json["error"]["message"]


def test_a_server_does_not_start_with_mail_settings_that_cannot_be_used(settings: Settings) -> None:
    assert problems(settings) == []
    wrong = MailSettings(host="mail.example.com", username="u", password="s3cret", encryption="none")
    assert problems(evolve(settings, mail=wrong)) == [
        "mail: a password must not be sent without encryption: set encryption to starttls or tls"
    ]


@pytest.mark.parametrize("tag", ["<b></p>", "<h1><b><i><a>", "<p>", "<", "<table><tr><td>"])
@ensureDeferred
async def test_html_with_many_tags_is_parsed_in_a_thread_and_with_too_many_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch, tag: str
) -> None:
    threads = []

    def recorded(work: Any) -> Any:
        def run(*arguments: Any, **options: Any) -> Any:
            threads.append(threading.current_thread() is threading.main_thread())
            return work(*arguments, **options)

        return run

    monkeypatch.setattr(compose, "filled", recorded(filled))
    monkeypatch.setattr(compose, "as_text", recorded(compose.as_text))
    few, many = FEW // tag.count("<"), compose.MAX_TAGS // tag.count("<")
    for number, status, at_once in ((few, 204, True), (FEW + 1, 204, False), (many, 204, False), (many + 1, 422, False)):
        threads.clear()
        answer = await client.post("~/mail", {"to": "a@example.com", "body": "x" + tag * number})
        assert (answer.status, set(threads)) == (status, {at_once}), answer.body
    assert "10000 tags" in answer.json["error"]["message"]
    references = "&" * compose.MAX_REFERENCES
    assert (await client.post("~/mail", {"to": "a@example.com", "body": references})).status == 204
    answer = await client.post("~/mail", {"to": "a@example.com", "body": references + "&"})
    assert (answer.status, "100000 character references" in answer.json["error"]["message"]) == (422, True)
    # In plain text they are no tags.
    plain = {"to": "a@example.com", "body": tag * (many + 1), "type": "plain"}
    assert (await client.post("~/mail", plain)).status == 204
