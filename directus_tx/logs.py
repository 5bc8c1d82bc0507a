"""The log: one line for each event, as text or JSON. It contains no tokens, passwords or bodies: the path of a request is written without
the query string and the tokens of invitations, and a database error without the values that it quotes."""

import os
import re
import select
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import orjson
from twisted.internet.defer import FirstError
from twisted.logger import ILogObserver, Logger, LogLevel, formatEvent
from twisted.python.failure import format_frames
from twisted.python.reflect import qual
from zope.interface import implementer

from directus_tx.control_codes import escaped, in_one_line
from directus_tx.db.sqlstate import without_values

log = Logger()
REQUEST = "{method} {path} {status} {ms} ms"


def log_request(log: Logger, request: Any, status: int, now: float, ip: str) -> None:
    """Logs a request of a client with an IP address. Call this when its answer is ready to be sent, or when a stream has ended."""
    who = request.accountability
    session = request.session
    project = request.project
    observer: Any = log.observer
    observer(
        {
            # What Logger.info adds, which takes as long as writing the line.
            "log_logger": log,
            "log_level": LogLevel.info,
            "log_namespace": log.namespace,
            "log_source": log.source,
            "log_format": REQUEST,
            "log_time": time.time(),
            "request_id": request.request_id,
            "ip": ip,
            "project": project.key if project is not None else None,
            "user": who.user if who is not None else None,
            "method": request.method.decode("latin-1"),
            "path": without_tokens(request.path.decode("latin-1")),
            "status": status,
            "ms": round((now - request.started) * 1000, 1),
            "statements": session.statements if session is not None else 0,
            "code": request.error_code,
        }
    )


_IN_PATH = re.compile(r"(/users/invite/).+", re.DOTALL)


def without_tokens(path: str) -> str:
    """Returns the path of a request without the token of an invitation."""
    # Paths are matched decoded, so a client can write any letter of this one as an escape.
    plain = unquote(path) if "%" in path else path
    return _IN_PATH.sub(r"\1(token)", plain) if "/users/invite/" in plain else path


NOTED = ("request_id", "ip", "project", "user", "method", "path", "status", "ms", "statements", "code")


CHATTY = ("log_legacy", "twisted.")
"""Prefixes of the loggers of Twisted. What they log with the level info is not written: ports and factories that start and stop."""

MAX_WAITING = 4 * 2**20
"""The characters that may wait to be written. Further lines are dropped."""

COLLECTED_FOR = 0.05
"""Seconds for which lines are collected before they are written together."""

PIECE = 64 * 1024
"""Characters from which lines are passed to the operating system in another call."""

LAST_WAIT = 2.0
"""Seconds for which the process waits at its end until all lines are written."""


