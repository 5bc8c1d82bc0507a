"""Uploads by the tus protocol with tus-js-client from npm, to a server that is killed meanwhile; to several processes; to a full disk."""

import contextlib
import hashlib
import http.client
import json
import pathlib
import resource
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.bucket import BUCKET, KEY, REGION, SECRET, bucket
from tests.daemon import TOKEN, Daemon, wait_for
from tests.live.javascript import HERE, MODULES, NODE, PATIENCE
from tests.live.test_files import check

needs_tus = pytest.mark.skipif(
    not (NODE and (MODULES / "tus-js-client").exists()), reason="tus-js-client is not installed; `make test` installs it"
)
MIB = 2**20
TUS = {"Tus-Resumable": "1.0.0", "Authorization": f"bearer {TOKEN}"}
BYTES = "application/offset+octet-stream"


class Gate:
    """Passes connections on to a server, and no more than `left` bytes of what clients send. `passed` is how many it has passed."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.passed = self.left = 0
        self.changed = threading.Condition()
        self.closing = False
        self.sockets: set[socket.socket] = set()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def let(self, number: int) -> None:
        """Lets so many more bytes pass."""
        with self.changed:
            self.left = number
            self.changed.notify_all()

    def cut(self) -> None:
        """Closes all connections."""
        with self.changed:
            found, self.sockets = self.sockets, set()
            self.changed.notify_all()
        for each in found:
            # Closing alone does not wake threads that read.
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def close(self) -> None:
        self.closing = True
        self.listening.close()
        self.cut()

    def _accept(self) -> None:
        while not self.closing:
            try:
                near, _ = self.listening.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            with self.changed:
                self.sockets |= {near, far}
            threading.Thread(target=self._pass, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(64 * 1024):
                while data:
                    piece = data
                    if counted:
                        with self.changed:
                            self.changed.wait_for(lambda: self.left > 0 or source not in self.sockets)
                            if source not in self.sockets:
                                return
                            piece = data[: self.left]
                            self.left -= len(piece)
                            self.passed += len(piece)
                    target.sendall(piece)
                    data = data[len(piece) :]
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class Uploader:
    """A process of node that uploads a file with tus-js-client."""

    def __init__(self, file: pathlib.Path, endpoint: str, **options: Any) -> None:
        given = {"file": str(file), "endpoint": endpoint, "headers": {"Authorization": f"bearer {TOKEN}"}, **options}
        given.setdefault("metadata", {"filename": "large.bin", "title": "By tus"})
        command = [str(NODE), str(HERE / "tus.js"), json.dumps(given)]
        environment = {"NODE_PATH": str(MODULES), "PATH": "/usr/bin:/bin"}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)

    def event(self) -> dict[str, Any]:
        """The next event."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], PATIENCE)[0], "the client tells nothing"
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def offset_of(daemon: Daemon, path: str) -> int:
    """How many bytes of an upload count."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    connection.request("HEAD", path, headers=TUS)
    answer = connection.getresponse()
    connection.close()
    assert answer.status == 200
    return int(answer.headers["Upload-Offset"])


def large_file(directory: pathlib.Path, size: int) -> tuple[pathlib.Path, str]:
    """A file in which no two places are alike, and its MD5."""
    data = b"".join(b"%015d\n" % number for number in range(size // 16))
    path = directory / "large.bin"
    path.write_bytes(data)
    return path, hashlib.md5(data, usedforsecurity=False).hexdigest()


def interrupted(daemon: Daemon, directory: pathlib.Path, size: int, *kills: int) -> None:
    """Uploads a file; each time when so many bytes have been passed on to the server, it is killed and started again."""
    path, checksum = large_file(directory, size)
    gate = Gate(daemon.port)
    gate.let(64 * 1024)
    uploader = Uploader(path, f"http://127.0.0.1:{gate.port}/p/files/tus")
    try:
        upload = uploader.event()["url"].removeprefix(f"http://127.0.0.1:{gate.port}")
        counted = 0
        for number in kills:
            gate.let(number)
            # What is not a whole part does not count yet, and the requests have headers.
            least = min(counted + number, size) - 8 * MIB - 64 * 1024
            wait_for(lambda least=least: offset_of(daemon, upload) >= least)  # type: ignore[misc]
            daemon.stop(signal.SIGKILL)
            gate.cut()
            daemon.start()
            counted = offset_of(daemon, upload)
            assert counted >= least
        gate.passed = 0
        gate.let(10**9)
        event = next(event for event in iter(uploader.event, None) if "error" in event or "file" in event)
        assert event.get("file"), event
        # What counted has not been sent again.
        assert gate.passed < size - counted + MIB
    finally:
        uploader.stop()
        gate.close()
    (file,) = daemon.call("GET", "/p/files")["data"]
    assert (str(file["id"]), file["title"], file["filesize"]) == (event["file"], "By tus", size)
    assert file["checksum"] == checksum
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    connection.request("GET", file["data"]["url"])
    content = connection.getresponse().read()
    connection.close()
    assert hashlib.md5(content, usedforsecurity=False).hexdigest() == checksum


@needs_tus
def test_an_upload_goes_on_after_the_server_was_killed(tmp_path: pathlib.Path) -> None:
    daemon = Daemon(tmp_path).start()
    try:
        daemon.create_project("p")
        # The second time, the file is being made of all bytes, or has just been made.
        interrupted(daemon, tmp_path, 40 * MIB, 20 * MIB, 40 * MIB)
        check(daemon, "--minutes", "0", "--repair")
        status, report = check(daemon, "--minutes", "0")
        assert (status, report["files"], report["contents"], report["uploads"]) == (0, 1, 1, 0)
    finally:
        daemon.stop()


@needs_tus
def test_an_upload_to_a_bucket_goes_on_after_the_server_was_killed(tmp_path: pathlib.Path) -> None:
    with bucket() as files:
        daemon = Daemon(tmp_path)
        settings = {"ADAPTER": "s3", "BUCKET": BUCKET, "ENDPOINT": files.endpoint, "REGION": REGION, "KEY": KEY, "SECRET": SECRET}
        daemon.environment |= {f"DIRECTUS_STORAGE_{name}": value for name, value in settings.items()}
        daemon.start()
        try:
            daemon.create_project("p")
            interrupted(daemon, tmp_path, 24 * MIB, 13 * MIB)
            wait_for(
                lambda: (
                    not [each for each in files.objects() if "uploads/" in each] or check(daemon, "--minutes", "0", "--repair")
                )
            )
            assert len([each for each in files.objects() if "originals/" in each]) == 1
            assert files.unfinished() == []
        finally:
            daemon.stop()


def begin(daemon: Daemon, size: int) -> str:
    """The path of a new upload."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    connection.request(
        "POST", "/p/files/tus", headers={**TUS, "Upload-Length": str(size), "Upload-Metadata": "filename YS5iaW4="}
    )
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status == 201
    return f"/p/files/{answer.headers['Location']}"


