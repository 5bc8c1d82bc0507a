"""directus plugins."""

import json
import pathlib
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import click
from attrs import evolve

from directus_tx.backend import KINDS
from directus_tx.cli.advise import url_of
from directus_tx.cli.command import Failed, Misconfigured, offline
from directus_tx.cli.output import Output
from directus_tx.config import ConfigError, Settings
from directus_tx.plugins.manager import Plugins
from directus_tx.registered import collect

PATIENCE = 20
"""Seconds that the command waits for the answer of the server."""

COLUMNS = ("plugin", "version", "source", "hook", "calls", "failures", "mean ms", "p99 ms", "max ms")


@click.command()
@click.option("--url", metavar="URL", help="The URL of the running server.  [default: the first TCP address in server.listen]")
@offline
def plugins(settings: Settings, output: Output, url: str | None) -> None:
    """List the plugins, their hooks, and what the hooks cost.

    The costs are those that the running server has counted since its start. If it does not answer, the plugins that a server would load
    now are listed, without costs. The exit status is 1 if a plugin cannot be used.

    \b
    Examples:
      directus plugins
      directus plugins --json
      directus plugins --url http://127.0.0.1:8090
    """
    found = _ask(settings, url)
    if found is None:
        found = {"process": None, "processes": settings.server.processes, "plugins": _loadable(settings)}
    rows = []
    for each in found["plugins"]:
        about = (each["name"], each["version"], each["source"])
        costs = [
            tuple(hook[name] for name in ("hook", "calls", "failures", "mean_ms", "p99_ms", "max_ms")) for hook in each["hooks"]
        ]
        rows += [(*about, *cost) for cost in costs or [(None,) * 6]]
    output.table(found, COLUMNS, rows)
    errors = [f"{each['name']}: {each['error']}" for each in found["plugins"] if each["error"]]
    if not output.as_json:
        if not rows:
            output.note("there are no plugins")
        elif found["process"] is None:
            output.note("no server answers, so there are no costs: start it, or name its URL with --url")
        elif found["processes"] > 1:
            output.note(f"the server has {found['processes']} processes; these are the costs in process {found['process']}")
    if errors:
        raise Failed("\n  ".join(["plugins that cannot be used:", *errors]))


def _loadable(settings: Settings) -> list[dict[str, Any]]:
    """Returns the plugins that a server would load, as `Plugins.shown` does."""
    found = Plugins(None, evolve(settings.plugins, on_error="skip", block_limit=0.0))
    found.load()
    try:
        collect(found, settings, KINDS)
    except ConfigError as error:
        raise Misconfigured("\n  ".join(["the configuration is invalid:", *error.mistakes])) from None
    return found.shown()


def _ask(settings: Settings, url: str | None) -> dict[str, Any] | None:
    """Returns what the running server answers. None if no server answers; raises Failed if one is named and does not, or it refuses."""
    try:
        base = (url or url_of(settings.server.listen)).rstrip("/")
    except Failed:
        return None
    token = settings.super_admin_token or _stored_token(pathlib.Path(settings.server.data_dir))
    query = urllib.parse.urlencode({"super_admin_token": token})
    try:
        with urllib.request.urlopen(f"{base}/server/plugins?{query}", timeout=PATIENCE) as answer:
            return dict(json.loads(answer.read())["data"])
    except urllib.error.HTTPError as error:
        raise Failed(f"{base} has answered with {error.code}: {_message(error.read())}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        if url is not None:
            raise Failed(f"no server answers at {base}: {getattr(error, 'reason', error)}") from None
        return None


def _stored_token(data_dir: pathlib.Path) -> str:
    try:
        return (data_dir / "super_admin_token").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "that is not an answer of directus_tx"
