"""The log: one line an event, as text or as JSON. Never a token, a password or a body: the path of a request is written without
its query string, an error of the database without the values that it quotes."""

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
    """Writes the line of a request that is about to be answered."""
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
    """Writes each event as one line to the end of a file, or to standard output where there is no name."""

    def __init__(self, name: str, write: "Callable[[dict[str, Any]], str]") -> None:
        self.name = name
        self.write = write
        self.stream: IO[str] = sys.stdout
        self.reopen()

    def reopen(self) -> None:
        """Opens the file anew: somebody may have moved it away."""
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
            # There is nowhere left to say so.
            pass


def text_line(event: dict[str, Any]) -> str:
    """An event as a person reads it."""
    time = datetime.fromtimestamp(event["log_time"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if event.get("log_format") is REQUEST:
        project, user = event["project"] or "-", event["user"] or "-"
        return (
            f"{time} {event['request_id']} {project} {user} {event['method']} {_one_line(event['path'])}"
            f" {event['status']} {event['ms']} ms {event['statements']} statements\n"
        )
    return f"{time} {event['log_level'].name} {event['log_namespace']}: {_one_line(formatEvent(event))}{_traceback(event)}\n"


def json_line(event: dict[str, Any]) -> str:
    """An event as a JSON object."""
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
    """The observer of a log format, "text" or "json", that writes to a file of this name, or to standard output."""
    return LineObserver(name, json_line if format == "json" else text_line)


def _one_line(text: str | None) -> str:
    return (text or "").replace("\n", " ").replace("\r", " ")


def _traceback(event: dict[str, Any]) -> str:
    failure: Any = event.get("log_failure")
    if failure is None:
        return ""
    # What went wrong in one of several Deferreds stands within.
    while isinstance(failure.value, FirstError):
        failure = failure.value.subFailure
    lines: list[str] = []
    format_frames(failure.frames, lines.append)  # type: ignore[no-untyped-call]
    return f"\nTraceback (most recent call last):\n{''.join(lines)}{qual(failure.type)}: {without_values(failure.value)}"
