"""The extensions of the admin app: how they are found, listed and served, and what is refused."""

import gzip
import json
import os
import pathlib
from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet import reactor

from directus_tx import checks
from directus_tx.api import hookimpl
from directus_tx.config import Settings
from directus_tx.extensions import MAX_META, ExtensionError, Extensions, read_directory
from directus_tx.http.admin_app import policy
from directus_tx.plugins.manager import PluginError, Plugins
from directus_tx.process import StartError
from directus_tx.registered import collect
from directus_tx.service import ServerBackend
from tests.conftest import TOKEN, Client, Reply
from tests.plugged import documented, plugins_of

STARS = {
    "name": "Stars",
    "version": "1.0.0",
    "icon": "star",
    "types": ["integer"],
    "options": {"stars": {"name": "Stars", "interface": "numeric", "default": 5}},
    "id": "another",
    "path": "elsewhere",
}
SCRIPT = b"window.__DirectusExtension__ = {};\n"
FILES: dict[str, bytes] = {
    "interfaces/stars/meta.json": json.dumps(STARS).encode(),
    "interfaces/stars/input.js": SCRIPT,
    "interfaces/stars/display.js": SCRIPT * 5000,
    "interfaces/stars/input.css": b".star {}",
    "interfaces/stars/images/star.svg": b"<svg/>",
    "interfaces/stars/app.3f2a91bc.js": SCRIPT,
    "interfaces/stars/.env": b"SECRET",
    "interfaces/stars/.git/config": b"SECRET",
    "interfaces/Colour.picker_2/meta.json": b'{"name": "$t:name", "types": ["string", "json"], "options": []}',
    "interfaces/Colour.picker_2/input.js": SCRIPT,
    "interfaces/_draft/meta.json": b"SECRET",
    "interfaces/.hidden/meta.json": b"SECRET",
    "interfaces/README.md": b"SECRET",
    "layouts/wall/meta.json": b'{"name": "Wall"}',
    "layouts/wall/layout.js": SCRIPT,
    "modules/report/meta.json": '{"name": "Bericht ü", "icon": "report"}'.encode(),
    "modules/report/module.js": SCRIPT,
    "endpoints/old.php": b"SECRET",
    "secret.txt": b"SECRET",
}


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> pathlib.Path:
    """A directory of extensions, beside a secret."""
    root = tmp_path / "custom"
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (tmp_path / "secret.txt").write_bytes(b"SECRET")
    return root


@pytest.fixture
def settings(settings: Settings, directory: pathlib.Path) -> Settings:
    return evolve(settings, server=evolve(settings.server, extensions=str(directory)))


async def get(server: Client, path: str, method: str = "GET", **headers: str) -> Reply:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await server.call(method, path, token=None, headers=sent)


async def listed(client: Client, kind: str) -> Any:
    return (await client.get(f"/{kind}?project={client.project}&access_token={TOKEN}", token=None)).data


@ensureDeferred
async def test_lists_have_the_meta_of_each_extension_with_its_id_and_path(client: Client) -> None:
    """A meta.json cannot give another id or path."""
    colour, stars = await listed(client, "interfaces")
    assert colour == {
        "id": "Colour.picker_2",
        "path": "extensions/custom/interfaces/Colour.picker_2/meta.json",
        "name": "$t:name",
        "types": ["string", "json"],
        "options": [],
    }
    assert stars == {**STARS, "id": "stars", "path": "extensions/custom/interfaces/stars/meta.json"}
    assert await listed(client, "layouts") == [{"id": "wall", "path": "extensions/custom/layouts/wall/meta.json", "name": "Wall"}]
    (module,) = await listed(client, "modules")
    assert module["name"] == "Bericht ü"


@ensureDeferred
async def test_the_files_that_the_app_derives_from_a_path_are_there(client: Client) -> None:
    """The app puts the name of another file in the place of meta.json."""
    scripts = {"interfaces": "input.js", "layouts": "layout.js", "modules": "module.js"}
    for kind, script in scripts.items():
        for each in await listed(client, kind):
            assert json.loads((await get(client, "/" + each["path"])).body)["name"] == each["name"]
            answer = await get(client, "/" + each["path"].replace("meta.json", script))
            assert (answer.status, answer.body) == (200, SCRIPT)


@ensureDeferred
async def test_lists_are_for_users(client: Client) -> None:
    for kind in ("interfaces", "layouts", "modules"):
        answer = await client.get(f"/{kind}?project={client.project}", token=None)
        assert (answer.status, answer.code) == (401, 108)


