"""The faults of a soak. Each is a function that returns when the fault is over; what it needs is said where it is registered."""

import contextlib
import errno
import json
import os
import pathlib
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
from attrs import frozen

from tests.daemon import TOKEN
from tests.soak.load import NESTED, Load, Write, nested
from tests.soak.proxy import Behaviour, Proxy
from tests.soak.servers import OURS, PROJECTS, Servers

ELSEWHERE = "127.0.0.2"
"""The address that misbehaving clients come from: a limit for each address must not touch the others."""


@frozen
class Scene:
    """What a fault happens to. *short*: faults take a second or two, instead of up to forty."""

    servers: Servers
    load: Load
    random: random.Random
    short: bool

    def seconds(self, least: float, most: float) -> float:
        """How long something lasts."""
        return least if self.short else self.random.uniform(least, most)

    def wait(self, least: float, most: float) -> None:
        time.sleep(self.seconds(least, most))

    @property
    def proxy(self) -> Proxy:
        assert self.servers.proxy is not None
        return self.servers.proxy

    @contextlib.contextmanager
    def connection(self, project: str = PROJECTS[0]) -> Iterator[Any]:
        """A connection past the proxy. Where the database ends it, that is nobody's fault."""
        with contextlib.closing(self.servers.connect(project)) as connection:
            yield connection


@frozen
class Fault:
    """A fault by its name. `possible` says whether this machine and these servers allow it."""

    name: str
    happen: Callable[[Scene], None]
    possible: Callable[[Servers], bool]


FAULTS: dict[str, Fault] = {}


def fault(name: str, possible: Callable[[Servers], bool] = lambda servers: True) -> Callable[[Any], Any]:
    """Registers a function as a fault."""

    def register(happen: Callable[[Scene], None]) -> Callable[[Scene], None]:
        FAULTS[name] = Fault(name, happen, possible)
        return happen

    return register


def _behind_proxy(servers: Servers) -> bool:
    return servers.proxy is not None


def _mounted(servers: Servers) -> bool:
    return bool(getattr(servers.postgres, "mounted", False))


# --- the database


@fault("100 backends terminated")
def terminate_backends(scene: Scene) -> None:
    ended, until = 0, time.monotonic() + 10
    with contextlib.closing(scene.servers.postgres.connect("postgres")) as connection:
        cursor = connection.cursor()
        while ended < 100 and time.monotonic() < until:
            cursor.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}")
            ended += len(cursor.fetchall())
            time.sleep(0.05)


@fault("postmaster killed")
def kill_postmaster(scene: Scene) -> None:
    scene.servers.postgres.kill()
    if scene.servers.proxy is not None:
        scene.wait(0.5, 5)
        scene.servers.postgres.revive()
        return
    until = time.monotonic() + 30
    while not scene.servers.postgres.serves():
        assert time.monotonic() < until, "the server has not started its PostgreSQL again within 30 s"
        time.sleep(0.02)


@fault("PostgreSQL stopped for a while")
def pause_postgres(scene: Scene) -> None:
    scene.servers.postgres.signal(signal.SIGSTOP)
    try:
        scene.wait(1.5, 40)
    finally:
        scene.servers.postgres.signal(signal.SIGCONT)


@fault("connections taken by another program")
def take_connections(scene: Scene) -> None:
    """The program takes all that are left, and then those of the servers as they end."""
    begun, until = time.monotonic(), 0.0
    taken = [scene.servers.postgres.connect("postgres")]
    try:
        while time.monotonic() < (until or begun + 15):
            try:
                taken.append(scene.servers.postgres.connect("postgres"))
            except psycopg2.OperationalError:
                until = until or time.monotonic() + scene.seconds(1, 8)
                taken[0].cursor().execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}")
                time.sleep(0.01)
    finally:
        for each in taken:
            each.close()


@fault("a table locked")
def lock_table(scene: Scene) -> None:
    with scene.connection() as connection:
        cursor = connection.cursor()
        cursor.execute("SET lock_timeout = '5s'")
        try:
            cursor.execute("BEGIN; LOCK TABLE articles IN ACCESS EXCLUSIVE MODE")
            scene.wait(1, 12)
        except psycopg2.Error:
            pass
        cursor.execute("ROLLBACK")


