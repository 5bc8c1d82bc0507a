"""The `directus` command for administrators of the server. It uses the configuration and the services of the server."""

import argparse
import getpass
import json
import os
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.internet import defer, task

from directus_tx import config
from directus_tx.context import ADMINISTRATOR, Accountability, Context, moment
from directus_tx.db.session import Session
from directus_tx.db.sqlstate import without_values
from directus_tx.embedded import EmbeddedError
from directus_tx.errors import ApiError, InternalError
from directus_tx.items import create_items, update_items
from directus_tx.projects.provisioning import checked
from directus_tx.query import Query, WriteOptions
from directus_tx.service import Backend
from directus_tx.system.roles import export_roles, import_roles

USERS = "directus_users"
OK, FAILED, MISUSED = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command. The exit status is 0 if it succeeds, 1 if it fails, 2 if the arguments or the configuration are invalid."""
    parser = _parser()
    options = parser.parse_args(arguments)
    overrides: dict[tuple[str, str], Any] = {("server", "data_dir"): options.data_dir} if options.data_dir else {}
    try:
        settings = config.load(options.config, os.environ, overrides)
    except config.ConfigError as error:
        _complain("the configuration is invalid:", *error.mistakes)
        sys.exit(MISUSED)
    if options.offline is not None:
        options.offline(options, settings)
        sys.exit(OK)
    task.react(lambda reactor: defer.ensureDeferred(_online(reactor, options, settings)))


async def _online(reactor: Any, options: argparse.Namespace, settings: config.Settings) -> None:
    backend = Backend(settings, reactor)
    try:
        await backend.open()
        if backend.new_super_admin_token:
            _complain(f"the super admin token is {backend.new_super_admin_token} (shown this once)")
        try:
            await options.command(options, backend)
        finally:
            await backend.close()
    except ApiError as error:
        _complain(_told(error))
        raise SystemExit(FAILED) from None
    except EmbeddedError as error:
        _complain(str(error))
        raise SystemExit(FAILED) from None


# --- commands


async def project_list(options: argparse.Namespace, backend: Backend) -> None:
    """Lists all projects, including private ones."""
    files = backend.projects.files
    public = set(files.keys())
    rows = [{"project": key, "private": key not in public} for key in files.keys(private=True)]
    _show(options, rows, "\n".join(f"{row['project']}{'  (private)' if row['private'] else ''}" for row in rows))


async def project_create(options: argparse.Namespace, backend: Backend) -> None:
    """Creates a project with its administrator."""
    password, shown = _password(options)
    attributes = {
        "project": options.project,
        "project_name": options.name or options.project,
        "user_email": options.email,
        "user_password": password,
        "super_admin_token": backend.projects.super_admin_token(),
        "private": options.private,
    }
    await backend.projects.create(checked(attributes))
    _show(
        options,
        {"project": options.project, "email": options.email} | shown,
        "\n".join([f"project {options.project} created, administrator {options.email}", *_said(shown)]),
    )


async def project_delete(options: argparse.Namespace, backend: Backend) -> None:
    """Deletes a project. Asks the user to type its key, unless --yes is given."""
    if not options.yes and _answer(f"Delete project {options.project} and its database? Type its key: ") != options.project:
        _complain("not deleted; use --yes to delete without confirmation")
        raise SystemExit(FAILED)
    await backend.projects.delete(options.project)
    _show(options, {"project": options.project}, f"project {options.project} deleted")


async def user_create(options: argparse.Namespace, backend: Backend) -> None:
    """Creates an active user of a project."""
    password, shown = _password(options)
    ctx = await _context(backend, options.project)
    payload = {"email": options.email, "password": password, "role": options.role, "status": "active"}
    payload |= {"first_name": options.first_name, "last_name": options.last_name}
    result = await create_items(backend.items, ctx, USERS, payload, Query(fields=("id", "email", "role")), WriteOptions())
    _show(options, result.data | shown, "\n".join([f"user {result.data['id']} created", *_said(shown)]))


async def user_password(options: argparse.Namespace, backend: Backend) -> None:
    """Sets the password of a user, found by e-mail address."""
    ctx = await _context(backend, options.project)
    rows = await ctx.db.query("SELECT id FROM directus_users WHERE lower(email) = lower(%s)", (options.email,))
    if not rows:
        _complain(f"there is no user {options.email}")
        raise SystemExit(FAILED)
    password, shown = _password(options)
    await update_items(
        backend.items, ctx, USERS, [str(rows[0][0])], {"password": password}, Query(fields=("id",)), WriteOptions()
    )
    _show(options, {"id": rows[0][0]} | shown, "\n".join([f"password of {options.email} changed", *_said(shown)]))


async def permissions_export(options: argparse.Namespace, backend: Backend) -> None:
    """Writes the roles of a project and their permissions as a JSON document."""
    document = export_roles(await _context(backend, options.project))
    sys.stdout.write(json.dumps(document, indent=None if options.json else 2, ensure_ascii=False) + "\n")


async def permissions_import(options: argparse.Namespace, backend: Backend) -> None:
    """Changes the roles of a project to match a document, and shows the changes. With --dry-run only shows them."""
    try:
        with sys.stdin if options.file == "-" else open(options.file, encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError) as error:
        _complain(f"{options.file}: {error}")
        raise SystemExit(FAILED) from None
    ctx = await _context(backend, options.project)
    done = await import_roles(backend.items, ctx, document, WriteOptions(), dry_run=options.dry_run)
    lines = [
        " ".join(
            [change["action"], change["role"]]
            + [f"{change[name]}" for name in ("collection", "status") if change.get(name)]
            + [json.dumps(change[name], ensure_ascii=False) for name in ("before", "after") if change[name] is not None]
        )
        for change in done["changes"]
    ]
    end = "nothing to change" if not lines else f"{len(lines)} changes{' would be made' if options.dry_run else ' made'}"
    _show(options, done, "\n".join([*lines, end]))


async def migrate(options: argparse.Namespace, backend: Backend) -> None:
    """Opens every project. Opening a project brings its system tables up to date."""
    failed = []
    for key in backend.projects.files.keys(private=True):
        try:
            await backend.projects.get(key).snapshot()
        except ApiError as error:
            failed.append(key)
            _complain(f"{key}: {_told(error)}")
    _show(options, {"failed": failed}, "all projects are up to date" if not failed else f"{len(failed)} projects failed")
    if failed:
        raise SystemExit(FAILED)


def config_check(options: argparse.Namespace, settings: config.Settings) -> None:
    _show(options, {"ok": True}, "the configuration is valid")


def config_show(options: argparse.Namespace, settings: config.Settings) -> None:
    """Shows the settings, one per line."""
    described = config.described(settings)
    lines = []
    for name, value in described.items():
        if isinstance(value, dict):
            lines += [f"{name}.{key} = {json.dumps(each)}" for key, each in value.items()]
        else:
            lines.append(f"{name} = {json.dumps(value)}")
    _show(options, described, "\n".join(lines))


# --- helpers


async def _context(backend: Backend, key: str) -> Context:
    """Returns the context of commands: the administrator role, but no user."""
    project = backend.projects.get(key)
    schema = await project.snapshot()
    who = Accountability(None, ADMINISTRATOR, "", "directus command")
    return Context(key, schema, who, moment(time.time()), Session(project.database), "command")


def _answer(question: str) -> str:
    """Asks a question on standard error, so that standard output has only the result. Returns an empty text at the end of input."""
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().rstrip("\n")


def _password(options: argparse.Namespace) -> tuple[str, dict[str, str]]:
    """Returns the password, and the values to show: the password if it was generated. Without --generate the password is typed twice at a
    terminal, or read from a pipe."""
    if options.generate:
        password = secrets.token_urlsafe(12)
        return password, {"password": password}
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n"), {}
    password = getpass.getpass("Password: ")
    if password != getpass.getpass("Again: "):
        _complain("the passwords differ")
        raise SystemExit(FAILED)
    return password, {}


def _said(shown: dict[str, str]) -> list[str]:
    return [f"{name}: {value}" for name, value in shown.items()]


def _show(options: argparse.Namespace, value: Any, text: str) -> None:
    sys.stdout.write((json.dumps(value) if options.json else text) + "\n")


def _told(error: ApiError) -> str:
    """Returns the message of an error for the user of the command. Internal errors have more details than clients get."""
    return without_values(error) if isinstance(error, InternalError) else error.message


def _complain(*lines: str) -> None:
    sys.stderr.write("directus: " + "\n  ".join(lines) + "\n")


Command = Callable[[argparse.Namespace, Backend], Awaitable[None]]


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", "-c", help="configuration file (TOML)")
    common.add_argument("--data-dir", "-d", help="directory of the projects and the embedded database")
    common.add_argument("--json", action="store_true", help="write the result as JSON")
    passwords = argparse.ArgumentParser(add_help=False)
    passwords.add_argument("--generate", action="store_true", help="generate the password and print it")

    parser = argparse.ArgumentParser(prog="directus", description="Manages the projects of a directus_tx server.")
    groups = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(group: Any, name: str, about: str, command: Command | None = None, **options: Any) -> argparse.ArgumentParser:
        offline = options.pop("offline", None)
        added: argparse.ArgumentParser = group.add_parser(name, help=about, description=about, **options)
        added.set_defaults(command=command, offline=offline)
        return added

    project = groups.add_parser("project", help="list, create and delete projects").add_subparsers(
        required=True, metavar="ACTION"
    )
    add(project, "list", "List the projects.", project_list, parents=[common])
    create = add(project, "create", "Create a project and its administrator.", project_create, parents=[common, passwords])
    create.add_argument("project")
    create.add_argument("--email", required=True, help="the administrator's e-mail address")
    create.add_argument("--name", help="the project's name")
    create.add_argument("--private", action="store_true", help="do not show the project in lists")
    delete = add(project, "delete", "Delete a project with its database.", project_delete, parents=[common])
    delete.add_argument("project")
    delete.add_argument("--yes", action="store_true", help="do not ask for confirmation")

    user = groups.add_parser("user", help="create users, set passwords").add_subparsers(required=True, metavar="ACTION")
    create = add(user, "create", "Create an active user.", user_create, parents=[common, passwords])
    create.add_argument("project")
    create.add_argument("email")
    create.add_argument("--role", type=int, default=ADMINISTRATOR, help="the id of the role (default: administrator)")
    create.add_argument("--first-name")
    create.add_argument("--last-name")
    password = add(user, "password", "Set a user's password.", user_password, parents=[common, passwords])
    password.add_argument("project")
    password.add_argument("email")

    rights = groups.add_parser("permissions", help="export and import roles and permissions").add_subparsers(
        required=True, metavar="ACTION"
    )
    export = add(rights, "export", "Write roles and their permissions as JSON.", permissions_export, parents=[common])
    export.add_argument("project")
    bring = add(rights, "import", "Change roles and permissions to match a document.", permissions_import, parents=[common])
    bring.add_argument("project")
    bring.add_argument("file", help='the document, or "-" for standard input')
    bring.add_argument("--dry-run", action="store_true", help="show the changes without making them")

    add(groups, "migrate", "Bring the system tables of all projects up to date.", migrate, parents=[common])

    settings = groups.add_parser("config", help="check and show the configuration").add_subparsers(
        required=True, metavar="ACTION"
    )
    add(settings, "check", "Check the configuration.", offline=config_check, parents=[common])
    add(settings, "show", "Show all settings, without secrets.", offline=config_show, parents=[common])
    return parser


if __name__ == "__main__":
    main()
