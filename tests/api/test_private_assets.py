"""The setting private_assets: contents and thumbnails are for callers who may read the file."""

import base64
import itertools
import json
from typing import Any
from urllib.parse import quote

import pytest
import pytest_twisted

from directus_tx.db.session import Session
from tests.api.test_assets import SMALL, put_picture
from tests.api.test_files import TEXT, picture, upload
from tests.conftest import Client, Reply, field

MISSING = "0123456789abcdef"
PRIVATE = "private, no-cache"
POLICY = "cross-origin-resource-policy"


async def make_private(client: Client, value: Any = True) -> Any:
    answer = await client.post("~/settings", {"key": "private_assets", "value": value})
    assert answer.status == 200, answer.body
    return answer.data["id"]


async def make_user(client: Client, name: str, **levels: Any) -> Any:
    """A user with a role whose permission on files has these attributes. Returns the user; the token is the name."""
    role = (await client.post("~/roles", {"name": name})).data["id"]
    user = {"email": f"{name}@example.com", "password": "password", "role": role, "status": "active", "token": name}
    made = await client.post("~/users", user)
    assert made.status == 200, made.body
    await set_permission(client, role, **levels)
    return made.data


async def set_permission(client: Client, role: int, **levels: Any) -> None:
    found = (await client.get(f"~/permissions?filter[collection]=directus_files&filter[role]={role}")).data
    for each in found:
        await client.delete(f"~/permissions/{each['id']}")
    rows = levels.pop("rows", [levels])
    none = {"create": "none", "update": "none", "delete": "none", "read": "none"}
    for row in rows:
        answer = await client.post("~/permissions", {"collection": "directus_files", "role": role, **none, **row})
        assert answer.status == 200, answer.body


def addresses(file: Any) -> list[str]:
    """The addresses of the content of a picture, and of a thumbnail of it."""
    own = [file["data"]["url"], file["data"]["asset_url"]]
    return [*own, f"{own[1]}?{SMALL}"]


def missing(client: Client) -> list[str]:
    return [f"/uploads/{client.project}/originals/none.png", f"~/assets/{MISSING}", f"~/assets/{MISSING}?{SMALL}"]


def told(answer: Reply) -> tuple[int, bytes, str, str | None]:
    """What an answer tells: everything that does not differ between two requests for the same."""
    return answer.status, answer.body, answer.headers["content-type"], answer.headers.get("cache-control")


@pytest_twisted.ensureDeferred
async def test_assets_are_public_unless_the_project_says_otherwise(client: Client) -> None:
    file = await put_picture(client)
    assert "private_assets" not in {each["key"] for each in (await client.get("~/settings?limit=-1")).data}
    for address in addresses(file):
        assert (await client.get(address, token=None)).status == 200
        assert (await client.get(address, token="no such token")).status == 200
    setting = await make_private(client)
    assert (await client.get("~/settings?filter[key]=private_assets")).data[0]["value"] is True
    for address in addresses(file):
        assert (await client.get(address, token=None)).status == 401
    for value, expected in (("0", 200), ("1", 401), (False, 200), ("true", 401), (None, 200), ("", 200)):
        assert (await client.patch(f"~/settings/{setting}", {"value": value})).status == 200
        assert {(await client.get(each, token=None)).status for each in addresses(file)} == {expected}, value
    answer = await client.patch(f"~/settings/{setting}", {"value": "perhaps"})
    assert (answer.status, answer.code) == (422, 4)


