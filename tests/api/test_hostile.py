"""What a client may send that no honest one does: each is refused by name, and nothing comes of it."""

import json
import re
import threading
from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet import defer

from directus_tx.config import Settings
from directus_tx.errors import MAX_MESSAGE
from directus_tx.http.endpoints import all_routes
from directus_tx.http.payload import payload
from directus_tx.items.values import MAX_MIRRORED
from tests.conftest import Client, Reply, field

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n--x--\r\n'


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """As other tests have them, but limits that are reached sooner."""
    server = evolve(settings.server, max_body_size=500_000)
    limits = evolve(settings.limits, max_payload_size=300_000, max_public_payload_size=100_000, max_payload_values=20_000)
    return evolve(settings, server=server, limits=limits)


def refused(answer: Reply) -> bool:
    """Whether an answer is an error of the API's own, of GraphQL or of SCIM, that the client is to blame for."""
    if answer.status == 200 and answer.json is not None and answer.json.keys() == {"errors"}:
        return all(each["message"] and each["extensions"]["code"] for each in answer.json["errors"])
    if answer.json is None or not (400 <= answer.status < 500 or answer.status == 501):
        return False
    if answer.headers["content-type"] == "application/scim+json":
        return answer.json["status"] == answer.status and bool(answer.json["detail"])
    return set(answer.json["error"]) == {"code", "message"}


def paths(client: Client, part: str, *, with_payload: bool = False) -> list[tuple[str, str]]:
    """The method and path of every route, with a text in all places but the project's. *with_payload*: only of those that take one."""
    found = []
    for route in all_routes():
        if with_payload and route.about.payload is None:
            continue
        path = route.path.replace("<project>", client.project)
        if "delete" not in path:
            found.append((route.method, re.sub(r"<\w+>", part, path)))
    return found


@ensureDeferred
async def test_no_body_makes_the_server_fail(client: Client) -> None:
    await client.collection("things", field("name"), field("data", "json", "JSON", None))
    strings = dict.fromkeys(
        ("name", "email", "password", "token", "title", "comment", "collection", "field", "project"), "a\x00b"
    )
    bodies: list[tuple[bytes, str]] = [
        (json.dumps(strings).encode(), JSON),
        (json.dumps([strings]).encode(), JSON),
        (rb'{"name":"\ud800","email":"\udc00"}', JSON),
        (b'{"name":"\xff"}', JSON),
        (b"[" * 100_000, JSON),
        (b'{"a":' * 300 + b"1" + b"}" * 300, JSON),
        (b"name=%00", FORM),
        (b"name=%ED%A0%80", FORM),
        (b"a" + b"[x]" * 100 + b"=1", FORM),
        (PART % (b"name", b"\0"), MULTIPART),
        (PART % (b"na\xffme", b"1"), MULTIPART),
        (PART % (b"name", b"+AHg-"), MULTIPART + "; charset=utf-7"),
        (PART % (b"name", b"1"), MULTIPART + "; charset=rot13"),
        (b"x" * 100, MULTIPART),
        (b'{"name":"x"}', "application/json; charset=utf-16"),
    ]
    for method, path in paths(client, "things", with_payload=True):
        if method in ("POST", "PATCH") and not path.endswith("/update"):
            for body, kind in bodies:
                answer = await client.call(method, path, body, headers={"Content-Type": kind})
                assert refused(answer), (method, path, body[:60], kind, answer.status, answer.body)
    assert (await client.get("~/items/things")).data == []


@ensureDeferred
async def test_no_path_makes_the_server_fail(client: Client) -> None:
    await client.collection("things", field("name"))
    await client.post("~/items/things", {"name": "x"})
    parts = [
        "%00",
        "a%00b",
        "%FF",
        "%ED%A0%80",
        "%C2%B2",
        "%2F",
        "..%2F..",
        "%252F",
        ",",
        ",,,",
        "%20",
        "-1",
        "1e3",
        "9" * 400,
        "1;2",
        "'",
    ]
    for part in [*parts, ",".join(map(str, range(501)))]:
        for method, path in paths(client, part):
            if path in (f"/{client.project}/{part}", f"/{client.project}"):
                continue
            body: Any = {} if method in ("POST", "PATCH") else ...
            answer = await client.call(method, path, body)
            fixed = part not in path
            assert answer.status < 500 or answer.status == 501, (method, path, answer.body)
            # The answers to HEAD have no body.
            known = answer.status == 200 or refused(answer) or (method == "HEAD" and answer.status < 500)
            assert fixed or known, (method, path, answer.status, answer.body)
    assert (await client.get("~/items/things")).data == [{"id": 1, "name": "x"}]


