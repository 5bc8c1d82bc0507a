"""The embedded PostgreSQL that ends, and is started again: killed, stopped by others, unable to start, used by two servers."""

import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest

from directus_tx.embedded import EmbeddedPostgres
from tests.conftest import KEY, field
from tests.daemon import TOKEN, Daemon, wait_for

THINGS = {"collection": "things", "fields": [KEY, field("name")]}
PATIENCE = 30.0
"""Seconds within which every request of these tests has an answer."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    found = Daemon(tmp_path_factory.mktemp("supervision")).start()
    found.create_project("p")
    found.call("POST", "/p/collections", THINGS)
    yield found
    if found.process is not None and found.process.poll() is None:
        found.stop()


@pytest.fixture
def daemon(running: Daemon) -> Daemon:
    """A running daemon on an embedded database, with a project `p` that has a collection `things`, and an empty log."""
    if running.process is None or running.process.poll() is not None:
        running.start()
    wait_for(lambda: works(running))
    running.log.write_text("")
    return running


def postmaster(daemon: Daemon) -> int:
    """The process id of the running PostgreSQL; waits until it runs."""
    wait_for(lambda: EmbeddedPostgres(daemon.directory / "var").pid() is not None)
    found = EmbeddedPostgres(daemon.directory / "var").pid()
    assert found is not None
    return found


def write(daemon: Daemon, name: str) -> int | None:
    """Creates a thing, and gives its key, or None where the server answers 503 with Retry-After. Any other answer raises."""
    headers = {"Content-Type": "application/json", "Authorization": f"bearer {TOKEN}"}
    request = urllib.request.Request(daemon.base + "/p/items/things", json.dumps({"name": name}).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return int(json.loads(answer.read())["data"]["id"])
    except urllib.error.HTTPError as error:
        with error:
            code, retry_after = error.code, error.headers["Retry-After"]
    assert (code, int(retry_after or 0) > 0) == (503, True)
    return None


def works(daemon: Daemon) -> bool:
    return write(daemon, "works") is not None


def health(daemon: Daemon) -> tuple[int, Any]:
    """The status and the body of a health report."""
    try:
        with urllib.request.urlopen(daemon.base + "/health", timeout=PATIENCE) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


class Writers:
    """Clients that write until they are told to stop, at a pace that leaves the machine to others. `written` are the keys of the things
    whose creation was acknowledged."""

    def __init__(self, daemon: Daemon, number: int = 8) -> None:
        self.daemon = daemon
        self.statuses: Counter[bool] = Counter()
        self.written: list[int] = []
        self.failures: list[BaseException] = []
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(number)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        try:
            while not self._stopped.wait(0.01):
                key = write(self.daemon, "under load")
                self.statuses[key is not None] += 1
                if key is not None:
                    self.written.append(key)
        except BaseException as error:
            self.failures.append(error)

    def wait_for_more(self) -> None:
        """Returns when writes are acknowledged again."""
        before = len(self.written)
        wait_for(lambda: len(self.written) > before + 8 or self.failures)

    def stop(self) -> None:
        """Stops, and asserts that each request had an answer that a fault of the database may have."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(PATIENCE * 2)
        assert self.failures == []
        assert not any(thread.is_alive() for thread in self._threads)


def test_a_postgresql_that_cannot_start_is_tried_again_and_does_not_keep_the_server_from_stopping(daemon: Daemon) -> None:
    control = daemon.directory / "var" / "postgres" / "global" / "pg_control"
    control.rename(control.with_name("away"))
    kill(postmaster(daemon))
    wait_for(lambda: daemon.output.count("could not be started") >= 2)
    assert "pg_control" in daemon.output
    assert "Traceback" not in daemon.output
    status, report = health(daemon)
    assert (status, report["status"], report["checks"]["postgresql:embedded"][0]["status"]) == (503, "fail", "fail")
    assert "pg_control" not in json.dumps(report)
    with urllib.request.urlopen(daemon.base + "/server/ping") as answer:
        assert answer.read() == b"pong"
    control.with_name("away").rename(control)
    wait_for(lambda: works(daemon))
    control.rename(control.with_name("away"))
    kill(postmaster(daemon))
    wait_for(lambda: health(daemon)[0] == 503)
    assert daemon.stop() == 0
    control.with_name("away").rename(control)


def test_a_killed_postgresql_is_started_again_under_load_twice(daemon: Daemon) -> None:
    writers = Writers(daemon)
    holder = daemon.connect("p")
    try:
        writers.wait_for_more()
        # The pool is full of writes that wait for a lock, and further ones wait for the pool.
        holder.cursor().execute("LOCK TABLE things IN SHARE MODE")
        first = postmaster(daemon)
        kill(first)
        wait_for(lambda: writers.statuses[False])
        holder.close()
        writers.wait_for_more()
        second = postmaster(daemon)
        assert second != first
        refused = writers.statuses[False]
        kill(second)
        wait_for(lambda: writers.statuses[False] > refused)
        writers.wait_for_more()
    finally:
        writers.stop()
    stored = {item["id"] for item in daemon.call("GET", "/p/items/things?limit=-1&fields=id")["data"]}
    assert set(writers.written) <= stored
    assert daemon.output.count("the embedded PostgreSQL runs again") == 2
    assert daemon.output.count("is not running any more and is started again") == 2
    wait_for(lambda: health(daemon)[0] == 200)


