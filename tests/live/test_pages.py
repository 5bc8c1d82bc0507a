"""The pages for browsers, in Chromium, and the OpenAPI document in the tools that its readers use."""

import json
import os
import pathlib
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.conftest import KEY, field
from tests.daemon import Daemon
from tests.live.browser import needs_browser

NODE_TOOLS = pathlib.Path(sys.prefix) / "node" / "node_modules" / ".bin"
PATIENCE = 30


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A running daemon with a public project that has related collections, and a private project."""
    found = Daemon(tmp_path_factory.mktemp("server")).start()
    found.create_project("shop")
    attributes = {"project": "hidden", "private": True, "super_admin_token": found.environment["DIRECTUS_SUPER_ADMIN_TOKEN"]}
    found.call("POST", "/server/projects", attributes | {"user_email": "a@example.com", "user_password": "password"})
    notes = [
        KEY,
        field("title", note="Shown <above> the text"),
        field("maker", "m2o", "INT", 11),
        field("extra", "json", "TEXT", None),
    ]
    makers = [KEY, field("name"), {"field": "notes", "type": "o2m"}]
    found.call("POST", "/shop/collections", {"collection": "notes", "fields": notes})
    found.call("POST", "/shop/collections", {"collection": "makers", "fields": makers})
    relation = {"collection_many": "notes", "field_many": "maker", "collection_one": "makers", "field_one": "notes"}
    found.call("POST", "/shop/relations", relation)
    found.call("POST", "/shop/items/notes", {"title": "Shown in the browser", "maker": {"name": "Ada"}})
    yield found
    found.stop()


def wait_for_element(browser: Any, selector: str) -> Any:
    """Returns the first element of a CSS selector when it is shown."""
    return WebDriverWait(browser, PATIENCE).until(
        lambda _: next((each for each in browser.find_elements(By.CSS_SELECTOR, selector) if each.is_displayed()), False)
    )


def wait_for_text(browser: Any, selector: str, text: str) -> None:
    """Waits until an element of a CSS selector shows a text."""
    WebDriverWait(browser, PATIENCE, ignored_exceptions=[Exception]).until(
        lambda _: any(text in each.text for each in browser.find_elements(By.CSS_SELECTOR, selector)), f"{text} in {selector}"
    )


def complaints(browser: Any) -> list[str]:
    """What the browser has logged, for example violations of the Content-Security-Policy."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def sign_in(browser: Any, password: str) -> None:
    for name, value in (("email", "admin@example.com"), ("password", password)):
        box = wait_for_element(browser, f"#sign-in [name={name}]")
        box.clear()
        box.send_keys(value)
    wait_for_element(browser, "#sign-in button").click()


@needs_browser
def test_the_start_page_leads_to_the_reference_of_public_projects(daemon: Daemon, browser: Any) -> None:
    browser.get(f"{daemon.base}/")
    assert browser.title == "directus_tx"
    assert "hidden" not in browser.page_source
    wait_for_element(browser, 'a[href="./shop/docs/"]').click()
    wait_for_text(browser, "#reference", "specs")
    assert complaints(browser) == []
    assert browser.current_url == f"{daemon.base}/shop/docs/"


@needs_browser
def test_in_the_reference_one_signs_in_and_tries_a_request(daemon: Daemon, browser: Any) -> None:
    # Without the slash at the end, as people type it.
    browser.get(f"{daemon.base}/shop/docs")
    wait_for_element(browser, "#operations-auth-post_auth_authenticate, .opblock-tag-section")
    assert "List items" not in browser.page_source
    sign_in(browser, "wrong")
    wait_for_text(browser, "#refused", ".")
    assert any("404" in each for each in complaints(browser))
    sign_in(browser, "password")
    wait_for_text(browser, "#signed-in", "admin@example.com")
    wait_for_element(browser, '[data-tag="notes"] button, #operations-tag-notes button').click()
    wait_for_element(browser, "#operations-notes-get_items_notes button.opblock-summary-control").click()
    wait_for_element(browser, "#operations-notes-get_items_notes .try-out__btn").click()
    button = wait_for_element(browser, "#operations-notes-get_items_notes button.execute")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    wait_for_text(browser, "#operations-notes-get_items_notes .live-responses-table", "Shown in the browser")
    browser.execute_script("window.scrollTo(0, 0)")
    wait_for_element(browser, "#sign-out").click()
    wait_for_element(browser, "#sign-in")
    WebDriverWait(browser, PATIENCE).until(lambda _: not browser.find_elements(By.CSS_SELECTOR, "#operations-tag-notes"))
    assert complaints(browser) == []


