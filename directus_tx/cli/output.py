"""What commands write: results on standard output, as text or JSON; notes, questions and progress on standard error."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from attrs import field, frozen
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table


def _on_standard_error() -> Console:
    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def _on_standard_output() -> Console:
    return Console(highlight=False, markup=False, soft_wrap=True)


@frozen
class Output:
    """The output of one command. Colours and tables with lines are used only if it is a terminal."""

    as_json: bool = False
    results: Console = field(factory=_on_standard_output)
    notes: Console = field(factory=_on_standard_error)

    def result(self, value: Any, *lines: str) -> None:
        """Writes the result: *value* as JSON with --json, otherwise *lines*."""
        if self.as_json:
            self.json(value)
        else:
            for line in lines:
                self.results.print(line)

    def json(self, value: Any, indent: int | None = None) -> None:
        """Writes a value as JSON."""
        sys.stdout.write(json.dumps(value, indent=indent, ensure_ascii=False, default=str) + "\n")

    def table(self, value: Any, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Writes *value* as JSON with --json, otherwise a table: with lines at a terminal, with tabs between the columns and without
        a head otherwise, for other programs."""
        if self.as_json:
            self.json(value)
        elif self.results.is_terminal:
            table = Table(*columns, header_style="bold")
            for row in rows:
                table.add_row(*(_cell(each) for each in row))
            self.results.print(table)
        else:
            for row in rows:
                sys.stdout.write("\t".join(_cell(each) for each in row) + "\n")

    def note(self, text: str) -> None:
        """Writes a note for the person at the terminal."""
        self.notes.print(f"directus: {text}")

    def working(self, text: str) -> AbstractContextManager[Any]:
        """Returns a context in which a terminal shows that work is going on."""
        return self.notes.status(text) if self.notes.is_terminal else nullcontext()

    def progress(self) -> Progress:
        """Returns a progress bar, which is shown only at a terminal. Use it as a context and add tasks to it."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        return Progress(*columns, console=self.notes, transient=True, disable=not self.notes.is_terminal)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def lines_of(shown: Mapping[str, str]) -> list[str]:
    """Returns a line for each value, for example a generated password."""
    return [f"{name}: {value}" for name, value in shown.items()]
