"""Several processes that serve the same addresses: they share the work, what one changes the others know, and one that ends is replaced."""

import concurrent.futures
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import KEY, field
from tests.daemon import BIN, SUPER_ADMIN_TOKEN, Daemon, free_port, wait_for

JSON = {"DIRECTUS_SERVER_LOG_FORMAT": "json"}
THINGS = {"collection": "things", "fields": [KEY, field("name")]}


def started(directory: pathlib.Path, *options: str, number: int = 2, **environment: str) -> Daemon:
    daemon = Daemon(directory, "--processes", str(number), *options)
    daemon.environment |= JSON | environment
    daemon.start()
    wait_for(lambda: events(daemon, "the server is ready") == number)
    return daemon


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    found = started(tmp_path_factory.mktemp("processes"))
    found.create_project("p")
    found.call("POST", "/p/collections", THINGS)
    yield found
    assert found.stop() == 0


def lines(daemon: Daemon) -> list[dict[str, Any]]:
    return [json.loads(line) for line in daemon.output.splitlines() if line.startswith("{")]


def events(daemon: Daemon, message: str) -> int:
    return sum(message in line["message"] for line in lines(daemon))


def children(pid: int) -> list[int]:
    """The workers: the processes that run twistd among the children of a process."""
    found = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in found if b"twistd" in pathlib.Path(f"/proc/{each}/cmdline").read_bytes()]


def alive(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_each_worker_answers_and_knows_what_the_others_change(daemon: Daemon) -> None:
    """Requests over new connections reach all workers. A change through one is known to the next request, whichever answers it."""
    for n in range(20):
        daemon.call("POST", "/p/fields/things", field(f"f{n}"))
        assert daemon.call("POST", "/p/items/things", {f"f{n}": "x"})["data"][f"f{n}"] == "x"
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: daemon.call("GET", "/p/items/things?limit=1"), range(200)))

    def by_worker() -> Counter[int]:
        return Counter(line["worker"] for line in lines(daemon) if line.get("path") == "/p/items/things")

    wait_for(lambda: sum(by_worker().values()) == 220)
    assert set(by_worker()) == {1, 2}


def test_connections_that_arrive_together_are_accepted_by_all_workers(daemon: Daemon) -> None:
    """Otherwise one process would serve the few connections that a proxy keeps open."""
    workers = children(daemon.pid)
    connections = [socket.create_connection(("127.0.0.1", daemon.port)) for _ in range(40)]
    try:
        for each in connections:
            each.sendall(b"GET /server/ping HTTP/1.1\r\nHost: a\r\n\r\n")
        for each in connections:
            assert each.recv(65536).endswith(b"pong")
        owners = Counter(pid for each in connections for pid in workers if port_owner(each, pid))
        assert set(owners) == set(workers)
        assert sum(owners.values()) == 40
    finally:
        for each in connections:
            each.close()
    # The other process finds that there is nothing left to accept, which is no reason to pause.
    assert events(daemon, "cannot accept connections") == 0


def test_a_worker_that_is_killed_is_replaced_and_requests_of_the_others_are_answered(daemon: Daemon) -> None:
    before = children(daemon.pid)
    assert len(before) == 2
    with socket.create_connection(("127.0.0.1", daemon.port)) as kept:
        # The worker of this connection survives, whichever it is.
        kept.sendall(b"GET /server/ping HTTP/1.1\r\nHost: a\r\n\r\n")
        assert kept.recv(65536)
        served = daemon.output.rstrip().splitlines()[-1]
        wait_for(lambda: daemon.output.rstrip().splitlines()[-1] == served)
        own = {port_owner(kept, each): each for each in before}[True]
        (other,) = set(before) - {own}
        os.kill(other, signal.SIGKILL)
        for _ in range(20):
            kept.sendall(b"GET /server/ping HTTP/1.1\r\nHost: a\r\n\r\n")
            assert kept.recv(65536).endswith(b"pong")
    wait_for(lambda: len(children(daemon.pid)) == 2)
    assert own in children(daemon.pid)
    wait_for(lambda: events(daemon, "has ended with signal 9") == 1)
    ready = 3
    wait_for(lambda: events(daemon, "the server is ready") == ready)
    assert daemon.call("GET", "/p/items/things?limit=1")["data"]


def port_owner(connection: socket.socket, pid: int) -> bool:
    """Whether a process has the other end of a connection."""
    here, there = connection.getsockname(), connection.getpeername()
    wanted = f"{there[1]:04X}", f"{here[1]:04X}"
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        parts = line.split()
        if (parts[1].partition(":")[2], parts[2].partition(":")[2]) == wanted:
            inode = parts[9]
            break
    else:
        return False
    descriptors = pathlib.Path(f"/proc/{pid}/fd")
    return any(os.readlink(each) == f"socket:[{inode}]" for each in descriptors.iterdir() if each.is_symlink())


def test_what_is_limited_for_the_server_is_divided_between_the_workers(tmp_path: pathlib.Path) -> None:
    daemon = started(tmp_path, number=3, DIRECTUS_SERVER_MAX_CONNECTIONS="100", DIRECTUS_SERVER_MAX_CONNECTIONS_PER_ADDRESS="50")
    try:
        assert events(daemon, "at most 34 connections, 34 from one address") == 3
    finally:
        assert daemon.stop() == 0


