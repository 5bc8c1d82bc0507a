"""The embedded database's log: it says what happens to the database, and nothing of what is in it."""

import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

from directus_tx.embedded import LOG_DAYS, SETTINGS, EmbeddedError, EmbeddedPostgres
from tests.daemon import BIN, wait_for

SECRET = "Hush-4711"
DATA = frozenset({"base", "global", "pg_wal"})
"""What holds the data themselves."""


@pytest.fixture
def data_dir(tmp_path: pathlib.Path) -> pathlib.Path:
    """A data directory."""
    return tmp_path / "var"


@pytest.fixture
def embedded(data_dir: pathlib.Path) -> Iterator[EmbeddedPostgres]:
    found = EmbeddedPostgres(data_dir)
    found.start()
    yield found
    found.stop()


def connect(embedded: EmbeddedPostgres) -> Any:
    connection = psycopg2.connect(**embedded.parameters)
    connection.autocommit = True
    return connection


def files_with(embedded: EmbeddedPostgres, text: str) -> list[str]:
    """The files of the data directory that hold a text, but for those of the data."""
    paths = [path for path in embedded.data_dir.rglob("*") if path.is_file() and not DATA & set(path.parts)]
    assert len(paths) > 10
    return [str(path) for path in paths if text.encode() in path.read_bytes()]


FAILING = {
    "a duplicate": f"INSERT INTO accounts (token) VALUES ('{SECRET}')",
    "no number": f"SELECT '{SECRET}'::int",
    "no date": f"SELECT '{SECRET}'::date",
    "a check": f"INSERT INTO accounts (token, age) VALUES ('other {SECRET}', -1)",
    "a null": f"INSERT INTO accounts (token, age) VALUES ('third {SECRET}', NULL)",
    "a missing relation": f"INSERT INTO notes (account) VALUES ('{SECRET}')",
    "too long": f"INSERT INTO accounts (short) VALUES ('{SECRET * 9}')",
    "syntax": f"SELEC '{SECRET}'",
    "syntax at the value": f"SELECT 1 '{SECRET}'",
    "an unknown column": f'SELECT "{SECRET}"',
    "an unknown function": f"SELECT nope('{SECRET}')",
    "division by zero": f"SELECT 1 / 0 WHERE '{SECRET}' <> ''",
    "a regular expression": f"SELECT 'a' ~ '({SECRET}'",
    "JSON": f"SELECT '{{\"{SECRET}'::json",
    "a time limit": f"SET statement_timeout = 50; SELECT pg_sleep(5), '{SECRET}'",
    "raised by a function": f"DO $$ BEGIN RAISE EXCEPTION 'bad: %', '{SECRET}' USING DETAIL = '{SECRET}', HINT = '{SECRET}'; END $$",
    "a warning": f"DO $$ BEGIN RAISE WARNING '{SECRET}'; END $$",
    "a prepared statement": f"PREPARE p AS SELECT $1::int; EXECUTE p('{SECRET}')",
    "a file on disk": f"SELECT count(*) FROM (SELECT '{SECRET}' || n FROM generate_series(1, 400000) AS n ORDER BY 1) AS x",
    "a slow one": f"SELECT pg_sleep(0.3), '{SECRET}'",
}


def fail(connection: Any) -> None:
    """Runs each of the failing statements."""
    cursor = connection.cursor()
    cursor.execute(
        "CREATE TABLE accounts (id serial, token text UNIQUE, short varchar(5), age int NOT NULL DEFAULT 0 CHECK (age >= 0));"
        f"CREATE TABLE notes (account text REFERENCES accounts (token)); INSERT INTO accounts (token) VALUES ('{SECRET}')"
    )
    for name, statement in FAILING.items():
        if name == "a file on disk":
            cursor.execute("SET work_mem = '64kB'")
        with contextlib.suppress(psycopg2.Error):
            cursor.execute(statement)
        cursor.execute("SET statement_timeout = 0")


