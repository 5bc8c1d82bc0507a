"""Uploaded files that try to run a script, in Chromium. The pages that open them have the server's own origin and no
Content-Security-Policy, as if a proxy served a site and the server under one name."""

import base64
import html
import http.client
import http.server
import io
import json
import re
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from PIL import Image
from selenium.webdriver.support.ui import WebDriverWait

from tests.daemon import Daemon, wait_for
from tests.live.browser import chromium, needs_browser

pytestmark = needs_browser

PATIENCE = 60

SCRIPT = """
for (const work of [
    () => { new Image().src = "BASE/ran/NAME" },
    () => { fetch("BASE/ran/NAME", {mode: "no-cors"}) },
    () => { navigator.sendBeacon("BASE/ran/NAME") },
    () => { top.ran = (top.ran || "") + " NAME" },
    () => { localStorage.ran = "NAME" },
    () => { document.cookie = "ran=NAME" },
    () => { document.title = "ran" },
    () => { postMessage(1) },
]) try { work() } catch (error) {}
""".replace("\n", " ")
"""Tells that it has run in each way that a page has."""

SVG = "http://www.w3.org/2000/svg"
XHTML = "http://www.w3.org/1999/xhtml"
XSL = "http://www.w3.org/1999/XSL/Transform"
GIF = b"GIF89a/*\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;*/=1;"
BMP = b"BM/*" + bytes(60) + b"*/=1;"
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\
 3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\ntrailer<</Root 1 0 R>>\n"


def stylesheet(script: str) -> str:
    """An XSLT stylesheet that makes a page with a script."""
    return (
        f'<xsl:stylesheet version="1.0" xmlns:xsl="{XSL}"><xsl:template match="/"><html xmlns="{XHTML}"><body>'
        f"<script>{html.escape(script)}</script></body></html></xsl:template></xsl:stylesheet>"
    )


def hostile(base: str, sheet: str) -> dict[str, bytes]:
    """Files by their names; each has a script that asks for /ran/ and its name at *base*. *sheet* is the address of an XSLT stylesheet."""
    found: dict[str, bytes] = {}

    def add(name: str, make: Any) -> None:
        made = make(SCRIPT.replace("BASE", base).replace("NAME", urllib.parse.quote(name, safe="")))
        found[name] = made if isinstance(made, bytes) else made.encode()

    def page(script: str) -> str:
        return f"<!doctype html><script>{script}</script><img src=x onerror='{script}'><p>a page</p>"

    def drawing(script: str) -> str:
        return (
            f'<svg xmlns="{SVG}" width="9" height="9" onload="{html.escape(script)}"><script>{html.escape(script)}</script><foreignObject>'
            f'<body xmlns="{XHTML}"><script>{html.escape(script)}</script><iframe src="javascript:{html.escape(script)}"/></body>'
            f'</foreignObject><animate attributeName="x" dur="1s" onbegin="{html.escape(script)}"/></svg>'
        )

    for name in (
        "page.html",
        "page.htm",
        "page.xhtml",
        "page.txt",
        "page.md",
        "page.css",
        "page.json",
        "page.csv",
        "page.vtt",
        "page",
    ):
        add(name, page)
    for name in (
        "page.png",
        "page.jpg",
        "page.pdf",
        "page.mp4",
        "page.ico",
        "page.unknown",
        "page.html.",
        "page.pdf.html",
        "page.mht",
    ):
        add(name, page)
    for name in ("drawing.svg", "drawing.svgz", "drawing.xml", "drawing.png", "drawing.xhtml"):
        add(name, drawing)
    for name in ("script.js", "script.mjs", "script.txt", "script.css", "script.json", "script.png", "script.csv", "script"):
        add(name, lambda script: script)
    for name in ("styled.xml", "styled.svg", "styled.rdf", "styled.html"):
        found[name] = f'<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="{sheet}"?><svg xmlns="{SVG}"/>'.encode()
    add("sheet.xsl", stylesheet)
    # What is two things at once.
    for name in ("both.gif", "both.gif.js", "both.html"):
        add(name, lambda script: GIF + script.encode() + f"<script>{script}</script>".encode())
    for name in ("both.bmp", "both.js"):
        add(name, lambda script: BMP + script.encode())
    for name in ("paper.pdf", "paper.html", "paper.svg"):
        add(name, lambda script: PDF + page(script).encode())
    # What other character sets hide.
    add("seven.txt", lambda script: f"+ADw-script+AD4-{script}+ADw-/script+AD4-")
    add("wide.txt", lambda script: b"\xff\xfe" + page(script).encode("utf-16-le"))
    add("wide.html", lambda script: b"\xff\xfe" + page(script).encode("utf-16-le"))
    return found


