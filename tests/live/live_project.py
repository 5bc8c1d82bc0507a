"""A project on a server that runs as a process of its own, with a connection to the database of the project."""

import json
import pathlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, RemoteDisconnected
from typing import Any
from urllib.parse import urlencode

import psycopg2
from attrs import field, frozen

from tests.daemon import SUPER_ADMIN_TOKEN, TOKEN, Daemon

SESSION = "-c TimeZone=UTC -c DateStyle=ISO"
"""The settings of the connection: those with which the server reads values as text."""


@frozen
class LiveProject:
    """A project by its key, a connection of psycopg2 to its database that commits each statement, and the token of requests."""

    daemon: Daemon
    key: str
    connection: Any
    token: str | None = TOKEN
    http: HTTPConnection = field()

    @http.default
    def _http(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.daemon.port, timeout=60)

    def send(self, method: str, path: str, body: Any = ..., *, token: Any = ...) -> tuple[int, dict[str, str], bytes]:
        """The status, the headers by their names in lower case, and the body of an answer. *path* is below the project; *token*: that of
        the project if it is not given, None for the public."""
        sent = self.token if token is ... else token
        headers = {"Content-Type": "application/json"} | ({} if sent is None else {"Authorization": f"bearer {sent}"})
        text = None if body is ... else json.dumps(body).encode()
        try:
            self.http.request(method, f"/{self.key}{path}", text, headers)
            answer = self.http.getresponse()
        except (BrokenPipeError, RemoteDisconnected):
            # The server has closed the connection meanwhile, which was idle (server.keep_alive_timeout).
            self.http.close()
            self.http.request(method, f"/{self.key}{path}", text, headers)
            answer = self.http.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def call(self, method: str, path: str, body: Any = ..., **query: Any) -> tuple[int, Any]:
        """The status and the body of an answer, parsed if it is JSON, otherwise as text. *query*: parameters, not encoded."""
        status, _, found = self.send(method, path + (f"?{urlencode(query)}" if query else ""), body)
        try:
            return status, json.loads(found)
        except ValueError:
            return status, found.decode()

    def query(self, sql: Any, values: Any = None) -> list[tuple[Any, ...]]:
        """The rows of a statement. With values, percent signs are doubled."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    def attempt(self, sql: Any, values: Any = None) -> list[tuple[Any, ...]] | None:
        """The rows of a statement, or None if PostgreSQL refuses it, or psycopg2 refuses a value."""
        try:
            return self.query(sql, values)
        except (psycopg2.Error, ValueError):
            return None


@contextmanager
def live_project(directory: pathlib.Path, postgres: dict[str, Any], key: str) -> Iterator[LiveProject]:
    """Starts a server with a new project in the cluster of tests, and stops it without an error at the end."""
    url = f"postgresql://{postgres['user']}@/{postgres['dbname']}?host={postgres['host']}"
    daemon = Daemon(directory, url=url).start()
    daemon.create_project(key)
    connection = daemon.connect(key, options=SESSION)
    connection.autocommit = True
    found = LiveProject(daemon, key, connection)
    yield found
    connection.close()
    found.http.close()
    daemon.call("DELETE", f"/server/projects/{key}?super_admin_token={SUPER_ADMIN_TOKEN}", token=None)
    assert daemon.stop() == 0