def test_stopping_lets_the_requests_of_all_workers_finish(tmp_path: pathlib.Path) -> None:
    """Their answers are made at the same time, and one of the processes ends at once after the last of its own."""
    number = 10
    daemon = started(tmp_path)
    daemon.create_project("p")
    daemon.call("POST", "/p/collections", THINGS)
    blocker = daemon.connect("p")
    blocker.cursor().execute("LOCK TABLE things")
    answers: list[Any] = []
    with concurrent.futures.ThreadPoolExecutor(number) as pool:
        waiting = [pool.submit(daemon.call, "POST", "/p/items/things", {"name": f"{n:02}"}) for n in range(number)]

        def blocked() -> bool:
            with daemon.connect("p") as watching, watching.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
                (row,) = cursor.fetchall()
            watching.close()
            return bool(row[0] == number)

        wait_for(blocked)
        os.kill(daemon.pid, signal.SIGTERM)
        wait_for(lambda: not daemon.listens())
        blocker.rollback()
        blocker.close()
        answers = [each.result(60) for each in waiting]
    assert sorted(each["data"]["name"] for each in answers) == [f"{n:02}" for n in range(number)]
    assert daemon.stop() == 0


def test_workers_stop_when_the_first_process_is_killed(tmp_path: pathlib.Path) -> None:
    daemon = started(tmp_path)
    workers = children(daemon.pid)
    assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
    wait_for(lambda: not any(map(alive, workers)))
    wait_for(lambda: not daemon.listens())
    # The embedded PostgreSQL was stopped by the last of them, so that the next start finds a clean state.
    again = started(tmp_path)
    assert again.stop() == 0


def test_a_port_in_use_ends_the_server_with_one_line(tmp_path: pathlib.Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        run = [str(BIN / "twistd"), "-n", "--pidfile=", "directus", "--processes", "2", "--data-dir", str(tmp_path / "var")]
        found = subprocess.run([*run, "--listen", listen], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert found.returncode == 1
    assert "the server cannot listen (server.listen)" in found.stdout
    assert "Traceback" not in found.stdout + found.stderr


def test_a_unix_socket_is_refused(tmp_path: pathlib.Path) -> None:
    run = [str(BIN / "twistd"), "-n", "--pidfile=", "directus", "--processes", "2", "--data-dir", str(tmp_path / "var")]
    found = subprocess.run([*run, "--listen", f"unix:{tmp_path}/s"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert found.returncode == 1
    assert "one process only (server.processes)" in found.stdout


def test_workers_that_cannot_start_end_the_server(tmp_path: pathlib.Path) -> None:
    """The data directory can be used when the first process checks it, but not when the workers start."""
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "super_admin_token").mkdir()
    daemon = Daemon(tmp_path, "--processes", "2")
    daemon.environment.pop("DIRECTUS_SUPER_ADMIN_TOKEN")
    with pytest.raises(AssertionError, match="does not start"):
        daemon.start()
    assert daemon.process is not None
    assert daemon.process.wait(60) == 1


def test_systemd_passes_its_socket_to_the_workers(tmp_path: pathlib.Path) -> None:
    """As systemd does: the socket is descriptor 3, and LISTEN_PID is the process that may use it."""
    program = (
        "import os, sys; os.environ |= {'LISTEN_PID': str(os.getpid()), 'LISTEN_FDS': '1', 'LISTEN_FDNAMES': 'http'};"
        "from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"
    )
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        port = listening.getsockname()[1]

        def third() -> None:
            os.dup2(listening.fileno(), 3)

        options = ["--processes", "2", "--data-dir", str(tmp_path / "var"), "--listen", "systemd:domain=INET:index=0"]
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", program, "-n", "--pidfile=", "directus", *options],
                cwd=tmp_path,
                env={**os.environ, "DIRECTUS_SUPER_ADMIN_TOKEN": SUPER_ADMIN_TOKEN},
                pass_fds=(3,),
                preexec_fn=third,
                stdout=log,
                stderr=log,
            )
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/server/ping", timeout=60) as answer:
            assert answer.read() == b"pong"
    finally:
        process.terminate()
        assert process.wait(60) == 0, (tmp_path / "log").read_text()


def test_serve_runs_the_server(tmp_path: pathlib.Path) -> None:
    port = free_port()
    command = [str(BIN / "directus"), "serve", "--processes", "2", "--data-dir", str(tmp_path / "var")]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--listen", f"tcp:{port}:interface=127.0.0.1"],
            cwd=tmp_path,
            env={**os.environ, "DIRECTUS_SUPER_ADMIN_TOKEN": SUPER_ADMIN_TOKEN},
            stdout=log,
            stderr=log,
        )
    try:
        until = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/server/ping") as answer:
                    assert answer.read() == b"pong"
                break
            except OSError:
                assert time.monotonic() < until, (tmp_path / "log").read_text()
                time.sleep(0.05)
        assert len(children(process.pid)) == 2
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_each_process_counts_its_own_lists(daemon: Daemon) -> None:
    asked: dict[int, dict[str, Any]] = {}
    daemon.call("GET", "/p/items/things?sort=name")

    def all_have_answered() -> bool:
        # Each request is a connection of its own, which either process accepts.
        found = daemon.call("GET", "/p/server/advice?all=1")["data"]
        asked[found["process"]] = found
        return len(asked) == 2

    wait_for(all_have_answered)
    assert set(asked) == set(children(daemon.pid))
    assert {found["processes"] for found in asked.values()} == {2}
    done = subprocess.run(
        [str(BIN / "directus"), "advise", "p", "--all", "--url", daemon.base],
        capture_output=True,
        text=True,
        cwd=daemon.directory,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "the server has 2 processes" in done.stderr