@pytest_twisted.ensureDeferred
async def test_whoever_may_read_the_file_may_read_its_content(client: Client) -> None:
    await make_private(client)
    user = await make_user(client, "wanda", create="full", read="mine")
    await make_user(client, "colleague", read="role")
    await make_user(client, "reader", read="full")
    await make_user(client, "nobody")
    theirs = await put_picture(client)
    answer = await upload(client, ("data", picture("PNG"), "own.png"), token="wanda")
    own = answer.data
    assert own["uploaded_by"] == user["id"]
    expected = {
        ("wanda", True): 200,
        ("wanda", False): 404,
        ("colleague", True): 404,
        ("reader", True): 200,
        ("reader", False): 200,
        ("nobody", True): 404,
        ("admin-static-token", False): 200,
        ("no such token", True): 401,
        (None, True): 401,
    }
    for (token, mine), status in expected.items():
        for address in addresses(own if mine else theirs):
            answers = [
                await client.get(address, token=token),
                await client.get(f"{address}{'&' if '?' in address else '?'}access_token={quote(token or '')}", token=None),
                await client.call("HEAD", address, token=token),
            ]
            assert {each.status for each in answers} == {status}, (token, address)
            if status == 404:
                assert answers[0].code == 203
            if status == 401:
                assert answers[0].code == 3
            if status == 200:
                assert {each.headers["cache-control"] for each in answers} == {PRIVATE}


@pytest_twisted.ensureDeferred
async def test_the_session_cookie_counts(client: Client) -> None:
    await make_private(client)
    await make_user(client, "reader", read="full")
    file = await put_picture(client)
    signed_in = await client.post(
        "~/auth/authenticate", {"email": "reader@example.com", "password": "password", "mode": "cookie"}, token=None
    )
    cookie = signed_in.headers["set-cookie"].partition(";")[0]
    for address in addresses(file):
        assert (await client.get(address, token=None, headers={"Cookie": cookie})).status == 200
        # A page of another origin makes its requests in the name of nobody.
        other = {"Cookie": cookie, "Origin": "https://other.example.com"}
        assert (await client.get(address, token=None, headers=other)).status == 401
    assert (
        await client.post("~/auth/logout", {}, token=None, headers={"Cookie": cookie, "Sec-Fetch-Site": "same-origin"})
    ).status
    for address in addresses(file):
        assert (await client.get(address, token=None, headers={"Cookie": cookie})).status == 401


def name_origins(client: Client, *origins: str) -> None:
    """Names origins in the project file."""
    path = client.backend.projects.files.directory / f"{client.project}.toml"
    path.write_text(f"{path.read_text()}\n[cors]\norigin = {json.dumps(origins)}\n")


NAMED, OTHER = "https://admin.example.com", "https://other.example.com"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("origins", [(), ("*",), (NAMED, "http://localhost:8000")])
async def test_which_pages_may_embed_a_private_content(client: Client, origins: tuple[str, ...]) -> None:
    """Those that need a cookie of the visitor: pages of the server's own origin and of named ones only."""
    file = await put_picture(client)
    if origins:
        name_origins(client, *origins)
    for address in addresses(file):
        for headers in ({}, {"Referer": f"{OTHER}/"}):
            assert (await client.get(address, token=None, headers=headers)).headers[POLICY] == "cross-origin"
    await make_private(client)
    await make_user(client, "reader", read="full")
    signed_in = await client.post(
        "~/auth/authenticate", {"email": "reader@example.com", "password": "password", "mode": "cookie"}, token=None
    )
    cookie = {"Cookie": signed_in.headers["set-cookie"].partition(";")[0]}
    named = "cross-origin" if NAMED in origins else "same-origin"
    basic = {"Authorization": f"Basic {base64.b64encode(b'reader:').decode()}"}
    for address in addresses(file):
        with_token = f"{address}{'&' if '?' in address else '?'}access_token=reader"
        for path, headers, expected in (
            (address, cookie, "same-origin"),
            (address, {**cookie, "Referer": f"{client.base}/admin/"}, "same-origin"),
            (address, {**cookie, "Referer": f"{OTHER}/"}, "same-origin"),
            (address, {**cookie, "Referer": f"{OTHER}/?{NAMED}/"}, "same-origin"),
            (address, {**cookie, "Referer": f"{NAMED}.example.org/"}, "same-origin"),
            (address, {**cookie, "Referer": f"{NAMED}:8443/"}, "same-origin"),
            (address, {**cookie, "Referer": f"https://user@{NAMED.removeprefix('https://')}/"}, "same-origin"),
            (address, {**cookie, "Referer": "http://[::1/"}, "same-origin"),
            (address, {**cookie, "Referer": "about:blank"}, "same-origin"),
            (address, {**cookie, "Referer": NAMED}, named),
            (address, {**cookie, "Referer": f"{NAMED}/files/1?a=b#c"}, named),
            # A browser remembers these, too.
            (address, basic, "same-origin"),
            # The page knows the token, which counts before others.
            (with_token, {}, "cross-origin"),
            (with_token, {**cookie, "Referer": f"{OTHER}/"}, "cross-origin"),
            (with_token, {**basic, "Referer": f"{OTHER}/"}, "cross-origin"),
            (with_token.removesuffix("reader"), {**cookie, "Referer": f"{OTHER}/"}, "same-origin"),
        ):
            answer = await client.get(path, token=None, headers=headers)
            assert (answer.status, answer.headers[POLICY]) == (200, expected), headers
            for more, status in (({"If-None-Match": answer.headers["etag"]}, 304), ({"Range": "bytes=0-3"}, 206)):
                again = await client.get(path, token=None, headers={**headers, **more})
                assert (again.status, again.headers[POLICY]) == (status, expected), headers
    # What the public may read, pages of all origins may show.
    (public,) = (await client.get("~/roles?filter[name]=Public")).data
    await set_permission(client, public["id"], read="full")
    for address in addresses(file):
        assert (await client.get(address, token=None, headers={"Referer": f"{OTHER}/"})).headers[POLICY] == "cross-origin"
    shared = (await client.post(f"~/files/{file['id']}/share", {"seconds": 60})).data["relative_url"]
    assert (await client.get(shared, token=None, headers={"Referer": f"{OTHER}/"})).headers[POLICY] == "cross-origin"


