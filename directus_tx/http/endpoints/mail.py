"""/:project/mail: sends a mail that a user has written."""

from functools import partial
from typing import Any

from markupsafe import Markup

from directus_tx.errors import InvalidPayload, InvalidRequest, UserUnknown
from directus_tx.http.answers import Answer, Empty
from directus_tx.http.operations import ANY, FLAG, TEXT, Operation
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.mail import compose, templates
from directus_tx.mail.addresses import is_mailable
from directus_tx.mail.compose import Mail, Mailbox
from directus_tx.mail.delivery import queue
from directus_tx.mail.users import mailboxes
from directus_tx.threads import OneAtATime

routes = Routes()
MAX_SUBJECT = 1000
"""The maximum length of a subject, in characters."""

MAX_TOTAL = 16 * 2**20
"""The maximum length of a mail times the number of its recipients, in characters: each gets a message of the outbox."""

FEW = 300
"""The tags, character references and placeholders up to which a body is parsed at once, which takes about a millisecond. Others are parsed
in another thread."""

WAITING = 50
"""The maximum number of mails that wait for that thread."""

_parsing = OneAtATime("Too many mails are being written; try again shortly.", queue=WAITING, headers={"Retry-After": "5"})

_RECIPIENT = {"anyOf": [TEXT, {"type": "integer", "description": "The id of an active user."}, ANY]}
PAYLOAD = {
    "type": "object",
    "required": ["to", "body"],
    "properties": {
        "to": {"anyOf": [_RECIPIENT, {"type": "array", "items": _RECIPIENT}]},
        "subject": TEXT,
        "body": {"type": "string", "description": "With placeholders such as {{name}} or {{place.town}}."},
        "type": {"type": "string", "enum": ["html", "plain"]},
        "data": {**ANY, "description": "The values of the placeholders."},
        "use_default_email": {**FLAG, "description": "Administrators: send it from the address of the project."},
    },
}


@routes.post(
    "/<project>/mail",
    Caller.SIGNED_IN,
    Operation("Send a mail", payload=PAYLOAD),
    refusal=UserUnknown,
    public_refusal=UserUnknown,
)
async def send(call: Call) -> Answer:
    """Writes the mail to the outbox. Raises InvalidRequest for missing attributes and those of a wrong kind, InvalidPayload for recipients
    that no mail can be sent to."""
    payload = await call.item()
    to, body, subject, kind, data = (payload.get(name) for name in ("to", "body", "subject", "type", "data"))
    if to is None or to in ([], ""):
        raise InvalidRequest('"to" is required: an address, the id of a user, an object with email and name, or a list of these.')
    if not isinstance(body, str) or not body:
        raise InvalidRequest('"body" must be a text that is not empty.')
    if not isinstance(subject, (str, type(None))):
        raise InvalidRequest('"subject" must be a text.')
    if len(subject or "") > MAX_SUBJECT:
        raise InvalidRequest(f'"subject" must have at most {MAX_SUBJECT} characters.')
    if kind not in (None, "html", "plain"):
        raise InvalidRequest('"type" must be html or plain.')
    if not isinstance(data, (dict, type(None))):
        raise InvalidRequest('"data" must be an object.')
    settings = call.services.settings.mail
    if len(body) > settings.max_size:
        raise InvalidRequest(f'"body" must have at most {settings.max_size} characters (mail.max_size).')
    recipients = await _recipients(call, to if isinstance(to, list) else [to])
    default = call.project.config.mail_from or settings.sender
    me = call.ctx.accountability.user
    author = (await mailboxes(call.ctx, [me]))[me] if me is not None else compose.mailbox(default)
    if payload.get("use_default_email") and call.ctx.accountability.admin and default:
        if not is_mailable(default):
            raise InvalidRequest("The address of the project (mail_from) is not an address that mail can be sent from.")
        author = compose.mailbox(default, call.ctx.schema.setting("project_name"))
    fill = partial(compose.filled, body, data or {}, html=kind != "plain", most=settings.max_size)
    few = sum(map(body.count, "<&{")) <= FEW
    text = fill() if few else await _parsing.run(fill)
    html = None
    if kind != "plain":
        # The body has been reduced to harmless tags.
        rendered = templates.render(
            call.services.projects.mail_templates(call.ctx.project), call.ctx, "mail", {"body": Markup(text)}
        )
        html, text = rendered.html, compose.as_text(text) if few else await _parsing.run(compose.as_text, text)
    if (len(text) + len(html or "")) * len(recipients) > MAX_TOTAL:
        raise InvalidRequest(f"The mail, once for each recipient, must have at most {MAX_TOTAL} characters.")
    mail = Mail(recipients, subject or "", text, html, author)
    await call.ctx.transaction(lambda ctx: queue(ctx, mail, author))
    return Empty()


async def _recipients(call: Call, named: list[Any]) -> list[Mailbox]:
    """Returns the mailboxes of addresses, ids of active users, and objects with `email` and `name`. Raises InvalidPayload and
    InvalidRequest."""
    most = call.services.settings.mail.max_recipients
    if len(named) > most:
        raise InvalidRequest(f"A mail may have up to {most} recipients (mail.max_recipients).")
    ids = [each for each in named if isinstance(each, int) and not isinstance(each, bool) and 0 < each < 2**63]
    users = await mailboxes(call.ctx, ids)
    found = []
    for each in named:
        if isinstance(each, str):
            found.append(compose.mailbox(each))
        elif isinstance(each, dict) and isinstance(each.get("email"), str) and isinstance(each.get("name"), str):
            found.append(compose.mailbox(each["email"], each["name"]))
        elif isinstance(each, int) and not isinstance(each, bool) and each in users:
            found.append(users[each])
        elif isinstance(each, int) and not isinstance(each, bool):
            raise InvalidPayload(f"There is no active user {each}.")
        else:
            raise InvalidPayload("A recipient must be an address, the id of a user, or an object with email and name.")
    return found
