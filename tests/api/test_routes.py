"""Who may call which route: what each declares is what is so."""

import re
from typing import Any

from attrs import evolve
from pytest_twisted import ensureDeferred

from directus_tx.http.endpoints import all_routes
from directus_tx.http.routes import Caller, Route
from tests.conftest import SUPER_ADMIN_TOKEN, Client, field


async def call(client: Client, route: Route, token: str | None, query: str = "") -> Any:
    path = re.sub(r"<\w+>", "things", route.path.replace("<project>", client.project))
    body: Any = {} if route.method in ("POST", "PATCH") else ...
    return await client.call(route.method, f"{path}{query}", body, token=token)


async def user(client: Client) -> str:
    """The token of a user who may do what users with a role may, and no more."""
    role = (await client.post("~/roles", {"name": "Users"})).data["id"]
    attributes = {"email": "user@example.com", "password": "secret", "status": "active", "role": role, "token": "user-token"}
    assert (await client.post("~/users", attributes)).status == 200
    return "user-token"


@ensureDeferred
async def test_others_than_the_callers_are_refused_as_the_route_says(client: Client) -> None:
    await client.collection("things", field("name"))
    token = await user(client)
    checked = 0
    for route in all_routes():
        if not route.in_project:
            continue
        for who in (None, "no such token", token):
            public = who != token
            if route.caller is Caller.ADMINISTRATOR or (route.caller is Caller.SIGNED_IN and public):
                refusal = (route.public_refusal if public else None) or route.refusal
                answer = await call(client, route, who)
                # Errors of SCIM have a form of their own.
                code = refusal.code if route.path.startswith("/<project>/scim/") else answer.code
                assert (answer.status, code) == (refusal.status, refusal.code), (route.method, route.path, who)
                checked += 1
    assert checked > 30
    assert (await client.get("~/items/things")).status == 200


@ensureDeferred
async def test_a_slash_at_the_end_makes_another_address(client: Client) -> None:
    """As in Directus 8. Only routes that are declared with the slash have one, and these can also be called without."""
    routes = list(all_routes())
    paths = {(route.method, route.path) for route in routes}
    slashed = {path for _, path in paths if path.endswith("/")} - {"/"}
    assert slashed == {"/<project>/", "/<project>/docs/", "/<project>/files/tus/"}
    assert {(method, path.rstrip("/")) for method, path in paths if path in slashed} <= paths
    checked = 0
    for route in routes:
        if route.path.endswith("/") or f"{route.path}/" in slashed:
            continue
        answer = await call(client, evolve(route, path=f"{route.path}/"), "admin-static-token")
        # A path of one part is that of a project. Below /server, what does not exist is refused like a wrong token.
        special = route.path.count("/") == 1 or route.path.startswith("/server/")
        expected = {(401, 3), (405, 6)} if special else {(404, 1)}
        # Errors of SCIM have a form of their own, and answers to HEAD have no body.
        code = 1 if route.path.startswith("/<project>/scim/") or route.method == "HEAD" else answer.code
        assert (answer.status, code) in expected, (route.method, route.path, answer.body)
        checked += 1
    assert checked > 150


@ensureDeferred
async def test_what_declares_no_caller_asks_for_none(client: Client) -> None:
    """A route that anybody may call refuses by permissions alone: everybody who has them all gets past."""
    await client.collection("things", field("name"))
    token = await user(client)
    for route in all_routes():
        if route.caller is Caller.ADMINISTRATOR and route.method == "GET":
            assert (await call(client, route, token)).status in (401, 403), route.path
            assert (await call(client, route, "admin-static-token")).status not in (401, 403), route.path
        if route.caller is Caller.ANONYMOUS:
            answer, other = await call(client, route, "admin-static-token"), await call(client, route, None)
            assert (answer.status, answer.code if answer.status > 400 else 0) == (
                other.status,
                other.code if other.status > 400 else 0,
            )
            # What a guarded route refuses is a secret in its payload.
            assert route.guarded or answer.status not in (401, 403), route.path


