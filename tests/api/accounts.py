"""What tests of accounts share."""

import re
from datetime import datetime
from typing import Any

import jwt
from attrs import evolve

from directus_tx.db.session import Session
from tests.api.outbox import mails
from tests.conftest import SUPER_ADMIN_TOKEN, Client, Reply

ADA = {"email": "Ada@example.com", "password": "ada-secret", "status": "active", "role": 1, "first_name": "Ada"}
LINK = re.compile(r"(?P<page>\S+)[?&]token=(?P<token>[\w-]+\.[\w-]+\.[\w-]+)(?=\s)")


async def execute(client: Client, statement: str, parameters: Any = ()) -> Any:
    session = Session(client.backend.projects.get(client.project).database)
    return await session.transaction(lambda session: session.query(statement, parameters))


async def make_user(client: Client, **more: Any) -> int:
    answer = await client.post("~/users?fields=id", ADA | more)
    assert answer.status == 200, answer.body
    return int(answer.data["id"])


async def make_role(client: Client, name: str = "Editors", **more: Any) -> int:
    answer = await client.post("~/roles?fields=id", {"name": name, **more})
    assert answer.status == 200, answer.body
    return int(answer.data["id"])


async def sign_in(client: Client, password: str, email: str = "ada@example.com", **more: Any) -> Reply:
    return await client.post("~/auth/authenticate", {"email": email, "password": password, **more}, token=None)


async def set_setting(client: Client, key: str, value: Any) -> None:
    ((id,),) = await execute(client, "SELECT id FROM directus_settings WHERE key = %s", (key,))
    assert (await client.patch(f"~/settings/{id}", {"value": value})).status == 200


def at(client: Client, now: datetime) -> None:
    """Sets the clock of the server."""
    client.app.services = evolve(client.app.services, now=lambda: now)


def use_accounts(client: Client, **settings: Any) -> None:
    """Changes settings of the section accounts."""
    services = client.app.services
    changed = evolve(services.settings, accounts=evolve(services.settings.accounts, **settings))
    client.app.services = evolve(services, settings=changed)


def use_project_file(client: Client, **tables: Any) -> None:
    """Changes attributes of the project file, as it is in memory."""
    projects = client.backend.projects
    project = projects.get(client.project)
    project.config = evolve(project.config, **tables)
    files = projects.files
    key = client.project
    files._read = {
        path: (stamp, project.config if config.key == key else config) for path, (stamp, config) in files._read.items()
    }


async def other_project(client: Client, key: str) -> None:
    """Makes a second project."""
    body = {
        "project": key,
        "super_admin_token": SUPER_ADMIN_TOKEN,
        "user_email": "admin@example.com",
        "user_password": "password",
    }
    assert (await client.post("/server/projects", body, token=None)).status == 200


def without_session(client: Client, token: str) -> str:
    """The JWT as a server issues it where it cannot store sessions."""
    keys = client.backend.projects.get(client.project).keys
    claims = jwt.decode(token, keys.current, ["HS256"])
    del claims["sid"]
    return jwt.encode(claims, keys.current, "HS256")


async def links(client: Client) -> list[tuple[str, str, str]]:
    """The links in the mails of the outbox, in order: to whom, the page, and the token."""
    found = []
    for to, message in await mails(client):
        body = message.get_body(("plain",))
        assert body is not None
        link = LINK.search(body.get_content())
        assert link is not None, body.get_content()
        found.append((to, link["page"], link["token"]))
    return found
