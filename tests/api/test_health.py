"""The health report: what it says to whom, and what it costs."""

import json
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import defer, reactor
from twisted.internet.task import deferLater

from directus_tx.errors import ServiceUnavailable
from tests.conftest import SUPER_ADMIN_TOKEN, Client

DETAILED = f"/health?super_admin_token={SUPER_ADMIN_TOKEN}"
BROKEN = 'secret_key = "hush"\npublic_key = "k"\n[database]\nname = "no_such_database"\n'


async def fresh(client: Client, path: str = "/health") -> Any:
    """An answer after the last check has become old."""
    await deferLater(reactor, 1.1, lambda: None)
    return await client.get(path, token=None)


@ensureDeferred
async def test_a_server_that_is_ready_says_so_to_everybody(client: Client) -> None:
    assert (await client.get("~/users")).status == 200
    answer = await client.get("/health", token=None)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/health+json")
    assert (answer.headers["cache-control"], "retry-after" in answer.headers) == ("no-store", False)
    report = answer.json
    assert report.keys() == {"status", "version", "checks"}
    assert (report["status"], report["version"]) == ("pass", "8")
    (database,) = report["checks"]["database"]
    assert (database["status"], database["componentType"], database["observedUnit"]) == ("pass", "datastore", "ms")
    assert {name: entries[0]["observedValue"] for name, entries in report["checks"].items() if name.startswith("projects:")} == {
        "projects:ready": 1,
        "projects:pending": 0,
        "projects:failing": 0,
    }
    head = await client.call("HEAD", "/health", token=None)
    assert (head.status, head.body) == (200, b"")
    assert (await client.post("/health", {}, token=None)).status == 405


@ensureDeferred
async def test_details_are_for_those_with_the_super_admin_token(client: Client) -> None:
    folder = client.backend.projects.files.directory
    (folder / "private.confidential.toml").write_text(BROKEN)
    (folder / "private.untouched.toml").write_text(BROKEN)
    (folder / "private.nonsense.toml").write_text("this is no project file")
    await client.backend.projects.open_all()
    answer = await fresh(client)
    assert (answer.status, answer.json["status"]) == (200, "warn")
    assert answer.json["checks"]["projects:failing"][0]["observedValue"] == 3
    for word in ("confidential", "untouched", "nonsense", "no_such_database", "hush", "releaseId", "output", client.project):
        assert word not in answer.body.decode()
    answer = await client.get(DETAILED, token=None)
    assert (answer.status, answer.json["status"], "releaseId" in answer.json) == (200, "warn", True)
    failing = {each["componentId"]: each["output"] for each in answer.json["checks"]["projects:failing"][1:]}
    assert failing.keys() == {"confidential", "untouched", "nonsense"}
    assert all(failing.values())
    assert "hush" not in answer.body.decode()
    for path in ("/health?super_admin_token=wrong", "/health?super_admin_token="):
        answer = await client.get(path, token=None)
        assert answer.status in (401, 422)
        assert "checks" not in answer.json
    for path in folder.glob("private.*"):
        path.unlink()
    assert (await fresh(client)).json["status"] == "pass"


@ensureDeferred
async def test_many_reports_share_a_check(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    databases = client.backend.projects.databases
    checks = []
    check = databases.check

    async def counted(timeout: float) -> None:
        checks.append(timeout)
        await check(timeout)

    monkeypatch.setattr(databases, "check", counted)
    began = reactor.seconds()  # type: ignore[attr-defined]
    answers = await defer.gatherResults([defer.ensureDeferred(client.get("/health", token=None)) for _ in range(50)])
    answers += [await client.get("/health", token=None) for _ in range(50)]
    assert {answer.status for answer in answers} == {200}
    assert len(checks) <= 1 + (reactor.seconds() - began)  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [ServiceUnavailable("The database cannot be reached."), RuntimeError("no such thing: hush")])
@ensureDeferred
async def test_a_database_server_that_does_not_answer_makes_it_fail(
    client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def failing(timeout: float) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(client.backend.projects.databases, "check", failing)
        answer = await fresh(client)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.headers["content-type"] == "application/health+json"
        assert (answer.json["status"], answer.json["output"]) == ("fail", "The database server does not answer.")
        assert str(error) not in json.dumps(answer.json)
        detailed = await client.get(DETAILED, token=None)
        assert str(error) in detailed.json["checks"]["database"][0]["output"]
        assert (await client.get("/server/ping", token=None)).body == b"pong"
    assert (await fresh(client)).status == 200


@ensureDeferred
async def test_no_project_can_have_the_key_of_the_route(server: Client) -> None:
    new = {
        "project": "health",
        "super_admin_token": SUPER_ADMIN_TOKEN,
        "user_email": "a@example.com",
        "user_password": "password",
    }
    assert (await server.post("/server/projects", new, token=None)).status == 422
