"""Lines of the log are written by a thread: in order, without blocking whoever logs, and counted where they cannot be written."""

import errno
import json
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from twisted.logger import Logger, formatEvent

from directus_tx import logs
from directus_tx.logs import LineWriter

PATIENCE = 30.0


def notice(number: int, reason: str) -> str:
    return f"{number} dropped: {reason}\n"


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "log"


@pytest.fixture
def writer(path: pathlib.Path) -> LineWriter:
    found = LineWriter(str(path), notice)
    found.start()
    return found


class Pipe:
    """A pipe in place of the file of a writer."""

    def __init__(self, writer: LineWriter) -> None:
        self.reader, end = os.pipe()
        os.dup2(end, writer._descriptor)
        os.close(end)
        self.content = b""
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        while data := os.read(self.reader, 65536):
            self.content += data

    def read(self) -> None:
        """Begins to read."""
        self._thread.start()


@pytest.fixture
def pipe(writer: LineWriter) -> Iterator[Pipe]:
    found = Pipe(writer)
    yield found
    os.close(found.reader) if not found._thread.ident else None


def test_lines_of_several_threads_are_whole_and_each_threads_are_in_order(writer: LineWriter, path: pathlib.Path) -> None:
    def log(name: str) -> None:
        for number in range(2000):
            writer.write(f"{name} {number} {'x' * (number % 97)}\n")

    threads = [threading.Thread(target=log, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.flush(PATIENCE)
    lines = path.read_text().splitlines()
    for name in "abcd":
        own = [line.split() for line in lines if line.startswith(name)]
        assert [(int(line[1]), len(line)) for line in own] == [(n, 3 if n % 97 else 2) for n in range(2000)]


def test_lines_that_are_written_before_the_start_are_kept(path: pathlib.Path) -> None:
    writer = LineWriter(str(path), notice)
    for number in range(5):
        writer.write(f"{number}\n")
    assert path.read_text() == ""
    writer.start()
    writer.write("5\n")
    assert writer.flush(PATIENCE)
    assert path.read_text() == "0\n1\n2\n3\n4\n5\n"


def test_a_process_that_ends_before_the_start_writes_its_lines(path: pathlib.Path) -> None:
    writer = LineWriter(str(path), notice)
    writer.write("failed\n")
    writer.finish()
    assert path.read_text() == "failed\n"
    writer.write("ends\n")
    assert path.read_text() == "failed\nends\n"


def test_a_pipe_that_nobody_reads_blocks_nobody_and_what_does_not_fit_is_counted(writer: LineWriter, pipe: Pipe) -> None:
    line = "x" * 999 + "\n"
    number = logs.MAX_WAITING // len(line) * 3
    for _ in range(number):
        writer.write(line)
    assert not writer.flush(0.1)
    pipe.read()
    assert writer.flush(PATIENCE)
    writer.write("after\n")
    assert writer.flush(PATIENCE)
    expected = len(line) * (number // 2)
    deadline = time.monotonic() + PATIENCE
    while not pipe.content.endswith(b"after\n"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    *kept, said, last = pipe.content.decode().splitlines()
    assert expected > 0
    assert set(kept) == {line.strip()}
    assert said == f"{number - len(kept)} dropped: the queue was full"
    assert last == "after"
    assert len(kept) * len(line) <= 2 * logs.MAX_WAITING + 2 * len(line)


def test_a_writer_that_has_finished_waits_only_once_for_a_pipe_that_nobody_reads(
    writer: LineWriter, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "LAST_WAIT", 0.2)
    for _ in range(200):
        writer.write("x" * 999 + "\n")
    started = time.monotonic()
    writer.finish()
    for _ in range(20):
        writer.write("more\n")
    writer.finish()
    assert time.monotonic() - started < 10
    pipe.read()
    assert writer.flush(PATIENCE)


def test_a_pipe_that_nobody_has_open_costs_nothing_and_a_new_file_is_used(
    writer: LineWriter, pipe: Pipe, path: pathlib.Path
) -> None:
    os.close(pipe.reader)
    pipe._thread = threading.current_thread()
    for number in range(3):
        writer.write(f"{number}\n")
        assert writer.flush(PATIENCE)
    writer.reopen()
    writer.write("after\n")
    assert writer.flush(PATIENCE)
    assert path.read_text() == f"3 dropped: {os.strerror(errno.EPIPE)}\nafter\n"


@pytest.mark.parametrize("room", [0, 1, 7, 8, 9, 10, 12, 15, 16, 100])
def test_a_full_disk_drops_and_counts_lines_until_there_is_room(
    writer: LineWriter, path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """The disk has room for so many bytes, which may be in the middle of a line."""
    left = room
    write = os.write

    def limited(descriptor: int, data: bytes) -> int:
        nonlocal left
        if descriptor != writer._descriptor:
            return write(descriptor, data)
        if not left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(descriptor, data[:left])
        left -= written
        return written

    monkeypatch.setattr(os, "write", limited)
    for text in ("first é\n", "second\n"):
        writer.write(text)
    assert writer.flush(PATIENCE)
    writer.write("third\n")
    assert writer.flush(PATIENCE)
    left = 10**9
    writer.write("fourth\n")
    assert writer.flush(PATIENCE)
    *lines, last = path.read_text(errors="replace").splitlines()
    assert last == "fourth"
    texts = ["first é", "second", "third"]
    if room == 100:
        assert lines == texts
        return
    assert lines.pop() == f"{3 - len(set(texts) & set(lines))} dropped: {os.strerror(errno.ENOSPC)}"
    assert [line for line in lines if line in texts] == texts[: len(set(texts) & set(lines))]


def test_a_file_that_was_moved_is_opened_again(writer: LineWriter, path: pathlib.Path) -> None:
    writer.write("one\n")
    assert writer.flush(PATIENCE)
    path.rename(path.with_suffix(".1"))
    writer.write("two\n")
    assert writer.flush(PATIENCE)
    writer.reopen()
    writer.write("three\n")
    assert writer.flush(PATIENCE)
    assert path.with_suffix(".1").read_text() == "one\ntwo\n"
    assert path.read_text() == "three\n"


def test_a_file_that_cannot_be_opened_again_is_written_further(writer: LineWriter, path: pathlib.Path) -> None:
    moved = path.parent / "moved"
    path.rename(moved)
    path.mkdir()
    writer.reopen()
    writer.write("one\n")
    assert writer.flush(PATIENCE)
    assert moved.read_text() == "one\n"


def test_text_that_is_not_unicode_is_escaped(writer: LineWriter, path: pathlib.Path) -> None:
    writer.write("\ud800 é\n")
    assert writer.flush(PATIENCE)
    assert path.read_text(encoding="utf-8") == "\\ud800 é\n"


def test_the_event_of_a_request_has_what_twisted_gives_every_event() -> None:
    events: list[dict[str, Any]] = []
    log = Logger("test", observer=events.append)
    request = SimpleNamespace(
        request_id="1",
        accountability=None,
        session=None,
        project=None,
        method=b"GET",
        path=b"/caf\xc3\xa9",
        started=1.0,
        error_code=None,
    )
    log.info("{more}", more=1)
    logs.log_request(log, request, 200, 1.25, "127.0.0.1")
    given, found = events
    assert {name: given[name] for name in given if name not in ("more", "log_time", "log_format")}.items() <= found.items()
    assert given["log_time"] <= found["log_time"] <= time.time()
    assert formatEvent(found) == "GET /cafÃ© 200 250.0 ms"
    assert logs.text_line(found).endswith(" 1 127.0.0.1 - - GET /cafÃ© 200 250.0 ms 0 statements\n")


CONTROLS = [chr(number) for number in (*range(9), *range(11, 32), *range(127, 160), 0x2028, 0x2029)]


@pytest.mark.parametrize("write", [logs.text_line, logs.json_line])
def test_no_text_of_a_client_is_a_command_for_terminals_or_ends_a_line(write: Callable[[dict[str, Any]], str]) -> None:
    events: list[dict[str, Any]] = []
    log = Logger("test", observer=events.append)
    text = "a\n b\r" + "".join(CONTROLS) + "\x1b[31m é\u00a0"
    for path in (text, "/users/invite/" + text, quote(text) + "/users/invite/x"):
        request = SimpleNamespace(
            request_id="1",
            accountability=None,
            session=None,
            project=None,
            method=b"GET",
            path=path.encode("latin-1", "replace"),
            started=1.0,
            error_code=None,
        )
        logs.log_request(log, request, 200, 1.25, "127.0.0.1")
    log.info("{text}", text=text)
    try:
        raise ValueError(text)
    except ValueError:
        log.failure("{text}", text=text)
    for event in events:
        lines = write(event).split("\n")
        assert len(lines) == 2 or "log_failure" in event
        assert not {each for line in lines for each in line} & {*CONTROLS, "\r"}
        if write is logs.json_line:
            shown = json.loads(lines[0])
            assert shown["message"].startswith(("a\n", "GET "))
            assert shown["message"] == formatEvent(event)
