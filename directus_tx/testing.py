"""Fixtures for the tests of plugins: a server as a process of its own, and projects in it, over HTTP. pytest loads this module itself.

The server finds the plugins that are installed, as in production. Its database is a private PostgreSQL of the test run.
"""

import contextlib
import json
import os
import pathlib
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.parse
from collections.abc import Callable, Generator, Iterator, Mapping
from http.client import HTTPConnection, HTTPException
from typing import Any

import pytest
import tomli_w
from attrs import frozen

Json = Any
START_TIMEOUT = 60.0
"""Seconds within which a server must start."""

STOP_TIMEOUT = 60.0
"""Seconds within which it must stop."""

ANSWER_TIMEOUT = 60.0
"""Seconds for which a client waits for an answer."""

LOG_TIMEOUT = 5.0
"""Seconds for which the report of a failed test waits for the last lines of the log."""

LOG_LINES = 100
"""The number of lines of the log that the report of a failed test has."""

_NO_BODY = object()
_SUPER_ADMIN_TOKEN = "testing-super-admin"
_PRIMARY_KEY = {
    "field": "id",
    "type": "integer",
    "datatype": "INT",
    "length": 11,
    "interface": "primary-key",
    "primary_key": True,
    "auto_increment": True,
}


@frozen
class Answer:
    """The answer to a request. `headers` have lower-case names; of several with one name, the last."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        """The body, parsed. Raises ValueError if it is not JSON."""
        return json.loads(self.body)

    @property
    def data(self) -> Json:
        """The `data` of the body. Fails if the answer is an error, with its message."""
        found = self.json
        assert "data" in found, f"{self.status}: {self.body.decode('utf-8', 'replace')}"
        return found["data"]

    @property
    def code(self) -> int:
        """The code of the error. Fails if the answer is not an error."""
        return int(self._error["code"])

    @property
    def message(self) -> str:
        """The message of the error. Fails if the answer is not an error."""
        return str(self._error["message"])

    @property
    def _error(self) -> Json:
        found = self.json
        assert "error" in found, f"{self.status}: {self.body.decode('utf-8', 'replace')}"
        return found["error"]


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Returns when a condition holds. Fails if it does not hold within some seconds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"the condition has not come true in {seconds} s"
        time.sleep(0.02)


def field(name: str, type: str = "string", datatype: str = "VARCHAR", **more: Json) -> dict[str, Json]:
    """Returns the payload of a field. *more* are its other attributes; texts have a length of 255, integers of 11."""
    lengths = {"VARCHAR": 255, "CHAR": 255, "INT": 11}
    return {"field": name, "type": type, "datatype": datatype, "length": lengths.get(datatype), **more}


class Caller:
    """Sends requests to a project with a token, or as the public. Paths are those behind the key of the project: "/items/articles"."""

    def __init__(self, server: "Server", project: str, token: str | None) -> None:
        self.server = server
        self.project = project
        self.token = token

    def call(self, method: str, path: str, body: Json = _NO_BODY, *, headers: Mapping[str, str] | None = None) -> Answer:
        """Sends a request. *body* is sent as JSON; bytes are sent as they are."""
        return self.server.call(method, f"/{self.project}{path}", body, token=self.token, headers=headers)

    def get(self, path: str, **query: Json) -> Answer:
        """Sends a GET request. *query* are parameters of the query string."""
        return self.call("GET", f"{path}?{urllib.parse.urlencode(query)}" if query else path)

    def post(self, path: str, body: Json) -> Answer:
        return self.call("POST", path, body)

    def patch(self, path: str, body: Json) -> Answer:
        return self.call("PATCH", path, body)

    def put(self, path: str, body: Json) -> Answer:
        return self.call("PUT", path, body)

    def delete(self, path: str) -> Answer:
        return self.call("DELETE", path)


class Project(Caller):
    """A project of a server, called as its administrator."""

    @property
    def public(self) -> Caller:
        """The public, which has no token."""
        return Caller(self.server, self.project, None)

    def collection(self, name: str, *fields: Mapping[str, Json]) -> None:
        """Creates a collection with the primary key `id` and the given fields (`field`)."""
        self.post("/collections", {"collection": name, "fields": [_PRIMARY_KEY, *fields]}).data  # noqa: B018

    def permit(self, role: int, collection: str, **levels: str) -> None:
        """Permits the users of a role to do something with the items of a collection: ``permit(2, "articles", read="full")``. The
        public has role 2."""
        self.post("/permissions", {"role": role, "collection": collection, **levels}).data  # noqa: B018

    def user(self, permissions: Mapping[str, Mapping[str, str]] | None = None, **attributes: Json) -> Caller:
        """Creates a user and returns a caller with the user's token. Without a role in *attributes*, the user has a role of its own, with
        *permissions* by collection: ``{"articles": {"read": "full", "create": "full"}}``."""
        name = secrets.token_hex(4)
        token = secrets.token_hex(16)
        if "role" not in attributes:
            attributes["role"] = self.post("/roles", {"name": name}).data["id"]
        for collection, levels in (permissions or {}).items():
            self.permit(attributes["role"], collection, **levels)
        own = {"email": f"{name}@example.com", "password": token, "first_name": name, "last_name": "Test"}
        self.post("/users", {**own, "status": "active", "token": token, **attributes}).data  # noqa: B018
        return Caller(self.server, self.project, attributes.get("token", token))


class Server:
    """A server as a process of its own, with its data in *directory*. *settings* are those of its configuration file, as nested tables:
    ``{"limits": {"max_depth": 3}}``. Without database.url it has an embedded PostgreSQL of its own, which takes longer to start."""

    def __init__(self, directory: pathlib.Path, settings: Mapping[str, Json]) -> None:
        self.directory = directory
        self.log_file = directory / "log"
        self.port = _free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self._config = directory / "directus.toml"
        self._process: subprocess.Popen[bytes] | None = None
        self._config.write_text(tomli_w.dumps({"super_admin_token": _SUPER_ADMIN_TOKEN, **settings}))

    @property
    def log(self) -> str:
        """What the server has logged."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def logged(self, *texts: str, seconds: float = 30.0) -> str:
        """Returns the first line of the log that has some texts. Waits until there is one, because the log is written a moment later. Fails
        if there is none within some seconds."""

        def lines() -> list[str]:
            return [line for line in self.log.splitlines() if all(text in line for text in texts)]

        wait_for(lines, seconds)
        return lines()[0]

    def _complete_log(self) -> list[str]:
        """Returns the lines of the log, also those of the last requests, which are written a moment later: the line of another request,
        which is left out, comes after them."""
        marker = secrets.token_hex(8)
        connection = HTTPConnection("127.0.0.1", self.port, timeout=LOG_TIMEOUT)
        # A server that does not answer, or logs no requests, has written what there is.
        with contextlib.suppress(OSError, HTTPException, AssertionError):
            connection.request("GET", f"/server/{marker}")
            connection.getresponse().read()
            self.logged(marker, seconds=LOG_TIMEOUT)
        connection.close()
        return [line for line in self.log.splitlines() if marker not in line]

    def start(self) -> None:
        """Starts the server and waits until it is ready. Fails, with the log, if it does not start."""
        listen = f"tcp:{self.port}:interface=127.0.0.1"
        options = ["--config", str(self._config), "--data-dir", str(self.directory / "var"), "--listen", listen]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DIRECTUS_")}
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from directus_tx.cli import main; main()", "serve", *options],
                cwd=self.directory,
                env=environment,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + START_TIMEOUT
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                pytest.fail(f"the server does not start:\n{self.log}", pytrace=False)
            time.sleep(0.05)

    def stop(self) -> int:
        """Stops the server, and returns its exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.terminate()
        try:
            return process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def restart(self) -> None:
        """Stops the server and starts it again."""
        self.stop()
        self.start()

    def call(
        self,
        method: str,
        path: str,
        body: Json = _NO_BODY,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Sends a request. *body* is sent as JSON; bytes are sent as they are. Redirects are not followed."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        data = None
        if body is not _NO_BODY:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_TIMEOUT)
        try:
            connection.request(method, urllib.parse.quote(path, safe="/?&=%[],:;@!$'()*+~#"), data, sent)
            found = connection.getresponse()
            return Answer(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())
        finally:
            connection.close()

    def create_project(self, **attributes: Json) -> Project:
        """Creates a project. *attributes* are further ones of the payload of POST /server/projects."""
        key, token = f"test-{secrets.token_hex(4)}", secrets.token_hex(16)
        payload = {
            "project": key,
            "project_name": "Test",
            "super_admin_token": _SUPER_ADMIN_TOKEN,
            "user_email": "admin@example.com",
            "user_password": "password",
            "user_token": token,
            **attributes,
        }
        found = self.call("POST", "/server/projects", payload)
        assert found.status == 200, found.body.decode()
        return Project(self, payload["project"], payload["user_token"])

    def delete_project(self, project: Caller) -> None:
        """Deletes a project and its database."""
        found = self.call("DELETE", f"/server/projects/{project.project}?super_admin_token={_SUPER_ADMIN_TOKEN}")
        assert found.status < 300, found.body.decode()

    def change_project_file(self, project: Caller, **tables: Json) -> None:
        """Sets tables of the file of a project, such as `auth` or `plugins`, which the server reads again before the next request."""
        path = self.directory / "var" / "projects" / f"{project.project}.toml"
        changed = path.with_suffix(".new")
        changed.touch(0o600)
        changed.write_text(tomli_w.dumps({**tomllib.loads(path.read_text()), **tables}))
        changed.replace(path)

    def _is_ready(self) -> bool:
        try:
            return self.call("GET", "/health").status == 200
        except OSError:
            return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# The names of fixtures begin with "directus", because pytest loads them for all tests in an environment.


@pytest.fixture(scope="session")
def directus_postgres() -> Iterator[str]:
    """The URL of a private PostgreSQL, which all servers of the test run share."""
    # Imports much of the server, which tests without it should not wait for.
    from directus_tx.embedded import EmbeddedPostgres

    with tempfile.TemporaryDirectory(prefix="directus-") as directory:
        # Nothing has to survive a crash.
        server = EmbeddedPostgres(pathlib.Path(directory), options="-c fsync=off -c synchronous_commit=off")
        server.start()
        try:
            found = server.parameters
            yield f"postgresql://{found['user']}@/{found['dbname']}?host={urllib.parse.quote(str(found['host']), safe='')}"
        finally:
            server.stop()


@pytest.fixture(scope="module")
def directus_settings() -> Mapping[str, Json]:
    """The settings of the server: none but the defaults. Override this fixture in a module or in conftest.py."""
    return {}


@pytest.fixture(scope="module")
def directus_server(
    directus_postgres: str, directus_settings: Mapping[str, Json], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with the plugins that are installed. The tests of a module share it."""
    database = {"url": directus_postgres, **directus_settings.get("database", {})}
    server = Server(tmp_path_factory.mktemp("directus"), {**directus_settings, "database": database})
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def directus_project(directus_server: Server) -> Iterator[Project]:
    """A new project of the server, which is deleted after the test."""
    project = directus_server.create_project()
    yield project
    directus_server.delete_project(project)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the end of the server's log to the reports of tests that have failed."""
    report = yield
    server = getattr(item, "funcargs", {}).get("directus_server")
    if report.failed and isinstance(server, Server):
        report.sections.append(("log of the server", "\n".join(server._complete_log()[-LOG_LINES:])))
    return report
