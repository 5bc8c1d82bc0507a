"""Temporary files for bodies of requests and of answers, whose size and number are limited.

The files are in the directory that the environment variable TMPDIR names, otherwise in /tmp. They have no names, so that nothing is left of
them when the process ends.
"""

import os
import tempfile
from typing import IO


class SpoolFull(Exception):
    """The temporary files have reached their limit."""


class Spool:
    """The limits of temporary files that are used for one purpose: *size* in bytes and the number of *files*, of all together."""

    def __init__(self, size: int, files: float = float("inf")) -> None:
        self.left = size
        self.files = files
        self.open = 0

    def take(self, size: int) -> bool:
        """Reserves *size* bytes if that many are left. Returns whether it did."""
        if size > self.left:
            return False
        self.left -= size
        return True

    def give_back(self, size: int) -> None:
        self.left += size

    def open_file(self) -> "SpoolFile":
        """Creates a temporary file. Raises SpoolFull if there are too many, OSError if it cannot be created."""
        return SpoolFile(self)


class SpoolFile:
    """A temporary file. Its bytes are reserved when they are written, and given back when it is closed."""

    def __init__(self, spool: Spool) -> None:
        if spool.open >= spool.files:
            raise SpoolFull
        self.file: IO[bytes] = tempfile.TemporaryFile(prefix="directus-", buffering=0)  # noqa: SIM115 - `close` closes it
        self.spool = spool
        self.size = 0
        self.seek, self.tell, self.read = self.file.seek, self.file.tell, self.file.read
        spool.open += 1

    def write(self, data: bytes | memoryview) -> int:
        """Appends bytes. Raises SpoolFull if they exceed the limit, OSError if they cannot be written: the disk is full."""
        if not self.spool.take(len(data)):
            raise SpoolFull
        self.file.seek(0, os.SEEK_END)
        start = self.file.tell()
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError:
            self.spool.give_back(len(data))
            self.file.truncate(start)
            raise
        self.size += len(data)
        return len(data)

    def move(self, spool: Spool) -> None:
        """Counts the file for another spool. Raises SpoolFull if that has reached its limit."""
        if spool.open >= spool.files or not spool.take(self.size):
            raise SpoolFull
        self.spool.give_back(self.size)
        self.spool.open -= 1
        spool.open += 1
        self.spool = spool

    @property
    def closed(self) -> bool:
        return self.file.closed

    def close(self) -> None:
        """Deletes the file. Does nothing if it is closed."""
        if not self.file.closed:
            self.file.close()
            self.spool.give_back(self.size)
            self.spool.open -= 1