def get(daemon: Daemon, path: str, **headers: str) -> tuple[int, Any, bytes]:
    """Returns status, headers and body, without following redirects."""

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    request = urllib.request.Request(daemon.base + path, headers={name.replace("_", "-"): text for name, text in headers.items()})
    try:
        with urllib.request.build_opener(NoRedirect).open(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def test_only_browsers_get_pages(daemon: Daemon) -> None:
    status, headers, _ = get(daemon, "/", Accept="*/*")
    assert (status, headers["Location"]) == (302, "./admin/")
    status, headers, body = get(daemon, "/", Accept="text/html,application/xhtml+xml;q=0.9")
    assert (status, headers["Content-Type"], b"shop" in body) == (200, "text/html; charset=utf-8", True)
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    status, headers, _ = get(daemon, "/shop/docs")
    assert (status, headers["Location"]) == (302, "./docs/")


def test_files_of_the_reference_are_compressed_for_clients_that_take_it(daemon: Daemon) -> None:
    plain = get(daemon, "/shop/docs/swagger-ui-bundle.js")
    small = get(daemon, "/shop/docs/swagger-ui-bundle.js", Accept_Encoding="gzip")
    assert (plain[1]["Content-Encoding"], small[1]["Content-Encoding"]) == (None, "gzip")
    assert len(small[2]) < len(plain[2]) / 2
    assert plain[1]["Content-Type"] == "text/javascript; charset=utf-8"


@pytest.mark.parametrize(
    "name", ["nothing.js", "..%2Fstart.html", "%2e%2e/__init__.py", "__init__.py", "index.css", "swagger-ui.js"]
)
def test_no_other_files_are_served(daemon: Daemon, name: str) -> None:
    status, _, body = get(daemon, f"/shop/docs/{name}")
    assert (status, json.loads(body)["error"]["code"]) == (404, 1)


def test_there_is_no_reference_of_a_project_that_does_not_exist(daemon: Daemon) -> None:
    assert get(daemon, "/nothing/docs/")[0] == 401


@pytest.fixture(scope="module")
def documents(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> list[pathlib.Path]:
    """The OpenAPI documents for an administrator and for the public."""
    directory = tmp_path_factory.mktemp("documents")
    for name, token in (("admin", "daemon-token"), ("public", None)):
        (directory / f"{name}.json").write_text(json.dumps(daemon.call("GET", "/shop/specs/oas", token=token)))
    return sorted(directory.iterdir())


def run(tool: str, *arguments: str, cwd: pathlib.Path) -> None:
    """Runs a tool of node. Skips the test where it is not installed; fails with what the tool says."""
    if not (NODE_TOOLS / tool).exists():
        pytest.skip(f"{tool} is not installed; `make test` installs it if there is npm")
    environment = os.environ | {"NODE_NO_WARNINGS": "1"}
    done = subprocess.run(
        [str(NODE_TOOLS / tool), *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_spectral_has_nothing_to_say_about_the_document(documents: list[pathlib.Path], tmp_path: pathlib.Path) -> None:
    (tmp_path / ".spectral.yaml").write_text('extends: ["spectral:oas"]\n')
    run("spectral", "lint", "--fail-severity=hint", *map(str, documents), cwd=tmp_path)


USE = """
import type { components, paths } from "./api";

type Note = components["schemas"]["notes"];
const title: Note["title"] = "text";
// @ts-expect-error: a title is a text.
const wrong: Note["title"] = 5;
type Created = paths["/items/notes"]["post"]["requestBody"]["content"]["application/json"];
const created: Created = { title: "text", maker: { name: "Ada", notes: [1, { title: "other" }] } };
type Answer = paths["/items/notes"]["get"]["responses"]["200"]["content"]["application/json"];
export const titles = (answer: Answer) => answer.data.map((note) => note.title);
export const next = (answer: Answer): string | null | undefined => answer.meta?.next_cursor ?? answer.meta?.links?.next;
// @ts-expect-error: a cursor is a text.
export const counted = (answer: Answer): number | undefined => answer.meta?.next_cursor;
type Collection = components["schemas"]["directus_collections.Payload"];
const indexed: Collection = { indexes: [{ fields: ["title"], where: { title: { eq: "text" } } }] };
export { created, indexed, title, wrong };
"""


def test_types_made_of_the_document_compile(documents: list[pathlib.Path], tmp_path: pathlib.Path) -> None:
    run("openapi-typescript", str(documents[0]), "-o", str(tmp_path / "api.ts"), cwd=tmp_path)
    (tmp_path / "use.ts").write_text(USE)
    run("tsc", "--noEmit", "--strict", "use.ts", cwd=tmp_path)