TYPES = {
    "meta.json": "application/json",
    "input.js": "text/javascript; charset=utf-8",
    "input.css": "text/css; charset=utf-8",
    "images/star.svg": "image/svg+xml",
}


@ensureDeferred
async def test_files_are_served_to_everybody_with_their_types(server: Client) -> None:
    """Script elements send no token."""
    for name, content_type in TYPES.items():
        path = f"/extensions/custom/interfaces/stars/{name}"
        for method, body in (("GET", FILES[f"interfaces/stars/{name}"]), ("HEAD", b"")):
            answer = await get(server, path, method)
            assert (answer.status, answer.headers["content-type"], answer.body) == (200, content_type, body), name
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-security-policy"] == policy()
    answer = await get(server, "/extensions/custom/interfaces/stars/display.js", Accept_Encoding="gzip")
    assert gzip.decompress(answer.body) == FILES["interfaces/stars/display.js"]


@ensureDeferred
async def test_browsers_keep_files_until_they_change(server: Client, directory: pathlib.Path) -> None:
    path = "/extensions/custom/interfaces/stars/input.js"
    answer = await get(server, path)
    assert answer.headers["cache-control"] == "no-cache"
    same = await get(server, path, If_None_Match=answer.headers["etag"])
    assert (same.status, same.body) == (304, b"")
    (directory / "interfaces/stars/input.js").write_bytes(b"changed();")
    changed = await get(server, path, If_None_Match=answer.headers["etag"])
    assert (changed.status, changed.body) == (200, b"changed();")
    hashed = await get(server, "/extensions/custom/interfaces/stars/app.3f2a91bc.js")
    assert "immutable" in hashed.headers["cache-control"]


OUTSIDE = (
    "",
    "/",
    "/custom",
    "/custom/interfaces",
    "/custom/interfaces/stars",
    "/custom/interfaces/stars/",
    "/custom/interfaces/stars/images",
    "/custom/interfaces/stars/images/",
    "/custom/interfaces/stars/nothing.js",
    "/custom/interfaces/unknown/input.js",
    "/custom/interfaces/README.md",
    "/custom/interfaces/_draft/meta.json",
    "/custom/interfaces/.hidden/meta.json",
    "/custom/interfaces/stars/.env",
    "/custom/interfaces/stars/%2eenv",
    "/custom/interfaces/stars/.git/config",
    "/custom/interfaces/stars/../stars/input.js",
    "/custom/interfaces/stars/../../secret.txt",
    "/custom/interfaces/stars/..%2f..%2fsecret.txt",
    "/custom/interfaces/stars/%2e%2e/%2e%2e/secret.txt",
    "/custom/interfaces/../secret.txt",
    "/custom/interfaces/%2e%2e/secret.txt",
    "/custom/interfaces/..%2f../secret.txt",
    "/custom/../secret.txt",
    "/custom/secret.txt",
    "/custom/endpoints/old.php",
    "/custom/interfaces/stars//input.js",
    "/custom/interfaces/stars/images/..",
    "/custom/interfaces/stars/input.js%00",
    "/custom/interfaces/stars/..%5c..%5csecret.txt",
    "/custom/interfaces/stars/link-out.txt",
    "/custom/interfaces/stars/link-directory/old.php",
    "/custom/interfaces/stars/pipe.js",
    "/core/interfaces/stars/input.js",
    "/custom/Interfaces/stars/input.js",
    "/custom/interfaces/stars/%ff.js",
)


@ensureDeferred
async def test_nothing_outside_an_extension_and_nothing_hidden_is_served(server: Client, directory: pathlib.Path) -> None:
    stars = directory / "interfaces" / "stars"
    (stars / "link-out.txt").symlink_to("../../secret.txt")
    (stars / "link-directory").symlink_to("../../endpoints")
    os.mkfifo(stars / "pipe.js")
    for path in OUTSIDE:
        answer = await get(server, "/extensions" + path)
        assert (answer.status, answer.code) == (404, 1), path
        assert b"SECRET" not in answer.body
        assert str(directory).encode() not in answer.body


@ensureDeferred
async def test_only_reading_is_possible(server: Client) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = await get(server, "/extensions/custom/interfaces/stars/input.js", method)
        assert (answer.status, answer.code) == (405, 6)


@ensureDeferred
async def test_no_project_can_take_the_place_of_the_files(server: Client) -> None:
    body = {
        "project": "extensions",
        "super_admin_token": "super-admin",
        "user_email": "a@example.com",
        "user_password": "password",
    }
    answer = await server.post("/server/projects", body, token=None)
    assert (answer.status, answer.code) == (422, 4)


