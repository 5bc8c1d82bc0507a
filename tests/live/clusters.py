"""Database servers of the machine's PostgreSQL: on disks that can be full, with standbys, and stopped and started by a test."""

import contextlib
import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile
from typing import Any

import psycopg2

BINARIES = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"))
"""The programs initdb of the machine, the newest last."""


def run(*command: Any, check: bool = True) -> int:
    """Runs a program, as a user that PostgreSQL accepts: it refuses root. Returns the exit status."""
    who: dict[str, Any] = {}
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    with tempfile.TemporaryFile() as output:
        # Not a pipe: a server that the program starts keeps it open.
        done = subprocess.run([str(each) for each in command], stdout=output, stderr=output, cwd="/", timeout=120, **who)
        output.seek(0)
        assert not check or done.returncode == 0, output.read().decode()
    return done.returncode


def own(directory: pathlib.Path) -> None:
    """Gives a directory to the user of `run`."""
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(directory, nobody.pw_uid, nobody.pw_gid)


class Disk:
    """A disk of so many megabytes. Raises OSError if this process may not mount one."""

    def __init__(self, path: pathlib.Path, size: int) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}m,mode=0777", "tmpfs", path], capture_output=True, text=True
        )
        if done.returncode:
            raise OSError(done.stderr)

    def fill(self) -> None:
        """Takes all the space that is left."""
        with (self.path / "ballast").open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)

    def free(self) -> None:
        (self.path / "ballast").unlink(missing_ok=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", self.path], check=True)


def can_mount() -> bool:
    """Whether this process may mount a `Disk`."""
    directory = pathlib.Path(tempfile.mkdtemp())
    try:
        Disk(directory, 1).unmount()
        return True
    except OSError:
        return False
    finally:
        directory.rmdir()


class Cluster:
    """A server whose socket is in *directory*. Its files are in `data`, those of its log of changes in *wal*, if that is given."""

    def __init__(self, directory: pathlib.Path, *, wal: pathlib.Path | None = None, data: pathlib.Path | None = None) -> None:
        self.directory = directory
        self.data = data or directory / "data"
        own(directory)
        self.log = directory / "log"
        self.wal = wal
        self.settings = {
            "listen_addresses": "",
            "unix_socket_directories": directory,
            "max_wal_size": "8MB",
            "min_wal_size": "4MB",
        }

    def make(self) -> "Cluster":
        """Makes the files of an empty server."""
        more = ["--waldir", self.wal] if self.wal is not None else []
        auth = ("-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8", "--wal-segsize=1")
        run(self.program("initdb"), "-D", self.data, *auth, *more)
        return self

    def copy(self, directory: pathlib.Path) -> "Cluster":
        """Makes a standby of the running server."""
        found = Cluster(directory)
        run(
            self.program("pg_basebackup"),
            "-h",
            self.directory,
            "-U",
            "postgres",
            "-D",
            found.data,
            "-R",
            "-c",
            "fast",
            "-X",
            "stream",
        )
        return found

    def program(self, name: str) -> pathlib.Path:
        return BINARIES[-1].with_name(name)

    def start(self) -> "Cluster":
        options = " ".join(f"-c {name}='{value}'" for name, value in self.settings.items())
        run(self.program("pg_ctl"), "-D", self.data, "-w", "-l", self.log, "-o", options, "start")
        return self

    def runs(self) -> bool:
        return run(self.program("pg_ctl"), "-D", self.data, "status", check=False) == 0

    def promote(self) -> None:
        run(self.program("pg_ctl"), "-D", self.data, "-w", "promote")

    def stop(self) -> None:
        if self.runs():
            run(self.program("pg_ctl"), "-D", self.data, "-m", "immediate", "stop")

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.directory}"

    def connect(self, database: str = "postgres") -> Any:
        """A superuser's connection that commits each statement by itself."""
        connection = psycopg2.connect(host=str(self.directory), user="postgres", dbname=database)
        connection.autocommit = True
        return connection


def new_directory() -> pathlib.Path:
    """A directory whose name is short enough for sockets, and which other users may enter."""
    found = pathlib.Path(tempfile.mkdtemp(prefix="directus-pg-"))
    found.chmod(0o755)
    return found


def remove(directory: pathlib.Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
