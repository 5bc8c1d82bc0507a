"""The mailboxes of users."""

from collections.abc import Mapping, Sequence

from directus_tx.context import Context
from directus_tx.mail.compose import Mailbox, mailbox


async def mailboxes(ctx: Context, users: Sequence[int]) -> Mapping[int, Mailbox]:
    """Returns the mailboxes of those users who are active, by their ids. Raises InvalidPayload if mail cannot be sent to one."""
    if not users:
        return {}
    rows = await ctx.db.query(
        "SELECT id, email, concat_ws(' ', first_name, last_name) FROM directus_users WHERE id = ANY(%s) AND status = 'active'",
        (list(users),),
    )
    return {id: mailbox(email, name) for id, email, name in rows}