@ensureDeferred
async def test_a_path_names_a_limited_number_of_keys(client: Client) -> None:
    await client.collection("things", field("name"))
    await client.post("~/items/things", [{"name": str(number)} for number in range(20)])
    assert len((await client.get("~/items/things/" + ",".join(map(str, range(500))))).data) == 20
    for path in ("~/items/things/", "~/users/", "~/collections/", "~/fields/things/"):
        for number in (501, 900, 3000):
            answer = await client.get(path + ",".join(map(str, range(number))))
            assert (answer.status, answer.code) == (422, 4)
            assert "limits.max_keys" in answer.json["error"]["message"]
    answer = await client.delete("~/items/things/" + ",".join(map(str, range(1, 900))))
    assert (answer.status, answer.code) == (422, 4)
    for nothing in (",", "%20", ",%20,"):
        assert (await client.delete(f"~/items/things/{nothing}")).status == 404
    assert len((await client.get("~/items/things")).data) == 20


@ensureDeferred
async def test_a_slash_that_is_escaped_belongs_to_its_part(client: Client) -> None:
    key = {"field": "code", "type": "string", "datatype": "VARCHAR", "length": 20, "primary_key": True, "interface": "text-input"}
    assert (await client.post("~/collections", {"collection": "codes", "fields": [key, field("name")]})).status == 200
    for code in ("a/b", "a", "%2F"):
        assert (await client.post("~/items/codes", {"code": code, "name": f"<{code}>"})).status == 200
    assert (await client.get("~/items/codes/a%2Fb")).data["name"] == "<a/b>"
    assert (await client.get("~/items/codes/a%2fb?fields=name")).data == {"name": "<a/b>"}
    assert (await client.get("~/items/codes/%252F")).data["name"] == "<%2F>"
    assert (await client.patch("~/items/codes/a%2Fb", {"name": "x"})).data["name"] == "x"
    assert (await client.delete("~/items/codes/a%2Fb")).status == 204
    assert [item["code"] for item in (await client.get("~/items/codes")).data] == ["%2F", "a"]
    assert (await client.get("~/items%2Fcodes/a")).status == 404
    assert (await client.get(f"/{client.project}%2Fitems/codes/a")).status == 401


@ensureDeferred
async def test_a_revision_is_counted_in_digits(client: Client) -> None:
    await client.collection("things", field("name"))
    await client.post("~/items/things", {"name": "x"})
    assert (await client.get("~/items/things/1/revisions/0")).status == 200
    for offset in ("%C2%B2", "%D9%A3", "-1", "x", "9" * 30, "1.0"):
        answer = await client.get(f"~/items/things/1/revisions/{offset}")
        assert (answer.status, answer.code) == (422, 4), offset
        assert refused(await client.patch(f"~/items/things/1/revert/{offset}", {})), offset
        assert refused(await client.get(f"~/folders/{offset}")), offset
        assert refused(await client.post("~/utils/random/string", {"length": offset})), offset


# --- large bodies


ITEM = {"name": "x" * 20}


async def callers(client: Client) -> list[str | None]:
    """The tokens of the public, and of a user without any right."""
    role = (await client.post("~/roles", {"name": "Nothing"})).data["id"]
    user = {"email": "nothing@example.com", "password": "secret", "status": "active", "role": role, "token": "nothing"}
    assert (await client.post("~/users", user)).status == 200
    return [None, "nothing"]


