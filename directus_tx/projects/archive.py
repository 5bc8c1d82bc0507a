"""Archives of projects: a tar file with the project file and the database, as pg_dump writes it.

The programs of PostgreSQL do the work, in processes of their own. This module is for commands: its functions block.
"""

import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile

from psycopg2 import extensions

from directus_tx import private_files
from directus_tx.db.connection import Parameters
from directus_tx.projects.files import ProjectConfig, parse_file, text_of

DUMP = "database.dump"
"""The name of the database in an archive. The project file has its usual name."""

SYSTEM_PROGRAMS = pathlib.Path("/usr/lib/postgresql")
"""Where Debian and Ubuntu install the programs of each version of PostgreSQL."""


class ArchiveError(Exception):
    """An archive cannot be written or read; the message says why."""


def find_programs() -> pathlib.Path:
    """Returns the directory of the newest PostgreSQL programs of the system. Raises ArchiveError if there are none."""
    found = sorted(SYSTEM_PROGRAMS.glob("*/bin/pg_dump"), key=lambda path: float(path.parts[-3]))
    named = shutil.which("pg_dump")
    if not found and named is None:
        raise ArchiveError("pg_dump is not installed (Debian: apt-get install postgresql-client)")
    return found[-1].parent if found else pathlib.Path(named or "").parent


def write(path: pathlib.Path, config: ProjectConfig, parameters: Parameters, programs: pathlib.Path) -> None:
    """Writes an archive of a project, whose database has these *parameters*, readable by its owner only. The database is as it was at one
    moment. Raises ArchiveError, also if the file exists."""
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".directus-") as name:
            directory = pathlib.Path(name)
            dump = directory / DUMP
            _run([programs / "pg_dump", "--format=custom", f"--file={dump}", f"--dbname={_conninfo(parameters)}"], parameters)
            project = directory / config.file_name
            private_files.create(project, text_of(config).encode())
            archive = directory / "archive"
            with tarfile.open(archive, "w") as tar:
                for each in (project, dump):
                    tar.add(each, arcname=each.name)
            archive.chmod(0o600)
            os.link(archive, path)
    except OSError as error:
        raise ArchiveError(f"{path}: {error.strerror or error}") from error


def read_config(path: pathlib.Path) -> ProjectConfig:
    """Returns the project file of an archive. Raises ArchiveError."""
    with _opened(path) as tar:
        names = [name for name in tar.getnames() if name != DUMP]
        file = tar.extractfile(names[0]) if len(names) == 1 and DUMP in tar.getnames() else None
        if file is None:
            raise ArchiveError(f"{path} is not an archive of a project")
        try:
            return parse_file(names[0], file.read())
        except ValueError as error:
            raise ArchiveError(f"{path}: {error}") from None


def restore(path: pathlib.Path, parameters: Parameters, programs: pathlib.Path) -> None:
    """Restores the database of an archive into an empty database, wholly or not at all. Raises ArchiveError. Event triggers, which only
    superusers can create, are left out: opening the project creates them."""
    with tempfile.TemporaryDirectory(prefix="directus-") as name, _opened(path) as tar:
        tar.extract(DUMP, name, filter="data")
        options: tuple[str, ...] = ("--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction")
        listed = _run([programs / "pg_restore", "--list", f"{name}/{DUMP}"], parameters)
        contents = pathlib.Path(name) / "contents"
        contents.write_text("".join(line for line in listed.splitlines(keepends=True) if " EVENT TRIGGER " not in line), "utf-8")
        options += (f"--use-list={contents}",)
        _run([programs / "pg_restore", *options, f"--dbname={_conninfo(parameters)}", f"{name}/{DUMP}"], parameters)


def _opened(path: pathlib.Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path, "r:")
    except (OSError, tarfile.TarError) as error:
        raise ArchiveError(f"{path}: {error}") from error


def _conninfo(parameters: Parameters) -> str:
    """Returns the parameters without the password, because other users of the machine can see arguments."""
    return str(extensions.make_dsn(**{name: value for name, value in parameters.items() if name != "password"}))


def _run(command: list[object], parameters: Parameters) -> str:
    """Runs a program and returns its output. Raises ArchiveError."""
    environment = dict(os.environ)
    if parameters.get("password"):
        environment["PGPASSWORD"] = str(parameters["password"])
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise ArchiveError(done.stderr.strip() or f"{command[0]} failed")
    return done.stdout
