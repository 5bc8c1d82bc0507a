"""/ and /:project: what the server says of itself, and of a project."""

import platform

from directus_tx import __version__
from directus_tx.errors import Unauthorized
from directus_tx.http.routes import EMPTY, Answer, Call, Routes
from directus_tx.system.settings import shown

routes = Routes()
DATABASE = "mysql"
"""The name of the datatypes' vocabulary, by which the admin app looks them up. /server/info tells the true engine."""

PUBLIC_SETTINGS = [
    "project_logo",
    "project_color",
    "project_foreground",
    "project_background",
    "project_public_note",
    "default_locale",
    "telemetry",
    "project_name",
]


@routes.get("/")
async def root(call: Call) -> Answer:
    return Answer(status=302, headers={"Location": "./admin/"})


@routes.get("/<project>")
@routes.get("/<project>/")
async def home(call: Call) -> Answer:
    """What a project is called and looks like; to users also what the server can do."""
    settings = call.ctx.schema.settings
    api: dict[str, object] = {"requires2FA": False}
    api |= {name: shown(name, settings.get(name)) for name in PUBLIC_SETTINGS}
    for name in ("project_public_note", "default_locale"):
        api[name] = api[name] or None
    if call.ctx.accountability.public:
        return Answer({"api": api})
    api = {"version": __version__, "database": DATABASE, **api}
    general = {"php_version": None, "php_api": None, "python_version": platform.python_version()}
    return Answer({"api": api, "server": {"max_upload_size": call.services.settings.server.max_body_size, "general": general}})


@routes.post("/<project>/update")
async def update(call: Call) -> Answer:
    """Brings the system tables up to date, which opening the project has done already."""
    if not call.ctx.accountability.admin:
        raise Unauthorized
    return EMPTY
