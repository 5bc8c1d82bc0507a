"""Measures thumbnails: how many are made and served in a second, and what they cost.

    python -m tests.bench.thumbnails [--number N] [--seconds N] [--against CHECKOUT]

Makes thumbnails of a photo of 3000 x 2000 pixels, each in a size of its own, by requests that overlap, and then by a plain loop with Pillow
in one process, in turns. Prints how many were made in a second and the milliseconds of processor time for one: of the server's process,
and of the processes that decode. Then loads the server with requests for one that has been made. With --against it does the same with the
server of another checkout, such as a git worktree of an older commit, in turns. Needs wrk.
"""

import argparse
import concurrent.futures
import io
import itertools
import json
import pathlib
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable
from functools import partial

from attrs import field, frozen
from PIL import Image

from tests.bench.__main__ import Load, Side, processor_time, wrk
from tests.daemon import TOKEN, Daemon

ROUNDS = 3
AT_ONCE = 8
WIDTHS = itertools.count(301)
"""The width of each thumbnail, which no other one has."""


@frozen
class Made:
    """What making thumbnails took: how many a second, and the milliseconds of processor time for one, of the process that was asked and of
    those that decode."""

    rate: float
    own: float
    decoding: float = 0.0


@frozen
class Server:
    """A server with a photo, and the URL of its asset."""

    daemon: Daemon
    url: str
    made: list[Made] = field(factory=list)
    served: list[Load] = field(factory=list)


def photo() -> bytes:
    """A JPEG with the details of a photo."""
    coarse = [Image.effect_noise((300, 200), 120).resize((3000, 2000)) for _ in range(3)]
    held = io.BytesIO()
    picture = Image.merge("RGB", coarse)
    Image.blend(picture, Image.merge("RGB", [Image.effect_noise((3000, 2000), 40)] * 3), 0.2).save(held, "JPEG", quality=88)
    return held.getvalue()


def start(directory: pathlib.Path, content: bytes, checkout: pathlib.Path | None = None) -> Server:
    directory.mkdir()
    daemon = Daemon(directory, checkout=checkout).start()
    daemon.create_project("p")
    (setting,) = daemon.call("GET", "/p/settings?filter[key]=asset_whitelist")["data"]
    daemon.call("PATCH", f"/p/settings/{setting['id']}", {"value": []})
    form = b'--x\r\nContent-Disposition: form-data; name="data"; filename="a.jpg"\r\n\r\n' + content + b"\r\n--x--\r\n"
    headers = {"Authorization": f"bearer {TOKEN}", "Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(f"{daemon.base}/p/files", form, headers)
    with urllib.request.urlopen(request) as answer:
        found = Server(daemon, f"{daemon.base}/p/assets/{json.load(answer)['data']['private_hash']}")
    # The processes that decode are started by the first thumbnails.
    make_all(found, 4)
    return found


def decoding_time(pid: int) -> float:
    """The seconds of processor time of the processes that decode for a server."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = [int(each) for each in children if b"decoder" in pathlib.Path(f"/proc/{each}/cmdline").read_bytes()]
    return sum(processor_time(each) for each in found)


def timed(number: int, work: Callable[[], object], own: Callable[[], float], decoding: Callable[[], float]) -> Made:
    started, before, decoded = time.monotonic(), own(), decoding()
    work()
    seconds = time.monotonic() - started
    return Made(number / seconds, 1000 * (own() - before) / number, 1000 * (decoding() - decoded) / number)


def make_all(server: Server, number: int) -> None:
    """Asks for so many thumbnails, some at once."""

    def ask(width: int) -> None:
        with urllib.request.urlopen(f"{server.url}?w={width}&h=200&f=crop&q=80", timeout=120) as answer:
            answer.read()

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(ask, itertools.islice(WIDTHS, number)))


def loop(content: bytes, number: int) -> None:
    """Makes such thumbnails as a script would."""
    for width in itertools.islice(WIDTHS, number):
        picture = Image.open(io.BytesIO(content))
        scale = max(width / 3000, 200 / 2000)
        picture.draft("RGB", (int(3000 * scale * 2), int(2000 * scale * 2)))
        shown = width / scale * picture.width / 3000, 200 / scale * picture.height / 2000
        left, top = max(picture.width - shown[0], 0) / 2, max(picture.height - shown[1], 0) / 2
        box = (left, top, min(left + shown[0], picture.width), min(top + shown[1], picture.height))
        small = picture.resize((width, 200), Image.Resampling.LANCZOS, box, reducing_gap=2)
        small.save(io.BytesIO(), "JPEG", quality=80, progressive=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=100, help="of thumbnails in a round")
    parser.add_argument("--seconds", type=int, default=5, help="of load for those that have been made")
    parser.add_argument("--against", type=pathlib.Path, help="another checkout")
    options = parser.parse_args()
    content = photo()
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        servers = {"ours": start(directory / "ours", content)}
        if options.against is not None:
            servers["other"] = start(directory / "other", content, options.against)
        try:
            measure(servers, content, options)
        finally:
            for each in servers.values():
                each.daemon.stop()


def measure(servers: dict[str, Server], content: bytes, options: argparse.Namespace) -> None:
    plain: list[Made] = []
    number = options.number
    for _ in range(ROUNDS):
        for each in servers.values():
            pid = each.daemon.pid

            each.made.append(
                timed(number, partial(make_all, each, number), partial(processor_time, pid), partial(decoding_time, pid))
            )
            side = Side(pid, f"{each.url}?w=301&h=200&f=crop&q=80", TOKEN)
            each.served.append(wrk(side, options.seconds, 16, None, each.daemon.directory))
        plain.append(timed(number, partial(loop, content, number), time.process_time, lambda: 0.0))
    print(f"a photo of 3000 x 2000 pixels, {len(content) / 2**20:.1f} MiB")
    rows = {**{f"made, {name}": each.made for name, each in servers.items()}, "made, plain loop with Pillow": plain}
    for name, found in rows.items():
        rate, own, decoding = (statistics.median(getattr(each, part) for each in found) for part in ("rate", "own", "decoding"))
        print(f"{name:<30} {rate:7.1f} a second   processor time {own:6.2f} ms, of processes that decode {decoding:6.2f} ms")
    for name, each in servers.items():
        ratio = statistics.median(a.rate / b.rate for a, b in zip(each.made, plain, strict=True))
        cost = statistics.median((a.own + a.decoding) / b.own for a, b in zip(each.made, plain, strict=True))
        print(f"{name} / plain loop: rate {ratio:.2f}, processor time {cost:.2f}")
    for name, each in servers.items():
        parts = ("rate", "cost", "median", "slow")
        rate, cost, median, slow = (statistics.median(getattr(load, part) for load in each.served) for part in parts)
        print(
            f"served, {name}: {rate:.0f} a second, processor time {cost:.0f} us, half within {median:.1f} ms, 99 of 100 {slow:.1f} ms"
        )


if __name__ == "__main__":
    main()
