"""`python -m tests.soak [--minutes N] [--seed N]`: a mixed load, and a fault every ten seconds.

Starts two processes of the server on one database: a PostgreSQL of the machine's own behind a proxy (Debian: apt-get install
postgresql), or with --embedded the one that the servers start themselves. Sixteen clients read and write in three projects; meanwhile
backends, processes and networks fail. Prints for each kind of fault how long it took until everything was served again, the answers by
status, and what the processes hold before and after; exits 1 where an answer was wrong, a write was lost or half there, or something
was left behind.
"""

import argparse
import pathlib
import resource
import shutil
import sys
import tempfile
from collections import defaultdict

from tests.soak.faults import FAULTS
from tests.soak.runner import Happened, Report, Soak, prepare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2, choices=(1, 2))
    parser.add_argument("--embedded", action="store_true", help="the PostgreSQL that the server starts itself")
    parser.add_argument("--interval", type=float, default=10, help="seconds between the beginnings of two faults")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--once", action="store_true", help="each kind of fault once, and short")
    parser.add_argument("--fault", action="append", default=[], choices=sorted(FAULTS), help="only this kind; can be repeated")
    parser.add_argument(
        "--clock", action="store_true", help="set the clock of the processes, too (Debian: apt-get install faketime)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the logs")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    directory = pathlib.Path(tempfile.mkdtemp(prefix="directus-soak-"))
    servers = prepare(directory, processes=options.processes, embedded=options.embedded, clock=options.clock)
    try:
        soak = Soak(
            servers,
            options.seed,
            seconds=options.minutes * 60,
            interval=options.interval,
            once=options.once,
            clients=options.clients,
            only=options.fault,
            said=True,
        )
        report = soak.run()
    finally:
        servers.stop()
        if options.keep:
            print(f"the logs are in {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    show(report)
    sys.exit(bool(report.problems()))


def show(report: Report) -> None:
    """Prints a report."""
    by_name: dict[str, list[Happened]] = defaultdict(list)
    for each in report.happened:
        by_name[each.name].append(each)
    columns = ("200", "204", "403", "404", "503", "cut")
    print(f"\n{'fault':40}{'number':>7}{'served after, max':>19}  " + "".join(f"{name:>8}" for name in (*columns, "other")))
    for name in ("", *by_name):
        answers: dict[str, int] = defaultdict(int)
        for (during, _, status), number in report.tally.statuses.items():
            if during == name:
                answers[status if status in columns else "other"] += number
        found = by_name.get(name, [])
        worst = f"{max(each.recovery for each in found):.2f} s" if found else ""
        counts = "".join(f"{answers[status]:>8}" for status in (*columns, "other"))
        print(f"{name or '(none)':40}{len(found) or '':>7}{worst:>19}  {counts}")
    print(f"\nanswers by status: {dict(sorted(report.statuses.items()))} in {report.seconds:.0f} s")
    seconds, request = report.tally.slowest
    print(f"slowest answer: {seconds:.1f} s, {request}")
    if report.verdict is not None:
        v = report.verdict
        print(
            f"writes acknowledged: {v.acknowledged}, found {v.found}; not acknowledged: {v.unknown}, of them written {v.written}"
        )
    for number, (before, after) in enumerate(zip(report.before, report.after, strict=True)):
        memory = [each.memory[number] >> 20 for each in report.happened if len(each.memory) > number]
        print(
            f"process {number}: memory {before.memory >> 20} MB after warm-up, {after.memory >> 20} MB at the end,"
            f" at most {max(memory, default=0)} MB after a fault; descriptors {before.descriptors.total()} and"
            f" {after.descriptors.total()}; threads {before.threads} and {after.threads}"
        )
        print(f"  memory after each fault, in MB: {' '.join(map(str, memory))}")
    print(f"connections to the database at rest: {dict(report.pool[0])} and {dict(report.pool[1])}")
    problems = report.problems()
    print(f"\n{len(problems)} problems")
    for each in problems[:40]:
        print("-", each[:700], *(("...", each[-500:]) if len(each) > 1200 else ()))


if __name__ == "__main__":
    main()
