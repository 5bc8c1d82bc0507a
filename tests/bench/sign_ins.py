"""Measures what sign-ins cost others: how long reads of an item take while clients sign in without pause, and how much memory the server
uses after many failed sign-ins.

Run it with: python -m tests.bench.sign_ins. It needs wrk.
"""

import argparse
import http.client
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping

from tests.bench.__main__ import string
from tests.conftest import KEY
from tests.daemon import TOKEN, Daemon

CLIENTS = 50
"""The clients that sign in without pause."""

PAUSE = 0.02
"""Seconds between the reads that are measured, so that they do not load the server themselves."""

NO_LIMITS = {"DIRECTUS_RATE_LIMITS_FAILURES_PER_ADDRESS": "0", "DIRECTUS_RATE_LIMITS_FAILURES_PER_ACCOUNT": "0"}
LOADS: tuple[tuple[str, str | None, Mapping[str, str]], ...] = (
    # name, the password (None: nobody signs in), settings of the server
    ("nobody signs in", None, {}),
    ("50 clients sign in", "password", {}),
    ("50 clients with wrong passwords", "wrong", {}),
    ("50 clients with wrong passwords, no limits", "wrong", NO_LIMITS),
)


def script(directory: pathlib.Path, password: str) -> str:
    """Writes the Lua script with which wrk signs in, with another account each time if the password is wrong. Returns its name."""
    email = '"admin@example.com"' if password == "password" else '"user" .. n .. "@example.com"'
    path = directory / f"{password}.lua"
    path.write_text(f"""
local n = {time.monotonic_ns() % 10**9}
wrk.headers["Content-Type"] = "application/json"
request = function()
  n = n + 1
  return wrk.format("POST", nil, nil, '{{"email": "' .. {email} .. '", "password": "{password}"}}')
end
""")
    return str(path)


def load(server: Daemon, lua: str, seconds: int) -> "subprocess.Popen[str]":
    """Starts wrk, which signs in for some seconds."""
    arguments = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}s", "--timeout", "60s", "-s", lua]
    return subprocess.Popen([*arguments, f"{server.base}/bench/auth/authenticate"], stdout=subprocess.PIPE, text=True)


def answered(report: str) -> tuple[int, int]:
    """Returns how many requests wrk says it has made, and how many of them were answered with an error."""
    total = re.search(r"(\d+) requests in", report)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", report)
    return int(total[1]) if total else 0, int(refused[1]) if refused else 0


def read_times(server: Daemon, seconds: float) -> list[float]:
    """Reads an item again and again, and returns the durations in milliseconds."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    found = []
    until = time.monotonic() + seconds
    while (began := time.monotonic()) < until:
        connection.request("GET", "/bench/items/notes/1", headers={"Authorization": f"bearer {TOKEN}"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        found.append((time.monotonic() - began) * 1000)
        time.sleep(max(began + PAUSE - time.monotonic(), 0))
    return found


def memory(pid: int) -> float:
    """Returns the memory of a process in MiB."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) / 1024


def start(directory: pathlib.Path, settings: Mapping[str, str]) -> Daemon:
    """Starts a server with a project that has one item."""
    directory.mkdir()
    server = Daemon(directory)
    server.environment |= settings
    server.start()
    server.create_project("bench")
    server.call("POST", "/bench/collections", {"collection": "notes", "fields": [KEY, string("title")]})
    server.call("POST", "/bench/items/notes", {"title": "x"})
    return server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20, help="duration of each measurement")
    parser.add_argument("--failures", type=int, default=100_000, help="failed sign-ins before the memory is measured; 0: none")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed")
    with tempfile.TemporaryDirectory() as temporary:
        directory = pathlib.Path(temporary)
        print(f"{'an item is read while':<46}{'p50 ms':>8}{'p99 ms':>8}{'max ms':>8}{'sign-ins/s':>12}{'refused':>9}")
        for number, (name, password, settings) in enumerate(LOADS):
            server = start(directory / str(number), settings)
            try:
                read_times(server, 2)
                process = None if password is None else load(server, script(directory, password), options.seconds + 2)
                time.sleep(1)
                times = sorted(read_times(server, options.seconds))
                total, refused = (0, 0) if process is None else answered(process.communicate(timeout=120)[0])
                p99 = statistics.quantiles(times, n=100)[98]
                rate = total / (options.seconds + 2)
                print(f"{name:<46}{statistics.median(times):8.1f}{p99:8.1f}{times[-1]:8.1f}{rate:12.1f}{refused:9}", flush=True)
            finally:
                server.stop()
        if options.failures:
            server = start(directory / "memory", {})
            try:
                report, done = "", 0
                process = load(server, script(directory, "wrong"), 5)
                done += answered(process.communicate(timeout=120)[0])[1]
                before, first = memory(server.pid), done
                until = time.monotonic() + 600
                while done < options.failures and time.monotonic() < until:
                    report = load(server, script(directory, "wrong"), 10).communicate(timeout=120)[0]
                    done += answered(report)[1]
                print(f"memory after {first} failed sign-ins: {before:.1f} MiB; after {done}: {memory(server.pid):.1f} MiB")
            finally:
                server.stop()


if __name__ == "__main__":
    main()
