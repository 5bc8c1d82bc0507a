"""The files of the admin app: what is served below /admin/, how it is cached, and what is not served."""

import gzip
import os
import pathlib
from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred

from directus_tx import checks
from directus_tx.config import Settings
from directus_tx.http.admin_app import inline_scripts, policy
from tests.conftest import Client, Reply

PAGE = b'<!doctype html><title>App</title><script>var inline = "&amp;";</script><script src="./js/app.3f2a91bc.js"></script>'
FILES: dict[str, bytes] = {
    "index.html": PAGE,
    "js/app.3f2a91bc.js": b"run();",
    "js/big.js": b"// line\n" * 100_000,
    "js/deep/er/file.js": b"deep",
    "css/app.91bc3f2a0d.css": b"body {}",
    "img/logo.png": b"\x89PNG" + b"x" * 5000,
    "img/logo.svg": b"<svg/>",
    "config.json": b"{}",
    "report.20200101.pdf": b"%PDF",
    "decade-facade.js": b"words",
    "empty.txt": b"",
    "UPPER.HTML": b"upper",
    "name with blank.txt": b"blank",
    "namé.txt": b"unicode",
    "LICENSE": b"no extension",
    ".env": b"SECRET",
    ".git/config": b"SECRET",
    "js/.hidden.js": b"SECRET",
}


@pytest.fixture
def app(tmp_path: pathlib.Path) -> pathlib.Path:
    """The directory of an app, beside a secret."""
    root = tmp_path / "app"
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (tmp_path / "secret.txt").write_bytes(b"SECRET")
    (tmp_path / "app-secret").mkdir()
    (tmp_path / "app-secret" / "secret.txt").write_bytes(b"SECRET")
    return root


@pytest.fixture
def settings(settings: Settings, app: pathlib.Path) -> Settings:
    return evolve(settings, server=evolve(settings.server, admin_app=str(app)))


async def get(server: Client, path: str, method: str = "GET", **headers: str) -> Reply:
    return await server.call(method, path, token=None, headers={name.replace("_", "-"): value for name, value in headers.items()})


TYPES = {
    "js/app.3f2a91bc.js": "text/javascript; charset=utf-8",
    "js/deep/er/file.js": "text/javascript; charset=utf-8",
    "css/app.91bc3f2a0d.css": "text/css; charset=utf-8",
    "img/logo.png": "image/png",
    "img/logo.svg": "image/svg+xml",
    "config.json": "application/json",
    "report.20200101.pdf": "application/octet-stream",
    "empty.txt": "text/plain; charset=utf-8",
    "UPPER.HTML": "text/html; charset=utf-8",
    "name%20with%20blank.txt": "text/plain; charset=utf-8",
    "nam%C3%A9.txt": "text/plain; charset=utf-8",
    "LICENSE": "application/octet-stream",
}


@ensureDeferred
async def test_files_have_their_contents_and_types(server: Client) -> None:
    for name, content_type in TYPES.items():
        answer = await get(server, f"/admin/{name}")
        assert (answer.status, answer.headers["content-type"]) == (200, content_type), name
        assert answer.headers["x-content-type-options"] == "nosniff"
        plain = name.replace("%20", " ").replace("%C3%A9", "é")
        assert answer.body == FILES[plain], name
        head = await get(server, f"/admin/{name}", "HEAD")
        assert (head.status, head.headers["content-type"], head.body) == (200, content_type, b"")


@ensureDeferred
async def test_a_path_that_is_no_file_is_the_page(server: Client) -> None:
    for path in (
        "/admin/",
        "/admin/index.html",
        "/admin/login",
        "/admin/shop/collections/articles/12",
        "/admin/js",
        "/admin/js/",
    ):
        answer = await get(server, path)
        assert (answer.status, answer.body) == (200, PAGE), path
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
    for path in ("/admin/js/nothing.js", "/admin/nothing.3f2a91bc.css", "/admin/favicon.ico"):
        answer = await get(server, path)
        assert (answer.status, answer.code) == (404, 1), path


