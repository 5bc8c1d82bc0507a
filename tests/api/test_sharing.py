"""Addresses at which anybody can read a file for some time."""

import io
import itertools
import re
import urllib.parse
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from PIL import Image

from directus_tx.db.session import Session
from directus_tx.projects.rotation import with_new_key, without_keys
from tests.api.accounts import execute, set_setting, without_session
from tests.api.test_assets import SMALL, made, put_picture
from tests.api.test_files import TEXT, picture, upload
from tests.api.test_private_assets import make_private, make_user, set_permission, told
from tests.conftest import Client, Reply


async def share(client: Client, file: Any, seconds: Any = 60, token: str | None = "admin-static-token", **more: Any) -> Reply:
    return await client.post(f"~/files/{file['id']}/share", {"seconds": seconds, **more}, token=token)


async def shared(client: Client, file: Any, seconds: int = 60, **more: Any) -> str:
    """The address of a file, without the host."""
    answer = await share(client, file, seconds, **more)
    assert answer.status == 200, answer.body
    return answer.data["relative_url"]


def pass_time(client: Client, **more: Any) -> None:
    """Lets the server believe that some time has passed."""
    now = client.app.services.now
    client.app.services = evolve(client.app.services, now=lambda: now() + timedelta(**more))


def changed(address: str, **values: str | None) -> str:
    """An address with other parameters; None removes one."""
    path, _, query = address.partition("?")
    found = dict(urllib.parse.parse_qsl(query, keep_blank_values=True)) | values
    return f"{path}?{urllib.parse.urlencode({name: value for name, value in found.items() if value is not None})}"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("private", [False, True])
async def test_anybody_can_read_a_shared_file_until_the_address_expires(client: Client, private: bool) -> None:
    if private:
        await make_private(client)
    file = await put_picture(client)
    answer = await share(client, file)
    assert set(answer.data) == {"url", "relative_url", "expires_on"}
    assert answer.headers["cache-control"] == "no-store"
    address = answer.data["relative_url"]
    assert answer.data["url"] == client.base + address
    assert file["private_hash"] not in address
    assert file["filename_disk"] not in address
    left = datetime.fromisoformat(answer.data["expires_on"]) - client.app.services.now()
    assert timedelta(seconds=0) < left <= timedelta(seconds=60)
    for token in (None, "no such token", "admin-static-token"):
        read = await client.get(address, token=token)
        assert (read.status, read.headers["content-type"], read.headers["cache-control"]) == (
            200,
            "image/png",
            "private, no-cache",
        )
        assert read.body == (await client.get(file["data"]["url"])).body
    tag = read.headers["etag"]
    assert (await client.get(address, token=None, headers={"If-None-Match": tag})).status == 304
    part = await client.get(address, token=None, headers={"Range": "bytes=1-3"})
    assert (part.status, part.body) == (206, read.body[1:4])
    assert (await client.call("HEAD", address, token=None)).status == 200
    pass_time(client, seconds=61)
    for headers in ({}, {"If-None-Match": tag}, {"Range": "bytes=1-3"}):
        late = await client.get(address, token=None, headers=headers)
        assert (late.status, late.code, late.headers["cache-control"]) == (404, 203, "no-store")


