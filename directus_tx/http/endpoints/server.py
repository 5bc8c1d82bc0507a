"""/server: whether it is there, what it runs on, and its projects."""

import platform

from directus_tx import __version__
from directus_tx.http.routes import EMPTY, Answer, Call, Routes
from directus_tx.projects.provisioning import checked

routes = Routes()


@routes.get("/server/ping")
async def ping(call: Call) -> Answer:
    return Answer(text="pong")


@routes.get("/server/info")
async def info(call: Call) -> Answer:
    """What the server runs on. The keys that speak of PHP are there for clients that look for them."""
    projects = call.services.projects
    projects.check_super_admin(call.params.text("super_admin_token"))
    limit = call.services.settings.server.max_body_size
    return Answer(
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
        }
    )


@routes.get("/server/projects")
async def list_projects(call: Call) -> Answer:
    return Answer(call.services.projects.listed())


@routes.post("/server/projects")
async def create_project(call: Call) -> Answer:
    await call.services.projects.create(checked(await call.item()))
    return EMPTY


@routes.delete("/server/projects/<key>")
async def delete_project(call: Call) -> Answer:
    projects = call.services.projects
    projects.check_super_admin(call.params.text("super_admin_token"))
    await projects.delete(call.path["key"])
    return EMPTY