NAMES = [
    'quo"te.html',
    "apo'stro<script>phe.svg",
    "new\nline.html",
    "carriage\r\nContent-Type: text/html\r\n\r\n.txt",
    "\u202elmth.gpj.html",
    "\u2066isolated\u2069.svg",
    "../../up.html",
    "..\\..\\up.svg",
    "/etc/passwd.html",
    "percent%00.html",
    "percent%2F..%2Fup.html",
    "semi;colon=1.html",
    "file.txt;.html",
    "dots....html",
    " .html",
    "Ünïcödé 😀.html",
    "a" * 200 + ".html",
    "tab\t.html",
    "javascript:alert(1).html",
    "?query=1.html",
    "#fragment.html",
    "${7*7}{{7*7}}.html",
    "con.html",
    "nul\0.html",
    "..",
]
"""Names with odd characters, of pages and drawings with scripts."""


class Site:
    """A server whose paths are those of *daemon*, and others of its own: /plain/NAME is a file of *files* as a server sends it that does
    not heed what it is. `ran` are the names that scripts have told, `asked` the paths that were asked for, and for what."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.ran: list[str] = []
        self.asked: set[tuple[str, str | None]] = set()
        self.pages = {"/page": ("text/html", b"<!doctype html><title>page</title><body>")}
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.answer(self)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None: ...

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Says nothing: a browser closes connections when it needs no answer any more."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        if handler.path.startswith("/ran/"):
            self.ran.append(urllib.parse.unquote(handler.path.removeprefix("/ran/")))
            self.send(handler, 200, [("Content-Type", "text/plain")], b"")
        elif handler.path in self.pages:
            kind, content = self.pages[handler.path]
            self.send(handler, 200, [("Content-Type", kind)] if kind else [], content)
            self.asked.add((handler.path, handler.headers.get("Sec-Fetch-Dest")))
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.daemon.port, timeout=PATIENCE)
            given = {
                name: text for name, text in handler.headers.items() if name.lower() not in ("connection", "accept-encoding")
            }
            connection.request(handler.command, handler.path, body or None, given)
            found = connection.getresponse()
            headers = [
                each
                for each in found.getheaders()
                if each[0].lower() not in ("connection", "transfer-encoding", "content-length")
            ]
            self.send(handler, found.status, headers, found.read())
            connection.close()
            self.asked.add((handler.path, handler.headers.get("Sec-Fetch-Dest")))

    @staticmethod
    def send(handler: http.server.BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        handler.send_response_only(status)
        for name, text in [*headers, ("Content-Length", str(len(body)))]:
            handler.send_header(name, text)
        handler.end_headers()
        handler.wfile.write(body)


@contextmanager
def site_of(daemon: Daemon) -> Iterator[Site]:
    site = Site(daemon)
    thread = threading.Thread(target=site.server.serve_forever)
    thread.start()
    try:
        yield site
    finally:
        site.server.shutdown()
        thread.join()
        site.server.server_close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    daemon = Daemon(tmp_path_factory.mktemp("server")).start()
    daemon.create_project("p")
    with site_of(daemon) as found:
        yield found
    assert daemon.stop() == 0


KINDS = {
    "html": "text/html",
    "htm": "text/html",
    "svg": "image/svg+xml",
    "xml": "text/xml",
    "xsl": "text/xml",
    "js": "text/javascript",
}

ELEMENTS = """
const [addresses, done] = arguments;
window.ran = "";
const waiting = [];
for (const address of addresses) {
    for (const [tag, attribute] of [["iframe", "src"], ["object", "data"], ["embed", "src"], ["img", "src"], ["script", "src"]]) {
        const element = document.createElement(tag);
        element[attribute] = address;
        document.body.append(element);
    }
    const module = document.createElement("script");
    module.type = "module";
    module.src = address;
    document.body.append(module);
    waiting.push(new Promise(resolve => {
        try {
            const worker = new Worker(address);
            worker.onerror = resolve;
            worker.onmessage = resolve;
        } catch (error) { resolve() }
    }));
    waiting.push(navigator.serviceWorker.register(address).then(() => { window.ran += " service worker " + address }, () => {}));
}
Promise.all(waiting).then(() => done());
"""
ALWAYS = ("iframe", "script", "worker", "serviceworker")
"""For what Chromium asks for each of the addresses of ELEMENTS. It does not ask for pictures again that it has, and not for objects whose
names say that they are none."""


def embed(browser: Any, site: Site, addresses: list[str]) -> None:
    """Opens a page with ELEMENTS, and waits until all of that has been answered, and a frame after it."""
    site.pages["/end"] = ("text/html", f'<!doctype html><script>fetch("{site.base}/ran/end")</script>'.encode())
    browser.get(f"{site.base}/page")
    browser.execute_async_script(ELEMENTS, addresses)
    wanted = {(each, destination) for each in addresses for destination in ALWAYS}
    wait_for(lambda: wanted <= site.asked)
    browser.execute_script("const end = document.createElement('iframe'); end.src = '/end'; document.body.append(end)")
    wait_for(lambda: "end" in site.ran)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        found.set_script_timeout(PATIENCE)
        found.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "deny"})
        yield found


def upload(daemon: Daemon, name: str, content: bytes) -> Any:
    """Uploads a file with this name, and returns it."""
    payload = {"filename_disk": name, "filename_download": name, "data": base64.b64encode(content).decode()}
    return daemon.call("POST", "/p/files", payload)["data"]


def set_settings(daemon: Daemon, **values: str) -> None:
    for key, value in values.items():
        (setting,) = daemon.call("GET", f"/p/settings?filter[key]={key}")["data"]
        daemon.call("PATCH", f"/p/settings/{setting['id']}", {"value": value})


def addresses_of(file: Any) -> tuple[str, str]:
    """The paths of the original and of the asset of a file."""
    return file["data"]["url"], file["data"]["asset_url"]


def sign_in(browser: Any, site: Site) -> None:
    """Has the browser sign in with a cookie, as from a page of the site."""
    browser.get(f"{site.base}/page")
    text = json.dumps({"email": "admin@example.com", "password": "password", "mode": "cookie"})
    request = f"{{method: 'POST', headers: {{'Content-Type': 'application/json'}}, body: '{text}'}}"
    assert browser.execute_async_script(f"fetch('/p/auth/authenticate', {request}).then(a => arguments[0](a.status))") == 200


def harmlessness(daemon: Daemon, address: str) -> tuple[str | None, ...]:
    """Returns the headers of an answer that keep browsers from running it, and checks those that every answer has."""
    with urllib.request.urlopen(daemon.base + address, timeout=PATIENCE) as answer:
        headers = answer.headers
    policy = [each.strip() for each in headers["Content-Security-Policy"].split(";")]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy or headers["Content-Type"] == "application/pdf"
    assert not re.search("script-src|connect-src|allow-", headers["Content-Security-Policy"])
    assert headers.get_all("X-Content-Type-Options") == ["nosniff"]
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert headers["X-Frame-Options"] == "SAMEORIGIN"
    assert headers["Content-Disposition"].partition(";")[0] in ("inline", "attachment")
    assert "javascript" not in headers["Content-Type"]
    assert headers["Set-Cookie"] is None
    return headers["Content-Type"], headers["Content-Disposition"], headers["Content-Security-Policy"]


def open_page(browser: Any, site: Site, address: str) -> None:
    """Has the browser open an address as a page, and waits for the answer."""
    browser.get(site.base + address)
    wait_for(lambda: (address, "document") in site.asked)
    assert browser.title != "ran"


def assert_nothing_ran(browser: Any, site: Site) -> None:
    assert [each for each in site.ran if each != "end"] == []
    browser.get(f"{site.base}/page")
    assert browser.execute_script("return [localStorage.ran ?? null, document.cookie]") == [None, ""]
    (cookie,) = browser.get_cookies()
    assert (cookie["name"], cookie["httpOnly"]) == ("directus-p-session", True)


def test_the_scripts_run_where_the_server_does_not_heed_them(site: Site, browser: Any) -> None:
    """Otherwise the other tests would show nothing."""
    found = hostile(site.base, "/plain/sheet.xsl")
    names = (
        "page.html",
        "page.txt",
        "page.json",
        "drawing.svg",
        "drawing.xml",
        "script.js",
        "script.txt",
        "styled.xml",
        "both.js",
        "wide.html",
    )
    for name in (*names, "sheet.xsl"):
        site.pages[f"/plain/{name}"] = (KINDS.get(name.rpartition(".")[2], ""), found[name])
    embed(browser, site, [f"/plain/{name}" for name in names])
    assert set(names) - set(site.ran) == {"styled.xml"}
    assert "sheet.xsl" in site.ran
    assert "service worker /plain/script.js" in browser.execute_script("return window.ran")
    browser.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": site.base, "storageTypes": "all"})
    site.ran.clear()


def test_nothing_of_files_runs_in_a_page_of_the_same_origin(site: Site, browser: Any) -> None:
    sign_in(browser, site)
    daemon = site.daemon
    sheet = upload(daemon, "sheet.xsl", hostile(site.base, "")["sheet.xsl"])["data"]["url"]
    files = [upload(daemon, name, content) for name, content in hostile(site.base, sheet).items()]
    for file in files:
        assert len({harmlessness(daemon, address) for address in addresses_of(file)}) == 1
    embed(browser, site, [addresses_of(file)[number % 2] for number, file in enumerate(files)])
    assert browser.execute_script("return window.ran") == ""
    assert_nothing_ran(browser, site)
    for number, file in enumerate(files):
        open_page(browser, site, addresses_of(file)[1 - number % 2])
    assert_nothing_ran(browser, site)


def test_names_of_files_run_nothing_and_lead_nowhere(site: Site, browser: Any) -> None:
    """The names are in the addresses of originals and of assets."""
    sign_in(browser, site)
    daemon = site.daemon
    set_settings(daemon, file_naming="file_name", asset_url_naming="filename_download")
    found = hostile(site.base, "")
    addresses: list[str] = []
    refused: list[tuple[str, int]] = []
    for name in NAMES:
        try:
            file = upload(daemon, name, found["drawing.svg" if name.endswith("svg") else "page.html"])
        except urllib.error.HTTPError as error:
            refused.append((name, error.code))
            error.close()
            continue
        assert (
            urllib.parse.unquote(urllib.parse.urlsplit(file["data"]["url"]).path)
            == f"/uploads/p/originals/{file['filename_disk']}"
        )
        assert re.fullmatch(r"[\w^-][\w.^-]*", file["filename_disk"], re.ASCII), name
        addresses += addresses_of(file)
    assert refused == [("nul\0.html", 422), ("..", 422)]
    for address in addresses:
        harmlessness(daemon, address)
    embed(browser, site, addresses[::2])
    assert browser.execute_script("return window.ran") == ""
    for address in addresses[1::2]:
        open_page(browser, site, address)
    assert_nothing_ran(browser, site)
    stored = [path for path in (daemon.directory / "var" / "storage").rglob("*") if path.is_file()]
    assert {path.parent.parent for path in stored} == {daemon.directory / "var" / "storage" / "p" / "originals"}
    assert all(re.fullmatch("[0-9a-f]{32}", path.name) for path in stored)


def test_a_pdf_is_shown_in_a_frame_of_the_same_origin_only(site: Site, browser: Any) -> None:
    held = io.BytesIO()
    Image.new("RGB", (60, 40)).save(held, "PDF")
    address = upload(site.daemon, "real.pdf", held.getvalue())["data"]["url"]
    browser.get_log("browser")
    for base, refused in ((site.base, False), (site.daemon.base, True)):
        framed = f"<!doctype html><title>page</title><iframe onload='document.title=\"loaded\"' src='{base}{address}'></iframe>"
        site.pages["/framed"] = ("text/html", framed.encode())
        browser.get(f"{site.base}/framed")
        WebDriverWait(browser, PATIENCE).until(lambda _: browser.title == "loaded")
        assert any("frame-ancestors" in entry["message"] for entry in browser.get_log("browser")) is refused
