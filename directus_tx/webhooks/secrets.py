"""The secrets of webhooks, sealed in directus_webhook_keys, and their owners."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from directus_tx.context import Context
from directus_tx.db.session import Session
from directus_tx.sealing import Keys
from directus_tx.webhooks.signing import new_secret

PURPOSE = "webhook"
"""The purpose for which secrets are sealed."""

OVERLAP = timedelta(days=1)
"""How long the former secret is valid after a new one was made, unless the caller says otherwise."""


async def add(ctx: Context, webhooks: Sequence[int]) -> None:
    """Gives new webhooks secrets, and the caller as their owner. *ctx* is in the transaction that creates them."""
    for webhook in webhooks:
        await ctx.db.query(
            "INSERT INTO directus_webhook_keys (webhook, owner, secret) VALUES (%s, %s, %s)",
            (webhook, ctx.accountability.user, ctx.keys.seal(PURPOSE, new_secret())),
        )


async def take_over(ctx: Context, webhooks: Sequence[int]) -> None:
    """Makes the caller the owner of webhooks."""
    await ctx.db.query(
        "INSERT INTO directus_webhook_keys (webhook, owner) SELECT id, %(owner)s FROM directus_webhooks WHERE id = ANY(%(webhooks)s)"
        " ON CONFLICT (webhook) DO UPDATE SET owner = %(owner)s",
        {"owner": ctx.accountability.user, "webhooks": list(webhooks)},
    )


async def read(ctx: Context, webhooks: Sequence[int]) -> Mapping[int, str]:
    """Returns the secrets of webhooks, by their ids."""
    rows = await ctx.db.query(
        "SELECT webhook, secret FROM directus_webhook_keys WHERE webhook = ANY(%s) AND secret IS NOT NULL", (list(webhooks),)
    )
    return {webhook: ctx.keys.unseal(PURPOSE, sealed) for webhook, sealed in rows}


async def rotate(ctx: Context, webhook: int, overlap: timedelta = OVERLAP) -> str:
    """Gives a webhook a new secret and returns it. The former one stays valid for the time *overlap*."""
    secret = new_secret()

    async def work(ctx: Context) -> None:
        await ctx.db.query(
            "INSERT INTO directus_webhook_keys AS k (webhook, owner, secret) VALUES (%(webhook)s, %(owner)s, %(secret)s)"
            " ON CONFLICT (webhook) DO UPDATE"
            " SET secret = %(secret)s, previous_secret = k.secret, previous_until = now() + %(overlap)s",
            {
                "webhook": webhook,
                "owner": ctx.accountability.user,
                "secret": ctx.keys.seal(PURPOSE, secret),
                "overlap": overlap,
            },
        )

    await ctx.transaction(work)
    return secret


async def valid(session: Session, keys: Keys, webhook: int) -> list[str]:
    """Returns the secrets that sign the requests of a webhook: the present one, and the former one as long as it is valid. Raises
    ValueError if they were sealed with a key that the project does not have."""
    rows = await session.query(
        "SELECT secret, CASE WHEN previous_until > now() THEN previous_secret END FROM directus_webhook_keys WHERE webhook = %s",
        (webhook,),
    )
    return [keys.unseal(PURPOSE, sealed) for row in rows for sealed in row if sealed is not None]
