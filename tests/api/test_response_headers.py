"""The headers of answers for browsers: all answers have them, whatever they answer."""

import pathlib
import socket
import urllib.parse

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from directus_tx.config import Settings
from tests.conftest import TOKEN, Client, Reply, field

DENY = "default-src 'none'; frame-ancestors 'none'"


@pytest.fixture
def settings(settings: Settings, tmp_path: pathlib.Path) -> Settings:
    (tmp_path / "index.html").write_text("<p>app</p>")
    server = evolve(settings.server, hsts_max_age=3600, trusted_proxies=("127.0.0.1",), admin_app=str(tmp_path))
    return evolve(settings, server=server)


def policy_of(answer: Reply) -> str:
    """Checks the headers of an answer that do not depend on it, and returns its policy."""
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] in ("same-origin", "no-referrer")
    assert answer.headers["server"] == "directus_tx"
    found = answer.headers["content-security-policy"]
    framed = "SAMEORIGIN" if found != DENY else "DENY"
    assert answer.headers["x-frame-options"] == framed
    assert "frame-ancestors '" in found
    return found


@ensureDeferred
async def test_all_answers_but_pages_run_nothing(client: Client) -> None:
    await client.collection("notes", field("name"))
    for number in range(3):
        assert (await client.post("~/items/notes", {"name": "x" * number})).status == 200
    tag = (await client.get("~/items/notes/1")).headers["etag"]
    answers = [
        await client.get("~/items/notes/1"),
        await client.get("~/items/notes/1", headers={"If-None-Match": tag}),
        await client.get("~/items/notes?limit=-1"),
        await client.get("~/items/notes?export=csv"),
        await client.get("~/items/notes", token=None),
        await client.get("~/items/nothing"),
        await client.get("/nothing/items/nothing"),
        await client.get("~//x"),
        await client.delete("~/items/notes/2"),
        await client.call("OPTIONS", "~/items/notes"),
        await client.call("HEAD", "~/items/notes"),
        await client.call("POST", "~/items/notes", b"{"),
        await client.call("POST", "~/items/notes", b"x" * 5_000_000),
        await client.get("/server/ping", token=None),
        await client.get("/server/info", token=None),
        await client.get("/health", token=None),
        await client.get("~/specs/oas"),
    ]
    assert {answer.status for answer in answers} >= {200, 204, 304, 400, 401, 404, 413, 422}
    assert {policy_of(answer) for answer in answers} == {DENY}


@ensureDeferred
async def test_pages_have_policies_of_their_own(client: Client) -> None:
    for path in ("~/docs/", "~/docs/reference.js", "~/docs/swagger-ui.css", "/admin/"):
        answer = await client.get(path, token=None, headers={"Accept": "text/html"})
        assert answer.status == 200, path
        found = policy_of(answer)
        assert found != DENY
        assert "default-src 'self'" in found or "default-src 'none'" in found
        scripts = found.partition("script-src")[2].partition(";")[0]
        assert "'unsafe-inline'" not in scripts


@ensureDeferred
async def test_strict_transport_security_is_sent_by_https_only(client: Client) -> None:
    for path in ("~/items/nothing", "/server/ping", "/admin/"):
        by_https = await client.get(path, headers={"X-Forwarded-Proto": "https"})
        assert by_https.headers["strict-transport-security"] == "max-age=3600", path
        assert "strict-transport-security" not in (await client.get(path)).headers, path


@ensureDeferred
async def test_refusals_of_requests_that_are_none_have_the_headers_too(server: Client) -> None:
    address = urllib.parse.urlsplit(server.base)

    def ask() -> bytes:
        with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            return b"".join(iter(lambda: connection.recv(65536), b""))

    head = (await deferToThread(ask)).partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 400 ")
    for line in (b"X-Content-Type-Options: nosniff", b"X-Frame-Options: DENY", b"Content-Security-Policy: default-src 'none'"):
        assert line in head


class TestByDefault:
    """A server without the settings."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return evolve(settings, server=evolve(settings.server, hsts_max_age=0))

    @ensureDeferred
    async def test_strict_transport_security_is_not_sent(self, client: Client) -> None:
        answer = await client.get("~/items/nothing", headers={"X-Forwarded-Proto": "https"}, token=TOKEN)
        assert "strict-transport-security" not in answer.headers
