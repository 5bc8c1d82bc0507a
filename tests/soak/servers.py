"""The servers of a soak: one or two processes on one database, and how long each of them was down on purpose."""

import contextlib
import os
import pathlib
import signal
import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from attrs import field, frozen, mutable

from tests.conftest import KEY
from tests.conftest import field as column
from tests.daemon import Daemon
from tests.soak.databases import EmbeddedOfServer, ExternalPostgres, Postgres, mount, unmount
from tests.soak.proxy import Proxy

IDLE_TIMEOUT = 1.0
STATEMENT_TIMEOUT = 10.0
SHUTDOWN_TIMEOUT = 10.0
SETTINGS = {
    "DIRECTUS_DATABASE_IDLE_TIMEOUT": str(IDLE_TIMEOUT),
    "DIRECTUS_DATABASE_QUEUE_TIMEOUT": "5",
    "DIRECTUS_DATABASE_STATEMENT_TIMEOUT": str(STATEMENT_TIMEOUT),
    "DIRECTUS_DATABASE_SCHEMA_INTERVAL": "2",
    "DIRECTUS_SERVER_REQUEST_TIMEOUT": "5",
    "DIRECTUS_SERVER_STALL_TIMEOUT": "5",
    "DIRECTUS_SERVER_SHUTDOWN_TIMEOUT": str(SHUTDOWN_TIMEOUT),
}
"""Short ones, so that what they end has ended at the end of a short soak."""

PROJECTS = ("one", "two", "three")
NOTES = 2000
TAGS = 10
LIMITED_TOKEN = "limited-token"
PASSWORD = "a password"
EMAIL = "limited@example.com"
OURS = "application_name ^@ 'directus_tx'"


@mutable
class Window:
    """When something was not as it should be, on purpose, by the monotonic clock. *server*: the number of the process that was not there;
    None where all are concerned. *polite*: it was told to stop, and may leave no request that it had received before without an answer."""

    name: str
    started: float
    ended: float | None = None
    server: int | None = None
    polite: bool = False

    def overlaps(self, started: float, ended: float, grace: float = 0.0) -> bool:
        return self.started <= ended and (self.ended is None or started <= self.ended + grace)


@frozen
class Levels:
    """What a process holds: `memory` in bytes, `descriptors` by what they lead to, `threads`, and names of temporary files."""

    memory: int
    descriptors: Counter[str]
    threads: int
    files: tuple[str, ...] = ()


