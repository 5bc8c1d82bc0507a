"""Measures what webhooks cost: writes with 10 webhooks whose receivers hang against writes without, and deliveries a second.

    python -m tests.bench.webhooks [--rounds N] [--seconds N] [--connections N]

Both projects are on one server and are loaded in turns. The receiver is a process of its own. Needs wrk.
"""

import argparse
import asyncio
import contextlib
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from tests.bench.__main__ import Load, Side, string, wrk
from tests.conftest import KEY
from tests.daemon import TOKEN, Daemon, free_port

WEBHOOKS = 10
MESSAGES = 5000
ROW = {"title": "A title", "body": "Some text that is about as long as a teaser would be. " * 4, "views": 7}
FIELDS = [KEY, string("title"), string("body", 1000), {"field": "views", "type": "integer", "datatype": "INT", "length": 11}]


async def receive(port: int, *, hangs: bool) -> None:
    """Serves as a receiver of webhooks that answers 200 at once, or never."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0))
                if hangs:
                    await asyncio.sleep(3600)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    await server.serve_forever()


@contextlib.contextmanager
def receiver(kind: str) -> Iterator[str]:
    """A receiver in a process of its own. Yields its URL."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.webhooks", kind, str(port)])
    time.sleep(1)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def make(server: Daemon, project: str, urls: list[str]) -> None:
    """Makes a project with a collection and webhooks."""
    server.create_project(project)
    server.call("POST", f"/{project}/collections", {"collection": "written", "fields": FIELDS})
    for url in urls:
        webhook = {"collection": "written", "directus_action": "item.create:after", "url": url, "status": "active"}
        server.call("POST", f"/{project}/webhooks", webhook)


def writes(server: Daemon, options: argparse.Namespace, directory: pathlib.Path) -> None:
    """Prints what writes cost with webhooks whose receivers hang."""
    with receiver("hangs") as url:
        make(server, "quiet", [])
        make(server, "loud", [f"{url}/{number}" for number in range(WEBHOOKS)])
        sides = {name: Side(server.process.pid, f"{server.base}/{name}/items/written", TOKEN) for name in ("quiet", "loud")}
        loads: dict[str, list[Load]] = {"quiet": [], "loud": []}
        for _ in range(options.rounds):
            for name, side in sides.items():
                loads[name].append(wrk(side, options.seconds, options.connections, ROW, directory))
        for name, found in loads.items():
            cells = [
                f"{part} {statistics.median(getattr(each, part) for each in found):.1f}"
                for part in ("rate", "cost", "median", "slow")
            ]
            print(f"{name:<6}", "  ".join(cells))
        pairs = list(zip(loads["loud"], loads["quiet"], strict=True))
        for part in ("rate", "cost", "median", "slow"):
            ratio = statistics.median(getattr(a, part) / getattr(b, part) for a, b in pairs)
            print(f"{WEBHOOKS} hanging webhooks / none, {part}: {ratio:.2f}")


def deliveries(server: Daemon) -> None:
    """Prints how many messages are delivered in a second to a receiver that answers at once."""
    with receiver("answers") as url:
        make(server, "busy", [url])
        started = time.monotonic()
        for _ in range(MESSAGES // 1000):
            server.call("POST", "/busy/items/written", [ROW] * 1000)
        written = time.monotonic()
        with contextlib.closing(server.connect("busy")) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            left = MESSAGES
            while left:
                time.sleep(0.1)
                cursor.execute("SELECT count(*) FROM directus_outbox WHERE state = 'pending'")
                ((left,),) = cursor.fetchall()
        ended = time.monotonic()
        print(f"{MESSAGES} messages: written in {written - started:.1f} s, delivered in {ended - started:.1f} s,", end=" ")
        print(f"{MESSAGES / (ended - started):.0f} a second")


def main() -> None:
    if len(sys.argv) == 3 and sys.argv[1] in ("hangs", "answers"):
        asyncio.run(receive(int(sys.argv[2]), hangs=sys.argv[1] == "hangs"))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        server = Daemon(directory)
        server.environment["DIRECTUS_OUTGOING_ALLOWED_NETWORKS"] = "127.0.0.0/8"
        server.start()
        try:
            writes(server, options, directory)
            deliveries(server)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
