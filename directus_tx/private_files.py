"""Creates files in the data directory: completely or not at all, readable by their owner only.

Root may run the `directus` command in the data directory of a server that runs as another user. What root creates there belongs to the
owner of the directory, as if that user had created it.
"""

import contextlib
import fcntl
import os
import pathlib
import secrets
from collections.abc import Iterator


def create(path: pathlib.Path, data: bytes) -> None:
    """Creates a file. Raises FileExistsError, and OSError if it cannot be written."""
    temporary = _written(path, data)
    try:
        # Unlike a rename, a link never replaces a file that another process has created.
        os.link(temporary, path)
    finally:
        os.unlink(temporary)


def replace(path: pathlib.Path, data: bytes) -> None:
    """Replaces a file. Raises OSError if it cannot be written."""
    temporary = _written(path, data)
    try:
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


@contextlib.contextmanager
def locked(directory: pathlib.Path) -> Iterator[None]:
    """A context that one process at a time can be in for a directory. Others wait. Raises OSError."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _written(path: pathlib.Path, data: bytes) -> pathlib.Path:
    """Writes a temporary file beside a path and returns its path."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        give_to_owner(temporary)
        return temporary
    except BaseException:
        os.unlink(temporary)
        raise


def create_directory(path: pathlib.Path) -> None:
    """Creates a directory for its owner only, unless it exists. Raises OSError."""
    if not path.is_dir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        give_to_owner(path)


def give_to_owner(path: pathlib.Path) -> None:
    """Makes a file or directory belong to the owner of the directory that contains it, if the process runs as root."""
    if os.geteuid() == 0:
        directory = path.parent.stat()
        os.chown(path, directory.st_uid, directory.st_gid, follow_symlinks=False)
