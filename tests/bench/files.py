"""Measures uploads and downloads.

    python -m tests.bench.files [speed] [memory] [slow] [thumbnails] [--rounds N] [--size MIB] [--uploads N]

`speed` downloads a small and a large file from the server and from nginx, and uploads the large one to the server and to the program of
`tests.bench.bare_files`, in turns. It prints requests or MB a second, the processor time that the process took, and the ratios. Above 1
the server is faster. Needs nginx, curl and wrk.

`memory` uploads a file of 1 GiB by a multipart form, by tus and to a bucket (moto), and one as large as JSON may be in base64, and
downloads them. It prints how much memory the server needed at most, beyond what it had before. At last it sends 1 GiB in
base64, which is refused.

`slow` reads items while 100 clients upload a few bytes a second each, and prints within how many milliseconds half and 99 of 100 reads were
answered, with and without them.

`thumbnails` runs `tests.bench.thumbnails`. Without an argument all of them are run.
"""

import argparse
import base64
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

from attrs import frozen

from tests.bench.__main__ import Side, processor_time, wait_for, wrk
from tests.bucket import BUCKET, KEY, REGION, SECRET, bucket
from tests.conftest import KEY as COUNTING_KEY
from tests.conftest import field
from tests.daemon import BIN, TOKEN, Daemon, free_port

MB = 10**6
MIB = 2**20
SMALL = 10 * 1000
LARGE = 256 * MIB
PIECE = os.urandom(MIB)
BOUNDARY = "----a-boundary"
AUTHORIZATION = {"Authorization": f"bearer {TOKEN}"}
NGINX = """
daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/nginx.log;
events {{ worker_connections 512; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    server {{ listen 127.0.0.1:{port}; root {directory}; }}
}}
"""


@frozen
class Transfer:
    """MB a second, and the seconds of processor time of the process for 1000 MB."""

    rate: float
    cost: float


@contextlib.contextmanager
def daemon_of(directory: pathlib.Path, **environment: str) -> Iterator[Daemon]:
    """A server with a project `p`."""
    directory.mkdir()
    found = Daemon(directory)
    found.environment |= environment
    found.start()
    try:
        found.create_project("p")
        yield found
    finally:
        found.stop()


