"""The log: one line for each event, as text or JSON. It contains no tokens, passwords or bodies: the path of a request is written without
the query string, and a database error without the values that it quotes."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import IO, Any

import orjson
from twisted.internet.defer import FirstError
from twisted.logger import ILogObserver, Logger, LogLevel, formatEvent
from twisted.python.failure import format_frames
from twisted.python.reflect import qual
from zope.interface import implementer

from directus_tx.db.sqlstate import without_values

REQUEST = "{method} {path} {status} {ms} ms"


def log_request(log: Logger, request: Any, status: int, now: float) -> None:
    """Logs a request. Call this when its answer is ready to be sent, or when a stream has ended."""
    who = request.accountability
    session = request.session
    project = request.project
    log.info(
        REQUEST,
        request_id=request.request_id,
        project=project.key if project is not None else None,
        user=who.user if who is not None else None,
        method=request.method.decode("latin-1"),
        path=request.path.decode("latin-1"),
        status=status,
        ms=round((now - request.started) * 1000, 1),
        statements=session.statements if session is not None else 0,
    )


NOTED = ("request_id", "project", "user", "method", "path", "status", "ms", "statements")


@implementer(ILogObserver)
class LineObserver:
    """Appends each event as a line to the file *name*, or writes it to standard output if *name* is empty."""

    def __init__(self, name: str, write: "Callable[[dict[str, Any]], str]") -> None:
        self.name = name
        self.write = write
        self.stream: IO[str] = sys.stdout
        self.reopen()

    def reopen(self) -> None:
        """Opens the file again, because it may have been moved (log rotation)."""
        if self.name:
            old, self.stream = self.stream, open(self.name, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the process
            if old is not sys.stdout:
                old.close()

    def __call__(self, event: dict[str, Any]) -> None:
        if event["log_level"] is LogLevel.debug:
            return
        for name, value in event.items():
            if isinstance(value, BaseException) and name != "log_failure":
                event = event | {name: without_values(value)}
        try:
            self.stream.write(self.write(event))
            self.stream.flush()
        except (OSError, ValueError):
            # There is no other place to report the failure.
            pass


def text_line(event: dict[str, Any]) -> str:
    """Returns an event as a line of text."""
    time = datetime.fromtimestamp(event["log_time"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if event.get("log_format") is REQUEST:
        project, user = event["project"] or "-", event["user"] or "-"
        return (
            f"{time} {event['request_id']} {project} {user} {event['method']} {_one_line(event['path'])}"
            f" {event['status']} {event['ms']} ms {event['statements']} statements\n"
        )
    return f"{time} {event['log_level'].name} {event['log_namespace']}: {_one_line(formatEvent(event))}{_traceback(event)}\n"


def json_line(event: dict[str, Any]) -> str:
    """Returns an event as a line with a JSON object."""
    found: dict[str, Any] = {
        "time": datetime.fromtimestamp(event["log_time"], UTC).isoformat(timespec="milliseconds"),
        "level": event["log_level"].name,
        "logger": event["log_namespace"],
        "message": formatEvent(event),
    }
    found |= {name: event[name] for name in NOTED if name in event}
    traceback = _traceback(event)
    if traceback:
        found["traceback"] = traceback.strip()
    return orjson.dumps(found, default=str).decode() + "\n"


def observer(format: str, name: str = "") -> LineObserver:
    """Returns an observer for the format "text" or "json" that writes to the file *name*, or to standard output if *name* is empty."""
    return LineObserver(name, json_line if format == "json" else text_line)


def _one_line(text: str | None) -> str:
    return (text or "").replace("\n", " ").replace("\r", " ")


def _traceback(event: dict[str, Any]) -> str:
    failure: Any = event.get("log_failure")
    if failure is None:
        return ""
    # A FirstError wraps the failure of one of several Deferreds.
    while isinstance(failure.value, FirstError):
        failure = failure.value.subFailure
    lines: list[str] = []
    format_frames(failure.frames, lines.append)  # type: ignore[no-untyped-call]
    return f"\nTraceback (most recent call last):\n{''.join(lines)}{qual(failure.type)}: {without_values(failure.value)}"
