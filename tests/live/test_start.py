"""The start and the end of a server: without its database, with databases that do not answer, misconfigured, and sent signals."""

import ctypes
import http.client
import json
import os
import pathlib
import re
import secrets
import signal
import socket
import subprocess
import threading
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import pytest

from directus_tx.db.session import SCHEMA_LOCK
from directus_tx.embedded import EmbeddedPostgres
from tests.conftest import KEY, field
from tests.daemon import BIN, SUPER_ADMIN_TOKEN, TOKEN, Daemon, embedded, free_port, wait_for

THINGS = {"collection": "things", "fields": [KEY, field("name")]}
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
"""Numbers of Linux."""

SILENT = 10
"""Projects whose databases do not answer."""


def ask(daemon: Daemon, path: str, body: Any = None, *, token: str | None = TOKEN) -> tuple[int, Any, Any]:
    """The status, the headers and the body of an answer."""
    headers = {"Content-Type": "application/json"} | ({} if token is None else {"Authorization": f"bearer {token}"})
    request = urllib.request.Request(daemon.base + path, None if body is None else json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status, found, content = answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            status, found, content = error.code, error.headers, error.read()
    return status, found, content.decode() if found["Content-Type"].startswith("text") else json.loads(content)


def health(daemon: Daemon, *, detailed: bool = False) -> tuple[int, Any]:
    status, headers, report = ask(daemon, f"/health?super_admin_token={SUPER_ADMIN_TOKEN}" if detailed else "/health", token=None)
    assert headers["Content-Type"] == "application/health+json"
    assert (status, int(headers["Retry-After"] or 0) > 0) in ((200, False), (503, True))
    assert (report["status"] == "fail") == (status == 503)
    return status, report


def count(report: Any, state: str) -> int:
    """The number of projects in a state."""
    return int(report["checks"][f"projects:{state}"][0]["observedValue"])


def url_of(postgres: dict[str, Any]) -> str:
    return f"postgresql://{postgres['user']}@/{postgres['dbname']}?host={postgres['host']}"


@pytest.fixture
def started(tmp_path: pathlib.Path) -> Iterator[Callable[..., Daemon]]:
    """Makes daemons in a directory, which are stopped in the end."""
    daemons: list[Daemon] = []

    def make(*options: str, **more: Any) -> Daemon:
        daemons.append(Daemon(tmp_path, *options, **more))
        return daemons[-1]

    yield make
    for each in daemons:
        if each.process is not None and each.process.poll() is None:
            assert each.stop() == 0


# --- without the database


@pytest.mark.parametrize("where", ["a port that nobody listens on", "a name that nobody has", "a server that does not answer"])
def test_a_database_server_that_is_not_there_is_waited_for(started: Any, where: str) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = {
            "a port that nobody listens on": f"postgresql://postgres:hush@127.0.0.1:{port}/postgres",
            "a name that nobody has": "postgresql://postgres:hush@no-such-host.invalid/postgres",
            "a server that does not answer": f"postgresql://postgres:hush@127.0.0.1:{silent.getsockname()[1]}/postgres",
        }[where]
        daemon = started(url=url).start(ready=False)
        assert ask(daemon, "/server/ping")[2] == "pong"
        wait_for(lambda: "the database server cannot be reached yet" in daemon.output)
        status, report = health(daemon)
        assert (status, report["checks"]["database"][0]["status"]) == (503, "fail")
        assert report["output"] == "The server is starting and cannot reach the database server yet."
        assert "output" not in report["checks"]["database"][0]
        assert health(daemon, detailed=True)[1]["checks"]["database"][0]["output"]
        new = {"project": "p", "super_admin_token": SUPER_ADMIN_TOKEN, "user_email": "a@example.com", "user_password": "password"}
        for path, body in (("/server/projects", new), (f"/server/info?super_admin_token={SUPER_ADMIN_TOKEN}", None)):
            status, headers, answer = ask(daemon, path, body)
            assert (status, int(headers["Retry-After"]) > 0, answer["error"]["code"]) == (503, True, 16)
            assert "starting" in answer["error"]["message"]
        assert ask(daemon, "/p/items/things")[0] == 401
        assert ask(daemon, "/server/projects")[0] == 200
        assert daemon.stop() == 0, daemon.output
    assert "Traceback" not in daemon.output
    assert "hush" not in daemon.output


def test_a_server_goes_on_by_itself_when_its_database_server_comes(started: Any, tmp_path: pathlib.Path) -> None:
    port = free_port()
    (tmp_path / "database").mkdir()
    postgres = embedded(tmp_path / "database", f"-c listen_addresses=127.0.0.1 -c port={port}")
    daemon = started(url=f"postgresql://postgres@127.0.0.1:{port}/postgres").start(ready=False)
    wait_for(lambda: "the database server cannot be reached yet" in daemon.output)
    assert health(daemon)[0] == 503
    postgres.start()
    try:
        wait_for(lambda: health(daemon)[0] == 200)
        daemon.create_project("p")
        assert daemon.call("GET", "/p/users/me?fields=id")["data"] == {"id": 1}
        # Gone again, and back.
        postgres.stop()
        wait_for(lambda: health(daemon)[0] == 503)
        assert ask(daemon, "/p/users/me")[0] == 503
        postgres.start()
        wait_for(lambda: health(daemon)[0] == 200)
        wait_for(lambda: ask(daemon, "/p/users/me")[0] == 200)
        assert daemon.stop() == 0
    finally:
        postgres.stop()


# --- projects that cannot be opened


def project_file(daemon: Daemon, key: str, port: int) -> None:
    """Writes the file of a project whose database is on another server."""
    folder = daemon.directory / "var" / "projects"
    folder.mkdir(parents=True, exist_ok=True)
    database = f'name = "x"\nhost = "127.0.0.1"\nport = {port}\nuser = "u"\npassword = "hush"\n'
    (folder / f"{key}.toml").write_text(f'secret_key = "{secrets.token_hex(16)}"\npublic_key = "k"\n[database]\n{database}')


def test_projects_whose_databases_do_not_answer_do_not_delay_the_one_whose_does(started: Any, postgres: dict[str, Any]) -> None:
    daemon = started(url=url_of(postgres)).start()
    daemon.create_project("zebra")
    assert daemon.stop() == 0
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        for number in range(SILENT):
            project_file(daemon, f"private.silent{number}", silent.getsockname()[1])
        before = time.monotonic()
        daemon.start()
        assert daemon.call("GET", "/zebra/users/me?fields=id")["data"] == {"id": 1}
        # One after the other the others take three seconds each.
        assert time.monotonic() - before < SILENT * 3
        # The report may be a second old.
        wait_for(lambda: count(health(daemon)[1], "ready") == 1)
        status, report = health(daemon)
        assert status == 200
        assert count(report, "failing") + count(report, "pending") == SILENT
        assert "silent" not in json.dumps(report)
        status, _, answer = ask(daemon, "/silent3/users/me")
        assert (status, answer["error"]["code"]) == (503, 16)

        def failing() -> list[str]:
            return [each.get("componentId") for each in health(daemon, detailed=True)[1]["checks"]["projects:failing"]]

        wait_for(lambda: "silent3" in failing())
        status, report = health(daemon, detailed=True)
        assert (status, report["status"]) == (200, "warn")
        assert "hush" not in json.dumps(report) + daemon.output
        daemon.call("DELETE", f"/server/projects/zebra?super_admin_token={SUPER_ADMIN_TOKEN}")
        assert daemon.stop() == 0


def test_a_project_that_is_being_migrated_is_refused_after_a_while_and_others_are_served(
    started: Any, postgres: dict[str, Any]
) -> None:
    daemon = started(url=url_of(postgres)).start()
    names = {}
    for key in ("old", "other"):
        daemon.create_project(key)
        names[key] = tomllib.loads((daemon.directory / "var" / "projects" / f"{key}.toml").read_text())["database"]["name"]
    assert daemon.stop() == 0
    holder = psycopg2.connect(**{**postgres, "dbname": names["old"]})
    cursor = holder.cursor()
    # As a version before the last migration left it, while another server migrates it.
    cursor.execute("SELECT count(*) FROM directus_migrations")
    migrations = cursor.fetchone()[0]
    cursor.execute("DELETE FROM directus_migrations WHERE version > 1")
    holder.commit()
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))
    daemon.start()
    assert daemon.call("GET", "/other/users/me?fields=id")["data"] == {"id": 1}
    for _ in range(2):
        status, headers, answer = ask(daemon, "/old/users/me")
        assert (status, int(headers["Retry-After"]) > 0) == (503, True)
        assert answer["error"]["message"] == "The project's database is being migrated."
    wait_for(lambda: count(health(daemon)[1], "pending") == 1)
    # The other server has finished.
    cursor.execute(
        "INSERT INTO directus_migrations (version, migration_name) SELECT n, 'x' FROM generate_series(2, %s) n", (migrations,)
    )
    holder.commit()
    holder.close()
    wait_for(lambda: ask(daemon, "/old/users/me")[0] == 200)
    wait_for(lambda: count(health(daemon)[1], "ready") == 2)
    for key in names:
        daemon.call("DELETE", f"/server/projects/{key}?super_admin_token={SUPER_ADMIN_TOKEN}")
    assert daemon.stop() == 0