class LineWriter:
    """Writes lines to the file *name*, or to standard output or standard error if *name* is empty.

    Writing can block: a pipe that nobody reads, a terminal that is stopped, a disk of another machine. Therefore a thread writes, from
    `start` to the end of the process. Before `start`, lines are kept, because twistd forks when it becomes a daemon. Lines that do not fit
    into the queue and lines that cannot be written are dropped, and a line of *notice*, called with their number and the reason, takes
    their place as soon as writing succeeds.

    *shared*: other processes write to the same file. Lines are passed to the operating system in pieces that it does not mix with those of
    others, also if it is a pipe, unless a line is longer than that (`select.PIPE_BUF`).

    Raises OSError if the file cannot be opened.
    """

    def __init__(
        self, name: str, notice: Callable[[int, str], str], *, to_standard_error: bool = False, shared: bool = False
    ) -> None:
        self.name = name
        self.piece = select.PIPE_BUF if shared else PIECE
        self.to_standard_error = to_standard_error
        self.notice = notice
        self._lock = threading.Lock()
        self._filled = threading.Event()
        self._idle = threading.Condition(self._lock)
        self._lines: list[str] = []
        self._size = 0
        self._overflowed = 0
        self._reopened = False
        self._writing = False
        self._thread: threading.Thread | None = None
        self._last_moment: float | None = None
        # Used only while lines are written.
        self._lost = 0
        self._reason = ""
        self._torn = False
        self._descriptor = self._open()

    def _open(self) -> int:
        if self.name:
            return os.open(self.name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        stream = sys.__stderr__ if self.to_standard_error else sys.__stdout__
        # The stream is None if its descriptor was closed: then another file may have its number.
        return stream.fileno() if stream is not None else -1

    def start(self) -> None:
        """Starts the thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()

    def write(self, line: str) -> None:
        """Has a line written, which ends with a newline. Does not block, except after `finish`. Can be called in any thread."""
        with self._lock:
            if self._size + len(line) > MAX_WAITING:
                self._overflowed += 1
                return
            self._lines.append(line)
            self._size += len(line)
        if not self._filled.is_set():
            self._filled.set()
        if self._last_moment is not None:
            self._wait_until(self._last_moment)

    def reopen(self) -> None:
        """Has the file opened again, because it may have been moved (log rotation)."""
        self._reopened = True
        self._filled.set()

    def flush(self, seconds: float) -> bool:
        """Waits until all lines are written, at most this many seconds. Returns whether they are."""
        return self._wait_until(time.monotonic() + seconds)

    def finish(self) -> None:
        """Call this when the process may end at any time. Waits until all lines are written, and makes `write` do so as well, LAST_WAIT
        seconds in all."""
        if self._last_moment is None:
            self._last_moment = time.monotonic() + LAST_WAIT
        self._wait_until(self._last_moment)

    def _wait_until(self, moment: float) -> bool:
        if self._thread is None:
            self._write_collected()
        if threading.current_thread() is self._thread:
            return False
        with self._lock:
            return self._idle.wait_for(self._is_idle, max(moment - time.monotonic(), 0))

    def _is_idle(self) -> bool:
        return not (self._lines or self._writing or self._overflowed)

    # in the thread, or before it is started

    def _run(self) -> None:
        pausing = threading.Event()
        while True:
            self._filled.wait()
            # time.sleep fails where libfaketime sets the clock, and the thread would end.
            pausing.wait(COLLECTED_FOR)
            self._write_collected()

    def _write_collected(self) -> None:
        with self._lock:
            self._filled.clear()
            lines, self._lines, self._size = self._lines, [], 0
            overflowed, self._overflowed = self._overflowed, 0
            self._writing = True
        try:
            if self._reopened:
                self._reopened = False
                self._open_again()
            self._write_all(lines, overflowed)
        finally:
            with self._lock:
                self._writing = False
                self._idle.notify_all()

    def _open_again(self) -> None:
        if not self.name:
            return
        try:
            old, self._descriptor = self._descriptor, self._open()
        except OSError as error:
            log.error("the log file cannot be opened again: {error}", error=error)
            return
        self._torn = False
        os.close(old)

    def _write_all(self, lines: Sequence[str], overflowed: int) -> None:
        """Writes lines. *overflowed* lines that came after them were dropped."""
        piece: list[str] = []
        size = 0
        text = "".join(lines)
        if len(text) <= self.piece and text.isascii():
            piece, lines = list(lines), ()
        for line in lines:
            # A character takes up to four bytes, but nearly all of the log is ASCII.
            length = len(line) if line.isascii() else len(line.encode(errors="backslashreplace"))
            if piece and size + length > self.piece:
                self._write_piece(piece)
                piece, size = [], 0
            piece.append(line)
            size += length
        if piece:
            self._write_piece(piece)
        if overflowed:
            self._lost += overflowed
            self._reason = "the queue was full"
            self._write_piece([])

    def _write_piece(self, lines: Sequence[str]) -> None:
        before = "\n" if self._torn else ""
        if self._lost:
            before += self.notice(self._lost, self._reason)
        data = memoryview((before + "".join(lines)).encode(errors="backslashreplace"))
        written = 0
        try:
            while written < len(data):
                try:
                    written += os.write(self._descriptor, data[written:])
                except BlockingIOError:
                    # Another process has made the descriptor non-blocking.
                    waiting = select.poll()
                    waiting.register(self._descriptor, select.POLLOUT)
                    waiting.poll()
        except OSError as error:
            self._reason = error.strerror or str(error)
        if written >= len(before.encode(errors="backslashreplace")):
            self._lost = 0
        if written:
            self._torn = data[written - 1] != ord("\n")
        rest = len(data) - written
        for line in reversed(lines):
            if rest <= 1:
                # Of this line only the newline is missing, which is written before the next line.
                break
            self._lost += 1
            rest -= len(line.encode(errors="backslashreplace"))


@implementer(ILogObserver)
class LineObserver:
    """Appends each event as a line to the file *name*, or writes it to standard output if *name* is empty. `lines` is the writer.
    Events of the level debug, and those of Twisted of the level info, are not written."""

    def __init__(self, name: str, write: "Callable[[dict[str, Any]], str]", *, shared: bool = False) -> None:
        self.write = write
        self.lines = LineWriter(name, self._notice, shared=shared)

    def __call__(self, event: dict[str, Any]) -> None:
        level = event["log_level"]
        if level is LogLevel.debug or (level is LogLevel.info and event["log_namespace"].startswith(CHATTY)):
            return
        if event.get("log_format") is not REQUEST:
            for name, value in event.items():
                if isinstance(value, BaseException) and name != "log_failure":
                    event = event | {name: without_values(value)}
        self.lines.write(self.write(event))

    def _notice(self, number: int, reason: str) -> str:
        """Returns the line that says that lines were dropped."""
        return self.write(
            {
                "log_time": time.time(),
                "log_level": LogLevel.warn,
                "log_namespace": __name__,
                "log_format": "{number} lines of the log were dropped: {reason}",
                "number": number,
                "reason": reason,
            }
        )


@lru_cache(maxsize=2)
def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def text_line(event: dict[str, Any]) -> str:
    """Returns an event as a line of text."""
    time = _time(int(event["log_time"]))
    if event.get("log_format") is REQUEST:
        ip, project, user = event["ip"] or "-", event["project"] or "-", event["user"] or "-"
        code = "" if event["code"] is None else f" code {event['code']}"
        return (
            f"{time} {event['request_id']} {ip} {project} {user} {event['method']} {in_one_line(event['path'])}"
            f" {event['status']} {event['ms']} ms {event['statements']} statements{code}\n"
        )
    return f"{time} {event['log_level'].name} {event['log_namespace']}: {in_one_line(formatEvent(event))}{_traceback(event)}\n"


def json_line(event: dict[str, Any], worker: int | None = None) -> str:
    """Returns an event as a line with a JSON object."""
    found: dict[str, Any] = {
        "time": datetime.fromtimestamp(event["log_time"], UTC).isoformat(timespec="milliseconds"),
        "level": event["log_level"].name,
        "logger": event["log_namespace"],
        "message": formatEvent(event),
    }
    if worker is not None:
        found["worker"] = worker
    found |= {name: event[name] for name in NOTED if name in event}
    traceback = _traceback(event)
    if traceback:
        found["traceback"] = traceback.strip()
    return escaped(orjson.dumps(found, default=str).decode()) + "\n"


def observer(format: str, name: str = "", worker: int | None = None) -> LineObserver:
    """Returns an observer for the format "text" or "json" that writes to the file *name*, or to standard output if *name* is empty.
    *worker*: the number of the process among several that write to it, which the lines in JSON contain."""
    if format != "json":
        return LineObserver(name, text_line, shared=worker is not None)
    return LineObserver(name, lambda event: json_line(event, worker), shared=worker is not None)


def _traceback(event: dict[str, Any]) -> str:
    failure: Any = event.get("log_failure")
    if failure is None:
        return ""
    # A FirstError wraps the failure of one of several Deferreds.
    while isinstance(failure.value, FirstError):
        failure = failure.value.subFailure
    lines: list[str] = []
    format_frames(failure.frames, lines.append)  # type: ignore[no-untyped-call]
    reason = escaped(str(without_values(failure.value)))
    return f"\nTraceback (most recent call last):\n{''.join(lines)}{qual(failure.type)}: {reason}"
