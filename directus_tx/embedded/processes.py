"""The processes of a PostgreSQL that this program did not start itself: pg_ctl did, or another server."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

PROC = pathlib.Path("/proc")
NAME = "postgres"


def is_running(pid: int) -> bool:
    """Whether a process is a running PostgreSQL. False for other programs that have got the number of an earlier PostgreSQL, as happens
    when a container is started again, and for zombies. Without /proc: whether there is a process with this number."""
    if (PROC / "self").exists():
        name, state = _name_and_state(pid)
        return name == NAME and state not in "ZX"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def reap(pid: int) -> None:
    """Removes a zombie that is a child of this process: it has become one if this process is the first of a container. To PostgreSQL
    a zombie is a running process."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def processes_in(directory: pathlib.Path) -> Iterator[int]:
    """Yields the ids of the running PostgreSQL processes whose working directory is *directory*, as it is for all processes of a
    cluster. Needs /proc; without it there are none."""
    try:
        wanted = str(directory.resolve())
        numbers = [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]
    except OSError:
        return
    for pid in numbers:
        # Processes end meanwhile, and those of other users may be hidden.
        with contextlib.suppress(OSError):
            if is_running(pid) and os.readlink(PROC / str(pid) / "cwd") == wanted:
                yield pid


def _name_and_state(pid: int) -> tuple[str, str]:
    """Returns the name of a process and the letter of its state: "" and "X" if there is no such process."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return "", "X"
    before, _, after = text.rpartition(")")
    return before.partition("(")[2], after.split()[0]
