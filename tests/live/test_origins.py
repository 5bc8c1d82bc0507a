"""Pages of other origins in a browser: those that the project names use a session cookie, all others can do nothing with it."""

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tomli_w

from tests.daemon import Daemon, wait_for
from tests.live.browser import needs_browser, pages

pytestmark = needs_browser

SIGN_IN = {"email": "admin@example.com", "password": "password", "mode": "cookie"}
ME = "/p/users/me?fields=id"
FETCH = """
const [method, url, body, done] = arguments;
fetch(url, {method, credentials: "include", headers: body ? {"Content-Type": "application/json"} : {}, body})
    .then(async answer => done([answer.status, await answer.json().catch(() => null)]), error => done([0, String(error)]));
"""
FORM = """
const form = document.createElement("form");
form.method = "post";
form.action = arguments[0];
form.innerHTML = "<input name=name value=form>";
document.body.append(form);
form.submit();
"""

Call = Callable[..., list[Any]]


@pytest.fixture
def page(tmp_path: pathlib.Path) -> pathlib.Path:
    """A directory with a page."""
    directory = tmp_path / "pages"
    directory.mkdir()
    (directory / "index.html").write_text("<!doctype html><title>A page</title>")
    return directory


@pytest.fixture
def daemon(tmp_path: pathlib.Path) -> Iterator[Daemon]:
    """A server that is not started yet."""
    found = Daemon(tmp_path)
    yield found
    assert found.stop() == 0


def start(daemon: Daemon, *origins: str, **more: Any) -> None:
    """Starts a server with a project that names origins and has a folder. *more* are other tables of the project file."""
    daemon.start()
    daemon.create_project("p")
    file = daemon.directory / "var" / "projects" / "p.toml"
    file.write_text(f"{file.read_text()}\n{tomli_w.dumps({'cors': {'origin': origins}, **more})}")
    daemon.call("POST", "/p/folders", {"name": "made"})


@pytest.fixture
def call(daemon: Daemon, browser: Any) -> Call:
    """Has the page that the browser shows make a request with credentials. Returns the status and the body of the answer as the page sees
    them; the status is 0 where the page does not see an answer."""
    browser.set_script_timeout(60)

    def work(method: str, path: str, body: Any = None) -> list[Any]:
        text = None if body is None else json.dumps(body)
        found: list[Any] = browser.execute_async_script(FETCH, method, daemon.base + path, text)
        return found

    return work


def use(call: Call, name: str) -> None:
    """Signs in, reads, writes, and signs out, as a page that is allowed to."""
    assert call("GET", ME)[0] == 401
    assert call("POST", "/p/auth/authenticate", SIGN_IN)[0] == 200
    assert call("GET", ME) == [200, {"data": {"id": 1}}]
    assert call("GET", "/p/auth/check")[1]["data"] == {"authenticated": True}
    assert call("PATCH", "/p/folders/1", {"name": name}) == [200, {"data": {"id": 1, "name": name, "parent_folder": None}}]
    assert call("POST", "/p/auth/logout", {})[0] == 200
    assert call("GET", ME)[0] == 401


def attack(daemon: Daemon, browser: Any, call: Call) -> None:
    """Has the page that the browser shows try what use() does, and send a form. It sees no answer, and nothing is written: its requests are
    those of the public."""
    for method, path, body in (
        ("GET", ME, None),
        ("POST", "/p/folders", {"name": "foreign"}),
        ("PATCH", "/p/folders/1", {"name": "foreign"}),
        ("DELETE", "/p/folders/1", None),
        ("POST", "/p/auth/logout", {}),
        ("POST", "/p/auth/authenticate", SIGN_IN),
    ):
        assert call(method, path, body)[0] == 0, (browser.current_url, path)
    # A form, whose request needs no permission of the server.
    browser.execute_script(FORM, f"{daemon.base}/p/folders")
    wait_for(lambda: "error" in browser.page_source)


def test_pages_of_a_named_origin_use_the_cookie_and_others_cannot(
    daemon: Daemon, page: pathlib.Path, browser: Any, call: Call
) -> None:
    """Pages of the named origin; of another port of the same host, to whose requests the browser adds the cookie; and of another site."""
    with pages(page) as named, pages(page) as foreign:
        start(daemon, f"http://127.0.0.1:{named}")
        browser.get(f"http://127.0.0.1:{named}/")
        use(call, "changed")
        assert call("POST", "/p/auth/authenticate", SIGN_IN)[0] == 200
        # Scripts do not see the cookie, not even those of the server's own origin.
        browser.get(f"{daemon.base}/p/docs/")
        assert browser.execute_script("return document.cookie") == ""
        assert call("GET", ME) == [200, {"data": {"id": 1}}]
        for origin in (f"http://127.0.0.1:{foreign}/", f"http://localhost:{foreign}/", f"http://localhost:{named}/"):
            browser.get(origin)
            attack(daemon, browser, call)
        # The cookie still signs in, and nothing has been written.
        browser.get(f"http://127.0.0.1:{named}/")
        assert call("GET", "/p/folders?fields=name") == [200, {"data": [{"name": "changed"}]}]


def test_pages_of_a_named_origin_of_another_site_use_the_cookie_where_same_site_is_none(
    daemon: Daemon, page: pathlib.Path, browser: Any, call: Call
) -> None:
    """localhost is another site than 127.0.0.1. The browser takes both for as safe as https."""
    daemon.environment["DIRECTUS_SESSIONS_SAME_SITE"] = "none"
    with pages(page) as named, pages(page) as foreign:
        start(daemon, f"http://localhost:{named}")
        browser.get(f"http://localhost:{named}/")
        use(call, "changed")
        assert call("POST", "/p/auth/authenticate", SIGN_IN)[0] == 200
        # The browser adds the cookie to the requests of all pages now, and only the server tells them apart.
        for origin in (f"http://localhost:{foreign}/", f"http://127.0.0.1:{foreign}/", f"http://127.0.0.1:{named}/"):
            browser.get(origin)
            attack(daemon, browser, call)
        browser.get(f"http://localhost:{named}/")
        assert call("GET", "/p/folders?fields=name") == [200, {"data": [{"name": "changed"}]}]


def test_pages_of_another_site_get_no_cookie_otherwise(daemon: Daemon, page: pathlib.Path, browser: Any, call: Call) -> None:
    """Also not those of a named origin: the browser does not store the cookie."""
    with pages(page) as named:
        start(daemon, f"http://localhost:{named}")
        browser.get(f"http://localhost:{named}/")
        assert call("POST", "/p/auth/authenticate", SIGN_IN)[0] == 200
        assert call("GET", ME)[0] == 401
        assert browser.execute_cdp_cmd("Network.getAllCookies", {})["cookies"] == []


def test_pages_of_other_sites_read_what_the_public_may_read_and_use_tokens(
    daemon: Daemon, page: pathlib.Path, browser: Any, call: Call
) -> None:
    """Where the project names no origins. A page that has a token needs no cookie."""
    with pages(page) as foreign:
        start(daemon, "*")
        browser.get(f"http://localhost:{foreign}/")
        assert call("GET", "/p/")[1]["public"] is True
        assert call("POST", "/p/auth/authenticate", SIGN_IN)[0] == 401
        status, body = call("POST", "/p/auth/authenticate", {**SIGN_IN, "mode": "jwt"})
        assert status == 200
        assert call("GET", f"{ME}&access_token={body['data']['token']}") == [200, {"data": {"id": 1}}]
