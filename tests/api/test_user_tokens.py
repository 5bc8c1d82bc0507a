"""Tokens of users beside the static one: what they are worth, what they are limited to, and when they end."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet import defer

from directus_tx.access.grant import READ_BY_TOKENS
from directus_tx.accounts import user_tokens
from directus_tx.context import current_time
from directus_tx.db.session import Session
from directus_tx.http.endpoints import all_routes
from directus_tx.http.routes import Caller
from directus_tx.jobs.sessions import remove_expired
from tests.api.test_rotation import forget, project_of, rotate
from tests.conftest import Client, Reply, field, limited_role

ME = "~/users/me?fields=id"
TOKENS = "~/users/me/tokens"
MINE = {"create": "full", "read": "full", "update": "full", "delete": "full", "comment": "full"}


async def execute(client: Client, statement: str, parameters: Any = ()) -> Any:
    return await Session(project_of(client).database).transaction(lambda session: session.query(statement, parameters))


async def made(client: Client, name: str = "a", *, by: str | None = None, **more: Any) -> str:
    """Makes a token of the caller with the token *by*, and returns it."""
    options = {} if by is None else {"token": by}
    answer = await client.post(TOKENS, {"name": name, **more}, **options)
    assert answer.status == 200, answer.body
    return str(answer.data["token"])


async def writer(client: Client, *collections: str) -> str:
    """A user whose role may do everything with some collections, change users, and read all else. Returns the static token."""
    role = (await client.post("~/roles", {"name": "Writers"})).data["id"]
    for name in (*collections, "directus_users"):
        await client.post("~/permissions", {"role": role, "collection": name, **MINE})
    user = {"email": "w@example.com", "password": "password", "status": "active", "role": role, "token": "writer"}
    assert (await client.post("~/users", user)).status == 200
    return "writer"


@pytest.fixture
def clock(client: Client) -> Callable[[float], None]:
    """Moves the time of the server by hours."""
    services, passed = client.app.services, 0.0

    def move(hours: float) -> None:
        nonlocal passed
        passed += hours
        moment = passed
        client.app.services = evolve(services, now=lambda: current_time() + timedelta(hours=moment))

    return move


def refused(answer: Reply) -> bool:
    return answer.status in (401, 403)


@ensureDeferred
async def test_a_token_is_shown_once_and_is_nowhere_in_the_database(client: Client) -> None:
    answer = await client.post(TOKENS, {"name": " import "})
    assert answer.headers["cache-control"] == "no-store"
    shown = dict(answer.data)
    token = shown.pop("token")
    assert user_tokens.is_token(token)
    assert shown | {"created_on": None} == {
        "id": 1,
        "name": "import",
        "read_only": False,
        "collections": None,
        "created_on": None,
        "expires_on": None,
        "last_used_on": None,
    }
    assert (await client.get(TOKENS)).data == [shown]
    tables = await execute(client, "SELECT tablename FROM pg_tables WHERE tablename LIKE 'directus_%%'")
    held = str([await execute(client, f"SELECT t::text FROM {table} AS t") for (table,) in tables])
    assert "import" in held
    assert token not in held
    assert (await client.get(ME, token=token)).data == {"id": 1}
    assert (await client.post("~/collections", {"collection": "things", "fields": [field("name")]}, token=token)).status < 500


@ensureDeferred
async def test_a_token_without_limits_does_what_its_user_may(client: Client) -> None:
    await client.collection("things", field("name"))
    token = await made(client)
    assert (await client.post("~/items/things", {"name": "x"}, token=token)).status == 200
    assert (await client.post("~/roles", {"name": "New"}, token=token)).status == 200
    assert (await client.patch("~/users/1", {"title": "Dr"}, token=token)).status == 200
    by = (await client.get("~/activity?filter[collection]=things&fields=action_by", token=token)).data
    assert by == [{"action_by": 1}]
    own = await writer(client, "things")
    theirs = await made(client, by=own)
    assert (await client.get("~/items/things?fields=name", token=theirs)).data == [{"name": "x"}]
    assert (await client.post("~/roles", {"name": "Newer"}, token=theirs)).status == 403
    # The same through each way a token takes.
    assert (await client.get(f"~/users/me?fields=id&access_token={theirs}", token=None)).status == 200


@ensureDeferred
async def test_users_see_and_revoke_their_own_tokens_only(client: Client) -> None:
    own = await writer(client)
    first, second = await made(client, "a"), await made(client, "a", by=own)
    assert [each["name"] for each in (await client.get(TOKENS, token=own)).data] == ["a"]
    ((others, _),) = await execute(client, 'SELECT min(id), max(id) FROM directus_user_tokens WHERE "user" = 1')
    for key in (others, 0, "x", 2**70):
        assert (await client.delete(f"{TOKENS}/{key}", token=own)).status == 404
    assert [(await client.get(ME, token=token)).status for token in (first, second)] == [200, 200]
    mine = (await client.get(TOKENS, token=own)).data[0]["id"]
    assert (await client.delete(f"{TOKENS}/{mine}", token=own)).status == 204
    assert [(await client.get(ME, token=token)).status for token in (first, second)] == [200, 401]
    assert (await client.get(TOKENS, token=own)).data == []
    for method in ("GET", "POST", "DELETE"):
        path = TOKENS if method != "DELETE" else f"{TOKENS}/{others}"
        assert (await client.call(method, path, {"name": "x"}, token=None)).status == 401


WRONG: tuple[dict[str, Any], ...] = (
    {},
    {"name": ""},
    {"name": "  "},
    {"name": 1},
    {"name": "x" * 101},
    {"name": "a\x00"},
    {"name": "x", "lifetime": 0},
    {"name": "x", "lifetime": -1},
    {"name": "x", "lifetime": 1.5},
    {"name": "x", "lifetime": True},
    {"name": "x", "lifetime": 10**9},
    {"name": "x", "lifetime": "1"},
    {"name": "x", "read_only": "yes"},
    {"name": "x", "read_only": None},
    {"name": "x", "collections": []},
    {"name": "x", "collections": "things"},
    {"name": "x", "collections": [1]},
    {"name": "x", "collections": ["nothing"]},
    {"name": "x", "collections": ["secrets"]},
    {"name": "x", "collections": ["things"] * 101},
    {"name": "x", "user": 1},
    {"name": "x", "token": "directus_chosen"},
)


@ensureDeferred
async def test_what_makes_no_token_is_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await client.collection("things", field("name"))
    await client.collection("secrets", field("name"))
    own = await writer(client, "things")
    for payload in WRONG:
        answer = await client.post(TOKENS, payload, token=own)
        assert (answer.status, answer.code) == (422, 4), (payload, answer.body)
    assert (await client.post(TOKENS, [{"name": "x"}], token=own)).status == 422
    assert await execute(client, "SELECT count(*) FROM directus_user_tokens") == [(0,)]
    await made(client, "Nightly", by=own)
    again = await client.post(TOKENS, {"name": "nightly"}, token=own)
    assert (again.status, again.code) == (409, 204)
    monkeypatch.setattr(user_tokens, "MAX_TOKENS", 3)
    answers = await defer.gatherResults(
        [defer.ensureDeferred(client.post(TOKENS, {"name": f"n{n}"}, token=own)) for n in range(6)]  # type: ignore[arg-type]
    )
    assert sorted(answer.status for answer in answers) == [200, 200, 422, 422, 422, 422]


# --- limits


@ensureDeferred
async def test_a_token_for_reading_writes_nothing(client: Client) -> None:
    """Of an administrator too, whatever the route: all routes that write are tried."""
    await client.collection("things", field("name"))
    await client.post("~/items/things", {"name": "x"})
    await client.post("~/folders", {"name": "x"})
    await client.post("~/webhooks", {"collection": "things"})
    await client.post("~/collection_presets", {"collection": "things"})
    token = await made(client, read_only=True)
    for path in (
        "~/items/things",
        "~/items/things/1",
        "~/users",
        "~/roles",
        "~/settings",
        "~/permissions",
        "~/activity",
        "~/fields",
    ):
        assert (await client.get(path, token=token)).status == 200, path
    tables = ("things", "directus_users", "directus_roles", "directus_permissions", "directus_settings", "directus_fields")
    tables += ("directus_collections", "directus_activity", "directus_user_tokens", "directus_outbox", "directus_webhooks")
    tables += ("directus_folders", "directus_collection_presets", "directus_relations", "directus_user_sessions")

    async def everything() -> Any:
        return [await execute(client, f"SELECT t::text FROM {table} AS t ORDER BY 1") for table in tables]

    await client.get(ME, token=token)
    before = await everything()
    tried = 0
    for route in all_routes():
        if route.method in ("GET", "HEAD") or not route.in_project or route.caller is Caller.ANONYMOUS:
            continue
        if route.path.endswith("s/.search"):
            # A search by SCIM reads.
            continue
        places = {"project": client.project, "ids": "1", "key": "1", "collection": "things", "name": "things", "names": "name"}
        path = route.path
        for name, value in places.items():
            path = path.replace(f"<{name}>", value)
        body = {"collection": "things", "comment": "c", "item": "1"}
        answer = await client.call(route.method, path, body, token=token)
        # There is no such comment, and no such file.
        missing = answer.status == 404 and ("comment" in path or "/files/" in path)
        # These read: what they are asked for is in the body.
        reads = path.endswith(("/gql", "/share", "/.search"))
        assert refused(answer) or missing or (reads and answer.status < 500), (route.method, path, answer.body)
        tried += 1
    assert tried > 25
    for body in ([{"id": 1, "name": "y"}], [{"name": "y"}]):
        assert refused(await client.call("PATCH" if "id" in body[0] else "POST", "~/items/things", body, token=token))
    assert await everything() == before


@ensureDeferred
async def test_a_token_for_collections_reads_and_writes_their_items_alone(client: Client) -> None:
    await client.collection("things", field("name"), field("owner", "owner", "INT", 11))
    await client.collection("others", field("name"))
    await client.post("~/items/others", {"name": "hidden"})
    for by in (None, await writer(client, "things", "others", "directus_webhooks", "directus_roles")):
        token = await made(client, collections=["things"], by=by)
        made_by = await client.post("~/items/things", {"name": "x"}, token=token)
        key = made_by.data["id"]
        assert (await client.patch(f"~/items/things/{key}?fields=name", {"name": "y"}, token=token)).data == {"name": "y"}
        assert (await client.get(f"~/items/things/{key}?fields=name,owner.*", token=token)).data["name"] == "y"
        assert isinstance((await client.get(f"~/items/things/{key}?fields=owner.email", token=token)).data["owner"], (int, dict))
        found = await client.get("~/items/things?filter[owner.email][contains]=example", token=token)
        assert (found.status, found.code) == (403, 215)
        assert (await client.delete(f"~/items/things/{key}", token=token)).status == 204
        for path in ("others", "others/1", "nothing"):
            assert (await client.get(f"~/items/{path}", token=token)).status in (403, 404), path
        assert (await client.post("~/items/others", {"name": "x"}, token=token)).status in (403, 404)
        for path in ("users", "users/me", "roles", "webhooks", "files"):
            assert refused(await client.get(f"~/{path}", token=token)), path
        listed = (await client.get("~/collections", token=token)).data
        assert [each["collection"] for each in listed if each["fields"]] == ["things", *sorted(READ_BY_TOKENS)]
        assert {each["collection"] for each in (await client.get("~/fields", token=token)).data} == {"things", *READ_BY_TOKENS}
        document = (await client.get("~/specs/oas", token=token)).json
        assert "/items/things" in document["paths"]
        assert not {"/items/others", "/mail", "/users/me/tokens", "/roles"} & document["paths"].keys()
        for method, path, body in (
            ("PATCH", "~/users/me", {"password": "changed"}),
            ("PATCH", "~/users/1", {"token": "changed"}),
            ("POST", "~/users", {"email": "x@example.com", "password": "password"}),
            ("POST", "~/webhooks", {"collection": "things"}),
            ("POST", "~/collections", {"collection": "new", "fields": [field("name")]}),
            ("POST", "~/fields/things", field("more")),
            ("DELETE", "~/collections/things", ...),
            ("POST", TOKENS, {"name": "more"}),
            ("GET", TOKENS, ...),
            ("DELETE", f"{TOKENS}/1", ...),
            ("POST", "~/mail", {"to": ["a@example.com"], "subject": "s", "body": "b"}),
            ("PATCH", "~/users/me/tracking/page", {"last_page": "/x"}),
            ("POST", "~/auth/logout/1", {}),
            ("POST", "~/auth/logout/1/1", {}),
            ("PATCH", "~/settings/1", {"value": "x"}),
            ("POST", "~/schema/adopt", {}),
            ("GET", "~/permissions/export", ...),
            ("GET", "~/server/advice", ...),
        ):
            answer = await client.call(method, path, body, token=token)
            assert refused(answer) or answer.status == 404, (method, path, answer.body)


@ensureDeferred
async def test_a_limited_token_can_do_no_more_than_its_user(client: Client) -> None:
    await client.collection("things", field("name"), field("secret"))
    await client.collection("others", field("name"))
    await client.post("~/items/things", {"name": "x", "secret": "s"})
    role = (await client.post("~/roles", {"name": "Readers"})).data["id"]
    row = {"role": role, "collection": "things", "read": "full", "update": "full", "read_field_blacklist": ["secret"]}
    permission = (await client.post("~/permissions", row)).data["id"]
    user = {"email": "r@example.com", "password": "password", "status": "active", "role": role, "token": "reader"}
    await client.post("~/users", user)
    tokens = [await made(client, "a", by="reader", collections=["things"]), await made(client, "b", by="reader", read_only=True)]
    for token in tokens:
        assert (await client.get("~/items/things", token=token)).data == [{"id": 1, "name": "x"}]
        assert (await client.get("~/items/things?filter[secret]=s", token=token)).status == 403
        assert refused(await client.post("~/items/things", {"name": "y"}, token=token))
        assert (await client.get("~/items/others", token=token)).status == 403
    assert [(await client.patch("~/items/things/1", {"name": "z"}, token=token)).status for token in tokens] == [200, 403]
    # From the next request on.
    await client.delete(f"~/permissions/{permission}")
    for token in tokens:
        assert (await client.get("~/items/things", token=token)).status == 403
    await client.patch("~/users/2", {"role": 1})
    assert (await client.get("~/items/things?fields=secret", token=tokens[0])).data == [{"secret": "s"}]
    assert refused(await client.get("~/items/others", token=tokens[0]))
    assert (await client.get("~/items/others", token=tokens[1])).data == []


@ensureDeferred
async def test_a_limited_token_reads_no_credentials(client: Client) -> None:
    """Not even those of its user, with which it could do everything that the user may."""
    await client.collection("things", field("owner", "owner", "INT", 11))
    await client.patch("~/users/1", {"2fa_secret": "JBSWY3DPEHPK3PXP"})
    await client.post("~/items/things", {})
    for token in (await made(client, read_only=True), await made(client, "b", collections=["directus_users", "things"])):
        for path in ("~/users", "~/users/me", "~/users/1?fields=*", "~/items/things?fields=owner.*"):
            answer = await client.get(path, token=token)
            assert answer.status == 200, path
            assert "admin-static-token" not in answer.body.decode()
            assert "JBSWY" not in answer.body.decode()
            assert "admin@example.com" in answer.body.decode()
        for question in ("fields=token", "filter[token]=admin-static-token", "sort=token", "filter[2fa_secret][nnull]=1"):
            answer = await client.get(f"~/users?{question}", token=token)
            assert answer.status in (403, 422) or answer.data in ([], [[]]), (question, answer.body)
        assert (await client.get("~/users?fields=id&q=admin-static", token=token)).data == []


@ensureDeferred
async def test_files_and_folders_are_the_system_collections_that_a_limited_token_writes(client: Client) -> None:
    token = await made(client, collections=["directus_folders", "directus_roles"])
    assert (await client.post("~/folders", {"name": "x"}, token=token)).status == 200
    assert (await client.get("~/roles?fields=id", token=token)).status == 200
    assert refused(await client.post("~/roles", {"name": "x"}, token=token))
    assert refused(await client.patch("~/roles/2", {"name": "x"}, token=token))


@ensureDeferred
async def test_a_comment_needs_a_collection_that_the_token_is_for(client: Client) -> None:
    await client.collection("things", field("name"))
    await client.collection("others", field("name"))
    for name in ("things", "others"):
        await client.post(f"~/items/{name}", {"name": "x"})
    token, reading = await made(client, collections=["things"]), await made(client, "b", read_only=True)
    comment = {"item": "1", "comment": "c"}
    assert (await client.post("~/activity/comment", comment | {"collection": "things"}, token=token)).status == 204
    for who, name in ((token, "others"), (reading, "things"), (reading, "others")):
        assert (await client.post("~/activity/comment", comment | {"collection": name}, token=who)).status in (403, 404)
    key = (await client.get("~/activity?filter[action]=comment&fields=id")).data[0]["id"]
    for method in ("PATCH", "DELETE"):
        assert (await client.call(method, f"~/activity/comment/{key}", {"comment": "d"}, token=reading)).status == 403


@ensureDeferred
async def test_many_limits_do_not_fill_the_memory(client: Client) -> None:
    """What is kept of each limit is bounded, and rows are locked by the statement of the right one."""
    await client.collection("things", field("name"))
    await client.post("~/items/things", {"name": "x"})
    for number in range(12):
        collections = ["things", "directus_roles", "directus_files", "directus_activity"][: 1 + number % 4]
        token = await made(client, f"t{number}", collections=collections, read_only=number % 3 == 0)
        expected = 403 if number % 3 == 0 else 200
        assert (await client.patch("~/items/things/1", {"name": f"n{number}"}, token=token)).status == expected
        assert (await client.get("~/specs/oas", token=token)).status == 200
    kept = (await project_of(client).snapshot())._kept
    assert kept
    assert not [key for key in kept if "Scope" in repr(key)]


@ensureDeferred
async def test_a_token_is_worth_nothing_without_the_second_factor_that_the_role_enforces(client: Client) -> None:
    own = await writer(client)
    tokens = [await made(client, "a", by=own), await made(client, "b", by=own, collections=["directus_users"])]
    role = (await client.get("~/users/2?fields=role")).data["role"]
    await client.patch(f"~/roles/{role}", {"enforce_2fa": True})
    assert [(await client.get(ME, token=token)).status for token in (own, *tokens)] == [401] * 3
    await client.patch("~/users/2", {"2fa_secret": "JBSWY3DPEHPK3PXP"})
    assert [(await client.get(ME, token=token)).status for token in (own, *tokens)] == [200] * 3


# --- their end


@ensureDeferred
async def test_a_token_ends_when_it_expires(client: Client, clock: Callable[[float], None]) -> None:
    token, lasting = await made(client, lifetime=2), await made(client, "b")
    assert (await client.get(ME, token=token)).status == 200
    clock(47.9)
    assert (await client.get(ME, token=token)).status == 200
    clock(0.2)
    assert [(await client.get(ME, token=each)).status for each in (token, lasting)] == [401, 200]
    assert [each["name"] for each in (await client.get(TOKENS)).data] == ["b"]
    later = current_time() + timedelta(days=3)
    removed = await remove_expired(client.app.reactor, client.backend.projects, lambda: later)
    assert removed[client.project] == 1
    assert await execute(client, "SELECT name FROM directus_user_tokens") == [("b",)]
    # The name is free again, also before an expired token is removed.
    assert (await client.post(TOKENS, {"name": "a", "lifetime": 1})).status == 200
    clock(48)
    assert (await client.post(TOKENS, {"name": "a"})).status == 200


@pytest.mark.parametrize("status", ["suspended", "draft", "deleted"])
@ensureDeferred
async def test_a_token_ends_with_its_user(client: Client, status: str) -> None:
    own = await writer(client)
    token = await made(client, by=own)
    assert (await client.get(ME, token=token)).status == 200
    if status == "deleted":
        assert (await client.delete("~/users/2")).status == 204
    else:
        assert (await client.patch("~/users/2", {"status": status})).status == 200
    assert (await client.get(ME, token=token)).status == 401
    if status != "deleted":
        await client.patch("~/users/2", {"status": "active"})
        assert [(await client.get(ME, token=each)).status for each in (own, token)] == [200, 401]
    assert await execute(client, "SELECT FROM directus_user_tokens") == []


@ensureDeferred
async def test_a_token_outlives_other_changes_of_its_user(client: Client) -> None:
    own = await writer(client)
    token = await made(client, by=own)
    for change in ({"password": "changed"}, {"token": None}, {"email": "new@example.com"}, {"status": "active"}):
        assert (await client.patch("~/users/2", change)).status == 200
        assert (await client.get(ME, token=token)).status == 200


@ensureDeferred
async def test_a_token_does_not_depend_on_the_secret_key(client: Client) -> None:
    token = await made(client)
    rotate(client)
    assert (await client.get(ME, token=token)).status == 200
    forget(client)
    assert (await client.get(ME, token=token)).status == 200


@ensureDeferred
async def test_tokens_that_are_changed_in_the_database_count_at_once(client: Client) -> None:
    token = await made(client)
    await client.collection("things", field("name"))
    assert (await client.post("~/items/things", {"name": "x"}, token=token)).status == 200
    await execute(client, "UPDATE directus_user_tokens SET read_only = TRUE")
    assert (await client.post("~/items/things", {"name": "x"}, token=token)).status == 403
    await execute(client, "DELETE FROM directus_user_tokens")
    assert (await client.get(ME, token=token)).status == 401


@ensureDeferred
async def test_the_last_use_is_written_at_most_once_a_minute(client: Client, clock: Callable[[float], None]) -> None:
    token = await made(client)

    async def used() -> Any:
        return (await client.get(TOKENS)).data[0]["last_used_on"]

    assert await used() is None
    ((before,),) = await execute(client, "SELECT xmin::text FROM directus_user_tokens")
    for _ in range(3):
        assert (await client.get(ME, token=token)).status == 200
    first = await used()
    assert first is not None
    ((after,),) = await execute(client, "SELECT xmin::text FROM directus_user_tokens")
    assert before != after
    version = project_of(client).accounts_version
    clock(0.5 / 60)
    # Another process does not know when this one has written.
    project_of(client).accounts.clear()
    for _ in range(3):
        await client.get(ME, token=token)
    assert await execute(client, "SELECT xmin::text FROM directus_user_tokens") == [(after,)]
    assert await used() == first
    clock(1 / 60)
    await client.get(ME, token=token)
    assert await used() > first
    # Nobody's token has to be looked up again because of it.
    assert project_of(client).accounts_version == version


@ensureDeferred
async def test_a_known_token_costs_no_statement(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    token = await made(client, collections=["directus_roles"])
    assert (await client.get("~/roles?fields=id", token=token)).status == 200
    asked: list[str] = []
    query = Session.query

    async def counted(self: Session, statement: Any, parameters: Any = ()) -> Any:
        asked.append(str(statement))
        return await query(self, statement, parameters)

    monkeypatch.setattr(Session, "query", counted)
    assert (await client.get("~/roles?fields=id", token=token)).status == 200
    assert len(asked) == 1
    asked.clear()
    # Neither does a static one that is known; an unknown one costs one.
    await client.get("~/roles?fields=id")
    asked.clear()
    await client.get("~/roles?fields=id")
    assert len(asked) == 1
    asked.clear()
    assert (await client.get(ME, token="nobody")).status == 401
    assert len(asked) == 1


@ensureDeferred
async def test_tokens_are_valid_where_the_database_can_only_be_read(client: Client, clock: Callable[[float], None]) -> None:
    token = await made(client)
    async with limited_role(client, 'REVOKE INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public FROM "{role}"'):
        project_of(client).accounts.clear()
        for _ in range(3):
            assert (await client.get(ME, token=token)).status == 200
            clock(0.1)
        assert (await client.post(TOKENS, {"name": "b"}, token=token)).status == 403
    assert (await client.get(TOKENS)).data[0]["last_used_on"] is None


@ensureDeferred
async def test_a_static_token_may_look_like_one(client: Client) -> None:
    chosen = "directus_" + "A" * 43
    assert user_tokens.is_token(chosen)
    await client.patch("~/users/1", {"token": chosen})
    assert (await client.get(ME, token=chosen)).data == {"id": 1}
    assert (await client.get(ME, token=chosen[:-1] + "B")).status == 401