@contextlib.contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def post_form(daemon: Daemon, size: int) -> dict:
    """Uploads a file of this size by a multipart form, and returns it."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="data"; filename="large.bin"\r\n\r\n'.encode()
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=600)
    connection.putrequest("POST", "/p/files")
    headers = {**AUTHORIZATION, "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    for name, text in {**headers, "Content-Length": str(len(head) + size + len(tail))}.items():
        connection.putheader(name, text)
    connection.endheaders(head)
    for start in range(0, size, MIB):
        connection.send(PIECE[: size - start])
    connection.send(tail)
    answer = connection.getresponse()
    found = json.loads(answer.read())
    if answer.status != 200:
        raise SystemExit(found)
    return found["data"]


# --- speed


def curl(pid: int, size: int, *arguments: str) -> Transfer:
    """Moves so many bytes with curl."""
    before = processor_time(pid)
    command = [
        "curl",
        "-sS",
        "--fail",
        "-H",
        f"Authorization: bearer {TOKEN}",
        "-o",
        "/dev/null",
        "-w",
        "%{time_total}",
        *arguments,
    ]
    seconds = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return Transfer(size / MB / seconds, (processor_time(pid) - before) / size * 1000 * MB)


def worker(pid: int) -> int:
    """The process of nginx that answers."""
    return int(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def speed(directory: pathlib.Path, options: argparse.Namespace) -> None:
    if shutil.which("nginx") is None:
        raise SystemExit("This needs nginx (Debian: apt-get install nginx).")
    served = directory / "nginx"
    served.mkdir()
    port, bare, hashed = free_port(), free_port(), free_port()
    (served / "nginx.conf").write_text(f"user root;{NGINX.format(directory=served, port=port)}")
    for name, size in (("small.bin", SMALL), ("large.bin", LARGE)):
        with (served / name).open("wb") as file:
            for start in range(0, size, MIB):
                file.write(PIECE[: size - start])
    program = (sys.executable, "-m", "tests.bench.bare_files")
    with (
        daemon_of(directory / "speed") as daemon,
        running("nginx", "-c", str(served / "nginx.conf"), "-e", str(served / "nginx.log")) as nginx,
        running(*program, str(bare), str(served)) as plain,
        running(*program, str(hashed), str(served), "hashed") as hashing,
    ):
        small, large = (daemon.base + post_form(daemon, size)["data"]["url"] for size in (SMALL, LARGE))
        base = f"http://127.0.0.1:{port}"
        wait_for(f"{base}/small.bin")
        for number in (bare, hashed):
            wait_for(f"http://127.0.0.1:{number}/")
        sides = {"ours": Side(daemon.pid, small, TOKEN), "nginx": Side(worker(nginx.pid), f"{base}/small.bin", TOKEN)}
        loads = {name: [] for name in sides}
        down: dict[str, list[Transfer]] = {"ours": [], "nginx": []}
        up: dict[str, list[Transfer]] = {"ours": [], "bare": [], "bare with hashes": []}
        sent = str(served / "large.bin")
        for _ in range(options.rounds):
            for name, side in sides.items():
                loads[name].append(wrk(side, 5, 16, None, directory))
            down["ours"].append(curl(daemon.pid, LARGE, large))
            down["nginx"].append(curl(sides["nginx"].pid, LARGE, f"{base}/large.bin"))
            up["ours"].append(curl(daemon.pid, LARGE, "-F", f"data=@{sent}", f"{daemon.base}/p/files"))
            up["bare"].append(curl(plain.pid, LARGE, "-T", sent, f"http://127.0.0.1:{bare}/"))
            up["bare with hashes"].append(curl(hashing.pid, LARGE, "-T", sent, f"http://127.0.0.1:{hashed}/"))
        for name, found in loads.items():
            rate, cost, slow = (statistics.median(getattr(each, part) for each in found) for part in ("rate", "cost", "slow"))
            print(
                f"download of 10 KB, {name:<6} {rate:8.0f} a second, processor time {cost:5.0f} us, 99 of 100 within {slow:.1f} ms"
            )
        ratio = statistics.median(a.rate / b.rate for a, b in zip(loads["ours"], loads["nginx"], strict=True))
        print(f"download of 10 KB, ours / nginx: {ratio:.2f}")
        compare("download of 256 MiB", down)
        compare("upload of 256 MiB", up)


def compare(what: str, sides: dict[str, list[Transfer]]) -> None:
    for name, found in sides.items():
        rate, cost = (statistics.median(getattr(each, part) for each in found) for part in ("rate", "cost"))
        print(f"{what}, {name:<16} {rate:6.0f} MB/s, processor time {cost:.2f} s for 1000 MB")
    ours = sides["ours"]
    for name, found in sides.items():
        if name != "ours":
            print(f"{what}, ours / {name}: {statistics.median(a.rate / b.rate for a, b in zip(ours, found, strict=True)):.2f}")


# --- memory


def used(daemon: Daemon, part: str) -> int:
    """The memory of the process in bytes: VmRSS is what it has, VmHWM the most that it has had."""
    status = pathlib.Path(f"/proc/{daemon.pid}/status").read_text()
    return int(re.search(rf"{part}:\s+(\d+) kB", status)[1]) * 1024


def print_growth(daemon: Daemon, what: str, work: Callable[[], object]) -> None:
    """Does some work, and prints how much more memory the server needed meanwhile than it had before."""
    # Linux forgets the most that the process has had.
    pathlib.Path(f"/proc/{daemon.pid}/clear_refs").write_text("5")
    before, started = used(daemon, "VmRSS"), time.monotonic()
    work()
    seconds = time.monotonic() - started
    print(f"{what:<52} +{(used(daemon, 'VmHWM') - before) / MIB:5.1f} MiB, {seconds:5.1f} s", flush=True)


def download(daemon: Daemon, file: dict, size: int) -> None:
    """Reads a content and checks it."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=600)
    connection.request("GET", file["data"]["url"])
    answer = connection.getresponse()
    digest, read = hashlib.md5(usedforsecurity=False), 0
    while piece := answer.read(MIB):
        digest.update(piece)
        read += len(piece)
    if (read, digest.hexdigest()) != (size, file["checksum"]):
        raise SystemExit(f"{read} bytes of another content have arrived")


def post_tus(daemon: Daemon, size: int) -> dict:
    """Uploads a file by tus, in one request, and returns it."""
    headers = {**AUTHORIZATION, "Tus-Resumable": "1.0.0"}
    metadata = "filename " + base64.b64encode(b"large.bin").decode()
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=600)
    connection.request("POST", "/p/files/tus", headers={**headers, "Upload-Length": str(size), "Upload-Metadata": metadata})
    answer = connection.getresponse()
    answer.read()
    # Location is relative.
    connection.putrequest("PATCH", f"/p/files/{answer.headers['Location']}")
    more = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream", "Content-Length": str(size)}
    for name, text in {**headers, **more}.items():
        connection.putheader(name, text)
    connection.endheaders()
    for start in range(0, size, MIB):
        connection.send(PIECE[: size - start])
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 204:
        raise SystemExit(f"{answer.status} {text!r}")
    return daemon.call("GET", f"/p/files/{answer.headers['X-Directus-File']}")["data"]


def refused_base64(daemon: Daemon, size: int) -> None:
    """Sends a JSON body of this size as long as the server takes it."""
    connection = socket.create_connection(("127.0.0.1", daemon.port), timeout=60)
    head = (
        f"POST /p/files HTTP/1.1\r\nHost: a\r\nAuthorization: bearer {TOKEN}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {size}\r\n\r\n"
    )
    sent, answer = 0, b""
    with connection, contextlib.suppress(OSError):
        connection.sendall(head.encode() + b'{"data": "')
        connection.setblocking(False)
        until = time.monotonic() + 60
        while not answer and sent < size and time.monotonic() < until:
            with contextlib.suppress(BlockingIOError):
                sent += connection.send(b"A" * MIB)
            with contextlib.suppress(BlockingIOError):
                answer = connection.recv(4096)
    print(f"    after {sent / MIB:.1f} MiB the answer is", answer.split(b"\r")[0].decode() or "none")


