"""Uploads to a server as a real process: its memory, and what kill -9 leaves."""

import contextlib
import hashlib
import http.client
import json
import pathlib
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from tests.daemon import BIN, TOKEN, Daemon, wait_for

BOUNDARY = "----a-boundary"
HEAD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="data"; filename="large.bin"\r\n\r\n'.encode()
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()
PIECE = bytes(range(256)) * 1024
SIZE = 256 * 2**20
MEMORY = 64 * 2**20
SLOW = 30


@pytest.fixture
def daemon(tmp_path: pathlib.Path) -> Iterator[Daemon]:
    """A running daemon on an embedded database, with a project `p`."""
    found = Daemon(tmp_path).start()
    found.create_project("p")
    yield found
    found.stop()


def peak(daemon: Daemon) -> int:
    """The most memory that the process has used, in bytes."""
    status = pathlib.Path(f"/proc/{daemon.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


def begin_upload(daemon: Daemon, size: int) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=120)
    connection.putrequest("POST", "/p/files")
    connection.putheader("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
    connection.putheader("Content-Length", str(len(HEAD) + size + len(TAIL)))
    connection.putheader("Authorization", f"bearer {TOKEN}")
    connection.endheaders(HEAD)
    return connection


def check(daemon: Daemon, *options: str) -> tuple[int, dict[str, object]]:
    """The exit status and the result of `directus files check`."""
    arguments = ["files", "check", "p", "--json", "--data-dir", str(daemon.directory / "var"), *options]
    done = subprocess.run([str(BIN / "directus"), *arguments], capture_output=True, text=True, cwd=daemon.directory, timeout=60)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_the_memory_of_the_server_does_not_grow_with_a_file(daemon: Daemon) -> None:
    daemon.call("GET", "/p/files")
    before = peak(daemon)
    connection = begin_upload(daemon, SIZE)
    for _ in range(SIZE // len(PIECE)):
        connection.send(PIECE)
    connection.send(TAIL)
    answer = connection.getresponse()
    file = json.loads(answer.read())["data"]
    assert answer.status == 200
    assert file["filesize"] == SIZE
    uploaded = peak(daemon)
    connection.request("GET", file["data"]["url"])
    answer = connection.getresponse()
    assert answer.headers["Content-Length"] == str(SIZE)
    digest = hashlib.md5(usedforsecurity=False)
    while piece := answer.read(2**20):
        digest.update(piece)
    connection.close()
    assert digest.hexdigest() == file["checksum"]
    assert uploaded - before < MEMORY
    assert peak(daemon) - before < MEMORY


def test_a_client_that_does_not_read_lets_nothing_pile_up(daemon: Daemon) -> None:
    connection = begin_upload(daemon, SIZE // 4)
    for _ in range(SIZE // 4 // len(PIECE)):
        connection.send(PIECE)
    connection.send(TAIL)
    file = json.loads(connection.getresponse().read())["data"]
    before = peak(daemon)
    slow = [http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60) for _ in range(10)]
    for each in slow:
        each.request("GET", file["data"]["url"])
    answers = [each.getresponse() for each in slow]
    assert [answer.status for answer in answers] == [200] * 10
    assert daemon.call("GET", "/p/files?fields=id")["data"] == [{"id": file["id"]}]
    assert peak(daemon) - before < MEMORY
    connection.close()
    for answer, each in zip(answers, slow, strict=True):
        answer.close()
        each.close()


def test_slow_uploads_do_not_keep_others_from_reading_and_are_dropped(tmp_path: pathlib.Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.environment["DIRECTUS_SERVER_REQUEST_TIMEOUT"] = "5"
    daemon.start()
    daemon.create_project("p")
    slow = [begin_upload(daemon, SIZE) for _ in range(SLOW)]
    for each in slow:
        each.send(PIECE[:1000])
    ended = threading.Event()

    def trickle() -> None:
        while not ended.wait(0.2):
            for each in slow:
                with contextlib.suppress(OSError):
                    each.send(b"ab")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        for _ in range(SLOW):
            assert daemon.call("GET", "/p/files")["data"] == []
        # They send something all the time, but less than server.min_body_rate.
        for each in slow:
            # The answer is lost if the client sends when the connection is closed already.
            with contextlib.suppress(ConnectionResetError):
                assert each.sock.recv(4096).startswith(b"HTTP/1.1 408")
    finally:
        ended.set()
        thread.join()
        for each in slow:
            each.close()
        daemon.stop()
    assert not [path for path in (tmp_path / "var" / "storage").rglob("*") if path.is_file()]


def test_after_a_kill_in_the_middle_of_an_upload_there_is_nothing_of_it(daemon: Daemon) -> None:
    storage = daemon.directory / "var" / "storage"
    connection = begin_upload(daemon, SIZE)
    for _ in range(40):
        connection.send(PIECE)
    wait_for(lambda: any(path.is_file() and path.stat().st_size for path in storage.rglob("*")))
    daemon.stop(signal.SIGKILL)
    connection.close()
    daemon.start()
    assert daemon.call("GET", "/p/files")["data"] == []
    status, report = check(daemon, "--minutes", "0")
    assert (status, report["files"], report["contents"], report["unused"]) == (0, 0, 0, [])


def test_the_command_finds_and_deletes_contents_that_belong_to_no_file(daemon: Daemon) -> None:
    connection = begin_upload(daemon, 3)
    connection.send(b"one" + TAIL)
    assert json.loads(connection.getresponse().read())["data"]["id"] == 1
    connection.close()
    (stored,) = [path for path in (daemon.directory / "var" / "storage" / "p" / "originals").rglob("*") if path.is_file()]
    (daemon.directory / "var" / "storage" / "p" / "originals" / "left").write_bytes(b"left")
    assert check(daemon)[0] == 0
    # Files are dated in seconds.
    time.sleep(1.1)
    status, report = check(daemon, "--minutes", "0")
    assert (status, report["deleted"]) == (1, 0)
    assert "originals/left" in report["unused"]  # type: ignore[operator]
    assert check(daemon, "--minutes", "0", "--repair")[0] == 0
    status, report = check(daemon, "--minutes", "0")
    assert (status, report["unused"], report["contents"]) == (0, [], 1)
    stored.unlink()
    status, report = check(daemon)
    assert (status, [each["id"] for each in report["missing"]]) == (1, [1])  # type: ignore[attr-defined]