@ensureDeferred
async def test_an_extension_may_be_a_link_to_a_build(server: Client, directory: pathlib.Path, tmp_path: pathlib.Path) -> None:
    build = tmp_path / "build"
    (directory / "layouts" / "wall").rename(build)
    (directory / "layouts" / "wall").symlink_to(build)
    assert (await get(server, "/extensions/custom/layouts/wall/layout.js")).body == SCRIPT
    assert {each.id for each in read_directory(directory) if each.kind == "layouts"} == {"wall"}


@pytest.mark.parametrize(
    ("meta", "mistake"),
    [
        (b"", "meta.json: "),
        (b"{", "meta.json: "),
        (b"\xff{}", "meta.json: "),
        (b'{"name": NaN}', "meta.json: "),
        (b"[]", "meta.json: must be an object"),
        (b"null", "meta.json: must be an object"),
        (b"{}", "meta.json: name is missing"),
        (b'{"name": ""}', "meta.json: name is missing"),
        (b'{"name": 1}', "meta.json: name must be a text"),
        (b'{"name": "x", "icon": 1}', "meta.json: icon must be a text"),
        (b'{"name": "x", "version": 1.0}', "meta.json: version must be a text"),
        (b'{"name": "x", "options": ["a"]}', "meta.json: options must be an object"),
        (b'{"name": "x", "translation": "de"}', "meta.json: translation must be an object"),
        (b'{"name": "x", "types": "string"}', "meta.json: types must be a list of texts"),
        (b'{"name": "x", "types": [1]}', "meta.json: types must be a list of texts"),
        (b'{"name": "x", "types": []}', "meta.json: types is missing"),
        (b'{"name": "' + b"x" * MAX_META + b'"}', "meta.json: larger than"),
        (None, "meta.json: No such file or directory"),
    ],
)
def test_a_bad_meta_is_named(tmp_path: pathlib.Path, meta: bytes | None, mistake: str) -> None:
    directory = tmp_path / "interfaces" / "bad"
    directory.mkdir(parents=True)
    (directory / "input.js").write_bytes(SCRIPT)
    if meta is not None:
        (directory / "meta.json").write_bytes(meta)
    with pytest.raises(ExtensionError) as caught:
        read_directory(tmp_path)
    assert any(each.startswith(f"{directory}/{mistake}") for each in caught.value.mistakes), caught.value.mistakes


def test_a_meta_that_is_no_file_is_named(tmp_path: pathlib.Path) -> None:
    for name, make in (("pipe", os.mkfifo), ("directory", os.mkdir)):
        extension = tmp_path / "modules" / name
        extension.mkdir(parents=True)
        make(extension / "meta.json")
    with pytest.raises(ExtensionError) as caught:
        read_directory(tmp_path)
    assert len(caught.value.mistakes) == 2


def test_all_mistakes_are_found_at_once(settings: Settings, directory: pathlib.Path) -> None:
    """`directus config check` shows them, and a server does not start."""
    (directory / "layouts" / "wall" / "layout.js").unlink()
    (directory / "modules" / "report" / "meta.json").unlink()
    (directory / "modules" / "bad name").mkdir()
    assert checks.problems(settings) == [
        f"server.extensions: {directory}/layouts/wall: there is no script (a file whose name ends with .js)",
        f"server.extensions: {directory}/modules/bad name: its name must consist of at most 100 letters, digits, dots, hyphens and"
        " underscores",
        f"server.extensions: {directory}/modules/report/meta.json: No such file or directory",
    ]


def test_a_directory_that_has_no_extensions_is_a_mistake(tmp_path: pathlib.Path) -> None:
    for directory in (tmp_path, tmp_path / "none"):
        with pytest.raises(ExtensionError, match="there is no directory interfaces, layouts or modules in it"):
            read_directory(directory)