@pytest_twisted.ensureDeferred
async def test_what_does_not_exist_and_what_may_not_be_read_look_the_same(client: Client) -> None:
    """For strangers, for users without rights, and for the public that may read other files."""
    await make_private(client)
    await make_user(client, "nobody")
    await make_user(client, "wanda", create="full", read="mine")
    file = await put_picture(client)
    await upload(client, ("data", b"no picture", "a.txt"))

    async def check(token: str | None) -> None:
        conditional = {"If-None-Match": "*", "Range": "bytes=0-1", "If-Modified-Since": "Fri, 31 Dec 2100 00:00:00 GMT"}
        for headers in ({}, conditional, {"Range": "bytes=99999999-"}):
            for address, none in zip(addresses(file), missing(client), strict=True):
                for query in ("", "&key=nope", "&w=9", "&w=1&h=1&f=crop&q=1"):
                    suffix = query if "?" in address else query.replace("&", "?", 1)
                    found = await client.get(address + suffix, token=token, headers=headers)
                    assert told(found) == told(await client.get(none + suffix, token=token, headers=headers))
                    assert found.status in (401, 404)
                    assert found.headers["cache-control"] == "no-store"

    for token in (None, "no such token", "nobody", "wanda"):
        await check(token)
    await set_permission(client, 2, read="mine")
    await check(None)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("hidden", ["data", "private_hash", "filename_disk", "title"])
async def test_a_role_that_does_not_see_the_addresses_reads_nothing_there(client: Client, hidden: str) -> None:
    await make_private(client)
    await make_user(client, "reader", read="full", read_field_blacklist=[hidden])
    file = await put_picture(client)
    by_name, by_hash, thumbnail = [(await client.get(each, token="reader")).status for each in addresses(file)]
    assert by_hash == thumbnail
    assert by_name == (404 if hidden in ("data", "filename_disk") else 200)
    assert by_hash == (404 if hidden in ("data", "private_hash") else 200)


@pytest_twisted.ensureDeferred
async def test_permissions_by_status_count(client: Client) -> None:
    mapping = {
        name: {"name": name, "soft_delete": deleted} for name, deleted in (("draft", False), ("published", False), ("gone", True))
    }
    status = field("status", "status", options={"status_mapping": mapping}, default_value="draft")
    answer = await client.post("~/fields/directus_files", status)
    assert answer.status == 200, answer.body
    await make_private(client)
    await make_user(
        client,
        "reader",
        rows=[{"status": "published", "read": "full"}, {"status": "draft", "read": "full", "read_field_blacklist": ["data"]}],
    )
    file = await put_picture(client)
    for state, by_reader, by_administrator in (
        ("draft", 404, 200),
        ("published", 200, 200),
        ("draft", 404, 200),
        ("gone", 404, 404),
    ):
        assert (await client.patch(f"~/files/{file['id']}", {"status": state})).status in (200, 204)
        assert {(await client.get(each, token="reader")).status for each in addresses(file)} == {by_reader}, state
        assert {(await client.get(each)).status for each in addresses(file)} == {by_administrator}, state


