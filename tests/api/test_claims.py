"""Who may make projects, and what a project that brings its own database may know of the server's."""

import pathlib
import struct
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet import defer, protocol, reactor

from directus_tx.backend import Backend
from directus_tx.config import Settings, libpq_parameters
from directus_tx.db.connection import connected
from directus_tx.errors import InvalidRequest, ServiceUnavailable, Unauthorized
from directus_tx.projects.files import BrokenProjectFile, ProjectDatabase
from directus_tx.projects.provisioning import Databases, checked
from directus_tx.projects.registry import Projects
from tests.conftest import SUPER_ADMIN_TOKEN, Client

ATTRIBUTES = {"user_email": "a@example.com", "user_password": "password", "super_admin_token": SUPER_ADMIN_TOKEN}
OWN_PASSWORD = "servers-own-password"


def settings_without_token(settings: Settings) -> Settings:
    return evolve(settings, super_admin_token="")


# --- the super admin token


@ensureDeferred
async def test_on_a_fresh_server_nobody_claims_it(settings: Settings) -> None:
    backend = Backend(settings_without_token(settings), reactor)
    await backend.open()
    assert backend.projects.super_admin_token() == ""
    backend.provide_token()
    try:
        made = backend.new_super_admin_token
        assert made is not None
        assert len(made) >= 32
        for token in ("super-admin", "", "x", made + "x", made[:-1], f"{made}\n", f" {made}"):
            with pytest.raises((Unauthorized, InvalidRequest)):
                await backend.projects.create(checked({"project": "p", **ATTRIBUTES, "super_admin_token": token}))
            with pytest.raises((Unauthorized, InvalidRequest)):
                backend.projects.check_super_admin(token)
        assert backend.projects.listed() == []
        await backend.projects.create(checked({"project": "p", **ATTRIBUTES, "super_admin_token": made}))
        await backend.projects.delete("p")
        with pytest.raises(Unauthorized):
            await backend.projects.create(checked({"project": "p", **ATTRIBUTES}))
    finally:
        await backend.close()


@ensureDeferred
async def test_the_token_that_is_made_is_kept_for_its_owner_alone(settings: Settings) -> None:
    file = pathlib.Path(settings.server.data_dir) / "super_admin_token"
    tokens = []
    for _ in range(2):
        backend = Backend(settings_without_token(settings), reactor)
        await backend.open()
        backend.provide_token()
        tokens.append(backend.new_super_admin_token)
        assert backend.projects.super_admin_token() == tokens[0]
        await backend.close()
    assert tokens[1] is None
    assert file.read_text() == f"{tokens[0]}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir() if "super_admin" in path.name] == ["super_admin_token"]
    configured = Backend(settings, reactor)
    await configured.open()
    configured.provide_token()
    assert configured.new_super_admin_token is None
    configured.projects.check_super_admin(SUPER_ADMIN_TOKEN)
    with pytest.raises(Unauthorized):
        configured.projects.check_super_admin(tokens[0])
    await configured.close()