@pytest_twisted.ensureDeferred
async def test_an_address_shows_exactly_what_was_shared(client: Client) -> None:
    await make_private(client)
    file, other = await put_picture(client), await put_picture(client, "JPEG")
    whole = await shared(client, file)
    small = await shared(client, file, key="directus-small-crop")
    sized = await shared(client, file, w=64, h="64", f="crop", q=80)
    named = await shared(client, file, filename_download='a "b" é.png')
    addresses = {
        whole: {},
        small: {"key": "directus-small-crop"},
        sized: {"w": "64", "h": "64", "f": "crop", "q": "80"},
        named: {},
    }
    for address in addresses:
        assert (await client.get(address, token=None)).status == 200
    for address in (small, sized):
        read = await client.get(address, token=None)
        assert Image.open(io.BytesIO(read.body)).size == (64, 64)
        assert re.fullmatch(r"private, max-age=(\d+)", read.headers["cache-control"])
    disposition = (await client.get(named, token=None)).headers["content-disposition"]
    assert disposition == "attachment; filename=\"a _b_ _.png\"; filename*=UTF-8''a%20%22b%22%20%C3%A9.png"
    assert "inline" in (await client.get(whole, token=None)).headers["content-disposition"]
    expires = dict(urllib.parse.parse_qsl(whole.partition("?")[2]))["expires"]
    forged = [
        *(changed(each, expires=str(int(expires) + 1000)) for each in addresses),
        *(changed(each, expires=f"0{expires}9") for each in addresses),
        *(changed(each, expires=None) for each in addresses),
        *(changed(each, expires="x") for each in addresses),
        *(changed(each, key="directus-large-crop") for each in addresses),
        *(changed(each, w="65") for each in addresses),
        *(changed(each, download="x.html") for each in addresses),
        *(changed(each, signature=None) for each in addresses),
        *(changed(each, signature="") for each in addresses),
        *(changed(each, signature="0" * 64) for each in addresses),
        *(changed(each, signature="é") for each in addresses),
        *(f"{each}&signature[]=1" for each in addresses),
        *(f"{each}&key[a]=1" for each in addresses),
        *(each.replace(f"/files/{file['id']}/", f"/files/{other['id']}/") for each in addresses),
        *(each.replace(f"/files/{file['id']}/", "/files/999/") for each in addresses),
        *(each.replace(f"/files/{file['id']}/", "/files/x/") for each in addresses),
        *(each.replace(f"/files/{file['id']}/", f"/files/{10**17}/") for each in addresses),
        *(changed(small, key=None), changed(named, download=None)),
        f"~/files/{file['id']}/shared",
    ]
    answers = [await client.get(each, token=None) for each in forged]
    assert {told(each) for each in answers} == {told(answers[0])}
    assert (answers[0].status, answers[0].code) == (404, 203)
    # What means nothing to the server changes nothing.
    assert (await client.get(f"{small}&utm_source=mail", token=None)).status == 200


@pytest_twisted.ensureDeferred
async def test_an_address_ends_with_the_hash_or_the_file(client: Client) -> None:
    file = await put_picture(client)
    one = f"~/files/{file['id']}"
    address = await shared(client, file)
    assert (await client.patch(one, {"title": "New", "filename_disk": "other.png"})).status == 200
    assert (await client.get(address, token=None)).status == 200
    await upload(client, ("data", picture("PNG", (9, 9)), "b.png"), method="PATCH", path=one)
    assert Image.open(io.BytesIO((await client.get(address, token=None)).body)).size == (9, 9)
    assert (await client.patch(one, {"private_hash": "another"})).status == 200
    assert (await client.get(address, token=None)).status == 404
    again = await shared(client, file)
    assert (await client.get(again, token=None)).status == 200
    assert (await client.delete(one)).status == 204
    assert (await client.get(again, token=None)).status == 404
    assert (await share(client, file)).status == 404


@pytest_twisted.ensureDeferred
async def test_addresses_hold_after_the_rotation_of_the_key_until_it_is_forgotten(client: Client) -> None:
    file = await put_picture(client)
    # A static token is sealed with the key.
    token = (await client.post("~/users/me/tokens", {"name": "site"})).data["token"]
    address = await shared(client, file, token=token)
    projects = client.backend.projects
    config = projects.get(client.project).config
    projects.files.change(config, with_new_key)
    assert projects.get(client.project).config.former_secret_keys == (config.secret_key,)
    assert (await client.get(address, token=None)).status == 200
    new = await shared(client, file, token=token)
    assert changed(new, expires=None, signature=None) == changed(address, expires=None, signature=None)
    projects.files.change(config, lambda found: without_keys(found, [config.secret_key]))
    assert (await client.get(address, token=None)).status == 404
    assert (await client.get(new, token=None)).status == 200


@pytest_twisted.ensureDeferred
async def test_only_who_may_read_a_file_may_share_it(client: Client) -> None:
    await make_user(client, "reader", read="full")
    await make_user(client, "wanda", create="full", read="mine")
    await make_user(client, "blind", read="full", read_field_blacklist=["data"])
    await make_user(client, "nobody")
    await set_permission(client, 2, read="full")
    theirs = await put_picture(client)
    own = (await upload(client, ("data", picture("PNG"), "own.png"), token="wanda")).data
    none = {"id": 999}
    for token, file, expected in (
        ("reader", theirs, 200),
        ("wanda", own, 200),
        ("wanda", theirs, 404),
        ("wanda", none, 404),
        ("blind", theirs, 404),
        ("nobody", theirs, 404),
        ("nobody", none, 404),
        # The public may read it, but nobody could tell who has made the address.
        (None, theirs, 401),
        (None, none, 401),
    ):
        assert (await share(client, file, token=token)).status == expected, (token, file)
    hidden, missing = [told(await share(client, each, token="wanda")) for each in (theirs, none)]
    assert hidden == missing