def deadlock(embedded: EmbeddedPostgres) -> None:
    """Makes two connections wait for each other, which ends one of them."""
    one, other = connect(embedded), connect(embedded)
    one.cursor().execute("CREATE TABLE locked (n int PRIMARY KEY, t text); INSERT INTO locked VALUES (1, ''), (2, '')")
    one.autocommit = other.autocommit = False
    one.cursor().execute(f"UPDATE locked SET t = '{SECRET}' WHERE n = 1")
    other.cursor().execute(f"UPDATE locked SET t = '{SECRET}' WHERE n = 2")

    def second() -> None:
        with contextlib.suppress(psycopg2.Error):
            other.cursor().execute(f"UPDATE locked SET t = '{SECRET}' WHERE n = 1")

    thread = threading.Thread(target=second)
    thread.start()
    with contextlib.suppress(psycopg2.Error):
        one.cursor().execute(f"UPDATE locked SET t = '{SECRET}' WHERE n = 2")
    one.close()
    thread.join()
    other.close()


def crash(embedded: EmbeddedPostgres) -> None:
    """Kills a backend at work: PostgreSQL would say which statement it ran."""
    connection, watcher = connect(embedded), connect(embedded)

    def work() -> None:
        with contextlib.suppress(psycopg2.Error):
            connection.cursor().execute(f"SELECT pg_sleep(60), '{SECRET}'")

    thread = threading.Thread(target=work)
    thread.start()
    cursor = watcher.cursor()
    while True:
        cursor.execute("SELECT state FROM pg_stat_activity WHERE pid = %s", (connection.info.backend_pid,))
        if cursor.fetchone() == ("active",):
            break
    os.kill(connection.info.backend_pid, signal.SIGKILL)
    thread.join()


def recovered(embedded: EmbeddedPostgres) -> bool:
    """Whether the database takes connections again."""
    try:
        connect(embedded).close()
    except psycopg2.OperationalError:
        return False
    return True


def wait_for_log(embedded: EmbeddedPostgres, text: str) -> str:
    """The log, once it says *text*."""

    def log() -> str:
        return "".join(path.read_text() for path in sorted((embedded.cluster / "log").iterdir()))

    wait_for(lambda: text in log())
    return log()


def test_errors_leave_neither_statements_nor_values_in_the_log(embedded: EmbeddedPostgres) -> None:
    connection = connect(embedded)
    fail(connection)
    connection.close()
    deadlock(embedded)
    crash(embedded)
    said = wait_for_log(embedded, "terminated by signal 9")
    wait_for_log(embedded, "reinitializing")
    wait_for(lambda: recovered(embedded))
    with pytest.raises(psycopg2.OperationalError, match="does not exist"):
        psycopg2.connect(**{**embedded.parameters, "dbname": "not_there"})
    assert files_with(embedded, SECRET) == []
    assert "STATEMENT" not in said
    assert "DETAIL" not in said
    assert 'database "not_there" does not exist' in wait_for_log(embedded, "not_there")


def test_without_the_settings_the_log_would_hold_them(data_dir: pathlib.Path) -> None:
    """That the search above finds what there is to find."""
    embedded = EmbeddedPostgres(data_dir, options="-c log_min_messages=warning -c log_min_error_statement=error")
    embedded.start()
    try:
        connection = connect(embedded)
        fail(connection)
        connection.close()
        assert "STATEMENT" in wait_for_log(embedded, SECRET)
        assert len(files_with(embedded, SECRET)) == 1
    finally:
        embedded.stop()


def test_an_older_cluster_gets_the_settings_at_its_next_start(data_dir: pathlib.Path) -> None:
    embedded = EmbeddedPostgres(data_dir)
    embedded.start()
    connection = connect(embedded)
    connection.cursor().execute("ALTER SYSTEM SET log_statement = 'all'")
    connection.close()
    embedded.stop()
    for path in (embedded.cluster / "log").iterdir():
        path.unlink()
    (embedded.cluster / "log").rmdir()
    (embedded.cluster / "log").write_text(f"ERROR: duplicate key\nDETAIL: Key (token)=({SECRET}) exists\n")
    with (embedded.cluster / "postgresql.conf").open("a") as file:
        file.write("log_min_messages = debug5\nlog_min_error_statement = debug5\nlog_error_verbosity = verbose\n")
        file.write("log_min_duration_statement = 0\nlog_temp_files = 0\nlogging_collector = off\ndebug_print_plan = on\n")
    embedded.start()
    try:
        connection = connect(embedded)
        fail(connection)
        connection.close()
        wait_for_log(embedded, "ready to accept connections")
        assert files_with(embedded, SECRET) == []
    finally:
        embedded.stop()
    assert files_with(embedded, SECRET) == []