@ensureDeferred
async def test_addresses_without_the_slash_are_redirected(server: Client) -> None:
    answer = await get(server, "/admin?x=1")
    assert (answer.status, answer.headers["location"]) == (302, "./admin/")
    for accepted in ("*/*", "text/html"):
        answer = await get(server, "/", Accept=accepted)
        assert (answer.status, answer.headers["location"]) == (302, "./admin/")


@ensureDeferred
async def test_names_with_a_hash_are_kept_and_others_revalidated(server: Client, app: pathlib.Path) -> None:
    for name in ("js/app.3f2a91bc.js", "css/app.91bc3f2a0d.css"):
        assert "immutable" in (await get(server, f"/admin/{name}")).headers["cache-control"]
    for name in ("config.json", "report.20200101.pdf", "decade-facade.js"):
        answer = await get(server, f"/admin/{name}")
        assert answer.headers["cache-control"] == "no-cache", name
        tag = answer.headers["etag"]
        same = await get(server, f"/admin/{name}", If_None_Match=tag)
        assert (same.status, same.body, same.headers["etag"]) == (304, b"", tag)
        (app / name).write_bytes(b"other contents")
        changed = await get(server, f"/admin/{name}", If_None_Match=tag)
        assert (changed.status, changed.body) == (200, b"other contents")
        assert changed.headers["etag"] != tag
    (app / "config.json").unlink()
    assert (await get(server, "/admin/config.json", If_None_Match="*")).status == 404


@ensureDeferred
async def test_text_is_compressed_and_large_files_arrive_whole(server: Client) -> None:
    answer = await get(server, "/admin/js/big.js", Accept_Encoding="gzip")
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(answer.body) == FILES["js/big.js"]
    assert (await get(server, "/admin/js/big.js")).body == FILES["js/big.js"]
    answer = await get(server, "/admin/img/logo.png", Accept_Encoding="gzip")
    assert "content-encoding" not in answer.headers
    assert answer.body == FILES["img/logo.png"]


OUTSIDE = (
    "../secret.txt",
    "../app-secret/secret.txt",
    "%2e%2e/secret.txt",
    ".%2e/secret.txt",
    "..%2fsecret.txt",
    "%2e%2e%2fsecret.txt",
    "..%252fsecret.txt",
    "%252e%252e%252fsecret.txt",
    "..\\secret.txt",
    "..%5csecret.txt",
    "..%255csecret.txt",
    "js/../../secret.txt",
    "js/..%2f..%2fsecret.txt",
    "js/../config.json",
    "./config.json",
    "/config.json",
    "js//app.3f2a91bc.js",
    "%2fetc/passwd",
    "/etc/passwd",
    "secret.txt%00.js",
    "%00",
    "config.json%00",
    "config.json%0a",
    "config.json%7f",
    "..%c0%af..%c0%afsecret.txt",
    "%c0%ae%c0%ae/secret.txt",
    "%ff",
    "%e2%80%ae.txt",
    "%ef%bc%8e%ef%bc%8e/secret.txt",
    "..%u2215secret.txt",
    "..;/secret.txt",
    ".env",
    "%2eenv",
    ".git/config",
    "js/.hidden.js",
    "link-out.txt",
    "link-directory/secret.txt",
    "link-hidden.txt",
    "pipe.txt",
    "x" * 300 + ".js",
    "a/" * 500 + "x.js",
)


@ensureDeferred
async def test_nothing_outside_the_directory_and_nothing_hidden_is_served(server: Client, app: pathlib.Path) -> None:
    (app / "link-out.txt").symlink_to("../secret.txt")
    (app / "link-directory").symlink_to("../app-secret")
    (app / "link-hidden.txt").symlink_to(".env")
    os.mkfifo(app / "pipe.txt")
    for path in OUTSIDE:
        answer = await get(server, "/admin/" + path)
        assert (answer.status, answer.code) == (404, 1), path
        assert b"SECRET" not in answer.body
        assert str(app).encode() not in answer.body
    # A link within the directory is a file of it.
    (app / "link.txt").symlink_to("config.json")
    assert (await get(server, "/admin/link.txt")).body == b"{}"


