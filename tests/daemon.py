"""A twistd of ours as a process of its own, in a directory of its own: what tests of the daemon and the benchmark start."""

import atexit
import functools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import psycopg2

from directus_tx.embedded import EmbeddedPostgres

BIN = pathlib.Path(sys.executable).parent
SUPER_ADMIN_TOKEN = "daemon-super-admin"
TOKEN = "daemon-token"


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Returns when a condition holds; fails where it does not for so long as nothing takes that works."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it does not come true"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@functools.cache
def empty_cluster() -> pathlib.Path:
    """Returns the directory of an embedded PostgreSQL as its first start makes it."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="directus-test-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    made = EmbeddedPostgres(directory)
    made.start()
    made.stop()
    return made.cluster


def embedded(data_dir: pathlib.Path, options: str = "") -> EmbeddedPostgres:
    """Returns an embedded PostgreSQL with an empty cluster, unless it has one. It is a copy of one that is made once: making one takes
    longer than all else at the start of a server. All copies have the same system identifier."""
    found = EmbeddedPostgres(data_dir, options=options)
    if not found.cluster.exists():
        data_dir.mkdir(exist_ok=True)
        # Unlike shutil, it keeps the owner.
        subprocess.run(["cp", "-a", empty_cluster(), found.cluster], check=True)
    return found


class Daemon:
    """A server with its data in *directory*. `output` is what it has printed. *checkout*: run the code of another checkout.
    *prepare* is called in the process before the server starts. *first*: the server makes its embedded PostgreSQL itself."""

    def __init__(
        self,
        directory: pathlib.Path,
        *options: str,
        url: str | None = None,
        command: str | None = None,
        checkout: pathlib.Path | None = None,
        prepare: Callable[[], None] | None = None,
        first: bool = False,
    ) -> None:
        self.directory = directory
        self.options = options
        self.command = command or str(BIN / "twistd")
        self.environment = {**os.environ, "DIRECTUS_SUPER_ADMIN_TOKEN": SUPER_ADMIN_TOKEN}
        if checkout is not None:
            self.environment["PYTHONPATH"] = str(checkout.absolute())
        if url is not None:
            self.environment["DIRECTUS_DATABASE_URL"] = url
        self.prepare = prepare
        self.first = first
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.log = directory / f"log-{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = True) -> "Daemon":
        """Starts the process, and waits until it is ready; or, with *ready* False, until it answers at all."""
        if not self.first and "DIRECTUS_DATABASE_URL" not in self.environment:
            embedded(self.directory / "var")
        listen = f"tcp:{self.port}:interface=127.0.0.1"
        arguments = [self.command, "-n", "--pidfile=", "directus", "--data-dir", str(self.directory / "var"), "--listen", listen]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*arguments, *self.options],
                env=self.environment,
                cwd=self.directory,
                stdout=log,
                stderr=log,
                preexec_fn=self.prepare,
            )
        until = time.monotonic() + 60
        while True:
            try:
                path = "/health" if ready else "/server/ping"
                urllib.request.urlopen(self.base + path).read()
                return self
            except OSError as error:
                # A version without /health is ready as soon as it listens.
                if isinstance(error, urllib.error.HTTPError) and error.code in (401, 404):
                    return self
                if self.process.poll() is not None or time.monotonic() > until:
                    raise AssertionError(f"the server does not start:\n{self.output}") from None
                time.sleep(0.05)

    def connect(self, project: str, **more: Any) -> Any:
        """A connection to the database of a project, on the database server of the daemon. *more* are further parameters of libpq."""
        name = tomllib.loads((self.directory / "var" / "projects" / f"{project}.toml").read_text())["database"]["name"]
        url = self.environment.get("DIRECTUS_DATABASE_URL")
        if url is not None:
            return psycopg2.connect(url, dbname=name, **more)
        postmaster = (self.directory / "var" / "postgres" / "postmaster.pid").read_text().splitlines()
        return psycopg2.connect(host=postmaster[4], port=postmaster[3], user="postgres", dbname=name, **more)

    @property
    def output(self) -> str:
        return self.log.read_text()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def runs(self) -> bool:
        """Whether the process has been started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def listens(self) -> bool:
        """Whether the port takes connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal, and gives the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def call(self, method: str, path: str, body: Any = None, token: str | None = TOKEN) -> Any:
        """The parsed body of an answer; raises urllib.error.HTTPError for an error."""
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def create_project(self, key: str) -> None:
        attributes = {"project": key, "super_admin_token": SUPER_ADMIN_TOKEN, "user_token": TOKEN}
        self.call("POST", "/server/projects", {**attributes, "user_email": "admin@example.com", "user_password": "password"})