def test_a_postgresql_that_somebody_stops_is_started_again_and_the_log_says_why_it_ended(daemon: Daemon) -> None:
    pid = postmaster(daemon)
    # What `pg_ctl -m fast stop` sends.
    os.kill(pid, signal.SIGINT)
    wait_for(lambda: "runs again" in daemon.output)
    wait_for(lambda: works(daemon))
    assert postmaster(daemon) != pid
    assert re.search(r"is started again; its log ends with: .*database system is shut down", daemon.output)


def test_processes_that_a_killed_postgresql_leaves_do_not_keep_it_from_starting(daemon: Daemon) -> None:
    """A backend that computes does not notice that its postmaster is gone, and holds the shared memory until it is ended."""
    connection = daemon.connect("p")
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("SELECT pg_backend_pid()")
    backend = cursor.fetchone()[0]
    endless = "DO 'DECLARE n numeric := 0; BEGIN LOOP n := n + 1; END LOOP; END'"

    ended: list[str] = []

    def compute() -> None:
        try:
            cursor.execute(endless)
        except psycopg2.Error as error:
            ended.append(str(error))

    computing = threading.Thread(target=compute)
    computing.start()
    other = daemon.connect("p")
    other.autocommit = True

    def computes() -> bool:
        look = other.cursor()
        look.execute("SELECT state FROM pg_stat_activity WHERE pid = %s", (backend,))
        return bool(look.fetchone()[0] == "active")

    wait_for(computes)
    other.close()
    kill(postmaster(daemon))
    wait_for(lambda: "runs again" in daemon.output)
    computing.join(PATIENCE)
    assert len(ended) == 1
    wait_for(lambda: works(daemon))


def test_two_servers_share_a_data_directory_and_one_of_them_starts_its_database_again(tmp_path: pathlib.Path) -> None:
    one = Daemon(tmp_path).start()
    other = Daemon(tmp_path).start()
    try:
        one.create_project("p")
        one.call("POST", "/p/collections", THINGS)
        wait_for(lambda: works(other))
        kill(postmaster(one))
        wait_for(lambda: works(one) and works(other))
        assert (one.output + other.output).count("runs again") == 1
        pid = postmaster(one)
        assert one.stop() == 0
        assert "another process uses the embedded database" in one.output
        assert works(other)
        assert postmaster(other) == pid
        # The one that is left does it alone.
        kill(pid)
        wait_for(lambda: works(other))
        assert other.stop() == 0
        assert EmbeddedPostgres(tmp_path / "var").pid() is None
    finally:
        for each in (one, other):
            if each.process is not None and each.process.poll() is None:
                each.stop()


# --- files that a killed PostgreSQL leaves


@pytest.fixture
def stopped(tmp_path: pathlib.Path) -> EmbeddedPostgres:
    """An embedded database that has been started once and stopped."""
    found = EmbeddedPostgres(tmp_path / "var")
    found.start()
    found.stop()
    return found


def left_behind(stopped: EmbeddedPostgres, pid: int | None) -> None:
    """Writes the files of a PostgreSQL with a process id that has ended without removing them. None: they are empty, as a full disk leaves
    them."""
    lines = [str(pid), str(stopped.cluster), "1", "5432", str(stopped.parameters["host"]), "", "  5432001    999999", "ready   "]
    text = "" if pid is None else "\n".join(lines) + "\n"
    (stopped.cluster / "postmaster.pid").write_text(text)
    (pathlib.Path(stopped.parameters["host"]) / ".s.PGSQL.5432.lock").write_text(text)


def of_another_program() -> int:
    return os.getpid()


def of_nobody() -> int:
    done = subprocess.Popen(["true"])
    done.wait()
    return done.pid


def of_a_zombie() -> int:
    """The id of a process that has ended and that its parent, this process, has not waited for."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    wait_for(lambda: pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    return pid


def missing() -> None:
    """No process id at all."""


@pytest.mark.parametrize("whose", [of_another_program, of_nobody, of_a_zombie, missing])
def test_a_process_id_that_is_left_behind_is_not_taken_for_a_running_postgresql(
    stopped: EmbeddedPostgres, whose: Callable[[], int | None]
) -> None:
    left_behind(stopped, whose())
    assert stopped.pid() is None
    assert stopped.start()
    assert stopped.pid() is not None
    assert not stopped.start()
    stopped.stop()


def test_a_start_that_is_interrupted_ends_soon_and_leaves_nothing_running(stopped: EmbeddedPostgres) -> None:
    ended: list[BaseException | bool] = []

    def run() -> None:
        try:
            ended.append(stopped.start())
        except BaseException as error:
            ended.append(error)

    for seconds in (0.0, 0.02, 0.1, 0.3):
        starting = threading.Thread(target=run)
        starting.start()
        time.sleep(seconds)
        stopped.interrupt()
        starting.join(PATIENCE)
        stopped.stop()
        assert stopped.pid() is None
    assert len(ended) == 4
    assert stopped.start()
    stopped.stop()