@ensureDeferred
async def test_whoever_has_no_right_is_refused_before_the_body_is_read(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await client.collection("things", field("name"))
    await client.post("~/items/things", ITEM)
    tokens, read = await callers(client), []
    monkeypatch.setattr(client.app.payloads, "read", lambda *arguments, **options: read.append(arguments))
    for token in tokens:
        for method, path in (
            ("POST", "~/items/things"),
            ("PATCH", "~/items/things"),
            ("PATCH", "~/items/things/1"),
            ("POST", "~/collections"),
            ("PATCH", "~/collections/things"),
            ("POST", "~/fields/things"),
            ("PATCH", "~/fields/things"),
            ("PATCH", "~/fields/things/name"),
            ("POST", "~/permissions/import"),
            ("POST", "~/settings"),
            ("POST", "~/roles"),
        ):
            for body in (b"[" + b"{}," * 10_000 + b"{}]", b"{}", b"{"):
                answer = await client.call(method, path, body, token=token)
                assert answer.status in (401, 403, 404), (method, path, answer.status)
    assert read == []


@ensureDeferred
async def test_a_payload_has_limits_of_its_own(client: Client) -> None:
    await client.collection("things", field("name", datatype="TEXT", length=None))
    await client.post("~/permissions", {"collection": "things", "role": 2, "create": "full", "read": "full"})
    limits, path = client.backend.settings.limits, "~/items/things?fields=id"

    async def send(size: int, kind: str, **options: Any) -> Reply:
        text = b"x" * (size - 300)
        body = {JSON: b'{"name":"%s"}', FORM: b"name=%s", MULTIPART: PART.replace(b"%s", b"name", 1)}[kind] % text
        return await client.post(path, body, headers={"Content-Type": kind}, **options)

    for kind in (JSON, FORM, MULTIPART):
        assert (await send(limits.max_public_payload_size, kind, token=None)).status == 200, kind
        assert (await send(limits.max_payload_size, kind)).status == 200, kind
        for token in (None, "no such token"):
            answer = await send(limits.max_public_payload_size + 1000, kind, token=token)
            assert (answer.status, answer.code) == (413, 601), (kind, token)
            assert "limits.max_public_payload_size" in answer.json["error"]["message"]
        answer = await send(limits.max_payload_size + 1000, kind)
        assert (answer.status, answer.code) == (413, 601), kind
        assert "limits.max_payload_size" in answer.json["error"]["message"]
    answer = await client.post(path, b"[" + b"{}," * limits.max_payload_values + b"{}]")
    assert (answer.status, answer.code) == (413, 601)
    assert "limits.max_payload_values" in answer.json["error"]["message"]
    assert len((await client.get(path)).data) == 6


@ensureDeferred
async def test_files_do_not_count_as_payload(client: Client) -> None:
    await client.collection("things", field("name"))
    size = client.backend.settings.limits.max_payload_size + 1000
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n\r\n' + b"\xff" * size + b"\r\n"
    answer = await client.post("~/items/things?fields=name", part + PART % (b"name", b"n"), headers={"Content-Type": MULTIPART})
    assert (answer.status, answer.data) == (200, {"name": "n"})
    answer = await client.post("~/items/things", part * 2 + PART % (b"name", b"n"), headers={"Content-Type": MULTIPART})
    assert (answer.status, answer.code) == (413, 601)
    assert "server.max_body_size" in answer.json["error"]["message"]


@ensureDeferred
async def test_a_large_body_is_read_on_a_thread(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await client.collection("things", field("name"), field("data", "json", "JSON", None))
    reading = []

    def noted(*arguments: Any) -> Any:
        reading.append(threading.current_thread() is threading.main_thread())
        return payload(*arguments)

    monkeypatch.setattr("directus_tx.http.payload.payload", noted)
    monkeypatch.setattr("directus_tx.http.payload.OFF_REACTOR", 50_000)
    data = [{"n": number, "t": "x,[]{}" * 3} for number in range(2000)]
    answers = await defer.gatherResults(
        [defer.ensureDeferred(client.post("~/items/things?fields=*", {"name": "large", "data": data})) for _ in range(5)]
    )
    assert [answer.data["data"] for answer in answers] == [data] * 5
    assert (await client.post("~/items/things", {"name": "small"})).status == 200
    assert (await client.post("~/items/things", b"[" + b" " * 60_000 + b"{")).code == 13
    assert reading == [False] * 5 + [True, False]


@ensureDeferred
async def test_more_large_bodies_than_may_wait_are_503(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await client.collection("things", field("name"))
    monkeypatch.setattr("directus_tx.http.payload.OFF_REACTOR", 1)
    monkeypatch.setattr("directus_tx.http.payload.WAITING", 0)
    answer = await client.post("~/items/things", ITEM)
    assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, 16, "1")


@ensureDeferred
@pytest.mark.parametrize(
    "payload", [{"x" * 100_000: 1}, {f"unknown{n}": 1 for n in range(10_000)}, [{"name": "a"}, {"\U0001f600" * 20_000: 1}]]
)
async def test_a_refusal_does_not_repeat_all_that_was_sent(client: Client, payload: Any) -> None:
    await client.collection("things", field("name"))
    for path in ("~/items/things", "~/users", "~/activity/comment", "~/collections"):
        answer = await client.post(path, payload)
        assert (answer.status, answer.code) == (422, 12)
        assert len(answer.json["error"]["message"]) <= MAX_MESSAGE + 1, path


@ensureDeferred
async def test_a_slug_is_made_of_the_beginning_of_a_text(client: Client) -> None:
    slug = field("slug", "slug", "TEXT", None, options={"mirroredField": "text"})
    await client.collection("things", field("text", datatype="TEXT", length=None), slug)
    answer = await client.post("~/items/things", {"text": "\u00e4" * (MAX_MIRRORED + 1)})
    assert answer.data["slug"] == "ae" * MAX_MIRRORED
    assert (await client.post("~/items/things", {"text": "Stra\u00dfe & Tor"})).data["slug"] == "strasse-tor"
