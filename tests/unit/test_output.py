"""What commands write: no text of a user is a command for the terminal, another line or another column."""

import io
import json
import sys
from typing import Any

import pytest

from directus_tx.cli.output import Output

CONTROLS = [chr(number) for number in (*range(9), *range(11, 32), *range(127, 160), 0x2028, 0x2029)]
TEXT = "é\u00a0\x1b[31m" + "".join(CONTROLS)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
@pytest.mark.parametrize("as_json", [False, True])
def test_control_characters_are_escaped(monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], as_json: bool) -> None:
    written = stream()
    monkeypatch.setattr(sys, "stdout", written)
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    output = Output(as_json=as_json)
    output.result({"name": TEXT}, TEXT)
    output.table([{"name": TEXT}], ("name", "note"), [(TEXT, None)])
    output.json({"name": TEXT}, indent=2)
    output.note(TEXT)
    assert not {*CONTROLS, "\r"} & set(written.getvalue())
    assert "é" in written.getvalue()
    assert "\\u001b[31m" in written.getvalue()


@pytest.mark.parametrize("text", ["a\nb", "a\tb", "a\r\nb"])
def test_a_row_is_one_line_and_a_cell_one_column(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    Output().table([], ("one", "two"), [(text, 1)])
    (line,) = written.getvalue().splitlines()
    assert len(line.split("\t")) == 2


@pytest.mark.parametrize("value", [TEXT, ["a\nb\tc"], {"\x9b": TEXT}])
def test_json_is_read_as_it_was(monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    Output(as_json=True).json(value)
    assert json.loads(written.getvalue()) == value