@fault("a table being altered")
def hold_alteration(scene: Scene) -> None:
    with scene.connection() as connection:
        cursor = connection.cursor()
        cursor.execute("SET lock_timeout = '5s'")
        end = scene.random.choice(["COMMIT", "ROLLBACK"])
        with contextlib.suppress(psycopg2.Error):
            cursor.execute("BEGIN; ALTER TABLE articles ADD COLUMN held int")
            scene.wait(1, 8)
        cursor.execute(end)
        _alter(connection, "ALTER TABLE articles DROP COLUMN IF EXISTS held")


@fault("columns added and dropped by SQL")
def alter_by_sql(scene: Scene) -> None:
    until = time.monotonic() + scene.seconds(1, 8)
    with scene.connection() as connection:
        turn = 0
        while time.monotonic() < until:
            turn += 1
            for table in ("articles", "authors", "notes"):
                _alter(connection, f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS sql_{turn % 3} int")
            time.sleep(scene.random.random() * 0.2)
            for table in ("articles", "authors", "notes"):
                _alter(connection, f"ALTER TABLE {table} DROP COLUMN IF EXISTS sql_{turn % 3}")
            time.sleep(scene.random.random() * 0.2)
        for number in range(3):
            for table in ("articles", "authors", "notes"):
                _alter(connection, f"ALTER TABLE {table} DROP COLUMN IF EXISTS sql_{number}")


def _alter(connection: Any, statement: str) -> None:
    """Alters a table as careful people do: what others need is not waited for long."""
    cursor = connection.cursor()
    cursor.execute("SET lock_timeout = '300ms'")
    with contextlib.suppress(psycopg2.errors.LockNotAvailable, psycopg2.errors.DeadlockDetected):
        cursor.execute(statement)


@contextlib.contextmanager
def filled(directory: pathlib.Path) -> Iterator[None]:
    """A context in which a file system has no space left, and in which what becomes free is taken, too."""
    filler = directory / "filler"
    over = threading.Event()

    def fill() -> None:
        size = 0
        with filler.open("wb") as file:
            while True:
                state = os.statvfs(directory)
                free = state.f_bavail * state.f_frsize
                try:
                    if free:
                        os.posix_fallocate(file.fileno(), size, free)
                        size += free
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                if over.wait(0.02):
                    return

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10)
        filler.unlink(missing_ok=True)


@fault("the disk full", _mounted)
def fill_disk(scene: Scene) -> None:
    with filled(scene.servers.postgres.disk):  # type: ignore[attr-defined]
        scene.wait(1, 8)
    # Without space for its log PostgreSQL may have ended.
    scene.servers.postgres.revive()


@fault("no space for temporary files", lambda servers: servers.temporary_mounted)
def fill_temporary(scene: Scene) -> None:
    """Lists that nobody reads and bodies that are long have nowhere to go."""
    with filled(scene.servers.temporary):
        unread = _many(scene, 10, _head("GET", f"/{PROJECTS[0]}/items/notes?limit=-1&fields=*"), receive=4096)
        halves = _many(scene, 10, _head("POST", f"/{PROJECTS[0]}/items/authors", 1_000_000) + b'[{"name": "' + b"x" * 400_000)
        with unread, halves:
            scene.wait(1, 8)


# --- the network


def _behave(scene: Scene, behaviour: Behaviour, least: float, most: float) -> None:
    scene.proxy.behave(behaviour)
    try:
        scene.wait(least, most)
    finally:
        scene.proxy.behave(Behaviour())


@fault("a silent network", _behind_proxy)
def silence(scene: Scene) -> None:
    lost = scene.random.random() < 0.5
    scene.proxy.behave(Behaviour(silent=True))
    scene.wait(1.5, 25)
    if lost:
        scene.proxy.cut_all()
    scene.proxy.behave(Behaviour())


@fault("a slow network", _behind_proxy)
def delay(scene: Scene) -> None:
    _behave(scene, Behaviour(delay=scene.random.uniform(0.02, 0.3)), 1, 8)


@fault("connections cut within answers", _behind_proxy)
def cut_answers(scene: Scene) -> None:
    _behave(scene, Behaviour(cut="answer"), 1, 5)


@fault("connections cut before COMMIT", _behind_proxy)
def cut_commits(scene: Scene) -> None:
    _behave(scene, Behaviour(cut="commit"), 1, 5)