@ensureDeferred
async def test_the_server_belongs_to_the_super_admin(client: Client) -> None:
    for route in all_routes():
        if route.caller is Caller.SUPER_ADMIN:
            for token in (None, "admin-static-token"):
                missing, wrong = await call(client, route, token), await call(client, route, token, "?super_admin_token=x")
                assert (missing.status, missing.code) == (422, 4), route.path
                assert (wrong.status, wrong.code) == (401, 3), route.path
            right = await call(client, route, None, f"?super_admin_token={SUPER_ADMIN_TOKEN}")
            assert right.status in (200, 404), route.path
        elif route.caller is Caller.SUPER_ADMIN_BY_PAYLOAD:
            attributes = {"project": "other", "user_email": "a@example.com", "user_password": "password"}
            for token, expected in (("x", 401), ("", 422)):
                answer = await client.call(
                    route.method, route.path, attributes | {"super_admin_token": token}, token="admin-static-token"
                )
                assert answer.status == expected
    assert (await client.get("/server/projects")).data == [client.project]


@ensureDeferred
async def test_a_route_without_a_project_in_its_path_finds_it_by_the_token(client: Client) -> None:
    token = (await client.post("~/auth/authenticate", {"email": "admin@example.com", "password": "password"}, token=None)).data[
        "token"
    ]
    paths = ("/types", "/interfaces", "/layouts", "/modules")
    assert len((await client.get("/types", token=token)).data) > 10
    assert [(await client.get(path, token=token)).json for path in paths[1:]] == [{"data": []}] * 3
    named = {"X-Directus-Project": client.project}
    assert (await client.get("/types?access_token=admin-static-token", token=None, headers=named)).status == 200
    for query, headers, expected in (
        ("", {}, (401, 3)),
        ("", named, (401, 108)),
        ("?access_token=wrong", named, (401, 108)),
        (f"?project={client.project}", {}, (401, 108)),
        ("?project=nope&access_token=x", {}, (401, 3)),
        ("", {"Authorization": "bearer admin-static-token"}, (401, 3)),
    ):
        for path in paths:
            answer = await client.get(f"{path}{query}", token=None, headers=headers)
            assert (answer.status, answer.code) == expected, (path, query, headers)
    assert (await client.patch("~/roles/1", {"ip_whitelist": ["10.9.8.7"]})).status == 200
    answer = await client.get("/types", token=token)
    assert (answer.status, answer.code) == (401, 19)


@ensureDeferred
async def test_the_root_leads_clients_that_name_a_project_and_take_json_to_it(client: Client) -> None:
    named, unknown, script = (
        {"X-Directus-Project": text, "Accept": "application/json, text/plain, */*"}
        for text in (client.project, "nothing", "//evil.example/")
    )
    root = await client.get("/", headers=named)
    assert (root.status, root.headers["location"]) == (302, f"./{client.project}/")
    assert "version" in (await client.get("/" + root.headers["location"].removeprefix("./"))).data["api"]
    for headers in (unknown, script):
        root = await client.get("/", headers=headers)
        assert (root.status, root.code, root.headers.get("location")) == (401, 3, None)
    for headers in ({}, {"Accept": "application/json"}, {"X-Directus-Project": client.project, "Accept": "*/*"}):
        root = await client.get("/", headers=headers)
        assert (root.status, root.headers["location"]) == (302, "./admin/"), headers
    root = await client.get("/", headers=named | {"Accept": "text/html,application/json"})
    assert (root.status, root.headers["content-type"]) == (200, "text/html; charset=utf-8")


@ensureDeferred
async def test_the_description_shows_what_the_caller_may_call(client: Client) -> None:
    token = await user(client)
    shown = {who: set((await client.get("~/specs/oas", token=who)).json["paths"]) for who in ("admin-static-token", token, None)}
    assert "/permissions/explain" in shown["admin-static-token"]
    assert "/permissions/explain" not in shown[token] | shown[None]
    assert shown[None] <= shown[token] <= shown["admin-static-token"]
