"""/:project/users/invite: inviting users, and accepting an invitation; and the pages that links in mails lead to."""

import contextlib
from collections.abc import Mapping

from attrs import evolve

from directus_tx.accounts.invitations import accept, invite
from directus_tx.accounts.links import INVITATION, RESET
from directus_tx.accounts.mails import LinkMails, pages_of
from directus_tx.accounts.sso.redirects import origin_of
from directus_tx.accounts.sso.settings import sign_on_settings
from directus_tx.config import public_url
from directus_tx.http import pages
from directus_tx.http.answers import Answer, Text
from directus_tx.http.operations import TEXT, Items, Operation, Shape, record
from directus_tx.http.payload import size_of
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.mail.addresses import in_ascii
from directus_tx.mail.compose import MAX_NAME, Mailbox
from directus_tx.mail.delivery import NO_SENDER

routes = Routes()
PRIVATE: Mapping[str, str] = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
PAGES: Mapping[str, str] = {RESET: "auth/password/reset", INVITATION: "users/invite"}
"""The paths of the pages of the server, in a project, that links go to."""

INVITED = {
    "type": "object",
    "required": ["email"],
    "properties": {"email": {"anyOf": [TEXT, {"type": "array", "items": TEXT}]}, "role": {"type": "integer"}},
}
ACCEPTING = Operation("Accept an invitation", Items(Shape.ITEM, "directus_users"))


@routes.post("/<project>/users/invite", Caller.PUBLIC, Operation("Invite users", Items(Shape.LIST, "directus_users"), INVITED))
async def invite_users(call: Call) -> Answer:
    found = await invite(call.items, call.ctx, call.project, link_mails(call), call.services.settings, await call.item())
    return call.answer(found)


PAGE = Operation("The page that asks for a new password, for browsers", TEXT, media_type="text/html")


@routes.get("/<project>/auth/password/reset", Caller.ANONYMOUS, PAGE)
async def password_page(call: Call) -> Answer:
    return _page(invited=False)


@routes.get("/<project>/users/invite", Caller.ANONYMOUS, PAGE)
async def invitation_page(call: Call) -> Answer:
    return _page(invited=True)


def _page(*, invited: bool) -> Text:
    found = pages.password_page(invited=invited)
    return Text(found.html, headers={**PRIVATE, "Content-Security-Policy": found.policy})


@routes.get("/<project>/users/invite/<token>", Caller.ANONYMOUS, ACCEPTING, guarded=True)
@routes.post("/<project>/users/invite/<token>", Caller.ANONYMOUS, evolve(ACCEPTING, payload=record(password=TEXT)), guarded=True)
async def accept_invitation(call: Call) -> Answer:
    payload = await call.item() if size_of(call.request.content) else {}
    for name, value in PRIVATE.items():
        call.request.setHeader(name, value)
    return call.answer(await accept(call.items, call.ctx, call.project, call.path["token"], payload))


def link_mails(call: Call) -> LinkMails:
    """Returns how the project of a call mails links."""
    settings, config, key = call.services.settings, call.project.config, call.project.key
    base = public_url(settings.server)
    sender = config.mail_from or settings.mail.sender or NO_SENDER
    named, _ = pages_of(config.auth)
    origins = {*sign_on_settings(config.auth).redirect_origins}
    if settings.server.public_url:
        origins.add(origin_of(base))
    if config.mail_from and config.auth.get("redirect_origins") is None:
        # As in Directus 8, a project that names no origins mails links to the site that its mails come from.
        with contextlib.suppress(ValueError):
            origins.add(origin_of(f"https://{in_ascii(config.mail_from).rpartition('@')[2]}"))
    name = call.ctx.schema.setting("project_name")[:MAX_NAME]
    return LinkMails(
        call.services.projects.mail_templates(key),
        Mailbox(sender, name),
        {kind: f"{base}/{key}/{path}" for kind, path in PAGES.items()} | named,
        origins,
    )
