"""The admin app in Chromium: an app like that of Directus 8 works under its Content-Security-Policy, signs in with a cookie, loads an
extension, and reaches only its own server."""

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver.support.ui import WebDriverWait

from tests.conftest import KEY, field
from tests.daemon import Daemon
from tests.live.browser import needs_browser

EXTENSIONS = pathlib.Path(__file__).parents[2] / "plugins" / "stars" / "directus_tx_stars" / "extensions"
PAGE = """<!doctype html>
<html><head><meta charset="utf-8"><title>App</title>
<link rel="stylesheet" href="./css/app.91bc3f2a.css">
<script>window.inline = "ran & ran";</script>
</head><body><div id="app"></div><script src="./js/app.3f2a91bc.js"></script></body></html>
"""
SCRIPT = """
const compile = new Function("name", "return 'Hello ' + name");
const app = document.getElementById("app");
app.innerHTML = '<p id="text" style="color: rgb(1, 2, 3)">' + compile("you") + '</p><img id="image">'
  + '<img src="x" onerror="window.handler = true">';
const call = (method, path, body) => fetch(path, {method, headers: {"Content-Type": "application/json"}, credentials: "include",
  body: body && JSON.stringify(body)}).then(async (answer) => [answer.status, await answer.json()]);
const load = (path) => new Promise((done, failed) => {
  const script = document.createElement("script");
  script.onload = () => done(window.__DirectusExtension__);
  script.onerror = () => failed(new Error(path));
  script.src = path;
  document.head.append(script);
});
async function show(id) {
  const all = (await call("GET", "../interfaces?project=shop"))[1].data;
  const path = "../" + all.find((each) => each.id === id).path;
  const component = await load(path.replace("meta.json", "display.js"));
  return component.render.call({value: 2, options: {stars: 3}}, (tag, data, text) => text);
}
async function run() {
  const blob = new Blob([Uint8Array.from(atob("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"), (c) => c.charCodeAt(0))]);
  const image = document.getElementById("image");
  await new Promise((done) => { image.onload = image.onerror = done; image.src = URL.createObjectURL(blob); });
  const sign_in = {email: "admin@example.com", password: "password", mode: "cookie"};
  const foreign = await fetch(OTHER + "/server/ping", {mode: "no-cors"}).then(() => "reached", () => "refused");
  window.found = {
    inline: window.inline, handler: window.handler, image: image.naturalWidth, color: getComputedStyle(app.firstChild).color,
    weight: getComputedStyle(app).fontWeight, foreign,
    signed_in: (await call("POST", "../shop/auth/authenticate", sign_in))[0],
    me: (await call("GET", "../shop/users/me?fields=email"))[1].data.email,
    extension: await show("stars"),
    written: (await call("POST", "../shop/items/notes", {title: "from the app"}))[1].data.title,
  };
}
run().catch((error) => { window.found = {error: String(error)}; });
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with an app and a project."""
    root = tmp_path_factory.mktemp("app")
    found = Daemon(tmp_path_factory.mktemp("server"))
    other = found.base.replace("127.0.0.1", "localhost")
    files = {
        "index.html": PAGE,
        "js/app.3f2a91bc.js": f'const OTHER = "{other}";{SCRIPT}',
        "css/app.91bc3f2a.css": "#app {font-weight: 700}",
    }
    for name, content in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(content)
    found.environment |= {"DIRECTUS_SERVER_ADMIN_APP": os.fspath(root), "DIRECTUS_SERVER_EXTENSIONS": os.fspath(EXTENSIONS)}
    found.start()
    found.create_project("shop")
    found.call("POST", "/shop/collections", {"collection": "notes", "fields": [KEY, field("title")]})
    yield found
    found.stop()


def wait_for(browser: Any, script: str) -> Any:
    return WebDriverWait(browser, 30).until(lambda _: browser.execute_script(f"return {script}"))


@needs_browser
def test_an_app_runs_signs_in_and_writes_under_its_policy(daemon: Daemon, browser: Any) -> None:
    # The address goes to the app, and so does one that only the app knows.
    browser.get(f"{daemon.base}/")
    assert browser.current_url == f"{daemon.base}/admin/"
    found = wait_for(browser, "window.found")
    assert found == {
        "inline": "ran & ran",
        # An attribute that runs a script is what an attacker puts into a text.
        "handler": None,
        "image": 1,
        "color": "rgb(1, 2, 3)",
        "weight": "700",
        "foreign": "refused",
        "signed_in": 200,
        "me": "admin@example.com",
        "extension": "★★☆",
        "written": "from the app",
    }


@needs_browser
def test_other_pages_cannot_show_the_app_in_a_frame(daemon: Daemon, browser: Any, tmp_path: pathlib.Path) -> None:
    (tmp_path / "page.html").write_text(f'<iframe src="{daemon.base}/admin/"></iframe>')
    browser.get(f"file://{tmp_path}/page.html")
    wait_for(browser, "document.readyState === 'complete'")
    assert any("frame-ancestors" in entry["message"] for entry in browser.get_log("browser"))
