"""directus advise."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import click
from twisted.internet import defer, error
from twisted.web.client import Agent, PartialDownloadError, ResponseFailed, readBody
from twisted.web.error import SchemeNotSupported
from twisted.web.http_headers import Headers

from directus_tx.accounts import sessions
from directus_tx.cli.command import Environment, Failed, online
from directus_tx.context import ADMINISTRATOR, Context

PATIENCE = 60
"""Seconds that the command waits for the answer of the server."""

ANYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""The addresses to connect to where a server listens on all addresses."""


@click.command()
@click.argument("key", metavar="PROJECT")
@click.option("--all", "every", is_flag=True, help="Also lists of small tables, which need no index.")
@click.option("--url", metavar="URL", help="The URL of the running server.  [default: the first TCP address in server.listen]")
@online
async def advise(environment: Environment, key: str, every: bool, url: str | None) -> None:
    """Show which indexes the lists of a project use or need.

    The running server is asked. It counts the lists that it has answered since its start, by the fields that they are filtered and sorted
    by. Those that have taken the most time in all come first.

    \b
    Examples:
      directus advise shop
      directus advise shop --all --json
      directus advise shop --url http://127.0.0.1:8090
    """
    output = environment.output
    base = (url or url_of(environment.backend.settings.server.listen)).rstrip("/")
    ctx = await environment.context(key)
    project = environment.backend.projects.get(key)
    token = await sessions.issue_without(ctx, project, await _administrator(ctx), 1)
    with output.working(f"asking {base}"):
        found = await _ask(ctx, f"{base}/{quote(key)}/server/advice{'?all=1' if every else ''}", token)
    rows = [
        (
            each["collection"],
            filter_text(each),
            ", ".join(each["sort"]),
            *(each[name] for name in ("count", "mean_ms", "max_ms", "total_ms")),
            "; ".join(advice_texts(each)),
        )
        for each in found["queries"]
    ]
    output.table(found, ("collection", "filter", "sort", "count", "mean ms", "max ms", "total ms", "index"), rows)
    if output.as_json:
        return
    if not rows:
        small = "" if every else " of a large table (--all shows those of small ones, too)"
        output.note(f"the server has answered no list with a filter, a search or an order{small}")
    if found["processes"] > 1:
        output.note(
            f"the server has {found['processes']} processes. Each counts the lists that it has answered itself; this is the answer of"
            f" process {found['process']}"
        )


def url_of(listen: Iterable[str]) -> str:
    """Returns the URL of the first TCP endpoint of server.listen. Raises Failed if there is none."""
    for description in listen:
        kind, *parts = [part.replace("\\", "") for part in re.split(r"(?<!\\):", description)]
        if kind not in ("tcp", "tcp6"):
            continue
        plain = [part for part in parts if "=" not in part]
        named = dict(part.split("=", 1) for part in parts if "=" in part)
        host = named.get("interface", "")
        host = ANYWHERE.get(host, host)
        port = named.get("port") or (plain[0] if plain else "")
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"
    raise Failed("server.listen has no TCP address: name the URL of the server with --url.")


async def _administrator(ctx: Context) -> int:
    """Returns the id of an administrator. Raises Failed if there is none."""
    sql = "SELECT id FROM directus_users WHERE role = %s AND status = 'active' ORDER BY id LIMIT 1"
    rows = await ctx.db.query(sql, (ADMINISTRATOR,))
    if not rows:
        raise Failed(f'The project "{ctx.project}" has no active administrator, as whom the server is asked.')
    return int(rows[0][0])


async def _ask(ctx: Context, url: str, token: str) -> dict[str, Any]:
    """Returns the data of an answer. Raises Failed if no server answers, or it answers with an error."""
    reactor = ctx.db.database.reactor
    headers = Headers({"Authorization": [f"bearer {token}"]})

    async def work() -> tuple[int, bytes]:
        response = await Agent(reactor, connectTimeout=10).request(b"GET", url.encode(), headers)
        return response.code, await readBody(response)

    try:
        status, body = await defer.Deferred.fromCoroutine(work()).addTimeout(PATIENCE, reactor)
    except (SchemeNotSupported, ValueError) as failure:
        raise Failed(f"{url} is not a URL of a server: {failure}") from None
    except (error.ConnectError, error.ConnectionClosed, defer.TimeoutError, ResponseFailed, PartialDownloadError) as failure:
        why = str(failure).rstrip(".") or type(failure).__name__
        raise Failed(
            f"no server answers at {url}: {why}. The running server counts the lists that it answers: start it, or name its"
            " URL with --url."
        ) from None
    try:
        document = json.loads(body)
        if status == 200:
            return dict(document["data"])
        said = document["error"]["message"]
    except (ValueError, KeyError, TypeError):
        said = "that is not an answer of directus_tx"
    raise Failed(f"{url} has answered with {status}: {said}")


def filter_text(query: Mapping[str, Any]) -> str:
    """Returns the filter of a query of the answer as text: "status eq and author.name in"."""
    texts = []
    for place, each in enumerate(query["filter"]):
        joined = f"{each['logical']} " if place else ""
        texts.append(f"{joined}{each['field']} {each['operator']}")
    text = " ".join(texts)
    if not query["search"]:
        return text
    return f"q and ({text})" if text else "q"


def advice_texts(query: Mapping[str, Any]) -> list[str]:
    """Returns the indexes of a query of the answer as texts."""
    return [
        *(f"declare {json.dumps(each)}" for each in query["declare"]),
        *(f"has {each['collection']}.{each['index']}" for each in query["served_by"]),
        *query["reasons"],
    ]
