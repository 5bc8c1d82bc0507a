"""What commands write: results on standard output, as text or JSON; notes, questions and progress on standard error.

Much of it comes from users and other servers, such as names, user agents and replies: control characters are escaped."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from attrs import frozen

from directus_tx.control_codes import escaped, in_one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

# rich is imported where it is used: most commands write plain lines, and its import takes as long as those of the rest of the command line.


@frozen
class Output:
    """The output of one command. Colours and tables with lines are used only if it is a terminal."""

    as_json: bool = False

    def result(self, value: Any, *lines: str) -> None:
        """Writes the result: *value* as JSON with --json, otherwise *lines*."""
        if self.as_json:
            self.json(value)
        else:
            sys.stdout.write("".join(f"{escaped(line)}\n" for line in lines))

    def json(self, value: Any, indent: int | None = None) -> None:
        """Writes a value as JSON."""
        sys.stdout.write(escaped(json.dumps(value, indent=indent, ensure_ascii=False, default=str)) + "\n")

    def table(self, value: Any, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Writes *value* as JSON with --json, otherwise a table: with lines at a terminal, with tabs between the columns and without
        a head otherwise, for other programs."""
        if self.as_json:
            self.json(value)
        elif sys.stdout.isatty():
            from rich.table import Table

            table = Table(*columns, header_style="bold")
            for row in rows:
                table.add_row(*(_cell(each) for each in row))
            _console().print(table)
        else:
            for row in rows:
                sys.stdout.write("\t".join(_cell(each) for each in row) + "\n")

    def note(self, text: str) -> None:
        """Writes a note for the person at the terminal."""
        sys.stderr.write(f"directus: {escaped(text)}\n")
        sys.stderr.flush()

    def working(self, text: str) -> AbstractContextManager[Any]:
        """Returns a context in which a terminal shows that work is going on."""
        return _console(stderr=True).status(text) if sys.stderr.isatty() else nullcontext()

    def progress(self) -> "Progress":
        """Returns a progress bar, which is shown only at a terminal. Use it as a context and add tasks to it."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        return Progress(*columns, console=_console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def _console(*, stderr: bool = False) -> "Console":
    from rich.console import Console

    # What is written is shown as it is: texts of users may have square brackets, and names of emoji between colons.
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return ("yes" if value else "no") if isinstance(value, bool) else in_one_line(str(value)).replace("\t", " ")


def lines_of(shown: Mapping[str, str]) -> list[str]:
    """Returns a line for each value, for example a generated password."""
    return [f"{name}: {value}" for name, value in shown.items()]