# --- mistakes of the configuration


def run(directory: pathlib.Path, *options: str, **environment: str) -> tuple[int, str]:
    """Runs a server that ends by itself. Gives its status and output."""
    command = [str(BIN / "twistd"), "-n", "--pidfile=", "directus", *options]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=directory, timeout=60, env={**os.environ, **environment}, check=False
    )
    return done.returncode, done.stdout + done.stderr


def taken_port(directory: pathlib.Path, taken: socket.socket) -> list[str]:
    return ["--listen", f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"]


def unknown_endpoint(directory: pathlib.Path, taken: socket.socket) -> list[str]:
    return ["--listen", "pigeon:home"]


def endpoint_without_a_port(directory: pathlib.Path, taken: socket.socket) -> list[str]:
    return ["--listen", "tcp:eighty"]


def socket_nowhere(directory: pathlib.Path, taken: socket.socket) -> list[str]:
    return ["--listen", f"unix:{directory}/missing/socket"]


def file_for_data(directory: pathlib.Path, taken: socket.socket) -> list[str]:
    (directory / "file").write_text("")
    return ["--data-dir", str(directory / "file" / "var")]


def file_for_projects(directory: pathlib.Path, taken: socket.socket) -> list[str]:
    (directory / "other").mkdir()
    (directory / "other" / "projects").write_text("")
    return ["--data-dir", str(directory / "other")]


def log_nowhere(directory: pathlib.Path, taken: socket.socket) -> list[str]:
    (directory / "log.toml").write_text(f'[server]\nlog_file = "{directory}/missing/log"\n')
    return ["--config", str(directory / "log.toml")]


def cluster_of_another_version(directory: pathlib.Path, taken: socket.socket) -> list[str]:
    (directory / "var" / "postgres").mkdir(parents=True)
    (directory / "var" / "postgres" / "PG_VERSION").write_text("9\n")
    return ["--listen", "tcp:0:interface=127.0.0.1"]


MISTAKES = {
    taken_port: r"the server cannot listen \(server.listen\): .*Address already in use: give another one with --listen",
    unknown_endpoint: r'server.listen: "pigeon:home" is not a Twisted endpoint: there is no kind of endpoint',
    endpoint_without_a_port: r'server.listen: "tcp:eighty" is not a Twisted endpoint',
    socket_nowhere: r"the server cannot listen \(server.listen\): .*No such file or directory",
    file_for_data: r"server.data_dir: .*/file is not a directory",
    file_for_projects: r"server.data_dir: .*/other/projects is not a directory",
    log_nowhere: r"server.log_file: there is no directory .*/missing",
    cluster_of_another_version: r"was made by PostgreSQL 9",
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_of_the_configuration_ends_the_server_with_one_line(tmp_path: pathlib.Path, mistake: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, output = run(tmp_path, *mistake(tmp_path, taken))
    assert status == 1
    assert len(re.findall(rf"the server cannot start:\s.*{MISTAKES[mistake]}", output)) == 1, output
    assert "Traceback" not in output


def test_a_port_that_is_taken_costs_no_super_admin_token(started: Any, tmp_path: pathlib.Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert run(tmp_path, *taken_port(tmp_path, taken), DIRECTUS_SUPER_ADMIN_TOKEN="")[0] == 1
    daemon = started(first=True)
    daemon.environment.pop("DIRECTUS_SUPER_ADMIN_TOKEN")
    daemon.start()
    assert "(shown this once)" in daemon.output


def without_override() -> None:
    """Called in a process before it runs a program: the program cannot pass by the permissions of files, as root otherwise can."""
    library = ctypes.CDLL(None, use_errno=True)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        if library.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")


def test_a_data_directory_of_another_user_ends_the_server_with_one_line(tmp_path: pathlib.Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    if os.geteuid() == 0:
        os.chown(theirs, 12345, 12345)
    else:
        theirs.chmod(0o555)
    for command in (
        [str(BIN / "twistd"), "-n", "--pidfile=", "directus", "--data-dir", str(theirs), "--listen", "tcp:0:interface=127.0.0.1"],
        [str(BIN / "directus"), "project", "create", "p", "--init", "--generate", "--email", "a@example.com", "-d", str(theirs)],
    ):
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=60,
            preexec_fn=without_override if os.geteuid() == 0 else None,
            check=False,
        )
        output = done.stdout + done.stderr
        assert done.returncode == 1, output
        said = (
            f"server.data_dir: {theirs} cannot be written",
            f"the data directory {theirs} cannot be used: {theirs}/projects: Permission denied",
        )
        assert any(each in output for each in said), output
        assert "Traceback" not in output


# --- signals


@pytest.fixture
def busy(started: Any) -> Iterator[tuple[Daemon, Any]]:
    """A daemon with an embedded database, in a process group of its own, and a connection that can hold its table `things`."""
    daemon = started(prepare=os.setsid).start()
    daemon.create_project("p")
    daemon.call("POST", "/p/collections", THINGS)
    holder = daemon.connect("p")
    yield daemon, holder
    holder.close()


def waiting(connection: Any) -> int:
    """How many statements wait for a lock."""
    cursor = connection.cursor()
    cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
    return int(cursor.fetchone()[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_for_the_process_group_cuts_no_write(busy: tuple[Daemon, Any], number: int) -> None:
    """A service manager or a terminal sends it to all processes of the group, those of the database included if they belonged to it.
    Writes are held until the server has got it; the server ends its database only after they are answered."""
    daemon, holder = busy
    watcher = daemon.connect("p")
    watcher.autocommit = True
    holder.cursor().execute("LOCK TABLE things IN SHARE MODE")
    answers: list[int] = []
    writers = [
        threading.Thread(target=lambda: answers.append(ask(daemon, "/p/items/things", {"name": "in flight"})[0]))
        for _ in range(4)
    ]
    for writer in writers:
        writer.start()
    wait_for(lambda: waiting(watcher) == len(writers))
    os.killpg(daemon.pid, number)
    wait_for(lambda: not daemon.listens())
    assert answers == []
    assert waiting(watcher) == len(writers)
    watcher.close()
    holder.rollback()
    holder.close()
    for writer in writers:
        writer.join(60)
    assert answers == [200] * len(writers)
    assert daemon.process is not None
    assert daemon.process.wait(60) == 0
    assert EmbeddedPostgres(daemon.directory / "var").pid() is None
    daemon.start()
    assert len(daemon.call("GET", "/p/items/things?limit=-1")["data"]) == len(writers)


def test_open_connections_are_answered_while_the_server_stops_and_closed_afterwards(busy: tuple[Daemon, Any]) -> None:
    daemon, holder = busy
    watcher = daemon.connect("p")
    watcher.autocommit = True
    clients = [http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60) for _ in range(2)]
    for client in clients:
        client.request("GET", "/server/ping")
        answer = client.getresponse()
        assert (answer.read(), answer.headers["Connection"]) == (b"pong", None)
    writing, asking = clients
    holder.cursor().execute("LOCK TABLE things IN SHARE MODE")
    headers = {"Authorization": f"bearer {TOKEN}", "Content-Type": "application/json"}
    writing.request("POST", "/p/items/things", json.dumps({"name": "in flight"}), headers)
    wait_for(lambda: waiting(watcher) == 1)
    os.kill(daemon.pid, signal.SIGTERM)
    wait_for(lambda: not daemon.listens())
    asking.request("GET", "/health")
    answer = asking.getresponse()
    assert (answer.status, answer.headers["Connection"]) == (503, "close")
    assert json.loads(answer.read())["output"] == "The server is stopping."
    watcher.close()
    holder.rollback()
    holder.close()
    answer = writing.getresponse()
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    assert json.loads(answer.read())["data"]["name"] == "in flight"
    assert daemon.process is not None
    assert daemon.process.wait(60) == 0


def test_with_a_shutdown_delay_readiness_fails_first_and_requests_are_still_answered(started: Any) -> None:
    daemon = started()
    daemon.environment["DIRECTUS_SERVER_SHUTDOWN_DELAY"] = "3"
    daemon.start()
    daemon.create_project("p")
    assert health(daemon)[0] == 200
    os.kill(daemon.pid, signal.SIGTERM)
    wait_for(lambda: health(daemon)[0] == 503)
    status, report = health(daemon)
    assert (status, report["output"]) == (503, "The server is stopping.")
    assert ask(daemon, "/server/ping")[2] == "pong"
    assert ask(daemon, "/p/users/me")[0] == 200
    assert daemon.process is not None
    assert daemon.process.wait(60) == 0


def test_a_server_that_is_stopped_while_it_starts_leaves_nothing_running(started: Any) -> None:
    daemon = started(first=True)
    for _ in range(2):
        daemon.start(ready=False)
        assert daemon.stop() == 0
        assert EmbeddedPostgres(daemon.directory / "var").pid() is None
    assert "Traceback" not in daemon.output
    daemon.start()
    daemon.create_project("p")
    assert ask(daemon, "/p/users/me")[0] == 200


def test_broken_project_files_do_not_keep_the_server_from_starting(started: Any, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "var" / "projects"
    folder.mkdir(parents=True)
    (folder / "syntax.toml").write_text("no TOML")
    os.mkfifo(folder / "pipe.toml")
    daemon = started().start()
    daemon.create_project("good")
    assert daemon.call("GET", "/good/")["data"]
    for key in ("syntax", "pipe"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            daemon.call("GET", f"/{key}/")
        with refused.value:
            assert refused.value.code == 503
