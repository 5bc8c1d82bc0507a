"""Several server processes and other programs on one PostgreSQL that allows few connections: each process gets its share."""

import concurrent.futures
import contextlib
import pathlib
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

from tests.daemon import Daemon, embedded, free_port, wait_for
from tests.live.test_connections import Answer
from tests.live.test_faults import rows, start

ALLOWED = 24
"""max_connections of PostgreSQL, three of which are for superusers."""

PROJECTS = 40
COUNT = "SELECT application_name, count(*) FROM pg_stat_activity WHERE application_name ^@ 'directus_tx ' GROUP BY 1"

END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ^@ 'directus_tx '"


class Servers:
    """Two server processes with the same projects."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.port = free_port()
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c max_connections={ALLOWED} -c fsync=off"
        self.postgres = embedded(directory, options)
        self.postgres.start()
        # A superuser's connection, which the limit does not concern.
        self.watcher = self.connect("postgres")
        rows(self.watcher, "CREATE ROLE app LOGIN CREATEDB")
        self.daemons = [self.daemon() for _ in range(2)]
        self.daemons[0].start()
        with concurrent.futures.ThreadPoolExecutor(6) as threads:
            list(threads.map(self.daemons[0].create_project, [f"p{number}" for number in range(PROJECTS)]))
        self.daemons[1].start()

    def daemon(self) -> Daemon:
        return Daemon(self.directory, url=f"postgresql://app@127.0.0.1:{self.port}/postgres")

    def connect(self, user: str = "app") -> Any:
        connection = psycopg2.connect(host="127.0.0.1", port=self.port, user=user, dbname="postgres")
        connection.autocommit = True
        return connection

    def connections(self) -> list[int]:
        """The number of connections of each process, in ascending order."""
        return sorted(number for _, number in rows(self.watcher, COUNT))

    def share_equally(self) -> bool:
        """Whether each process has about half of the connections; at each moment some are being replaced."""
        found = self.connections()
        return len(found) == 2 and 6 <= found[0] <= found[1] <= 10

    def stop(self) -> None:
        self.watcher.close()
        for daemon in self.daemons:
            if daemon.process is not None and daemon.process.poll() is None:
                assert daemon.stop() == 0
        self.postgres.stop()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    found = Servers(tmp_path_factory.mktemp("shared"))
    yield found
    found.stop()


class Load:
    """Clients that read random projects of some servers until they are told to stop. `statuses` counts the answers."""

    def __init__(self, daemons: list[Daemon], clients: int = 12) -> None:
        self.daemons = daemons
        self.statuses: Counter[int] = Counter()
        self._stopped = threading.Event()
        self._clients = [start(self._run, random.Random(number)) for number in range(clients)]

    def _run(self, draw: random.Random) -> None:
        while not self._stopped.is_set():
            daemon = draw.choice(self.daemons)
            answer = Answer(
                daemon, "GET", draw.choice(("/users", "/roles", "/collections")), project=f"p{draw.randrange(PROJECTS)}"
            )
            self.statuses[answer.status] += 1

    def stop(self) -> None:
        self._stopped.set()
        for client in self._clients:
            client.result(60)


class OtherProgram:
    """Takes up to *most* connections one by one, and closes them again, until it is told to stop."""

    def __init__(self, servers: Servers, most: int) -> None:
        self._servers = servers
        self._most = most
        self._stopped = threading.Event()
        self._running = start(self._run)

    def _run(self) -> None:
        draw, held = random.Random(1), []
        while not self._stopped.wait(0.02):
            if held and (len(held) == self._most or draw.random() < 0.4):
                held.pop(draw.randrange(len(held))).close()
                continue
            try:
                held.append(self._servers.connect())
            except psycopg2.OperationalError:
                # All are taken.
                continue
        for connection in held:
            connection.close()

    def stop(self) -> None:
        self._stopped.set()
        self._running.result(60)


def test_processes_share_what_postgresql_allows_with_each_other_and_with_other_programs(servers: Servers) -> None:
    first, second = servers.daemons
    other = OtherProgram(servers, 5)
    load = Load([first, second])
    wait_for(lambda: load.statuses.total() > 150)
    other.stop()
    wait_for(servers.share_equally)
    load.stop()
    assert load.statuses.keys() == {200}

    # One of them ends: the other one uses the whole, and shares again when there are two.
    load = Load([first])
    wait_for(lambda: load.statuses.total() > 50)
    second.stop(signal.SIGKILL)
    wait_for(lambda: len(found := servers.connections()) == 1 and found[0] >= 15)
    servers.daemons[1] = second = servers.daemon().start()
    load.daemons.append(second)
    wait_for(servers.share_equally)
    load.stop()
    assert load.statuses.keys() == {200}


def test_requests_wait_while_other_programs_have_all_connections(servers: Servers) -> None:
    first, second = servers.daemons
    held = []

    def have_all() -> bool:
        rows(servers.watcher, END)
        with contextlib.suppress(psycopg2.OperationalError):
            while True:
                held.append(servers.connect())
        return not servers.connections()

    wait_for(have_all)
    answers = [
        start(lambda daemon=daemon, n=n: Answer(daemon, "GET", "/users", project=f"p{n}"))
        for daemon in (first, second)
        for n in range(10)
    ]
    time.sleep(2)
    for connection in held:
        connection.close()
    assert {answer.result(60).status for answer in answers} == {200}