def memory(directory: pathlib.Path, options: argparse.Namespace) -> None:
    size = options.size * MIB
    name = f"{options.size} MiB"
    made: dict[str, dict] = {}

    def keep(key: str, file: dict) -> None:
        made[key] = file

    with daemon_of(directory / "memory") as daemon:
        post_form(daemon, 1000)
        print_growth(daemon, f"upload of {name} by a multipart form", lambda: keep("form", post_form(daemon, size)))
        print_growth(daemon, f"download of {name}", lambda: download(daemon, made["form"], size))
        print_growth(daemon, f"upload of {name} by tus", lambda: keep("tus", post_tus(daemon, size)))
        print_growth(daemon, f"download of {name}", lambda: download(daemon, made["tus"], size))
        # limits.max_payload_size, without the rest of the body.
        content = PIECE * 12
        text = base64.b64encode(content[: (16 * MIB - 200) // 4 * 3]).decode()
        payload = {"filename_disk": "a.bin", "filename_download": "a.bin", "data": f"data:application/octet-stream;base64,{text}"}
        print_growth(daemon, "upload of 12 MiB in base64, the limit", lambda: daemon.call("POST", "/p/files", payload))
        print_growth(daemon, f"upload of {name} in base64, refused", lambda: refused_base64(daemon, size))
    with bucket() as files:
        settings = {"ADAPTER": "s3", "BUCKET": BUCKET, "ENDPOINT": files.endpoint, "REGION": REGION, "KEY": KEY, "SECRET": SECRET}
        environment = {f"DIRECTUS_STORAGE_{key}": value for key, value in settings.items()}
        with daemon_of(directory / "bucket", **environment) as daemon:
            post_form(daemon, 1000)
            print_growth(daemon, f"upload of {name} by a form to a bucket", lambda: keep("s3", post_form(daemon, size)))
            # moto reads the whole object for each part that it sends, so a small one is downloaded.
            less = min(size, 128 * MIB)
            small = made["s3"] if less == size else post_form(daemon, less)
            print_growth(daemon, f"download of {less // MIB} MiB from a bucket", lambda: download(daemon, small, less))


# --- slow uploads


class SlowUploads:
    """Clients that upload a few bytes a second each."""

    def __init__(self, daemon: Daemon, number: int) -> None:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="data"; filename="slow.bin"\r\n\r\n'.encode()
        request = (
            f"POST /p/files HTTP/1.1\r\nHost: a\r\nAuthorization: bearer {TOKEN}\r\nContent-Type: multipart/form-data;"
            f" boundary={BOUNDARY}\r\nContent-Length: 1000000\r\n\r\n"
        ).encode()
        self.sockets = [socket.create_connection(("127.0.0.1", daemon.port), timeout=30) for _ in range(number)]
        for each in self.sockets:
            each.sendall(request + head + PIECE[:1000])
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        while not self._ended.wait(0.25):
            for each in self.sockets:
                each.sendall(b"ab")

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
        for each in self.sockets:
            each.close()


def slow(directory: pathlib.Path, options: argparse.Namespace) -> None:
    # Without a minimum rate, so that they are not dropped meanwhile.
    with daemon_of(directory / "slow", DIRECTUS_SERVER_MIN_BODY_RATE="0") as daemon:
        daemon.call("POST", "/p/collections", {"collection": "notes", "fields": [COUNTING_KEY, field("title")]})
        daemon.call("POST", "/p/items/notes", [{"title": f"note {number}"} for number in range(100)])
        side = Side(daemon.pid, f"{daemon.base}/p/items/notes?limit=20", TOKEN)
        wrk(side, 2, 8, None, directory)
        found = {0: [], options.uploads: []}
        for _ in range(options.rounds):
            for number in found:
                uploads = SlowUploads(daemon, number)
                time.sleep(1)
                found[number].append(wrk(side, 5, 8, None, directory))
                uploads.stop()
        for number, loads in found.items():
            parts = ("rate", "cost", "median", "slow")
            rate, cost, median, slowest = (statistics.median(getattr(each, part) for each in loads) for part in parts)
            print(
                f"reads of items beside {number:3} slow uploads: {rate:.0f} a second, processor time {cost:.0f} us,"
                f" half within {median:.1f} ms, 99 of 100 {slowest:.1f} ms"
            )


def main() -> None:
    parts = {"speed": speed, "memory": memory, "slow": slow}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*parts, "thumbnails"], metavar="PART", default=[*parts, "thumbnails"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024, help="of the file of `memory`, in MiB")
    parser.add_argument("--uploads", type=int, default=100, help="how many are slow at once")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for part in options.parts:
            if part in parts:
                parts[part](pathlib.Path(name), options)
            else:
                subprocess.run([str(BIN / "python"), "-m", "tests.bench.thumbnails"], check=True)


if __name__ == "__main__":
    main()
