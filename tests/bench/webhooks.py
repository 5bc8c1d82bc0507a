"""Measures what webhooks cost: the time of writes while receivers hang, and the number of deliveries a second.

    python -m tests.bench.webhooks [--seconds N] [--connections N] [--hanging N] [--messages N]

Starts a private server with two collections. The writes of one have no webhooks; those of the other have one for each of several receivers
that take requests and never answer. Loads both with wrk, and prints the requests a second, the microseconds of processor time of the server
process for a request, and the milliseconds within which half and 99 of 100 requests were answered. Then it writes many items with a webhook
to a receiver that answers at once, and prints how many messages were delivered a second. The receivers run in this process, so they share
its machine. Needs wrk (Debian: apt-get install wrk).
"""

import argparse
import contextlib
import pathlib
import shutil
import tempfile
import time

from tests.bench.__main__ import Load, Side, dsn, processor_time, wrk
from tests.conftest import KEY, field
from tests.daemon import TOKEN, Daemon, wait_for
from tests.live.receiver import receiving

ROW = {"name": "a name of a usual length"}
LIST = 1000
"""The number of items that one request writes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--hanging", type=int, default=10, help="the number of receivers that do not answer")
    parser.add_argument("--messages", type=int, default=5000, help="the number of messages to be delivered")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory(prefix="directus-bench-") as directory:
        server = Daemon(pathlib.Path(directory))
        server.environment["DIRECTUS_OUTGOING_ALLOWED_NETWORKS"] = "127.0.0.0/8"
        server.start()
        try:
            server.create_project("bench")
            for collection in ("plain", "hung", "heard"):
                server.call("POST", "/bench/collections", {"collection": collection, "fields": [KEY, field("name")]})
            measure_deliveries(server, options)
            measure_writes(server, options, pathlib.Path(directory))
        finally:
            server.stop()


def hook(server: Daemon, url: str, collection: str) -> None:
    webhook = {"collection": collection, "directus_action": "item.create:after", "url": url, "status": "active"}
    server.call("POST", "/bench/webhooks", webhook)


def measure_deliveries(server: Daemon, options: argparse.Namespace) -> None:
    """Prints the number of messages that are delivered a second, while nothing else is done."""
    with receiving() as receiver:
        hook(server, receiver.url, "heard")
        started, before = time.monotonic(), processor_time(server.pid)
        for _ in range(0, options.messages, LIST):
            server.call("POST", "/bench/items/heard?fields=id", [ROW] * LIST)
        written = time.monotonic() - started
        wanted = -(-options.messages // LIST) * LIST
        wait_for(lambda: len(receiver.requests) >= wanted, 600)
        took, taken = time.monotonic() - started, processor_time(server.pid) - before
        print(f"deliveries: {wanted / took:.0f} a second, {taken / wanted * 1e6:.0f} us each; all written after {written:.1f} s")


def measure_writes(server: Daemon, options: argparse.Namespace, directory: pathlib.Path) -> None:
    """Prints what a write costs without webhooks, and with webhooks whose receivers hang."""
    print("writes                rate  us each     p50     p99")
    with contextlib.ExitStack() as stack:
        tell("no webhooks", load(server, "plain", options, directory))
        for _ in range(options.hanging):
            receiver = stack.enter_context(receiving())
            receiver.hold("/")
            hook(server, f"{receiver.url}/", "hung")
        tell(f"{options.hanging} hanging", load(server, "hung", options, directory))
        tell("beside them", load(server, "plain", options, directory))


def load(server: Daemon, collection: str, options: argparse.Namespace, directory: pathlib.Path) -> Load:
    side = Side(server.pid, f"{server.base}/bench/items/{collection}", TOKEN, dsn(server))
    return wrk(side, options.seconds, options.connections, ROW, directory)


def tell(name: str, found: Load) -> None:
    print(f"{name:<16} {found.rate:>9.0f} {found.cost:>8.0f} {found.median:>7.1f} {found.slow:>7.1f}", flush=True)


if __name__ == "__main__":
    main()
