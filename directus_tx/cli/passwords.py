"""How commands take a password: generated, typed twice at a terminal, or read from standard input."""

import getpass
import secrets
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from directus_tx.cli.command import Failed

F = TypeVar("F", bound=Callable[..., Any])


def password_option(command: F) -> F:
    """Adds the option --generate, whose value `generate` is passed to `password`."""
    return click.option(
        "--generate", is_flag=True, help="Generate the password and print it, instead of asking for it or reading a line."
    )(command)


def password(*, generate: bool) -> tuple[str, dict[str, str]]:
    """Returns the password, and the values to show: the password if it was generated. Raises Failed if it is empty or the two that
    were typed differ."""
    if generate:
        made = secrets.token_urlsafe(12)
        return made, {"password": made}
    if sys.stdin.isatty():
        typed = getpass.getpass("Password: ")
        if typed and typed != getpass.getpass("Again: "):
            raise Failed("the passwords differ")
    else:
        typed = sys.stdin.readline().rstrip("\n")
    if not typed:
        raise Failed("the password is empty; type one, pipe one to standard input, or use --generate")
    return typed, {}
