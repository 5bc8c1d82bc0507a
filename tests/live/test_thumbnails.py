"""Thumbnails of real servers: each is made once, also by several processes, and the processes that decode pictures end with the server."""

import concurrent.futures
import io
import json
import os
import pathlib
import signal
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
from PIL import Image

from tests.daemon import TOKEN, Daemon, wait_for
from tests.live.test_processes import alive, children


def picture(side: int) -> bytes:
    held = io.BytesIO()
    Image.effect_noise((side, side), 60).save(held, "PNG", compress_level=1)
    return held.getvalue()


def upload(base: str, content: bytes, name: str = "picture.png") -> str:
    """Uploads a file. Returns the URL of the asset."""
    form = b'--x\r\nContent-Disposition: form-data; name="data"; filename="' + name.encode() + b'"\r\n\r\n' + content
    headers = {"Authorization": f"bearer {TOKEN}", "Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(f"{base}/p/files", form + b"\r\n--x--\r\n", headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return f"{base}/p/assets/{json.load(answer)['data']['private_hash']}"


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=120) as answer:
        found: bytes = answer.read()
        return found


def allow_any_size(daemon: Daemon) -> None:
    (setting,) = daemon.call("GET", "/p/settings?filter[key]=asset_whitelist")["data"]
    daemon.call("PATCH", f"/p/settings/{setting['id']}", {"value": []})


def decoders(pid: int) -> list[int]:
    """The processes that decode pictures for a server's process."""
    found = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in found if b"decoder" in pathlib.Path(f"/proc/{each}/cmdline").read_bytes()]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A server with two processes."""
    found = Daemon(tmp_path_factory.mktemp("thumbnails"), "--processes=2")
    found.environment |= {"DIRECTUS_SERVER_LOG_FORMAT": "json", "DIRECTUS_FILES_THUMBNAIL_PROCESSES": "4"}
    found.start()
    try:
        # Not only the one that has answered.
        wait_for(lambda: found.output.count("the server is ready") == 2)
        found.create_project("p")
        allow_any_size(found)
        yield found
    finally:
        found.stop()


def made(daemon: Daemon) -> Counter[str]:
    """How often each thumbnail has been made, as the processes have logged."""
    lines = [json.loads(line) for line in daemon.output.splitlines() if line.startswith("{")]
    return Counter(
        line["message"].split()[2]
        for line in lines
        if line.get("message", "").endswith("has been made") and "thumbnail" in line["message"]
    )


def test_a_thumbnail_is_made_once_by_all_processes(daemon: Daemon) -> None:
    url = upload(daemon.base, picture(1200))
    before = made(daemon)
    urls = [f"{url}?w={side}&h={side}&f=crop&q=50" for side in (201, 202, 203, 204)]
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(read, urls * 6))
    for number in range(4):
        assert len({answers[index] for index in range(number, 24, 4)}) == 1
        assert Image.open(io.BytesIO(answers[number])).size == (201 + number, 201 + number)
    wait_for(lambda: (made(daemon) - before).total() == 4)
    assert set((made(daemon) - before).values()) == {1}


def test_each_process_of_the_server_has_its_share_of_decoders(daemon: Daemon) -> None:
    url = upload(daemon.base, picture(300))
    # Fewer than the thumbnails that one process may make at a time: it may get all of these requests.
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(read, [f"{url}?w={side}&h=9&f=crop&q=50" for side in range(1, 41)]))
    found = {each: decoders(each) for each in children(daemon.pid)}
    assert len(found) == 2
    assert max(len(each) for each in found.values()) in (1, 2)
    # One that is killed is replaced when it is needed.
    killed = list(chain.from_iterable(found.values()))
    for each in killed:
        os.kill(each, signal.SIGKILL)
    # Until the server has noticed their end, a request may get one of them and is refused with 503.
    wait_for(lambda: not any(pathlib.Path(f"/proc/{each}").exists() for each in killed))
    for side in range(50, 60):
        assert read(f"{url}?w={side}&h=9&f=crop&q=50")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_decoders_end_with_the_server(tmp_path: pathlib.Path, number: int) -> None:
    """Also with a server in the background, whose descriptors and working directory are others."""
    found = Daemon(tmp_path)
    pidfile = tmp_path / "pid"
    listen = f"tcp:{found.port}:interface=127.0.0.1"
    options = ["--data-dir", str(tmp_path / "var"), "--listen", listen]
    subprocess.run(
        [found.command, f"--pidfile={pidfile}", f"--logfile={tmp_path}/log", "directus", *options],
        env=found.environment,
        cwd=tmp_path,
        check=True,
    )
    wait_for(pidfile.exists)
    pid = int(pidfile.read_text())
    running: list[int] = []
    try:
        wait_for(lambda: answers(f"{found.base}/server/ping"))
        wait_for(lambda: answers(f"{found.base}/health"))
        found.create_project("p")
        assert decoders(pid) == []
        url = upload(found.base, picture(300))
        assert Image.open(io.BytesIO(read(f"{url}?key=directus-small-crop"))).size == (64, 64)
        running = decoders(pid)
        assert len(running) == 1
    finally:
        os.kill(pid, number)
        wait_for(lambda: not alive(pid))
    wait_for(lambda: not any(map(alive, running)))


def answers(url: str) -> Any:
    try:
        return read(url)
    except OSError:
        return None
