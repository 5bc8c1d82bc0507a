"""/server and /health: whether the server is running and ready, information about it, and its projects."""

import os
import platform
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from attrs import asdict
from twisted.internet import defer

from directus_tx import __version__
from directus_tx.db.session import Session
from directus_tx.errors import ServiceUnavailable
from directus_tx.files import quota
from directus_tx.http.answers import Answer, Document, Empty, Envelope, Text
from directus_tx.http.operations import ANY, FLAG, INTEGER, TEXT, Operation, record
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.outbox import records
from directus_tx.projects.project import Project
from directus_tx.projects.provisioning import checked
from directus_tx.projects.registry import Projects
from directus_tx.schema_service import read_advice

routes = Routes()

COUNTED_AT_ONCE = 4
"""The number of projects whose messages and files are counted at the same time."""


@routes.get("/server/ping", Caller.PUBLIC, Operation("Whether the server is running", TEXT, media_type="text/html"))
async def ping(call: Call) -> Answer:
    return Text("pong")


@routes.get(
    "/health",
    Caller.ANONYMOUS,
    Operation("Whether the server is ready to answer requests", ANY, media_type="application/health+json"),
)
async def health(call: Call) -> Answer:
    """Returns whether the server is ready to answer requests. Details are only for callers with the super admin token."""
    token = call.params.text("super_admin_token")
    if token is not None:
        call.check_super_admin(token)
    report = await call.services.health.report(detailed=token is not None)
    headers = {"Cache-Control": "no-store"} | ({} if report.ready else {"Retry-After": "1"})
    return Document(report.document, headers, 200 if report.ready else 503, "application/health+json")


@routes.get("/server/info", Caller.SUPER_ADMIN, Operation("Versions of the server and its database", ANY))
async def info(call: Call) -> Answer:
    """Returns the versions of the system, Python and the database. Of the projects that are in use: why their databases can only be read,
    how changes of their tables by other programs are noticed, and which tables are no collections, with the reasons; and how many
    messages of the outbox were not delivered, and how much their files take; and the rate limits, in a minute. Clients expect the keys
    about PHP."""
    projects = call.services.projects
    limit = call.services.settings.server.max_body_size
    return Envelope(
        {
            "directus": __version__,
            "server": {
                "type": "directus_tx on Twisted",
                "rewrites": None,
                "os": platform.system(),
                "os_version": platform.release(),
                "python": platform.python_version(),
                "database": await projects.databases.engine(),
            },
            "php": {"version": None, "max_upload_size": limit, "extensions": {}},
            "permissions": {"public": None, "logs": None, "uploads": None},
            "databases": {
                key: {"read_only": project.read_only, "changes_noticed_by": project.changes_noticed_by}
                for key, project in projects.opened()
            },
            "left_out": {key: [asdict(each) for each in found] for key, found in projects.left_out().items()},
            "outboxes": await _of_each(projects, _outbox),
            "storage": await _of_each(projects, _storage),
            "rate_limits": asdict(call.services.settings.rate_limits),
        }
    )


COST = record(
    hook=TEXT, calls=INTEGER, failures=INTEGER, mean_ms={"type": "number"}, p99_ms={"type": "number"}, max_ms={"type": "number"}
)
PLUGIN = record(name=TEXT, version=TEXT, source=TEXT, hooks={"type": "array", "items": COST}, error={"type": ["string", "null"]})
PLUGINS = record(process=INTEGER, processes=INTEGER, plugins={"type": "array", "items": PLUGIN})


@routes.get("/server/plugins", Caller.SUPER_ADMIN, Operation("List the plugins, their hooks, and what these cost", PLUGINS))
async def list_plugins(call: Call) -> Answer:
    """Returns the plugins that are loaded, and those that cannot be used, with the reason. Each process of a server counts the calls
    of hooks itself, so the answer names the process, and how many there are."""
    processes = call.services.settings.server.processes
    return Envelope({"process": os.getpid(), "processes": processes, "plugins": call.items.plugins.shown()})


