"""The PostgreSQL of a soak: one of the machine's own, or the embedded one of the server."""

import contextlib
import os
import pathlib
import pwd
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from typing import Any

import psycopg2

from tests.daemon import Daemon, free_port

BINARIES = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
DISK = 1024 * 2**20
"""Bytes of the file system in memory that is mounted for the database, where this process may mount one."""

PATIENCE = 60.0


class Postgres(ABC):
    """A PostgreSQL with a `directory` of data."""

    directory: pathlib.Path
    kind: str

    @property
    def pid(self) -> int:
        """The process id of the postmaster, as it has noted it."""
        return int((self.directory / "postmaster.pid").read_text().splitlines()[0])

    def pids(self) -> list[int]:
        """The postmaster and its processes."""
        pid = self.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def signal(self, number: int) -> None:
        """Sends a signal to all processes, to the postmaster first."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """kill -9 for the postmaster."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + PATIENCE
        while pathlib.Path(f"/proc/{pid}").exists() and "\nState:\tZ" not in _status(pid):
            assert time.monotonic() < until, "the postmaster does not end"
            time.sleep(0.01)

    def serves(self) -> bool:
        """Whether it takes connections."""
        try:
            self.connect("postgres").close()
        except (psycopg2.Error, OSError, IndexError, ValueError):
            return False
        return True

    @abstractmethod
    def connect(self, database: str) -> Any:
        """A superuser's connection that commits each statement by itself, past any proxy."""

    @abstractmethod
    def revive(self) -> None:
        """Makes it run again where it does not, unless that is left to the server."""

    @abstractmethod
    def stop(self) -> None: ...


def _status(pid: int) -> str:
    try:
        return pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "\nState:\tZ"


class ExternalPostgres(Postgres):
    """A server of the machine's PostgreSQL on `port` of 127.0.0.1, as a user that it accepts: it refuses root. `mounted`: its data are on a
    file system of their own."""

    kind = "external"

    def __init__(self, directory: pathlib.Path, max_connections: int = 100) -> None:
        self.disk = directory / "disk"
        self.directory = self.disk / "data"
        self.log = directory / "postgresql.log"
        self.port = free_port()
        self.disk.mkdir(parents=True)
        self.mounted = mount(self.disk)
        user = None if os.getuid() else pwd.getpwnam("nobody")
        self._as_user: dict[str, Any] = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self.log.touch()
        if user is not None:
            for path in (self.disk, self.log):
                os.chown(path, user.pw_uid, user.pw_gid)
        self._run(BINARIES[-1], "-D", self.directory, "-U", "postgres", "-A", "trust", "--no-sync", "--locale=C.UTF-8")
        # Processes are killed, the machine is not: what the kernel has been given is there.
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": max_connections,
            "min_wal_size": "32MB",
            "max_wal_size": "96MB",
            "shared_buffers": "64MB",
            "deadlock_timeout": "200ms",
        }
        lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
        with (self.directory / "postgresql.conf").open("a") as file:
            file.writelines(lines)
        self.revive()

    def _run(self, *command: object, check: bool = True) -> int:
        """The exit status."""
        done = subprocess.run(
            [*map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            **self._as_user,
        )
        if check and done.returncode:
            raise AssertionError(f"{command} failed; see {self.log}")
        return done.returncode

    def _control(self, *arguments: object) -> int:
        return self._run(BINARIES[-1].with_name("pg_ctl"), "-D", self.directory, *arguments, check=False)

    def connect(self, database: str) -> Any:
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname=database, application_name="soak", connect_timeout=10
        )
        connection.autocommit = True
        return connection

    def revive(self) -> None:
        until = time.monotonic() + PATIENCE
        while not self.serves():
            assert time.monotonic() < until, f"PostgreSQL does not start; see {self.log}"
            if self._control("status") != 0:
                # This fails as long as processes of the one before have not ended.
                self._control("-l", self.log, "-W", "start")
            time.sleep(0.05)

    def stop(self) -> None:
        self._control("-m", "immediate", "stop")
        if self.mounted:
            unmount(self.disk)


class EmbeddedOfServer(Postgres):
    """The embedded PostgreSQL of a server, which starts it, keeps it running and stops it."""

    kind = "embedded"

    def __init__(self, daemon: Daemon) -> None:
        self.disk = daemon.directory / "var"
        self.disk.mkdir(exist_ok=True)
        self.mounted = mount(self.disk)
        self.directory = self.disk / "postgres"

    def connect(self, database: str) -> Any:
        lines = (self.directory / "postmaster.pid").read_text().splitlines()
        connection = psycopg2.connect(
            host=lines[4], port=lines[3], user="postgres", dbname=database, application_name="soak", connect_timeout=10
        )
        connection.autocommit = True
        return connection

    def revive(self) -> None:
        """Does nothing: that is the server's to do."""

    def stop(self) -> None:
        # The servers have stopped it, unless something went wrong.
        with contextlib.suppress(OSError, ValueError, IndexError):
            os.kill(self.pid, signal.SIGQUIT)
        if self.mounted:
            unmount(self.disk)


def mount(directory: pathlib.Path, size: int = DISK) -> bool:
    """Mounts a file system in memory, for tests that fill it. Returns whether this process may."""
    if os.getuid():
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(directory)]
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def unmount(directory: pathlib.Path) -> None:
    """Unmounts it, when nobody uses it any more."""
    subprocess.run(["umount", "-l", str(directory)], check=False)