@fault("connections cut after COMMIT", _behind_proxy)
def cut_committed(scene: Scene) -> None:
    _behave(scene, Behaviour(cut="committed"), 1, 5)


# --- clients


def _connect(scene: Scene, receive: int | None = None) -> socket.socket:
    """A connection to one of the processes. *receive*: the size of the buffer for what it receives."""
    daemon = scene.random.choice(scene.servers.daemons)
    connection = socket.socket()
    if receive is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    connection.bind((ELSEWHERE, 0))
    connection.settimeout(10)
    connection.connect(("127.0.0.1", daemon.port))
    return connection


def _head(method: str, path: str, length: int = 0) -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: soak\r\nAuthorization: bearer {TOKEN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


@contextlib.contextmanager
def _many(scene: Scene, number: int, sent: bytes, receive: int | None = None) -> Iterator[None]:
    """Connections over which something has been sent."""
    open_ones: list[socket.socket] = []
    try:
        for _ in range(number):
            # A server that has enough of them may refuse.
            with contextlib.suppress(OSError):
                open_ones.append(_connect(scene, receive))
                if sent:
                    open_ones[-1].sendall(sent)
        yield
    finally:
        for each in open_ones:
            each.close()


@fault("lists that nobody reads")
def leave_unread(scene: Scene) -> None:
    with _many(scene, 30, _head("GET", f"/{PROJECTS[0]}/items/notes?limit=-1&fields=*"), receive=4096):
        scene.wait(1, 8)


@fault("bodies sent by half")
def send_halves(scene: Scene) -> None:
    with _many(scene, 30, _head("POST", f"/{PROJECTS[0]}/items/authors", 1_000_000) + b'[{"name": "' + b"x" * 400_000):
        scene.wait(1, 8)


@fault("500 idle sockets")
def stay_idle(scene: Scene) -> None:
    with _many(scene, 500, b""):
        scene.wait(1, 8)


@fault("clients that hang up")
def hang_up(scene: Scene) -> None:
    """Each sends a whole request, of which half write. What is written then is there wholly or not at all."""
    numbers = iter(range(10**6))
    until = time.monotonic() + scene.seconds(1.5, 6)
    at = int(time.monotonic() * 1000)

    def run(seed: int) -> None:
        mine = random.Random(seed)
        while time.monotonic() < until:
            name = f"gone-{at}-{next(numbers)}"
            project = mine.choice(PROJECTS)
            if mine.random() < 0.5:
                body = json.dumps(nested(mine, name)).encode()
                sent = _head("POST", f"/{project}/items/authors", len(body)) + body
                scene.load.tally.writes.append(Write(name, project, NESTED))
            else:
                sent = _head("GET", f"/{project}/items/{mine.choice(['notes?limit=-1', 'articles?limit=50&fields=*.*'])}")
            with contextlib.suppress(OSError), contextlib.closing(_connect(scene)) as connection:
                connection.sendall(sent)
                time.sleep(mine.random() * 0.1)

    threads = [threading.Thread(target=run, args=(scene.random.randrange(10**6),), daemon=True) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)


# --- the server


@fault("a process killed")
def kill_process(scene: Scene) -> None:
    number = scene.random.randrange(len(scene.servers.daemons))
    window = scene.servers.kill(number)
    scene.wait(0, 3)
    scene.servers.restart(number, window)


@fault("a process told to stop")
def stop_process(scene: Scene) -> None:
    number = scene.random.randrange(len(scene.servers.daemons))
    window = scene.servers.terminate(number)
    scene.wait(0, 3)
    scene.servers.restart(number, window)


def clock_file(servers: Servers) -> pathlib.Path:
    """The file from which libfaketime takes what is added to the clock of the processes."""
    return servers.directory / "clock"


@fault("the clock set by an hour", lambda servers: clock_file(servers).exists())
def set_clock(scene: Scene) -> None:
    """It goes an hour forward or back, and later returns."""
    set_offset(scene.servers, scene.random.choice([3600, -3600]))
    try:
        scene.wait(1.5, 8)
    finally:
        set_offset(scene.servers, 0)


def set_offset(servers: Servers, seconds: int) -> None:
    """Sets the clock of the processes, where libfaketime is preloaded. They notice within a second."""
    file = clock_file(servers)
    new = file.with_suffix(".new")
    new.write_text(f"{seconds:+d}\n")
    new.rename(file)
