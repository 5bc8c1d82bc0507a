"""directus mail."""

import click

from directus_tx.cli.command import Environment, Failed, online
from directus_tx.errors import InvalidPayload
from directus_tx.mail import compose, templates
from directus_tx.mail.delivery import NO_SENDER, NO_SERVER, server_of
from directus_tx.mail.server import MailServer
from directus_tx.mail.smtp import MailFailed


@click.group()
def mail() -> None:
    """Try the mail server of a project."""


@mail.command("test")
@click.argument("address")
@click.option("--project", "named", metavar="KEY", help="The project, if there are several.")
@online
async def test(environment: Environment, address: str, named: str | None) -> None:
    """Send a test mail, and show the reply of the mail server.

    The mail is sent at once, without the outbox.

    \b
    Example:
      directus mail test somebody@example.com --project shop
    """
    project = named or _only_project(environment)
    ctx = await environment.context(project)
    backend = environment.backend
    found = backend.projects.get(project)
    try:
        server = server_of(found, backend.settings.mail)
        recipient = compose.mailbox(address)
        sender = compose.mailbox(server.sender) if server and server.sender else compose.Mailbox(NO_SENDER)
    except ValueError as error:
        raise Failed(f"the mail server of {project}: {error}") from None
    except InvalidPayload as error:
        raise Failed(error.message) from None
    if server is None:
        raise Failed(NO_SERVER)
    rendered = templates.render(backend.projects.mail_templates(project), ctx, "test", {})
    subject = f"Test mail of {ctx.schema.setting('project_name') or project}"
    written = compose.Mail([recipient], subject, rendered.text, rendered.html, automatic=True)
    data = compose.encoded(written, sender, ctx.now)
    try:
        reply = await backend.mailer.send(server, sender.addr_spec, recipient.addr_spec, data)
    except MailFailed as error:
        raise Failed(f"{described(server)}: {error}") from None
    if not reply.accepted:
        raise Failed(f"{described(server)} refused the mail: {reply.code} {reply.text}")
    result = {"server": f"{server.host}:{server.port}", "code": reply.code, "text": reply.text}
    environment.output.result(result, f"{described(server)} accepted the mail: {reply.code} {reply.text}")


def _only_project(environment: Environment) -> str:
    """Returns the key of the only project. Raises Failed if there are none or several."""
    keys = environment.backend.projects.files.keys(private=True)
    if len(keys) != 1:
        raise Failed(f"name a project with --project: {', '.join(keys)}" if keys else "there is no project")
    return keys[0]


def described(server: MailServer) -> str:
    """Returns how a mail server is used, in words, without the password."""
    user = f" as {server.username}" if server.username else ""
    return f"mail server {server.host}:{server.port} ({server.encryption}){user}"
