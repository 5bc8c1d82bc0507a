"""What tests share: a private PostgreSQL for the whole run, and a server in this process that speaks HTTP.

Both are real; nothing here stands in for anything.
"""

import json
import os
import pathlib
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import hypothesis
import pytest
import pytest_twisted
from attrs import frozen
from twisted.internet import defer, reactor
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Protocol
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from werkzeug.routing import Rule
from zope.interface import implementer

from directus_tx.backend import use_monotonic_clock
from directus_tx.config import Settings, load
from directus_tx.db.session import Session
from directus_tx.embedded import EmbeddedPostgres
from directus_tx.http.app import App
from directus_tx.http.routes import Services
from directus_tx.plugins.manager import Plugins
from directus_tx.service import ServerBackend

# No deadlines: how long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
hypothesis.settings.load_profile(PROFILE)


def examples(number: int) -> int:
    """Returns how many examples a property test that takes long tries: *number*, or with the profile "fixed" a third of them, because these
    are the same each time."""
    return max(number // 3, 5) if PROFILE == "fixed" else number


use_monotonic_clock(reactor)

# A root of this run's own for temporary directories: each run of pytest shuts the one that they share by default to other users, also
# while the database of another run works in it, which another user runs where the tests are run by root.
TEMPORARY = tempfile.mkdtemp(prefix="directus-test-")
os.environ["PYTEST_DEBUG_TEMPROOT"] = TEMPORARY


def pytest_unconfigure() -> None:
    shutil.rmtree(TEMPORARY, ignore_errors=True)


_compile_builder = Rule._compile_builder
_builders: dict[tuple[str, bool], Any] = {}


def _compiled_once(rule: Rule, append_unknown: bool = True) -> Any:
    """Returns the function that makes URLs of a rule. To compile that of each route takes half of the time in which a server is made, of
    which thousands are made in a run; the function depends on the text of the rule alone."""
    key = rule.rule, append_unknown
    if key not in _builders:
        _builders[key] = _compile_builder(rule, append_unknown)
    return _builders[key]


Rule._compile_builder = _compiled_once  # type: ignore[method-assign]

SUPER_ADMIN_TOKEN = "super-admin"
TOKEN = "admin-static-token"
MAX_BODY_SIZE = 4_000_000


@pytest.fixture(scope="session")
def postgres() -> Iterator[dict[str, Any]]:
    """libpq's keywords of a superuser's connection to a PostgreSQL of this run's own."""
    with tempfile.TemporaryDirectory(prefix="directus-test-") as directory:
        server = EmbeddedPostgres(pathlib.Path(directory), options="-c fsync=off -c synchronous_commit=off")
        server.start()
        try:
            yield dict(server.parameters)
        finally:
            server.stop()


@pytest.fixture
def settings(postgres: dict[str, Any], tmp_path: pathlib.Path) -> Settings:
    """The settings of a server on that PostgreSQL."""
    url = f"postgresql://{postgres['user']}@/{postgres['dbname']}?host={postgres['host']}"
    environ = {"DIRECTUS_DATABASE_URL": url, "DIRECTUS_SUPER_ADMIN_TOKEN": SUPER_ADMIN_TOKEN}
    # Mail is delivered only where a test starts a deliverer.
    environ["DIRECTUS_ACCOUNTS_MAIL_WAIT"] = "0"
    environ["DIRECTUS_SERVER_MAX_BODY_SIZE"] = str(MAX_BODY_SIZE)
    return load(None, environ, {("server", "data_dir"): str(tmp_path / "var")})


@frozen
class Reply:
    """What a server has answered. `json` is None where the body is none."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def data(self) -> Any:
        return self.json["data"]

    @property
    def code(self) -> int:
        return self.json["error"]["code"]


@implementer(IBodyProducer)
class _Bytes:
    def __init__(self, body: bytes) -> None:
        self.body = body
        self.length = len(body)

    def startProducing(self, consumer: Any) -> "defer.Deferred[None]":
        consumer.write(self.body)
        return defer.succeed(None)

    def stopProducing(self) -> None: ...

    pauseProducing = resumeProducing = stopProducing


class _Received(Protocol):
    """Collects the body of an answer; fails where it does not come to its end."""

    def __init__(self) -> None:
        self.whole: defer.Deferred[bytes] = defer.Deferred()
        self._data: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self._data.append(data)

    def connectionLost(self, reason: Any = None) -> None:
        if reason.check(ResponseDone):
            self.whole.callback(b"".join(self._data))
        else:
            self.whole.errback(reason)


class Client:
    """Speaks HTTP to a server in this process. Paths begin with the project's key where they begin with "~"."""

    def __init__(self, backend: ServerBackend, app: App, port: int) -> None:
        self.backend = backend
        self.app = app
        self.base = f"http://127.0.0.1:{port}"
        self.pool = HTTPConnectionPool(reactor)
        self.agent = Agent(reactor, pool=self.pool)
        self.project = ""

    async def call(
        self,
        method: str,
        path: str,
        body: Any = ...,
        *,
        token: str | None = TOKEN,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"bearer {token}"
        producer = None
        if body is not ...:
            sent.setdefault("Content-Type", "application/json")
            producer = _Bytes(body if isinstance(body, bytes) else json.dumps(body).encode())
        url = self.base + path.replace("~", f"/{self.project}", 1)
        raw = Headers({name: [value] for name, value in sent.items()})
        response = await self.agent.request(method.encode(), url.encode(), raw, producer)
        found = {k.decode().lower(): v[-1].decode() for k, v in response.headers.getAllRawHeaders()}
        body = _Received()
        response.deliverBody(body)
        return Reply(response.code, found, await body.whole)

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.call("GET", path, **options)

    async def post(self, path: str, body: Any, **options: Any) -> Reply:
        return await self.call("POST", path, body, **options)

    async def patch(self, path: str, body: Any, **options: Any) -> Reply:
        return await self.call("PATCH", path, body, **options)

    async def delete(self, path: str, **options: Any) -> Reply:
        return await self.call("DELETE", path, **options)

    async def collection(self, name: str, *fields: dict[str, Any]) -> None:
        """Makes a collection with a counting key and these fields."""
        answer = await self.post("~/collections", {"collection": name, "fields": [KEY, *fields]})
        assert answer.status == 200, answer.body


KEY = {
    "field": "id",
    "type": "integer",
    "datatype": "INT",
    "length": 11,
    "interface": "primary-key",
    "primary_key": True,
    "auto_increment": True,
}


def field(name: str, type: str = "string", datatype: str = "VARCHAR", length: Any = 200, **more: Any) -> dict[str, Any]:
    """The payload of a field."""
    return {"field": name, "type": type, "datatype": datatype, "length": length, **more}


@pytest.fixture
def plugins() -> Plugins | None:
    """The plugins of the server; None: the installed ones. Modules that test plugins have a fixture of their own."""
    return None


@pytest_twisted.async_yield_fixture
async def server(settings: Settings, plugins: Plugins | None) -> Any:
    """A client of a server without projects."""
    backend = ServerBackend(settings, reactor, plugins)
    await backend.open()
    backend.find_extensions()
    app = App(
        reactor,
        Services(
            backend.projects,
            backend.items,
            backend.hasher,
            settings,
            sign_on=backend.sign_on,
            intake=backend.intake,
            thumbnails=backend.thumbnails,
            extensions=backend.extensions,
            custom=backend.registered.routes,
        ),
    )
    port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(app.site)
    client = Client(backend, app, port.getHost().port)
    yield client
    try:
        await client.pool.closeCachedConnections()
        await defer.maybeDeferred(port.stopListening)
        for key in backend.projects.files.keys(private=True):
            await backend.projects.delete(key)
    finally:
        # Its threads would keep the process from ending.
        await backend.close()


@pytest_twisted.async_yield_fixture
async def client(server: Client) -> Any:
    """A client of a server with one project, as its administrator."""
    server.project = f"t{secrets.token_hex(4)}"
    answer = await server.post(
        "/server/projects",
        {
            "project": server.project,
            "project_name": "Test",
            "super_admin_token": SUPER_ADMIN_TOKEN,
            "user_email": "admin@example.com",
            "user_password": "password",
            "user_token": TOKEN,
        },
        token=None,
    )
    assert answer.status == 200, answer.body
    yield server


@asynccontextmanager
async def limited_role(client: Client, *privileges: str) -> AsyncIterator[tuple[str, Any]]:
    """Has the server use a role that may read and write the tables in public, except as the statements *privileges* say, in which {role}
    stands for its name. Yields the name, and the connection parameters of the owner of the tables."""
    database = client.backend.projects.get(client.project).database
    role = database.parameters["dbname"]
    statements = (
        'CREATE ROLE "{role}" LOGIN',
        'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{role}"',
        'GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO "{role}"',
        *privileges,
    )
    for statement in statements:
        await Session(database).query(statement.format(role=role))
    owner, database.parameters = database.parameters, {**database.parameters, "user": role}
    database.renew()
    try:
        yield role, owner
    finally:
        database.parameters = owner
        database.renew()
        for statement in (f'DROP OWNED BY "{role}"', f'DROP ROLE "{role}"'):
            await Session(database).query(statement)