async def _outbox(project: Project) -> Mapping[str, Any]:
    """Returns the numbers of undelivered messages of a project."""
    return asdict(await records.count(Session(project.database)))


async def _storage(project: Project) -> Mapping[str, Any]:
    """Returns how many bytes the files of a project take, and may take: None if there is no limit."""
    return {"used": await quota.used(Session(project.database)), "quota": project.quota or None}


async def _of_each(
    projects: Projects, ask: Callable[[Project], Awaitable[Mapping[str, Any]]]
) -> Mapping[str, Mapping[str, Any] | None]:
    """Returns what *ask* returns for the projects that are in use; None for those whose database does not answer."""
    found: dict[str, Mapping[str, Any] | None] = {}
    left = iter([(key, project) for key, project in projects.opened() if project.state == "ready"])

    async def work() -> None:
        for key, project in left:
            try:
                found[key] = await ask(project)
            except ServiceUnavailable:
                found[key] = None

    await defer.gatherResults([defer.Deferred.fromCoroutine(work()) for _ in range(COUNTED_AT_ONCE)], consumeErrors=True)
    return dict(sorted(found.items()))


@routes.get("/server/projects", Caller.PUBLIC, Operation("List the projects", {"type": "array", "items": TEXT}))
async def list_projects(call: Call) -> Answer:
    return Envelope(call.services.projects.listed())


NEW_PROJECT = {
    "type": "object",
    "required": ["project", "super_admin_token", "user_email", "user_password"],
    "properties": {
        **dict.fromkeys(("project", "super_admin_token", "user_email", "user_password", "user_token", "project_name"), TEXT),
        **dict.fromkeys(("db_host", "db_name", "db_user", "db_password", "db_system_schema", "mail_from"), TEXT),
        "db_port": INTEGER,
        **dict.fromkeys(("private", "existing", "force"), FLAG),
        **dict.fromkeys(("mail", "storage", "cache", "cors", "auth"), ANY),
    },
}


@routes.post("/server/projects", Caller.SUPER_ADMIN_BY_PAYLOAD, Operation("Create a project", payload=NEW_PROJECT))
async def create_project(call: Call) -> Answer:
    await call.services.projects.create(checked(await call.item()))
    return Empty()


@routes.delete("/server/projects/<key>", Caller.SUPER_ADMIN, Operation("Delete a project"))
async def delete_project(call: Call) -> Answer:
    await call.services.projects.delete(call.path["key"])
    return Empty()


NUMBER = {"type": "number"}
QUERIES = {
    "type": "array",
    "items": record(
        collection=TEXT,
        rows={"type": ["integer", "null"]},
        filter={"type": "array", "items": record(field=TEXT, operator=TEXT, logical=TEXT)},
        sort={"type": "array", "items": TEXT},
        search=FLAG,
        count=INTEGER,
        mean_ms=NUMBER,
        max_ms=NUMBER,
        total_ms=NUMBER,
        served_by={"type": "array", "items": record(collection=TEXT, index=TEXT)},
        declare={"type": "array", "items": ANY},
        reasons={"type": "array", "items": TEXT},
    ),
}
ADVISING = Operation(
    "What lists are filtered and sorted by, and the indexes that serve",
    record(process=INTEGER, processes=INTEGER, queries=QUERIES),
    query=(("all", "1: also for tables of less than 1000 rows."),),
)


@routes.get("/<project>/server/advice", Caller.ADMINISTRATOR, ADVISING)
async def advise(call: Call) -> Answer:
    """Returns what lists have been filtered and sorted by since the process was started. Each process of a server knows the lists that
    it has answered itself, so the answer names the process, and how many there are."""
    queries = await read_advice(call.ctx, every=call.params.text("all") in ("1", "true"))
    return Envelope({"process": os.getpid(), "processes": call.services.settings.server.processes, "queries": queries})