def test_extensions_of_a_kind_have_different_names(directory: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """A name may be that of an interface and of a layout. If one of several cannot be added, none of them is."""
    for kind, name in (("interfaces", "stars"), ("interfaces", "new"), ("layouts", "stars")):
        other = tmp_path / "other" / kind / name
        other.mkdir(parents=True)
        (other / "meta.json").write_text('{"name": "Other", "types": ["string"]}')
        (other / "input.js").write_bytes(SCRIPT)
    extensions = Extensions()
    extensions.add(directory)
    with pytest.raises(ExtensionError) as caught:
        extensions.add(tmp_path / "other", "another")
    assert caught.value.mistakes == [
        f"{tmp_path}/other/interfaces/stars: there is an extension with this name already, {directory}/interfaces/stars"
    ]
    assert {each.id for each in extensions} == {"stars", "Colour.picker_2", "wall", "report"}
    (tmp_path / "other" / "interfaces" / "stars").rename(tmp_path / "other" / "interfaces" / "moons")
    extensions.add(tmp_path / "other", "another")
    assert extensions.get("layouts", "stars") is not None


def test_lists_have_the_extensions_of_the_plugins_that_are_enabled(directory: pathlib.Path, tmp_path: pathlib.Path) -> None:
    extensions = Extensions()
    for plugin in ("one", "two"):
        other = tmp_path / plugin / "modules" / plugin
        other.mkdir(parents=True)
        (other / "meta.json").write_text('{"name": "Module"}')
        (other / "module.js").write_bytes(SCRIPT)
        extensions.add(tmp_path / plugin, plugin)
    extensions.add(directory)

    def ids(*enabled: str) -> list[str]:
        return [each["id"] for each in extensions.listed("modules", lambda plugin: plugin in enabled)]

    assert ids() == ["report"]
    assert ids("two") == ["report", "two"]
    assert ids("one", "two") == ["one", "report", "two"]


class TestOfPlugins:
    """Extensions that plugins bring, beside those of the operator."""

    @pytest.fixture
    def plugins(self, tmp_path: pathlib.Path) -> Plugins:
        for name, id in (("one", "first"), ("two", "second")):
            path = tmp_path / name / "extensions" / "layouts" / id
            path.mkdir(parents=True)
            (path / "meta.json").write_text('{"name": "Layout"}')
            (path / "layout.js").write_bytes(SCRIPT)
        return plugins_of(**{name: documented("register_extensions", str(tmp_path / name)) for name in ("one", "two")})

    @ensureDeferred
    async def test_they_are_listed_in_the_projects_in_which_the_plugin_is_enabled(self, client: Client) -> None:
        assert [each["id"] for each in await listed(client, "layouts")] == ["first", "second", "wall"]
        path = client.backend.data_dir / "projects" / f"{client.project}.toml"
        path.write_text(path.read_text() + '\n[plugins]\ndisabled = ["one"]\n')
        assert [each["id"] for each in await listed(client, "layouts")] == ["second", "wall"]
        for id in ("first", "second", "wall"):
            assert (await get(client, f"/extensions/custom/layouts/{id}/layout.js")).body == SCRIPT

    def test_a_name_that_the_operator_has_used_stops_the_server(
        self, settings: Settings, plugins: Plugins, tmp_path: pathlib.Path, directory: pathlib.Path
    ) -> None:
        (directory / "layouts" / "wall").rename(directory / "layouts" / "first")
        backend = ServerBackend(settings, reactor, plugins)
        with pytest.raises(StartError, match=r"server.extensions: .*layouts/first: there is an extension with this name already"):
            backend.find_extensions()

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            (5, "it must return the path of a directory, not int"),
            (["extensions", None], "not NoneType"),
            ("/nowhere", "there is no directory interfaces, layouts or modules in it"),
        ],
    )
    def test_wrong_registrations_name_the_plugin(self, value: Any, said: str, directory: pathlib.Path) -> None:
        class Wrong:
            @hookimpl
            def register_extensions(self) -> Any:
                return [directory if each == "extensions" else each for each in value] if isinstance(value, list) else value

        with pytest.raises(PluginError, match="the plugin wrong cannot be used: register_extensions: ") as refused:
            collect(plugins_of(wrong=Wrong()), Settings())
        assert said in str(refused.value)

    def test_two_plugins_cannot_have_the_same_extension(self, tmp_path: pathlib.Path, plugins: Plugins) -> None:
        again = plugins_of(**{name: documented("register_extensions", str(tmp_path / "one")) for name in ("one", "other")})
        with pytest.raises(PluginError, match=r"the plugin other cannot be used: register_extensions: .*layouts/first: there is"):
            collect(again, Settings())


class TestWithoutExtensions:
    """Servers without the setting."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return evolve(settings, server=evolve(settings.server, extensions=""))

    @ensureDeferred
    async def test_lists_are_empty_and_nothing_is_served(self, client: Client) -> None:
        for kind in ("interfaces", "layouts", "modules"):
            assert await listed(client, kind) == []
        answer = await get(client, "/extensions/custom/interfaces/stars/input.js")
        assert (answer.status, answer.code) == (404, 1)
