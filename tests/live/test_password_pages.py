"""The pages that links in mails lead to, in Chromium, with a real mail server."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from selenium.webdriver.common.by import By
from twisted.internet.threads import deferToThread

from tests.api.accounts import LINK
from tests.daemon import SUPER_ADMIN_TOKEN, TOKEN, Daemon, wait_for
from tests.live.browser import needs_browser
from tests.live.test_pages import complaints, wait_for_text
from tests.smtp_server import Mailbox, mail_server


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    found = Daemon(tmp_path_factory.mktemp("server")).start()
    yield found
    found.stop()


def make_project(daemon: Daemon, port: int) -> None:
    project = {
        "project": "shop",
        "super_admin_token": SUPER_ADMIN_TOKEN,
        "user_email": "admin@example.com",
        "user_password": "password",
        "user_token": TOKEN,
        "mail": {"host": "127.0.0.1", "port": port},
    }
    daemon.call("POST", "/server/projects", project, token=None)


def link_in(box: Mailbox, subject: str) -> str:
    """Waits for the mail with a subject, and returns its link."""
    wait_for(lambda: any(each["Subject"].startswith(subject) for each in box.messages()))
    (message,) = (each for each in box.messages() if each["Subject"].startswith(subject))
    body = message.get_body(("plain",))
    assert body is not None
    found = LINK.search(body.get_content())
    assert found is not None
    return found[0]


def fill(browser: Any, password: str, again: str) -> None:
    for name, value in (("password", password), ("again", again)):
        box = browser.find_element(By.NAME, name)
        box.clear()
        box.send_keys(value)
    browser.find_element(By.TAG_NAME, "button").click()


def signs_in(daemon: Daemon, email: str, password: str) -> bool:
    answer = daemon.call("POST", "/shop/auth/authenticate", {"email": email, "password": password}, token=None)
    return "token" in answer["data"]


def use_pages(daemon: Daemon, browser: Any, box: Mailbox) -> None:
    setting = daemon.call("GET", "/shop/settings?filter[key]=password_policy&single=1")["data"]["id"]
    daemon.call("PATCH", f"/shop/settings/{setting}", {"value": "/^.{8,}$/"})
    daemon.call("POST", "/shop/auth/password/request", {"email": "admin@example.com"}, token=None)
    daemon.call("POST", "/shop/users/invite", {"email": "guest@example.com", "role": 1})
    mails: tuple[tuple[str, str, Callable[[], bool]], ...] = (
        ("Choose a new password", "The password is set.", lambda: signs_in(daemon, "admin@example.com", "brand-new-secret")),
        ("Invitation", "You can sign in now.", lambda: signs_in(daemon, "guest@example.com", "brand-new-secret")),
    )
    for subject, done, works in mails:
        link = link_in(box, subject)
        # The host is not known to the server; the port is that of the first address it listens on.
        assert link.startswith(f"http://localhost:{daemon.base.rpartition(':')[2]}/shop/")
        link = f"{daemon.base}/{link.split('/', 3)[3]}"
        browser.get(link)
        assert "token" not in browser.current_url
        fill(browser, "brand-new-secret", "other")
        wait_for_text(browser, "output", "differ")
        fill(browser, "short", "short")
        wait_for_text(browser, "output", "password_policy")
        fill(browser, "brand-new-secret", "brand-new-secret")
        wait_for_text(browser, "output", done)
        assert works()
        # The browser also logs answers that refuse something.
        assert not [each for each in complaints(browser) if "Failed to load resource" not in each]
        browser.get(link)
        fill(browser, "brand-new-secret", "brand-new-secret")
        wait_for_text(browser, "output", "used" if "password" in subject else "accepted already")
        browser.get(link.partition("?")[0])
        wait_for_text(browser, "output", "has no token")


@needs_browser
@ensureDeferred
async def test_a_password_is_chosen_on_the_page_that_a_link_leads_to(daemon: Daemon, browser: Any) -> None:
    box = Mailbox()
    async with mail_server(box) as port:
        await deferToThread(make_project, daemon, port)
        await deferToThread(use_pages, daemon, browser, box)
        await deferToThread(daemon.stop)