@pytest_twisted.ensureDeferred
async def test_a_limited_token_shares_what_it_reads(client: Client) -> None:
    """A site that signs addresses needs no more than a token that is limited to reading files."""
    file = await put_picture(client)
    for collections, expected in ((["directus_files"], 200), (["directus_folders"], 404)):
        made_token = await client.post(
            "~/users/me/tokens", {"name": str(collections), "read_only": True, "collections": collections}
        )
        assert (await share(client, file, token=made_token.data["token"])).status == expected


@pytest_twisted.ensureDeferred
async def test_several_files_are_shared_at_once(client: Client) -> None:
    await make_user(client, "wanda", create="full", read="mine")
    files = [await put_picture(client) for _ in range(2)]
    own = (await upload(client, ("data", picture("PNG"), "own.png"), token="wanda")).data
    answer = await client.post(f"~/files/{files[1]['id']},{files[0]['id']}/share", {"seconds": 5, "key": "directus-small-crop"})
    assert [each["relative_url"].split("/")[3] for each in answer.data] == [str(files[1]["id"]), str(files[0]["id"])]
    for each in answer.data:
        assert (await client.get(each["relative_url"], token=None)).status == 200
    refused = await client.post(f"~/files/{own['id']},{files[0]['id']}/share", {"seconds": 5}, token="wanda")
    assert (refused.status, refused.code) == (404, 203)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("payload", "status"),
    [
        ({}, 422),
        *(({"seconds": each}, 422) for each in (0, -1, 7 * 86400 + 1, "60", 1.5, True, None, [1])),
        ({"seconds": 7 * 86400}, 200),
        ({"seconds": 1, "nope": 1}, 422),
        *(({"seconds": 1, "filename_download": each}, 422) for each in (1, ["a"], "x" * 256)),
        ({"seconds": 1, "filename_download": "x" * 255}, 200),
        ({"seconds": 1, "key": "no such key"}, 422),
        *(({"seconds": 1, "key": each}, 422) for each in (["a"], {"a": 1}, True)),
        ({"seconds": 1, "w": 64}, 422),
        ({"seconds": 1, "w": 65, "h": 64, "f": "crop", "q": 80}, 422),
        ([], 422),
    ],
)
async def test_what_is_wrong_in_the_payload_is_named(client: Client, payload: Any, status: int) -> None:
    file = await put_picture(client)
    answer = await client.post(f"~/files/{file['id']}/share", payload)
    assert answer.status == status, answer.body
    if status == 422 and isinstance(payload, dict) and "seconds" in payload and payload["seconds"] != 1:
        assert "files.max_share_seconds" in answer.json["error"]["message"]


@pytest_twisted.ensureDeferred
async def test_what_has_no_thumbnail_is_not_shared_as_one(client: Client) -> None:
    file = (await upload(client, ("data", TEXT, "a.txt"))).data
    answer = await share(client, file, key="directus-small-crop")
    assert (answer.status, answer.code) == (422, 12)
    assert await made(client) == set()
    assert (await client.get(await shared(client, file), token=None)).body == TEXT


@pytest_twisted.ensureDeferred
async def test_a_video_elsewhere_and_things_that_are_no_keys_are_not_shared(client: Client) -> None:
    video = (await client.post("~/files", {"data": "https://youtu.be/abcDEF12345"})).data
    for key in (video["id"], "x", "1.5", "99999999999999999999", "1;drop"):
        assert (await client.post(f"~/files/{key}/share", {"seconds": 5})).status == 404, key


@pytest_twisted.ensureDeferred
async def test_public_thumbnails_are_cached_for_long_and_private_ones_are_checked(client: Client) -> None:
    file = await put_picture(client, "JPEG", (300, 200))
    addresses = [f"~/assets/{file['private_hash']}?{SMALL}", await shared(client, file, key="directus-small-crop")]
    expected = [r"public, max-age=86400, immutable", r"private, max-age=\d\d"]
    for address, caching in zip(addresses, expected, strict=True):
        read = await client.get(address, token=None)
        assert re.fullmatch(caching, read.headers["cache-control"])
        for name, method in itertools.product(("etag", "last-modified", "accept-ranges"), ("GET", "HEAD")):
            assert (await client.call(method, address, token=None)).headers[name] == read.headers[name]
        part = await client.get(address, token=None, headers={"Range": "bytes=-2"})
        assert (part.status, part.body) == (206, read.body[-2:])
        for headers in ({"If-None-Match": read.headers["etag"]}, {"If-Modified-Since": read.headers["last-modified"]}):
            same = await client.get(address, token=None, headers=headers)
            assert (same.status, re.fullmatch(caching, same.headers["cache-control"]) is not None) == (304, True)


