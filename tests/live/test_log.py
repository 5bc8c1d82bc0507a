"""The log of a real process: nothing that takes its lines, or does not, stops the server; what was logged before an end is written."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.daemon import BIN, Daemon, free_port, wait_for

PATIENCE = 60.0
NO_DATABASE = "postgresql://postgres@127.0.0.1:1/postgres"
"""Where no database answers."""


class Server(Daemon):
    """A daemon whose standard output is a pipe, which the test reads or does not. `reader` is its end, or -1 when it is closed."""

    reader = -1

    def start(self) -> "Server":
        self.reader, end = os.pipe()
        listen = f"tcp:{self.port}:interface=127.0.0.1"
        arguments = [self.command, "-n", "--pidfile=", "directus", "--data-dir", str(self.directory / "var"), "--listen", listen]
        with self.log.open("ab") as errors:
            self.process = subprocess.Popen(
                [*arguments, *self.options], env=self.environment, cwd=self.directory, stdout=end, stderr=errors
            )
        os.close(end)
        wait_for(self.listens)
        return self

    def close_output(self) -> None:
        os.close(self.reader)
        self.reader = -1

    def rest_of_output(self) -> bytes:
        """What the process writes until it ends."""
        parts = []
        while data := os.read(self.reader, 65536):
            parts.append(data)
        return b"".join(parts)

    def ping(self, number: int) -> None:
        """Sends so many requests over one connection, and asserts that all are answered."""
        received = 0
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
            request = b"GET /server/ping HTTP/1.1\r\nHost: test\r\n\r\n"

            def send() -> None:
                for _ in range(number // 100):
                    connection.sendall(request * 100)

            sender = threading.Thread(target=send)
            sender.start()
            left = b""
            while received < number:
                data = connection.recv(65536)
                assert data, "the server closed the connection"
                left += data
                received += left.count(b"HTTP/1.1 200 OK\r\n")
                left = left[left.rfind(b"HTTP/1.1 200 OK\r\n") + 1 :]
            sender.join()
        assert received == number


def requests(log: bytes) -> int:
    """How many requests a log has."""
    return len(re.findall(rb"GET /server/ping 200 ", log))


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[Server]:
    found = Server(tmp_path)
    yield found
    if found.process is not None and found.process.poll() is None:
        found.process.kill()
        found.process.wait()
    if found.reader >= 0:
        os.close(found.reader)


@pytest.fixture
def file(server: Server) -> pathlib.Path:
    """The file that the server logs to."""
    found = server.directory / "directus.log"
    server.environment["DIRECTUS_SERVER_LOG_FILE"] = str(found)
    return found


def test_an_output_that_nobody_reads_stops_neither_answers_nor_the_end(server: Server) -> None:
    server.start()
    server.ping(20_000)
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 30


def test_an_output_that_is_read_late_has_every_line(server: Server) -> None:
    server.start()
    server.ping(3000)
    output: list[bytes] = []
    reader = threading.Thread(target=lambda: output.append(server.rest_of_output()))
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    reader.start()
    assert server.process.wait(PATIENCE) == 0
    reader.join(PATIENCE)
    lines = output[0].splitlines()
    assert requests(output[0]) == 3000
    assert lines[-1].endswith(b"the server has stopped")


def test_an_output_that_is_closed_costs_nothing(server: Server) -> None:
    server.start()
    server.close_output()
    server.ping(2000)
    assert server.stop() == 0


def test_a_log_file_on_a_full_disk_is_written_again_when_there_is_room(server: Server, file: pathlib.Path) -> None:
    file.symlink_to("/dev/full")
    server.start()
    server.ping(2000)
    file.unlink()
    assert server.process is not None
    server.process.send_signal(signal.SIGHUP)
    wait_for(file.exists)
    server.ping(100)
    assert server.stop() == 0
    said, rest = file.read_bytes().split(b"\n", 1)
    found = re.search(rb"warn directus_tx.logs: (\d+) lines of the log were dropped: No space left on device", said)
    assert found is not None
    assert int(found[1]) + requests(rest) >= 2100
    assert requests(rest) >= 100


def test_a_log_file_that_was_moved_loses_no_line(server: Server, file: pathlib.Path) -> None:
    server.start()
    moved = file.with_suffix(".1")
    for turn in range(3):
        server.ping(200)
        file.rename(moved.with_suffix(f".{turn}"))
        server.ping(200)
        assert server.process is not None
        server.process.send_signal(signal.SIGHUP)
        wait_for(file.exists)
    server.ping(100)
    assert server.stop() == 0
    assert sum(requests(path.read_bytes()) for path in server.directory.glob("directus.*")) == 3 * 400 + 100


@pytest.mark.parametrize("daemonized", [False, True])
def test_a_server_that_cannot_start_says_so(tmp_path: pathlib.Path, daemonized: bool) -> None:
    log = tmp_path / "directus.log"
    environment = {**os.environ, "DIRECTUS_DATABASE_URL": NO_DATABASE, "DIRECTUS_SERVER_LOG_FILE": str(log)}
    options = ["--pidfile=twistd.pid"] if daemonized else ["-n", "--pidfile="]
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"tcp:{other.getsockname()[1]}:interface=127.0.0.1"
        arguments = [*options, "directus", "--data-dir", str(tmp_path / "var"), "--listen", listen]
        done = subprocess.run([str(BIN / "twistd"), *arguments], env=environment, cwd=tmp_path, timeout=PATIENCE)
        assert done.returncode == (0 if daemonized else 1)
        # A daemon has left its first process behind.
        wait_for(lambda: log.exists() and "cannot listen" in log.read_text())
    text = log.read_text()
    assert "the server cannot start" in text
    assert "starts" in text


def test_every_line_of_a_json_log_is_json(tmp_path: pathlib.Path) -> None:
    """Also at the first start, which prints a token and a password: those are on standard error."""
    environment = {**os.environ, "DIRECTUS_SERVER_LOG_FORMAT": "json"}
    listen = f"tcp:{free_port()}:interface=127.0.0.1"
    command = [str(BIN / "twistd"), "-n", "--pidfile=", "directus", "--demo", "--listen", listen]
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, cwd=tmp_path, env=environment)
        try:
            wait_for(lambda: "the server is ready" in (tmp_path / "out").read_text())
        finally:
            process.terminate()
            assert process.wait(60) == 0
    lines = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert {line["logger"].partition(".")[0] for line in lines} == {"directus_tx"}
    assert lines[-1]["message"] == "the server has stopped"
    assert (tmp_path / "err").read_text().count("(shown this once)") == 2


def test_the_line_of_a_request_has_the_address_of_the_client(tmp_path: pathlib.Path) -> None:
    config = tmp_path / "directus.toml"
    config.write_text('[server]\nlog_format = "json"\ntrusted_proxies = ["127.0.0.1"]\n')
    daemon = Daemon(tmp_path, "--config", str(config)).start()
    try:
        daemon.create_project("p")
        for path in ("/p/users/me", "/server/ping", "/p/nothing/at/all"):
            request = urllib.request.Request(daemon.base + path, headers={"X-Forwarded-For": "192.0.2.7"})
            with contextlib.suppress(urllib.error.HTTPError):
                urllib.request.urlopen(request, timeout=30).close()
    finally:
        daemon.stop()
    lines = [json.loads(line) for line in daemon.output.splitlines() if line.startswith("{")]
    addresses = {line["path"]: line["ip"] for line in lines if "status" in line}
    assert addresses["/p/users/me"] == addresses["/server/ping"] == addresses["/p/nothing/at/all"] == "192.0.2.7"
