"""The `directus` command: the list of its commands, and what it writes."""

import io
import re
import sys

import click
import pytest
from click.shell_completion import CompletionItem
from click.testing import CliRunner

from directus_tx.cli.main import Commands, LazyCommand, directus
from directus_tx.cli.output import Output

LIMITLESS = 10_000
OWN = [each for each in directus.commands.values() if isinstance(each, LazyCommand)]


@pytest.mark.parametrize("own", OWN, ids=lambda own: str(own.name))
def test_the_list_of_commands_shows_what_they_say_of_themselves(own: LazyCommand) -> None:
    command = own.imported()
    assert not isinstance(command, LazyCommand)
    assert (command.name, command.get_short_help_str(LIMITLESS)) == (own.name, own.help)
    assert not command.hidden


def group() -> Commands:
    """A group of a command that has been imported and others that have not, and two of plugins, one of which is hidden."""
    found = Commands("directus", commands=[*OWN, click.Command("ready", help="Is imported.")])
    plugins = [click.Command("greet", help="Greets."), click.Command("secret", help="Is hidden.", hidden=True)]
    found._of_plugins = {str(each.name): each for each in plugins}
    return found


def shown(completions: list[CompletionItem]) -> list[tuple[str, str | None]]:
    return [(each.value, each.help) for each in completions]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_lists_are_those_of_click(width: int) -> None:
    """The help and the completions are as if all commands had been imported, and click listed them."""
    lazy, whole = group(), group()
    whole.commands.update({name: each.imported() for name, each in whole.commands.items() if isinstance(each, LazyCommand)})
    context, other = (click.Context(each, info_name="directus", terminal_width=width) for each in (lazy, whole))
    expected = other.make_formatter()
    click.Group.format_commands(whole, other, expected)
    formatter = context.make_formatter()
    lazy.format_commands(context, formatter)
    assert formatter.getvalue() == expected.getvalue()
    assert "greet" in formatter.getvalue()
    assert "secret" not in formatter.getvalue()
    for incomplete in ("", "p", "project", "g", "s", "r", "-", "--he", "x"):
        completed = click.Group.shell_complete(whole, other, incomplete)
        assert shown(lazy.shell_complete(context, incomplete)) == shown(completed)
    assert any(isinstance(each, LazyCommand) for each in lazy.commands.values())


def test_a_command_is_imported_once_it_is_used() -> None:
    found = group()
    done = CliRunner().invoke(found, ["user", "--help"])
    assert (done.exit_code, "unlock" in done.output) == (0, True)
    assert {name for name, each in found.commands.items() if not isinstance(each, LazyCommand)} == {"ready", "user"}
    wrong = CliRunner().invoke(found, ["usr"])
    assert (wrong.exit_code, "'user'" in wrong.output) == (2, True)


TEXTS = ["[bold]b[/bold]", ":smile:", "a:star:b", "ä ✓", "x" * 200]


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_written_as_they_are(monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO], text: str) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    results, notes = stream(), stream()
    monkeypatch.setattr(sys, "stdout", results)
    monkeypatch.setattr(sys, "stderr", notes)
    output = Output()
    output.result({}, text, text)
    output.note(text)
    assert (results.getvalue(), notes.getvalue()) == (f"{text}\n{text}\n", f"directus: {text}\n")
    output.table([], ["name"], [[text], [None], [True]])
    assert results.getvalue().count(text) == 3
    assert ("yes\n" in results.getvalue()) == (stream is io.StringIO)
    with output.working(text), output.progress() as progress:
        progress.advance(progress.add_task("working", total=1))
    assert (len(notes.getvalue()) > len(f"directus: {text}\n")) == (stream is Terminal)


GROUPS = [(), *((str(own.name),) for own in OWN if isinstance(own.imported(), click.Group))]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: "-".join(group) or "directus")
def test_lists_of_commands_fit_into_80_columns(group: tuple[str, ...]) -> None:
    """Click cuts what is longer and ends it with dots."""
    done = CliRunner().invoke(directus, [*group, "--help"], terminal_width=80)
    _, commands = done.output.split("Commands:\n")
    assert [line for line in commands.splitlines() if not re.fullmatch(r"  [a-z-]+ +\S.*[^.]\.", line)] == []