def test_the_settings_are_those_that_postgresql_has(embedded: EmbeddedPostgres) -> None:
    connection = connect(embedded)
    cursor = connection.cursor()
    for name, value in SETTINGS.items():
        cursor.execute(f"SHOW {name}")
        shown = cursor.fetchone()[0]
        assert shown == value, name
    connection.close()


def test_the_log_is_for_its_owner_alone_and_ends_with_the_week(data_dir: pathlib.Path) -> None:
    embedded = EmbeddedPostgres(data_dir)
    embedded.start()
    embedded.stop()
    (log,) = (embedded.cluster / "log").iterdir()
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.name in {f"postgresql-{day}.log" for day in ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")}
    old = embedded.cluster / "log" / "postgresql-old.log"
    for path, days in ((old, LOG_DAYS + 1), (log, LOG_DAYS - 1)):
        path.touch()
        past = time.time() - days * 24 * 3600
        os.utime(path, (past, past))
    size = log.stat().st_size
    embedded.start()
    embedded.stop()
    assert not old.exists()
    assert log.stat().st_size > size
    assert (embedded.cluster / "startup.log").read_text().count("redirecting log output") == 1


def test_a_database_that_does_not_start_says_why(data_dir: pathlib.Path) -> None:
    with pytest.raises(EmbeddedError, match="not_a_setting"):
        EmbeddedPostgres(data_dir, options="-c not_a_setting=1").start()
    embedded = EmbeddedPostgres(data_dir)
    embedded.start()
    embedded.stop()
    (embedded.cluster / "global" / "pg_control").rename(embedded.cluster / "global" / "away")
    with pytest.raises(EmbeddedError, match="pg_control"):
        embedded.start()


@pytest.fixture
def short_path() -> Iterator[pathlib.Path]:
    """A directory whose path leaves room for that of a socket."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        path = pathlib.Path(directory)
        path.chmod(0o755)
        yield path


def test_the_directory_of_the_socket_is_nobody_elses(
    short_path: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that is too long for a socket has it in the directory for temporary files, where anybody may have made one of its name."""
    monkeypatch.setattr(tempfile, "tempdir", str(short_path))
    embedded = EmbeddedPostgres(tmp_path / ("d" * 90))
    directory = pathlib.Path(embedded.parameters["host"])
    assert directory.parent == short_path
    theirs = short_path / "theirs"
    theirs.mkdir(mode=0o755)
    directory.symlink_to(theirs)
    before = theirs.stat()
    with pytest.raises(EmbeddedError, match="cannot be used"):
        embedded.start()
    assert (theirs.stat().st_mode, theirs.stat().st_uid) == (before.st_mode, before.st_uid)
    directory.unlink()
    if os.geteuid() == 0:
        directory.mkdir()
        os.chown(directory, 12345, 12345)
        with pytest.raises(EmbeddedError, match="another user's"):
            embedded.start()
        assert directory.stat().st_uid == 12345
        directory.rmdir()
    for _ in range(2):
        embedded.start()
        connect(embedded).close()
        embedded.stop()
    assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
def test_what_root_makes_belongs_to_the_owner_of_the_data_directory() -> None:
    """Root runs the command in the data directory of a server that runs as another user. That user can start the server again."""
    owner = pwd.getpwnam("nobody")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="directus-owned-"))
    try:
        directory.chmod(0o755)
        data_dir = directory / "var"
        data_dir.mkdir(mode=0o750)
        os.chown(data_dir, owner.pw_uid, owner.pw_gid)
        command = [str(BIN / "directus"), "project", "create", "shop", "--email", "a@example.com", "--generate", "--init"]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        found = set(data_dir.rglob("*"))
        assert {"shop.toml", "postgresql.conf"} <= {path.name for path in found}
        assert [path for path in found if path.lstat().st_uid != owner.pw_uid] == []
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def test_the_paths_of_the_data_directory_and_of_temporary_files_may_be_long(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than the path of a socket may be."""
    temporary = tmp_path / ("t" * 60) / ("u" * 60)
    temporary.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    embedded = EmbeddedPostgres(tmp_path / ("d" * 100) / "var")
    embedded.start()
    try:
        connect(embedded).close()
    finally:
        embedded.stop()
