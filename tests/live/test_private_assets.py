"""Private assets and uploads to a bucket in a browser."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
import tomli_w

from tests.bucket import bucket
from tests.daemon import TOKEN, Daemon
from tests.live.browser import needs_browser, pages
from tests.live.test_documents import blocks

pytestmark = needs_browser

ROOT = pathlib.Path(__file__).parents[2]
GIF = "R0lGODlhAQABAIAAAAUEBAAAACwAAAAAAQABAAACAkQBADs="
LOAD = """
const [url, done] = arguments;
const picture = new Image();
picture.onload = () => done(picture.naturalWidth);
picture.onerror = () => done(0);
picture.src = url;
"""
SIGN_IN = """
const [url, done] = arguments;
const body = JSON.stringify({email: "admin@example.com", password: "password", mode: "cookie"});
fetch(url, {method: "POST", credentials: "include", headers: {"Content-Type": "application/json"}, body})
    .then(answer => done(answer.status), error => done(String(error)));
"""
UPLOAD = """
const [api, token, done] = arguments;
const file = new File([new Uint8Array(100000).fill(65)], "letters.txt", {type: "text/plain"});
upload(api, token, file, {title: "Letters"}).then(done, error => done(String(error)));
"""


@pytest.fixture
def page(tmp_path: pathlib.Path) -> Iterator[str]:
    """The URL of a page of another origin, whose requests have no cookies unless the project names it."""
    directory = tmp_path / "pages"
    directory.mkdir()
    (directory / "index.html").write_text("<!doctype html><title>A page</title>")
    with pages(directory) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def daemon(tmp_path: pathlib.Path) -> Iterator[Daemon]:
    """A server that is not started yet."""
    found = Daemon(tmp_path)
    yield found
    assert found.stop() == 0


def start(daemon: Daemon, page: str, **more: Any) -> None:
    """Starts a server with a project that names the origin of the page. *more* are other tables of the project file."""
    daemon.start()
    daemon.create_project("p")
    file = daemon.directory / "var" / "projects" / "p.toml"
    file.write_text(f"{file.read_text()}\n{tomli_w.dumps({'cors': {'origin': [page]}, **more})}")


def test_pictures_are_shown_to_who_is_signed_in_or_has_a_signed_address(daemon: Daemon, page: str, browser: Any) -> None:
    start(daemon, page)
    daemon.call("POST", "/p/settings", {"key": "private_assets", "value": True})
    body = {"filename_disk": "a.gif", "filename_download": "a.gif", "data": GIF}
    file = daemon.call("POST", "/p/files", body)["data"]
    private = [daemon.base + each for each in (file["data"]["url"], file["data"]["asset_url"])]
    shared = daemon.call("POST", f"/p/files/{file['id']}/share", {"seconds": 600})["data"]["url"]
    small = daemon.call("POST", f"/p/files/{file['id']}/share", {"seconds": 600, "key": "thumbnail"})["data"]["url"]
    browser.set_script_timeout(60)
    browser.get(f"{page}/")

    def width(url: str) -> int:
        return int(browser.execute_async_script(LOAD, url))

    assert [width(each) for each in private] == [0, 0]
    assert (width(shared), width(small)) == (1, 200)
    assert width(f"{small}&w=1") == 0
    assert browser.execute_async_script(SIGN_IN, f"{daemon.base}/p/auth/authenticate") == 200
    assert [width(each) for each in private] == [1, 1]
    daemon.call("PATCH", f"/p/files/{file['id']}", {"private_hash": "another"})
    assert width(f"{shared}&again") == 0


def test_pages_of_other_sites_cannot_embed_what_the_visitor_may_read(daemon: Daemon, page: str, browser: Any) -> None:
    """The browser adds the cookie to the requests of all pages. Only those of named origins, and of the server itself, see the picture."""
    daemon.environment["DIRECTUS_SESSIONS_SAME_SITE"] = "none"
    start(daemon, page)
    body = {"filename_disk": "a.gif", "filename_download": "a.gif", "data": GIF}
    file = daemon.call("POST", "/p/files", body)["data"]
    addresses = [daemon.base + each for each in (file["data"]["url"], f"{file['data']['asset_url']}?key=thumbnail")]
    browser.set_script_timeout(60)

    def widths(origin: str, more: str = "") -> list[int]:
        browser.get(f"{origin}/")
        return [int(browser.execute_async_script(LOAD, f"{each}{'&' if '?' in each else '?'}{more}")) for each in addresses]

    # localhost is another site than 127.0.0.1.
    foreign = page.replace("127.0.0.1", "localhost")
    assert widths(foreign) == [1, 200]
    daemon.call("POST", "/p/settings", {"key": "private_assets", "value": True})
    browser.get(f"{page}/")
    assert browser.execute_async_script(SIGN_IN, f"{daemon.base}/p/auth/authenticate") == 200
    assert widths(page, "private") == [1, 200]
    assert widths(f"{daemon.base}/p/docs", "private") == [1, 200]
    assert widths(foreign, "private") == [0, 0]
    assert widths(foreign, f"access_token={TOKEN}") == [1, 200]
    shared = daemon.call("POST", f"/p/files/{file['id']}/share", {"seconds": 600})["data"]["url"]
    assert browser.execute_async_script(LOAD, shared) == 1


def test_the_page_on_files_uploads_to_a_bucket(daemon: Daemon, page: str, browser: Any) -> None:
    (program,) = [each for each in blocks((ROOT / "docs/files.rst").read_text(), "javascript") if "function upload" in each]
    with bucket() as found:
        start(daemon, page, storage=found.settings())
        browser.set_script_timeout(60)
        browser.get(f"{page}/")
        made = browser.execute_async_script(f"{program}\n{UPLOAD}", f"{daemon.base}/p", TOKEN)
        assert isinstance(made, dict), made
        assert (made["title"], made["filesize"], made["type"]) == ("Letters", 100_000, "text/plain")
        (name,) = found.objects()
        assert name.startswith("p/originals/"), json.dumps(found.objects())