@pytest_twisted.ensureDeferred
async def test_names_for_downloads_find_the_first_file_that_the_caller_may_read(client: Client) -> None:
    await make_private(client)
    (setting,) = (await client.get("~/settings?filter[key]=asset_url_naming")).data
    await client.patch(f"~/settings/{setting['id']}", {"value": "filename_download"})
    await make_user(client, "wanda", create="full", read="mine")
    await upload(client, ("data", b"theirs", "a.txt"))
    await upload(client, ("data", b"mine", "a.txt"), token="wanda")
    assert (await client.get("~/assets/a.txt")).body == b"theirs"
    assert (await client.get("~/assets/a.txt", token="wanda")).body == b"mine"
    assert (await client.get("~/assets/a.txt", token=None)).status == 401


@pytest_twisted.ensureDeferred
async def test_parts_and_unchanged_contents_are_only_for_those_who_may_read(client: Client) -> None:
    await make_private(client)
    user = await make_user(client, "reader", read="full")
    file = (await upload(client, ("data", picture("PNG", (300, 200)), "a.png"))).data
    for address in addresses(file):
        whole = await client.get(address, token="reader")
        tag = whole.headers["etag"]
        part = await client.get(address, token="reader", headers={"Range": "bytes=1-3"})
        assert (part.status, part.body, part.headers["cache-control"]) == (206, whole.body[1:4], PRIVATE)
        same = await client.get(address, token="reader", headers={"If-None-Match": tag})
        assert (same.status, same.body, same.headers["cache-control"]) == (304, b"", PRIVATE)
        behind = await client.get(address, token="reader", headers={"Range": "bytes=99999999-"})
        assert (behind.status, behind.headers["cache-control"]) == (416, "no-store")
    await set_permission(client, user["role"], read="none")
    for address, headers in itertools.product(addresses(file), ({"If-None-Match": tag}, {"Range": "bytes=0-0"}, {})):
        assert (await client.get(address, token="reader", headers=headers)).status == 404


@pytest_twisted.ensureDeferred
async def test_the_check_takes_one_statement(client: Client) -> None:
    await make_private(client)
    await make_user(client, "wanda", create="full", read="role")
    file = (await upload(client, ("data", picture("PNG"), "a.png"), token="wanda")).data
    logged = []
    for address in addresses(file):
        assert (await client.get(address, token="wanda")).status == 200
    query = Session.query

    async def counted(self: Any, statement: Any, *arguments: Any, **more: Any) -> Any:
        logged.append(statement)
        return await query(self, statement, *arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "query", counted)
        for address in addresses(file):
            logged.clear()
            assert (await client.get(address, token="wanda")).status == 200
            assert len(logged) == 1, logged


@pytest_twisted.ensureDeferred
async def test_a_limited_token_reads_the_contents_of_its_collections(client: Client) -> None:
    await make_private(client)
    file = await put_picture(client)
    for collections, expected in ((["directus_files"], 200), (["directus_folders"], 404), (None, 200)):
        made = await client.post("~/users/me/tokens", {"name": str(collections), "read_only": True, "collections": collections})
        for address in addresses(file):
            assert (await client.get(address, token=made.data["token"])).status == expected


@pytest_twisted.ensureDeferred
async def test_the_public_reads_what_its_role_may_read(client: Client) -> None:
    await make_private(client)
    await set_permission(client, 2, read="full")
    file = await put_picture(client)
    for address in addresses(file):
        answer = await client.get(address, token=None)
        assert (answer.status, answer.headers["cache-control"]) == (200, PRIVATE)
    text = (await upload(client, ("data", TEXT, "a.txt"))).data
    assert (await client.get(text["data"]["url"], token=None)).body == TEXT