@ensureDeferred
async def test_only_reading_is_possible(server: Client) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = await get(server, "/admin/index.html", method)
        assert (answer.status, answer.code) == (405, 6)


@ensureDeferred
async def test_the_directory_can_be_a_link_that_is_moved_to_another_version(server: Client, app: pathlib.Path) -> None:
    other = app.parent / "other"
    other.mkdir()
    (other / "index.html").write_bytes(b"other")
    app.rename(app.parent / "first")
    app.symlink_to("first")
    assert (await get(server, "/admin/")).body == PAGE
    app.unlink()
    app.symlink_to("other")
    assert (await get(server, "/admin/")).body == b"other"
    app.unlink()
    assert (await get(server, "/admin/")).status == 404


@ensureDeferred
async def test_descriptors_are_closed(server: Client, app: pathlib.Path) -> None:
    tag = (await get(server, "/admin/config.json")).headers["etag"]

    def opened() -> list[str]:
        links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        return [target for each in links if os.path.exists(each) and (target := os.readlink(each)).startswith(str(app))]

    for number in range(20):
        await get(server, "/admin/config.json", **({"If_None_Match": tag} if number % 2 else {}))
        await get(server, "/admin/js/big.js", "HEAD")
        await get(server, "/admin/empty.txt")
    assert opened() == []


@ensureDeferred
async def test_the_policy_allows_the_inline_scripts_of_the_page(server: Client, app: pathlib.Path) -> None:
    answer = await get(server, "/admin/somewhere")
    found = answer.headers["content-security-policy"]
    assert found == policy(['var inline = "&amp;";'])
    assert "frame-ancestors 'self'" in found
    assert "'unsafe-inline'" not in found.partition("script-src")[2].partition(";")[0]
    (app / "index.html").write_bytes(b"<script>other()</script>")
    assert (await get(server, "/admin/")).headers["content-security-policy"] == policy(["other()"])
    assert (await get(server, "/admin/config.json")).headers["content-security-policy"] == policy()


@pytest.mark.parametrize(
    ("page", "scripts"),
    [
        ("<script>a()</script><p>b()</p>", ["a()"]),
        ("<SCRIPT type=module>\r\na < b && c;\r\n</SCRIPT>", ["\na < b && c;\n"]),
        ("<script src=x>fallback()</script><script></script><script>d()</script>", ["d()"]),
        ('<script>"<p>" + "&lt;"</script>', ['"<p>" + "&lt;"']),
        ("no script", []),
    ],
)
def test_inline_scripts_are_found_as_browsers_find_them(page: str, scripts: list[str]) -> None:
    assert inline_scripts(page) == scripts


def test_a_directory_without_a_page_is_a_mistake_of_the_configuration(settings: Settings, tmp_path: pathlib.Path) -> None:
    def problems(**server: Any) -> list[str]:
        return checks.problems(evolve(settings, server=evolve(settings.server, **server)))

    assert problems() == []
    assert problems(admin_app=str(tmp_path / "none")) == [f"server.admin_app: there is no file {tmp_path}/none/index.html"]
    assert problems(admin_app_policy="a\nb") == ["server.admin_app_policy: must be one line of printable characters"]


class TestWithoutAdminApp:
    """Servers without the setting."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return evolve(settings, server=evolve(settings.server, admin_app=""))

    @ensureDeferred
    async def test_there_is_nothing(self, server: Client) -> None:
        for path in ("/admin", "/admin/", "/admin/index.html"):
            assert (await get(server, path)).status in (401, 404)


class TestAPolicyOfOnesOwn:
    """The setting admin_app_policy."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return evolve(settings, server=evolve(settings.server, admin_app_policy="default-src 'self' https://tiles.example.com"))

    @ensureDeferred
    async def test_it_is_sent_as_it_is(self, server: Client) -> None:
        assert (await get(server, "/admin/")).headers["content-security-policy"] == "default-src 'self' https://tiles.example.com"