# --- an address is worth no more than the credential that it was made with

CREDENTIALS = ["jwt", "refreshed jwt", "jwt without a session", "cookie", "named", "expiring", "limited", "static"]
ADA = {"email": "ada@example.com", "password": "ada-secret", "status": "active", "role": 1, "token": "ada-static"}
LASTS = {"jwt": 20 * 60, "refreshed jwt": 20 * 60, "jwt without a session": 20 * 60, "cookie": 30 * 60, "expiring": 24 * 3600}
"""How long the credentials last in seconds, those that expire."""


async def make_ada(client: Client) -> int:
    answer = await client.post("~/users?fields=id", ADA)
    assert answer.status == 200, answer.body
    return int(answer.data["id"])


async def credential(client: Client, kind: str) -> dict[str, Any]:
    """What a request of Ada has with a credential."""
    if kind == "cookie":
        await set_setting(client, "auto_sign_out", 30)
        answer = await client.post("~/auth/authenticate", ADA | {"mode": "cookie"}, token=None)
        return {"token": None, "headers": {"Cookie": answer.headers["set-cookie"].partition(";")[0]}}
    if "jwt" in kind:
        token = (await client.post("~/auth/authenticate", ADA, token=None)).data["token"]
        if kind == "refreshed jwt":
            token = (await client.post("~/auth/refresh", {"token": token}, token=None)).data["token"]
        return {"token": without_session(client, token) if kind == "jwt without a session" else token}
    if kind == "static":
        return {"token": "ada-static"}
    limits: dict[str, Any] = {"limited": {"read_only": True, "collections": ["directus_files"]}, "expiring": {"lifetime": 1}}
    answer = await client.post("~/users/me/tokens", {"name": kind, **limits.get(kind, {})}, token="ada-static")
    return {"token": answer.data["token"]}


async def shared_by(client: Client, file: Any, caller: dict[str, Any], seconds: int = 7 * 24 * 3600) -> Reply:
    answer = await client.post(f"~/files/{file['id']}/share", {"seconds": seconds}, **caller)
    assert answer.status == 200, answer.body
    return answer


async def opened(client: Client, *addresses: str) -> list[int]:
    return [(await client.get(address, token=None)).status for address in addresses]


@pytest_twisted.ensureDeferred
async def test_an_address_ends_with_the_time_of_the_credential(client: Client) -> None:
    file = await put_picture(client)
    await make_ada(client)
    addresses = {}
    for kind in CREDENTIALS:
        caller = await credential(client, kind)
        most = LASTS.get(kind, 7 * 24 * 3600)
        for wanted, seconds in ((60, 60), (most, most), (7 * 24 * 3600, most)):
            now = client.app.services.now()
            answer = await shared_by(client, file, caller, wanted)
            expires = datetime.fromisoformat(answer.data["expires_on"])
            assert timedelta(seconds=seconds - 60) < expires - now <= timedelta(seconds=seconds + 5)
        addresses[kind] = answer.data["relative_url"]
    now, start = client.app.services.now, client.app.services.now()
    for seconds in sorted(set(LASTS.values())):
        for passed, ended in ((seconds - 120, False), (seconds + 1, True)):
            client.app.services = evolve(client.app.services, now=lambda: start + timedelta(seconds=passed))  # noqa: B023
            for kind, address in addresses.items():
                expected = 404 if LASTS.get(kind, 1e9) < seconds + ended else 200
                assert await opened(client, address) == [expected], (kind, passed)
    client.app.services = evolve(client.app.services, now=now)


@pytest_twisted.ensureDeferred
async def test_a_cookie_that_is_in_use_makes_addresses_for_its_whole_time(client: Client) -> None:
    file = await put_picture(client)
    await make_ada(client)
    caller = await credential(client, "cookie")
    for _ in range(3):
        answer = await shared_by(client, file, caller)
        left = datetime.fromisoformat(answer.data["expires_on"]) - client.app.services.now()
        assert timedelta(minutes=29) < left <= timedelta(minutes=30)
        pass_time(client, minutes=20)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("way", ["suspended", "deleted", "password", "static token", "signed out", "revoked"])
