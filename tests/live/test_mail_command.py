"""`directus mail test` as a real process, against real mail servers."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from tests.daemon import BIN, SUPER_ADMIN_TOKEN, Daemon
from tests.smtp_server import Mailbox, mail_server


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    found = Daemon(tmp_path_factory.mktemp("server")).start()
    yield found
    found.stop()


def create(daemon: Daemon, key: str, mail: dict[str, Any]) -> None:
    project = {
        "project": key,
        "super_admin_token": SUPER_ADMIN_TOKEN,
        "user_email": "admin@example.com",
        "user_password": "password",
        "mail_from": "shop@example.com",
        "mail": mail,
    }
    daemon.call("POST", "/server/projects", project, token=None)


def directus(daemon: Daemon, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(BIN / "directus"), "mail", "test", *arguments, "--data-dir", str(daemon.directory / "var")],
        capture_output=True,
        text=True,
        cwd=daemon.directory,
        timeout=60,
    )


@ensureDeferred
async def test_it_sends_a_mail_and_shows_what_the_server_says(daemon: Daemon) -> None:
    box = Mailbox()
    async with mail_server(box) as port:
        await deferToThread(create, daemon, "shop", {"transport": "smtp", "host": "127.0.0.1", "port": port})
        done = await deferToThread(directus, daemon, "somebody@example.com")
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"mail server 127.0.0.1:{port} (none) accepted the mail: 250 Accepted\n"
        (message,) = box.messages()
        assert (message["To"], message["From"]) == ("somebody@example.com", "shop@example.com")
        assert "works" in message.get_body(("plain",)).get_content()
        done = await deferToThread(directus, daemon, "somebody@example.com", "--json")
        assert json.loads(done.stdout) == {"server": f"127.0.0.1:{port}", "code": 250, "text": "Accepted"}
        for address, reason in (
            ("unknown@example.com", "550 No such user here"),
            ("later@example.com", "451 Greylisted, try again"),
        ):
            done = await deferToThread(directus, daemon, address, "--project", "shop")
            assert (done.returncode, done.stdout) == (1, "")
            assert reason in done.stderr
        done = await deferToThread(directus, daemon, "no address")
        assert (done.returncode, "e-mail address" in done.stderr) == (1, True)
    done = await deferToThread(directus, daemon, "somebody@example.com")
    assert (done.returncode, "refused the connection" in done.stderr) == (1, True)


def test_what_is_wrong_with_the_settings_is_said(daemon: Daemon) -> None:
    create(daemon, "none", {})
    create(daemon, "plain", {"host": "mail.example.com", "username": "u", "password": "s3cret"})
    for key, reason in (("none", "has no mail server"), ("plain", "set encryption"), ("nope", "no project nope")):
        done = directus(daemon, "somebody@example.com", "--project", key)
        assert (done.returncode, done.stdout) == (1, "")
        assert reason in done.stderr
        assert "s3cret" not in done.stderr
    done = directus(daemon, "somebody@example.com")
    assert (done.returncode, "name a project with --project: none, plain, shop" in done.stderr) == (1, True)
