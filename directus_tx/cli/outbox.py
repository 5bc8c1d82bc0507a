"""directus outbox."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import click

from directus_tx.cli.command import Environment, Failed, online
from directus_tx.db.session import Session
from directus_tx.outbox import records

LISTED = ("id", "kind", "destination", "subject", "state", "attempts", "created_on", "next_attempt", "error")
ATTEMPT = ("started_on", "duration", "outcome", "status", "error")
"""What --json shows of an attempt. The answers of receivers are left out, because they may repeat what was sent to them."""

UNDELIVERED = ("pending", "dead", "held")
"""The states that `retry` and `drop` look at if neither ids nor a state are given."""

LARGEST = 2**63 - 1
"""The largest id."""

Change = Callable[..., Awaitable[int]]


@click.group()
def outbox() -> None:
    """List, retry and remove messages of webhooks and mail."""


_ids = click.argument("ids", nargs=-1, type=click.IntRange(1, LARGEST), metavar="[ID]...")
_state = click.option("--state", type=click.Choice(records.STATES), help="Only messages in this state.")
_kind = click.option("--kind", metavar="KIND", help="Only messages of this kind, for example webhook or mail.")
_all = click.option("--all", "everything", is_flag=True, help="All messages that have not been delivered.")


@outbox.command("list")
@click.argument("project")
@_ids
@_state
@_kind
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="The maximum number of messages.")
@online
async def list_messages(
    environment: Environment, project: str, ids: Sequence[int], state: str | None, kind: str | None, limit: int
) -> None:
    """List messages of a project, the newest first, without their contents.

    \b
    Examples:
      directus outbox list shop
      directus outbox list shop --state dead
    """
    ctx = await environment.context(project)
    found = await records.read(ctx.db, ids=ids or None, state=state, kind=kind, limit=limit)
    rows = [[len(each["attempts"]) if name == "attempts" else each[name] for name in LISTED] for each in found]
    environment.output.table([_shown(each) for each in found], LISTED, rows)


def _shown(record: records.Record) -> dict[str, Any]:
    attempts = [{name: attempt[name] for name in ATTEMPT} for attempt in record["attempts"]]
    return dict(record) | {"attempts": attempts}


@outbox.command("retry")
@click.argument("project")
@_ids
@_state
@_kind
@_all
@online
async def retry_messages(
    environment: Environment, project: str, ids: Sequence[int], state: str | None, kind: str | None, everything: bool
) -> None:
    """Deliver messages again now.

    Each is tried as often as a new message. Messages that are being delivered, and those whose contents were erased after their
    delivery, are left as they are. Delivered messages are delivered again only if their ids or --state delivered are given.

    \b
    Examples:
      directus outbox retry shop --state dead
      directus outbox retry shop 17 18
    """
    number = await _change(environment, project, records.retry, ids, state, kind, everything)
    environment.output.result(
        {"project": project, "retried": number}, f"messages of project {project} that are due now: {number}"
    )


@outbox.command("drop")
@click.argument("project")
@_ids
@_state
@_kind
@_all
@online
async def drop_messages(
    environment: Environment, project: str, ids: Sequence[int], state: str | None, kind: str | None, everything: bool
) -> None:
    """Remove messages with the record of their attempts. They cannot be delivered any more.

    Messages that are being delivered are left as they are. Delivered messages are removed only if their ids or --state delivered are given.

    \b
    Example:
      directus outbox drop shop --kind mail --state held
    """
    number = await _change(environment, project, records.drop, ids, state, kind, everything)
    environment.output.result(
        {"project": project, "dropped": number}, f"messages of project {project} that were removed: {number}"
    )


async def _change(
    environment: Environment,
    project: str,
    change: Change,
    ids: Sequence[int],
    state: str | None,
    kind: str | None,
    everything: bool,
) -> int:
    """Calls a function of `records` for the messages that the arguments name, in one transaction, and returns their number."""
    if everything and (ids or state or kind):
        raise click.UsageError("--all excludes ids, --state and --kind.")
    if not (everything or ids or state or kind):
        raise click.UsageError("Name the messages: by ids, --state, --kind or --all.")
    ctx = await environment.context(project)

    async def work(session: Session) -> int:
        states = (state,) if state or ids else UNDELIVERED
        return sum([await change(session, ids=ids or None, state=each, kind=kind) for each in states])

    number = await ctx.db.transaction(work)
    if number < len(set(ids)):
        # The others may have been delivered meanwhile, so the command has done what can be done.
        environment.output.note(f"messages that do not exist, do not match, or cannot be changed now: {len(set(ids)) - number}")
        if number == 0:
            raise Failed("no message was changed")
    return number