def send(daemon: Daemon, path: str, offset: int, data: bytes) -> http.client.HTTPResponse:
    """Sends bytes with a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
    connection.request("PATCH", path, data, {**TUS, "Upload-Offset": str(offset), "Content-Type": BYTES})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


@pytest.fixture
def daemon(tmp_path: pathlib.Path) -> Iterator[Daemon]:
    """A running daemon on an embedded database, with a project `p`."""
    found = Daemon(tmp_path).start()
    found.create_project("p")
    yield found
    found.stop()


def test_every_process_can_continue_an_upload(tmp_path: pathlib.Path) -> None:
    daemon = Daemon(tmp_path)
    daemon.environment["DIRECTUS_SERVER_PROCESSES"] = "2"
    daemon.start()
    try:
        daemon.create_project("p")
        data = hashlib.shake_128(b"data").digest(300_000)
        path = begin(daemon, len(data))
        for start in range(0, len(data), 20_000):
            answer = send(daemon, path, start, data[start : start + 20_000])
            assert answer.status == 204
            assert offset_of(daemon, path) == start + 20_000
        (file,) = daemon.call("GET", "/p/files")["data"]
        assert file["checksum"] == hashlib.md5(data, usedforsecurity=False).hexdigest()
        assert answer.headers["X-Directus-File"] == str(file["id"])
    finally:
        daemon.stop()


def stored(daemon: Daemon) -> list[pathlib.Path]:
    """All files below the directory of the storage, unfinished ones included."""
    return [path for path in (daemon.directory / "var" / "storage").rglob("*") if path.is_file()]


def test_a_disk_that_is_full_in_the_middle_of_an_upload_keeps_nothing_of_it_and_the_server_goes_on(daemon: Daemon) -> None:
    """The limit on the size of files (RLIMIT_FSIZE) makes writing fail as a full disk does, in the middle of a file."""
    _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    data = bytes(range(256)) * (12 * MIB // 256)
    form = b'--b\r\nContent-Disposition: form-data; name="data"; filename="a.bin"\r\n\r\n' + data + b"\r\n--b--\r\n"

    def upload(body: bytes) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
        headers = {"Content-Type": "multipart/form-data; boundary=b", "Authorization": f"bearer {TOKEN}"}
        connection.request("POST", "/p/files", body, headers)
        answer = connection.getresponse()
        found = json.loads(answer.read())
        connection.close()
        return answer.status, found

    path = begin(daemon, len(data))
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (5 * MIB, hard))
    for _ in range(3):
        status, answer = upload(form)
        assert (status, answer["error"]["code"]) == (507, 602)
        assert send(daemon, path, 0, data).status == 507
        assert stored(daemon) == []
        assert daemon.call("GET", "/p/files")["data"] == []
        assert offset_of(daemon, path) == 0
    small = form.replace(data, data[: 2 * MIB])
    assert upload(small)[0] == 200
    assert send(daemon, path, 0, data[: 4 * MIB]).status == 204
    # The parts fit, but not the whole file.
    for start in (4 * MIB, 8 * MIB):
        status = send(daemon, path, start, data[start : start + 4 * MIB]).status
    assert status == 507
    assert offset_of(daemon, path) == 8 * MIB
    assert len(stored(daemon)) == 3
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert send(daemon, path, 8 * MIB, data[8 * MIB :]).status == 204
    assert upload(form)[0] == 200
    found = {file["checksum"] for file in daemon.call("GET", "/p/files")["data"] if file["filesize"] == len(data)}
    assert found == {hashlib.md5(data, usedforsecurity=False).hexdigest()}
    status, report = check(daemon, "--minutes", "0")
    assert (status, report["files"], report["contents"], report["unused"]) == (0, 3, 3, [])