async def test_an_address_ends_with_the_credential(client: Client, way: str) -> None:
    file = await put_picture(client)
    user = await make_ada(client)
    callers = {kind: await credential(client, kind) for kind in CREDENTIALS}
    addresses = {kind: (await shared_by(client, file, caller, 60)).data["relative_url"] for kind, caller in callers.items()}

    async def valid() -> set[str]:
        """The kinds of the credentials that are valid. The addresses are, exactly as long as what they were made with."""
        found = {kind for kind in callers if (await client.get("~/files/1?fields=id", **callers[kind])).status == 200}
        assert {kind for kind in callers if await opened(client, addresses[kind]) == [200]} == found
        return found

    assert await valid() == set(CREDENTIALS)
    own = {"token": "ada-static"}
    if way == "deleted":
        assert (await client.delete(f"~/users/{user}")).status == 204
    elif way == "signed out":
        assert (await client.post(f"~/auth/logout/{user}", {})).status == 200
    elif way == "revoked":
        for token in (await client.get("~/users/me/tokens", **own)).data:
            assert (await client.delete(f"~/users/me/tokens/{token['id']}", **own)).status == 204
    else:
        change = {"suspended": {"status": "suspended"}, "password": {"password": "x"}, "static token": {"token": "other"}}[way]
        assert (await client.patch(f"~/users/{user}", change)).status == 200
    ended = {
        "suspended": CREDENTIALS,
        "deleted": CREDENTIALS,
        "password": [kind for kind in CREDENTIALS if "jwt" in kind or kind == "cookie"],
        "static token": ["static"],
        "signed out": ["cookie"],
        "revoked": ["named", "expiring", "limited"],
    }[way]
    assert await valid() == set(CREDENTIALS) - set(ended)
    if way == "suspended":
        assert (await client.patch(f"~/users/{user}", {"status": "active"})).status == 200
        assert await valid() == {"static"}


@pytest_twisted.ensureDeferred
async def test_an_address_shows_no_more_than_its_maker_may_read(client: Client) -> None:
    await make_private(client)
    await make_user(client, "wanda", create="full", read="full")
    file = await put_picture(client)
    address = (await shared_by(client, file, {"token": "wanda"}, 60)).data["relative_url"]
    ((role,),) = await execute(client, "SELECT role FROM directus_users WHERE token IS NOT NULL AND id > 1")
    for levels, expected in (
        ({"read": "mine"}, 404),
        ({"read": "full", "read_field_blacklist": ["data"]}, 404),
        ({"read": "full", "read_field_blacklist": ["private_hash"]}, 200),
        ({"read": "none"}, 404),
        ({"read": "full"}, 200),
    ):
        await set_permission(client, role, **{"read_field_blacklist": [], **levels})
        assert await opened(client, address) == [expected], levels
    # A role that demands a second factor lets nobody read without one.
    assert (await client.patch(f"~/roles/{role}", {"enforce_2fa": True})).status == 200
    assert await opened(client, address) == [404]


@pytest_twisted.ensureDeferred
async def test_an_address_cannot_name_another_maker(client: Client) -> None:
    file = await put_picture(client)
    await make_ada(client)
    caller = await credential(client, "named")
    address = (await shared_by(client, file, caller, 60)).data["relative_url"]
    assert "by=2.named-1&" in address
    assert await opened(client, address) == [200]
    for by in (
        "1.static",
        "2.static",
        "2.jwt",
        "2.named-2",
        "1.named-1",
        "2.cookie-1",
        "2.named",
        "2",
        "",
        None,
        "x",
        "2.named-1 ",
        "٢.jwt",
    ):
        assert await opened(client, changed(address, by=by)) == [404], by
    for by in ("9" * 18 + ".jwt", "2.named-" + "9" * 18, "2.named-" + "9" * 40):
        assert await opened(client, changed(address, by=by)) == [404], by


@pytest_twisted.ensureDeferred
async def test_reading_a_shared_file_again_costs_one_statement(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    file = await put_picture(client)
    address = await shared(client, file)
    assert await opened(client, address) == [200]
    statements: list[str] = []
    query = Session.query

    async def counted(self: Session, statement: Any, *arguments: Any, **options: Any) -> Any:
        statements.append(str(statement))
        return await query(self, statement, *arguments, **options)

    monkeypatch.setattr(Session, "query", counted)
    assert await opened(client, address) == [200]
    assert len(statements) == 1, statements
