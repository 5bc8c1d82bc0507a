"""Mail in the outbox: one message for each recipient, sealed, and erased after the delivery."""

from typing import Any

import orjson
from twisted.logger import Logger

from directus_tx.config import MailSettings
from directus_tx.context import Context
from directus_tx.mail.addresses import in_ascii
from directus_tx.mail.compose import Mail, Mailbox, encoded
from directus_tx.mail.server import MailServer, mail_server
from directus_tx.mail.smtp import Mailer, MailFailed
from directus_tx.outbox.kinds import Attempt, Delivery, Outcome
from directus_tx.outbox.messages import Message, enqueue

log = Logger()
KIND = "mail"
"""The kind of the messages, and the purpose for which they are sealed."""

NO_SERVER = (
    "The project has no mail server: neither the table mail of its project file nor the section [mail] of the server names one."
)
NO_SENDER = "noreply@localhost"
"""The sender if neither the project nor the server has one."""


async def queue(ctx: Context, mail: Mail, sender: Mailbox, subject: str = "") -> None:
    """Writes a mail to the outbox, as the messages that `messages_of` returns. *ctx* is in a transaction."""
    await enqueue(ctx, await messages_of(ctx, mail, sender, subject))


async def messages_of(ctx: Context, mail: Mail, sender: Mailbox, subject: str = "") -> list[Message]:
    """Returns the messages that deliver a mail. *sender* is the author if the mail has none. Bounces go to the sender of the mail server,
    or to *sender* if it has none. *subject* is that of the messages."""
    data = encoded(mail, sender, ctx.now).decode("ascii")
    messages = []
    async for recipient in ctx.in_slices(dict.fromkeys(each.addr_spec for each in mail.to)):
        content = orjson.dumps({"from": sender.addr_spec, "to": recipient, "data": data}).decode()
        messages.append(Message(KIND, KIND, {"sealed": ctx.keys.seal(KIND, content)}, subject, erased=True))
    return messages


def server_of(project: Any, settings: MailSettings) -> MailServer | None:
    """Returns the mail server of a project (`projects.project.Project`), or None. Raises ValueError."""
    return mail_server(project.config.mail, project.config.mail_from, settings)


class MailKind:
    """Delivers mails by SMTP. The mail server decides: 4xx is tried again, 5xx is final."""

    name = KIND

    def __init__(self, mailer: Mailer) -> None:
        self.mailer = mailer
        # To connect, to sign in, and to send.
        self.time_limit = 3 * mailer.settings.timeout

    async def deliver(self, project: Any, delivery: Delivery) -> Attempt:
        """Sends the mail. It is held if the project has no mail server."""
        problem = NO_SERVER
        try:
            server = server_of(project, self.mailer.settings)
        except ValueError as error:
            server, problem = None, f"The mail server of the project: {error}."
        if server is None:
            log.warn("project {project}: mail {id} is held: {why}", project=project.key, id=delivery.id, why=problem)
            return Attempt(Outcome.HELD, error=problem)
        try:
            content = orjson.loads(project.keys.unseal(KIND, delivery.message.payload["sealed"]))
        except ValueError:
            return Attempt(Outcome.DEAD, error="The mail is sealed with a key that the project does not have.")
        sender = in_ascii(server.sender) if server.sender else content["from"]
        try:
            reply = await self.mailer.send(server, sender, content["to"], content["data"].encode("ascii"))
        except MailFailed as error:
            return Attempt(Outcome.RETRY, error=str(error))
        if reply.accepted:
            return Attempt(Outcome.DELIVERED, reply.code, reply.text)
        outcome = Outcome.RETRY if reply.temporary else Outcome.DEAD
        return Attempt(outcome, reply.code, reply.text, f"The mail server answered {reply.code}.")
