"""A thread that logs what the reactor is doing when it serves nothing else for too long."""

import contextlib
import linecache
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from twisted.logger import Logger

log = Logger()

DEEPEST = 30
"""The number of frames that are logged at most, the innermost ones."""


class Watchdog:
    """Watches a reactor, from `start` to `stop`. If the reactor does not get to its timers for *limit* seconds (0: never), its stack is
    logged, once until it does again: without the callers of the plugin, if a plugin blocks it. *blocker* returns the name of the plugin to
    which one of some files belongs, or None. The methods are called in the thread of the reactor."""

    def __init__(self, reactor: Any, limit: float, blocker: Callable[[Iterable[str]], str | None]) -> None:
        self._reactor = reactor
        self._limit = limit
        self._blocker = blocker
        self._interval = max(limit / 4, 0.01)
        self._timer: Any = None
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._watched = 0
        self._beat: float | None = None
        """When the reactor was last seen. None: it is not watched."""
        self._doing = "the server"
        self._told: float | None = None

    def start(self) -> None:
        """Watches the reactor, which must be running."""
        if self._limit and self._timer is None:
            self._watch()
            self._tick()

    def stop(self) -> None:
        """Stops watching."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        self._beat = None
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(1)
            self._thread = None

    @contextlib.contextmanager
    def expecting(self, doing: str) -> Iterator[None]:
        """A context that is watched as well, while the reactor may not be running. The log says what is being done."""
        if not self._limit or self._timer is not None:
            yield
            return
        self._watch()
        self._doing = doing
        try:
            yield
        finally:
            self._beat = self._told = None
            self._doing = "the server"

    def _watch(self) -> None:
        self._watched = threading.get_ident()
        self._beat = time.monotonic()
        if self._thread is None:
            self._stopped.clear()
            self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
            self._thread.start()

    def _tick(self) -> None:
        now = time.monotonic()
        told, self._told = self._told, None
        if told is not None:
            log.warn("the server is no longer blocked; it was for about {seconds} s", seconds=f"{now - told:.1f}")
        self._beat = now
        self._timer = self._reactor.callLater(self._interval, self._tick)

    # in the thread

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            beat = self._beat
            if beat is None or beat == self._told or time.monotonic() < beat + self._limit:
                continue
            frame = sys._current_frames().get(self._watched)
            if frame is not None and beat == self._beat:
                self._told = beat
                self._report(frame, time.monotonic() - beat)

    def _report(self, frame: Any, seconds: float) -> None:
        places: list[tuple[str, int, str]] = []
        while frame is not None and len(places) < DEEPEST:
            places.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
            frame = frame.f_back
        plugin = self._blocker([file for file, _, _ in places])
        if plugin is not None:
            # What has called the plugin is the same for all: the server and the reactor.
            last = max(place for place, (file, _, _) in enumerate(places) if self._blocker([file]) == plugin)
            del places[last + 1 :]
        # The log has one line for each event.
        lines = [f"{file}, line {line}, in {name}: {linecache.getline(file, line).strip()}" for file, line, name in places]
        log.warn(
            "{doing} has been blocked for {seconds} s{by} (plugins.block_limit). It is at {stack}",
            doing=self._doing,
            seconds=f"{seconds:.1f}",
            by="" if plugin is None else f" by the plugin {plugin}",
            stack="; called at ".join(lines),
        )