@ensureDeferred
async def test_of_two_servers_that_start_at_once_one_makes_the_token(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (Backend(settings_without_token(settings), reactor).projects for _ in range(2))
    monkeypatch.setattr(other, "super_admin_token", lambda: "")
    made = one.provide_super_admin_token()
    assert made is not None
    assert other.provide_super_admin_token() is None
    monkeypatch.undo()
    assert other.super_admin_token() == made


@ensureDeferred
async def test_over_http_a_wrong_token_is_401_and_the_right_one_is_taken(server: Client) -> None:
    for token in ("wrong", "SUPER-ADMIN", SUPER_ADMIN_TOKEN + "\x00", "é", "\U0001f600"):
        answer = await server.post("/server/projects", {"project": "p", **ATTRIBUTES, "super_admin_token": token}, token=None)
        assert (answer.status, answer.code) in ((401, 3), (422, 4)), token
    assert (await server.get("/server/projects", token=None)).data == []
    assert (await server.get("/server/info?super_admin_token=wrong", token=None)).status == 401
    for token in (None, 5, True, [], {}, ""):
        answer = await server.post("/server/projects", {"project": "p", **ATTRIBUTES, "super_admin_token": token}, token=None)
        assert (answer.status, answer.code) == (422, 4), token


# --- databases on other servers


class Listener(protocol.Protocol):
    """Plays a PostgreSQL that asks for a password in plain text, and notes what it is sent."""

    def connectionMade(self) -> None:
        self.factory.connections += 1

    def dataReceived(self, data: bytes) -> None:
        self.factory.received += data
        length, code = struct.unpack("!II", data[:8]) if len(data) >= 8 else (0, 0)
        if data[:1] == b"p":
            self.transport.loseConnection()
        elif (length, code) in ((8, 80877103), (8, 80877104)):
            self.transport.write(b"N")
        else:
            self.transport.write(b"R" + struct.pack("!II", 8, 3))


class Listening(protocol.Factory):
    protocol = Listener

    def __init__(self) -> None:
        self.connections = 0
        self.received = b""


@pytest_twisted.async_yield_fixture
async def listening() -> Any:
    """Another database server, by its port."""
    factory = Listening()
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    factory.port = port.getHost().port
    yield factory
    await defer.maybeDeferred(port.stopListening)


@pytest_twisted.async_yield_fixture
async def projects(settings: Settings) -> Any:
    """Projects on a server that is known by a user and a password."""
    url = settings.database.url.replace("postgres@", f"postgres:{OWN_PASSWORD}@")
    backend = Backend(evolve(settings, database=evolve(settings.database, url=url)), reactor)
    await backend.open()
    yield backend.projects
    for key in backend.projects.files.keys(private=True):
        await backend.projects.delete(key)
    await backend.close()


def new(**database: Any) -> Any:
    return checked({"project": "p", **ATTRIBUTES, **database})


UNNAMED: dict[str, tuple[dict[str, Any], str]] = {
    "neither": ({}, "db_user"),
    "no password": ({"db_user": "postgres"}, "db_password"),
    "an empty password": ({"db_user": "postgres", "db_password": ""}, "db_password"),
    "no user": ({"db_password": "x"}, "db_user"),
    "an empty user": ({"db_user": "", "db_password": "x"}, "db_user"),
    "null": ({"db_user": None, "db_password": None}, "db_password"),
}


@ensureDeferred
async def test_another_server_is_not_told_who_we_are(projects: Projects, listening: Any) -> None:
    for host in ("127.0.0.1", "localhost", "LOCALHOST", "127.1", "::1"):
        for name, (database, missing) in UNNAMED.items():
            with pytest.raises(InvalidRequest, match=missing):
                await projects.create(new(db_name="x", db_host=host, db_port=listening.port, **database))
            assert (listening.connections, name) == (0, name)
    with pytest.raises(InvalidRequest, match="db_host"):
        await projects.create(new(db_name="x", db_port=listening.port))
    with pytest.raises(ServiceUnavailable):
        await projects.create(new(db_name="x", db_host="127.0.0.1", db_port=listening.port, db_user="me", db_password="mine"))
    assert b"user\x00me\x00" in listening.received
    assert b"mine\x00" in listening.received
    for own in (OWN_PASSWORD.encode(), b"postgres"):
        assert own not in listening.received
    assert projects.listed() == []


HOSTS = (
    "/tmp",
    "/var/run/postgresql",
    "@abstract",
    "127.0.0.1,/tmp",
    "localhost,localhost",
    "localhost hostaddr=127.0.0.1",
    "localhost' user='postgres",
    "localhost\x00",
    "localhost/",
    "../tmp",
    " localhost",
    "local host",
    "é.example.com",
    "a" * 254,
    "localhost\n",
    "postgresql://localhost",
)


@ensureDeferred
async def test_a_host_is_one_name_or_address(projects: Projects) -> None:
    for host in HOSTS:
        with pytest.raises(InvalidRequest, match="db_host"):
            new(db_name="x", db_host=host, db_user="postgres", db_password="x")
    own = projects.databases.server["host"]
    with pytest.raises(InvalidRequest, match="db_host"):
        new(db_name="x", db_host=own)
    with pytest.raises(InvalidRequest, match="db_name"):
        new(db_host="localhost", db_user="postgres", db_password="x")
    for port in (0, -1, 65536, "x", "1e3", "²", "5432,5433", True, 5432.0, [5432], "9" * 30):
        with pytest.raises(InvalidRequest, match="db_port"):
            new(db_name="x", db_host="localhost", db_port=port, db_user="postgres", db_password="x")


DATABASE_NAMES = (
    "dbname=postgres",
    "postgresql://127.0.0.1:{port}/postgres",
    "postgres://postgres@127.0.0.1:{port}/postgres",
    "dbname=postgres host=127.0.0.1 port={port}",
    "host=127.0.0.1 port={port}",
    "x' host='127.0.0.1' port='{port}",
    "service=x",
    "x\\' host=127.0.0.1 port={port}",
    "%s",
    'x"; DROP DATABASE postgres; --',
)


@ensureDeferred
async def test_the_name_of_a_database_is_nothing_but_its_name(projects: Projects, listening: Any) -> None:
    for name in DATABASE_NAMES:
        for user in ({}, {"db_user": "postgres"}, {"db_user": f"postgres host=127.0.0.1 port={listening.port}"}):
            with pytest.raises(ServiceUnavailable):
                await projects.create(new(db_name=name.format(port=listening.port), **user))
    assert listening.connections == 0
    # A database may be called so.
    name = DATABASE_NAMES[0]
    async with connected(reactor, projects.databases.server) as connection:
        await connection.run(f'CREATE DATABASE "{name}"')
    try:
        made = await projects.create(new(db_name=name))
        assert await made.snapshot()
        await projects.delete("p")
    finally:
        async with connected(reactor, projects.databases.server) as connection:
            await connection.run(f'DROP DATABASE "{name}" WITH (FORCE)')


@ensureDeferred
async def test_texts_that_cannot_be_stored_are_refused_by_name_before_anything_is_made(projects: Projects) -> None:
    names = ("project_name", "user_token", "user_email", "user_password", "super_admin_token", "db_name", "db_user", "mail_from")
    for name in (*names, "project", "db_password"):
        with pytest.raises(InvalidRequest, match=name):
            checked({"project": "p", **ATTRIBUTES, name: "a\x00@example.com"})
    long = {"db_name": "é" * 32, "db_user": "u" * 64, "user_token": "t" * 256, "user_password": "p" * 4097}
    for name, text in long.items():
        with pytest.raises(InvalidRequest, match=name):
            checked({"project": "p", **ATTRIBUTES, name: text})


SERVERS = (
    "postgresql://own:secret@db.internal:6543/postgres?sslmode=require&sslcert=/c&sslkey=/k&passfile=/p&hostaddr=10.0.0.1",
    "postgresql://own:secret@/postgres?host=/run/postgresql",
    "postgresql://own:secret@a,b/postgres",
)


def test_what_belongs_to_the_server_goes_to_no_other(settings: Settings) -> None:
    for url in SERVERS:
        databases = Databases(reactor, libpq_parameters(url), settings.database)
        others = (
            ProjectDatabase("d", "elsewhere", None, "u", "p"),
            ProjectDatabase("d", "elsewhere", 6543, "u", "p"),
            ProjectDatabase("d", None, 7777, "u", "p"),
            ProjectDatabase("d", databases.server.get("host"), 7777, "u", "p"),
        )
        for place in others:
            found = databases.parameters(place)
            allowed = {"application_name", "host", "port", "user", "password", "dbname", "sslmode", "sslrootcert"}
            assert set(found) <= allowed
            assert (found["user"], found["password"], found["dbname"]) == ("u", "p", "d")
            assert "own" not in found.values()
            assert "secret" not in found.values()
        own = databases.parameters(ProjectDatabase("d"))
        assert own == {**databases.server, "dbname": "d"}
        assert databases.lacking(ProjectDatabase("d")) == []
        same = ProjectDatabase("d", databases.server["host"], databases.server.get("port"))
        assert databases.parameters(same) == own | ({"port": same.port} if same.port else {})
        another = databases.parameters(ProjectDatabase("d", user="other"))
        assert another["user"] == "other"
        assert "secret" not in another.values()
        assert not {"password", "passfile", "sslcert", "sslkey"} & set(another)


LACKING = {
    'host = "127.0.0.1"': "database.user and database.password",
    'host = "127.0.0.1"\nuser = "u"': "database.password",
    'host = "127.0.0.1"\npassword = "p"': "database.user",
    'host = "127.0.0.1"\nuser = "u"\npassword = ""': "database.password",
    "port = 1": "database.host",
    'host = "/run/elsewhere"': "database.user",
}


@ensureDeferred
async def test_the_file_of_a_project_obeys_the_same_rule(projects: Projects, listening: Any) -> None:
    made = await projects.create(new())
    await made.snapshot()
    path = projects.files.directory / "p.toml"
    text = path.read_text()
    for lines, missing in LACKING.items():
        lines = lines.replace("port = 1", f"port = {listening.port}")
        if "127.0.0.1" in lines:
            lines += f"\nport = {listening.port}"
        path.write_text(text.replace("[database]\n", f"[database]\n{lines}\n"))
        assert missing in broken(projects)
        with pytest.raises(ServiceUnavailable):
            projects.get("p")
    assert listening.connections == 0
    path.write_text(text.replace("[database]\n", '[database]\nhost = "/run/elsewhere"\nuser = "u"\n'))
    assert "password" not in projects.databases.parameters(projects.get("p").config.database)
    path.write_text(text)
    assert await projects.get("p").snapshot()


def broken(projects: Projects) -> str:
    """What is wrong with the file of the project."""
    with pytest.raises(BrokenProjectFile) as caught:
        projects.files.get("p")
    return str(caught.value)
