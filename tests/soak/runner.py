"""Runs a soak: a mixed load, a fault at intervals, and what is measured and compared."""

import http.client
import json
import pathlib
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Sequence

from attrs import field, mutable

from tests.daemon import TOKEN
from tests.soak.faults import FAULTS, Fault, Scene, clock_file, set_offset
from tests.soak.load import Load, Tally
from tests.soak.oracle import Verdict, judge
from tests.soak.servers import IDLE_TIMEOUT, PROJECTS, Levels, Servers, Window

RECOVERY = 30.0
"""Seconds after a fault for which a recovery is waited for."""

LIBFAKETIME = sorted(pathlib.Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


@mutable
class Happened:
    """A fault that has happened: for how many seconds it lasted, and how many after its end some project was not served."""

    name: str
    at: float
    lasted: float = 0.0
    recovery: float = 0.0
    memory: tuple[int, ...] = ()


@mutable
class Report:
    """What came of it. `errors` is empty where all is well."""

    happened: list[Happened] = field(factory=list)
    tally: Tally = field(factory=Tally)
    verdict: Verdict | None = None
    before: list[Levels] = field(factory=list)
    after: list[Levels] = field(factory=list)
    pool: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    errors: list[str] = field(factory=list)
    log: list[str] = field(factory=list)
    """Lines of the servers' logs that must not be there."""
    seconds: float = 0.0

    @property
    def statuses(self) -> Counter[str]:
        """The answers by status."""
        found: Counter[str] = Counter()
        for (_, _, status), number in self.tally.statuses.items():
            found[status] += number
        return found

    def problems(self, *, recovery: float = 10.0, growth: int = 150 * 2**20) -> list[str]:
        """All that is not well. *recovery*: the seconds that a recovery may take; *growth*: the bytes that a process may grow by."""
        found = list(self.errors)
        found += [f"{w.what} during “{w.during}”: {w.request}: {w.detail}" for w in self.tally.wrong]
        found += self.verdict.errors if self.verdict is not None else ["there is no verdict"]
        found += self.log
        found += [f"not served for {h.recovery:.1f} s after “{h.name}”" for h in self.happened if h.recovery > recovery]
        for number, (before, after) in enumerate(zip(self.before, self.after, strict=True)):
            if after.memory > before.memory + growth:
                found.append(f"process {number}: memory went from {before.memory >> 20} to {after.memory >> 20} MB")
            more = after.descriptors - before.descriptors
            if more:
                found.append(f"process {number}: descriptors were opened and not closed: {dict(more)}")
            if after.threads > before.threads + 20:
                found.append(f"process {number}: threads went from {before.threads} to {after.threads}")
            if after.files:
                found.append(f"temporary files are left: {after.files}")
        if set(self.pool[1]) - {"idle"} or self.pool[1].total() > self.pool[0].total():
            found.append(f"connections to the database went from {dict(self.pool[0])} to {dict(self.pool[1])}")
        return found


def probe(servers: Servers, number: int, project: str) -> bool:
    """Whether a process serves a project: reading and writing."""
    for method, path, body in (("GET", "items/tags/1", None), ("PATCH", "items/tags/1", {"name": f"probe {number}"})):
        connection = http.client.HTTPConnection("127.0.0.1", servers.daemons[number].port, timeout=20)
        try:
            headers = {"Authorization": f"bearer {TOKEN}", "Content-Type": "application/json"}
            connection.request(method, f"/{project}/{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                return False
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
    return True


def recovery(servers: Servers) -> float:
    """The seconds until each process serves each project."""
    started = time.monotonic()
    taken: list[float] = []

    def wait(number: int, project: str) -> None:
        while not probe(servers, number, project) and time.monotonic() < started + RECOVERY:
            time.sleep(0.02)
        taken.append(time.monotonic() - started)

    threads = [
        threading.Thread(target=wait, args=(number, project), daemon=True)
        for number in range(len(servers.daemons))
        for project in PROJECTS
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join(RECOVERY + 60)
    return max(taken) if len(taken) == len(threads) else float("inf")


class Soak:
    """A soak of *seconds* with a fault every *interval* seconds; or, if *once* is true, each fault once with that much between them."""

    def __init__(
        self,
        servers: Servers,
        seed: int,
        *,
        seconds: float = 600,
        interval: float = 10,
        once: bool = False,
        clients: int = 16,
        only: Sequence[str] = (),
        said: bool = False,
    ) -> None:
        self.servers = servers
        self.seconds = seconds
        self.interval = interval
        self.once = once
        self.said = said
        self.random = random.Random(seed)
        self.load = Load(servers, seed, clients)
        self.report = Report(tally=self.load.tally)
        self.faults = [f for f in FAULTS.values() if f.possible(servers) and (not only or f.name in only)]
        self.scene = Scene(servers, self.load, self.random, once)

    def run(self, warm_up: float = 10.0) -> Report:
        """Runs it."""
        began = time.monotonic()
        self.load.go()
        time.sleep(warm_up)
        self.report.before, before = self._at_rest()
        self.load.go()
        started = time.monotonic()
        for turn, fault in enumerate(self._faults(), 1):
            self._happen(fault)
            gone = [number for number, daemon in enumerate(self.servers.daemons) if not daemon.runs()]
            if gone:
                self.report.errors.append(f"processes {gone} have ended by themselves")
                return self.report
            if not self.load.alive or (not self.once and time.monotonic() > started + self.seconds):
                break
            next_one = started + turn * self.interval if not self.once else time.monotonic() + self.interval
            while next_one < time.monotonic():
                next_one += self.interval
            time.sleep(next_one - time.monotonic())
        self.load.pause()
        self.report.after, after = self._at_rest(self.report.before, before)
        self.report.pool = (before, after)
        self.load.stop()
        self.report.verdict = judge(self.servers, self.load.tally.writes)
        self.report.log = [line for daemon in self.servers.daemons for line in complaints(daemon.output)]
        self.report.seconds = time.monotonic() - began
        return self.report

    def _faults(self):  # type: ignore[no-untyped-def]
        if self.once:
            yield from self.random.sample(self.faults, len(self.faults))
            return
        while True:
            # Each kind once before any comes again.
            yield from self.random.sample(self.faults, len(self.faults))

    def _happen(self, fault: Fault) -> None:
        started = time.monotonic()
        happened = Happened(fault.name, started)
        self.report.happened.append(happened)
        window = Window(fault.name, started)
        self.servers.windows.append(window)
        self.load.during = fault.name
        try:
            fault.happen(self.scene)
        except Exception as error:
            self.report.errors.append(f"“{fault.name}” failed: {error!r}")
        window.ended = time.monotonic()
        happened.lasted = window.ended - started
        happened.recovery = recovery(self.servers)
        self.load.during = ""
        if not all(daemon.runs() for daemon in self.servers.daemons):
            return
        happened.memory = tuple(self.servers.levels(number).memory for number in range(len(self.servers.daemons)))
        if self.said:
            memory = "/".join(str(each >> 20) for each in happened.memory)
            print(f"{fault.name}: {happened.lasted:.1f} s, served after {happened.recovery:.2f} s, {memory} MB", flush=True)

    def _at_rest(self, wanted: Sequence[Levels] = (), pool: Counter[str] | None = None) -> tuple[list[Levels], Counter[str]]:
        """What the processes hold when nobody asks them anything: at last what is *wanted*, where something is."""
        self.load.pause()
        until = time.monotonic() + 30
        while True:
            time.sleep(IDLE_TIMEOUT + 1)
            levels = [self.servers.levels(number) for number in range(len(self.servers.daemons))]
            found = self.servers.pool()
            settled = all(not now.descriptors - before.descriptors for now, before in zip(levels, wanted, strict=False))
            if (settled and (pool is None or found.total() <= pool.total())) or time.monotonic() > until:
                return levels, found


def complaints(log: str) -> list[str]:
    """What a server's log tells of errors of its own, with tracebacks, each once, and how often it does."""
    found: Counter[str] = Counter()
    for record in RECORD.split(log):
        if re.search(r" (error|critical) |Traceback|Unhandled", record) and not any(each.search(record) for each in EXPECTED):
            found[record[21:].strip()[:2000]] += 1
    return [f"{number} times in the log: {record}" for record, number in found.items()]


RECORD = re.compile(r"^(?=\d{4}-\d\d-\d\dT)", re.MULTILINE)
"""Where a record of the log begins."""


EXPECTED: tuple[re.Pattern[str], ...] = (
    # What operators must know of the database: it has ended, its disk is full, it is not there when a process starts.
    re.compile(r"the embedded PostgreSQL is not running any more and is started again"),
    re.compile(r"the database failed: SQLSTATE (53|57)"),
    re.compile(r"project \w+ cannot be opened: The database cannot be reached"),
)
"""What a log may tell of, with a traceback or not."""


def prepare(directory: pathlib.Path, *, processes: int, embedded: bool, clock: bool = False) -> Servers:
    """Started servers with their projects."""
    servers = Servers(directory, processes, embedded)
    if clock and LIBFAKETIME:
        set_offset(servers, 0)
        servers.environment |= {
            "LD_PRELOAD": str(LIBFAKETIME[-1]),
            "FAKETIME_TIMESTAMP_FILE": str(clock_file(servers)),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
    try:
        servers.start()
    except BaseException:
        servers.stop()
        raise
    return servers