@mutable
class Servers:
    """*number* processes in *directory*, on a PostgreSQL of their own (*embedded*) or of the machine's, then behind `proxy`."""

    directory: pathlib.Path
    number: int = 2
    embedded: bool = False
    environment: dict[str, str] = field(factory=dict)
    daemons: list[Daemon] = field(factory=list)
    windows: list[Window] = field(factory=list)
    postgres: Postgres = field(init=False)
    proxy: Proxy | None = None
    temporary_mounted: bool = False
    databases: dict[str, str] = field(factory=dict)
    permissions: dict[str, int] = field(factory=dict)

    def start(self) -> None:
        """Starts everything, and makes the projects."""
        self.directory.chmod(0o755)
        url = None
        if not self.embedded:
            self.postgres = ExternalPostgres(self.directory)
            self.proxy = Proxy(self.postgres.port)
            url = f"postgresql://postgres@127.0.0.1:{self.proxy.port}/postgres"
        self.temporary.mkdir()
        self.temporary_mounted = mount(self.temporary, 64 * 2**20)
        for _ in range(self.number):
            daemon = Daemon(self.directory, url=url)
            daemon.environment |= {**SETTINGS, "TMPDIR": str(self.temporary), **self.environment}
            self.daemons.append(daemon)
        if self.embedded:
            self.postgres = EmbeddedOfServer(self.daemons[0])
        for daemon in self.daemons:
            daemon.start()
        for project in PROJECTS:
            self._make(project)

    @property
    def temporary(self) -> pathlib.Path:
        """The directory for temporary files of all processes."""
        return self.directory / "tmp"

    def _make(self, project: str) -> None:
        daemon = self.daemons[0]
        daemon.create_project(project)
        for name, fields in COLLECTIONS.items():
            daemon.call("POST", f"/{project}/collections", {"collection": name, "fields": [KEY, *fields]})
        names = ("collection_many", "field_many", "collection_one", "field_one", "junction_field")
        for relation in RELATIONS:
            daemon.call("POST", f"/{project}/relations", dict(zip(names, relation, strict=True)))
        role = daemon.call("POST", f"/{project}/roles", {"name": "limited"})["data"]["id"]
        user = {"email": EMAIL, "password": PASSWORD, "role": role, "status": "active", "token": LIMITED_TOKEN}
        daemon.call("POST", f"/{project}/users", user)
        permission = {"role": role, "collection": "notes", "read": "full"}
        self.permissions[project] = daemon.call("POST", f"/{project}/permissions", permission)["data"]["id"]
        daemon.call("POST", f"/{project}/items/tags", [{"name": f"tag {n}"} for n in range(TAGS)])
        file = self.directory / "var" / "projects" / f"{project}.toml"
        self.databases[project] = tomllib.loads(file.read_text())["database"]["name"]
        with contextlib.closing(self.connect(project)) as connection:
            connection.cursor().execute(
                "INSERT INTO notes (title, body) SELECT 'note ' || n, repeat('word ' || n || ' ', 60) FROM generate_series(1, %s) n",
                (NOTES,),
            )

    def connect(self, project: str) -> Any:
        """A superuser's connection to the database of a project."""
        return self.postgres.connect(self.databases[project])

    # processes that go

    def kill(self, number: int) -> Window:
        """kill -9."""
        window = Window("killed", time.monotonic(), server=number)
        self.windows.append(window)
        self.daemons[number].stop(signal.SIGKILL)
        return window

    def terminate(self, number: int) -> Window:
        """SIGTERM. Returns when the process has ended; raises AssertionError where it did not end well."""
        window = Window("terminated", time.monotonic(), server=number, polite=True)
        self.windows.append(window)
        status = self.daemons[number].stop()
        assert status == 0, f"the exit status after SIGTERM is {status}"
        return window

    def restart(self, number: int, window: Window) -> None:
        """Returns when the process answers again."""
        self.daemons[number].start()
        window.ended = time.monotonic()

    def cut(self, number: int, opened: float, started: float) -> bool:
        """Whether a connection to a process that was opened then, and cut in the middle of a request of then, may have been."""
        now = time.monotonic()
        for window in list(self.windows):
            if window.server != number or not window.overlaps(opened, now):
                continue
            known = window.polite and opened <= started < window.started - 0.5 and now < window.started + SHUTDOWN_TIMEOUT
            if not known:
                return True
        return False

    # what they hold

    def levels(self, number: int) -> Levels:
        """What a process holds now."""
        pid = self.daemons[number].pid
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        links = []
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                # Without the numbers of sockets and processes.
                links.append(os.readlink(f"/proc/{pid}/fd/{name}").split(":")[0].rstrip("0123456789"))
        return Levels(
            int(status.partition("VmRSS:")[2].split()[0]) * 1024,
            Counter(links),
            int(status.partition("Threads:")[2].split()[0]),
            tuple(sorted(path.name for path in self.temporary.iterdir())),
        )

    def pool(self) -> Counter[str]:
        """The connections of the servers to the database, by their state."""
        with contextlib.closing(self.postgres.connect("postgres")) as connection:
            cursor = connection.cursor()
            cursor.execute(f"SELECT coalesce(state, '?'), count(*) FROM pg_stat_activity WHERE {OURS} GROUP BY 1")
            return Counter(dict(cursor.fetchall()))

    def stop(self) -> None:
        for daemon in self.daemons:
            if daemon.runs():
                try:
                    daemon.stop()
                finally:
                    if daemon.runs():
                        daemon.stop(signal.SIGKILL)
        if self.proxy is not None:
            self.proxy.stop()
        if hasattr(self, "postgres"):
            self.postgres.stop()
        if self.temporary_mounted:
            unmount(self.temporary)


_OP = column("op", length=60)
_LIST = {"type": "o2m", "interface": "one-to-many"}
COLLECTIONS: dict[str, Sequence[dict[str, Any]]] = {
    "authors": [column("name", length=60), _OP, column("views", "integer", "INT", 11), {"field": "articles", **_LIST}],
    "tags": [column("name", length=60)],
    "articles": [
        column("title", length=120),
        _OP,
        column("views", "integer", "INT", 11),
        column("author", "m2o", "INT", 11),
        {"field": "tags", **_LIST},
    ],
    "articles_tags": [_OP, column("article", "m2o", "INT", 11), column("tag", "m2o", "INT", 11)],
    "notes": [column("title", length=60), column("body", datatype="TEXT", length=None)],
}
"""The collections of each project. `op` is set by each write of an item, to the name of the write."""

RELATIONS = (
    ("articles", "author", "authors", "articles", None),
    ("articles_tags", "article", "articles", "tags", "tag"),
    ("articles_tags", "tag", "tags", None, "article"),
)
WRITTEN = ("authors", "articles", "articles_tags")
"""The collections that clients write to."""
