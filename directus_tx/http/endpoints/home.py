"""/ and /:project: information about the server and about a project."""

import platform

from directus_tx import __version__
from directus_tx.http.answers import Answer, Empty, Envelope, Redirect
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.system.settings import shown

routes = Routes()
DATABASE = "mysql"
"""The value of `database`, by which the admin app chooses the list of datatypes: those of Directus 8 on MySQL. /server/info returns the
actual database."""

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


@routes.get("/", Caller.PUBLIC)
async def root(call: Call) -> Answer:
    return Redirect("./admin/")


@routes.get("/<project>", Caller.PUBLIC)
@routes.get("/<project>/", Caller.PUBLIC)
async def home(call: Call) -> Answer:
    """Returns the public settings of a project: its name and appearance. Users also get the versions and limits of the server."""
    settings = call.ctx.schema.settings
    api: dict[str, object] = {"requires2FA": False}
    api |= {name: shown(name, settings.get(name)) for name in PUBLIC_SETTINGS}
    for name in ("project_public_note", "default_locale"):
        api[name] = api[name] or None
    if call.ctx.accountability.public:
        return Envelope({"api": api})
    api = {"version": __version__, "database": DATABASE, **api}
    general = {"php_version": None, "php_api": None, "python_version": platform.python_version()}
    return Envelope({"api": api, "server": {"max_upload_size": call.services.settings.server.max_body_size, "general": general}})


@routes.post("/<project>/update", Caller.ADMINISTRATOR)
async def update(call: Call) -> Answer:
    """Does nothing, because the system tables are brought up to date when the project is opened."""
    return Empty()
