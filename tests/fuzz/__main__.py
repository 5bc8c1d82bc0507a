"""`python -m tests.fuzz [--seed N] [--requests N]`: random requests over random permissions against a daemon of its own."""

import argparse
import pathlib
import sys
import tempfile

from tests.daemon import Daemon
from tests.fuzz.runner import run


def main() -> None:
    """Prints the failures, the slowest answer and the memory; exits 1 where an answer was a server error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--requests", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="directus-fuzz-") as directory:
        daemon = Daemon(pathlib.Path(directory)).start()
        try:
            report = run(daemon, options.seed, options.requests)
            for sent, status, body in report.failures[:20]:
                print(status, sent, body[:300])
            if report.failures:
                print("".join(line for line in daemon.output.splitlines(True) if "Error" in line or "File" in line)[-6000:])
        finally:
            daemon.stop()
    seconds, slowest = report.slowest
    print(
        f"{options.requests} requests: {len(report.failures)} server errors; answers by status {dict(sorted(report.statuses.items()))}"
    )
    print(f"slowest {seconds * 1000:.0f} ms: {slowest}")
    print(f"memory {report.memory[0] / 2**20:.0f} MB after a quarter, {report.memory[1] / 2**20:.0f} MB at the end")
    sys.exit(bool(report.failures))


if __name__ == "__main__":
    main()
