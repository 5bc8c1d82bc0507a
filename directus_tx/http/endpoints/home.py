"""/ and /:project: what the server says of itself, and of a project."""

import platform

from directus_tx import __version__
from directus_tx.http.answers import Answer, Empty, Envelope, Redirect
from directus_tx.http.routes import Call, Caller, Routes
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


@routes.get("/", Caller.PUBLIC)
async def root(call: Call) -> Answer:
    return Redirect("./admin/")


@routes.get("/<project>", Caller.PUBLIC)
@routes.get("/<project>/", Caller.PUBLIC)
async def home(call: Call) -> Answer:
    """What a project is called and looks like; to users also what the server can do."""
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
    """Brings the system tables up to date, which opening the project has done already."""
    return Empty()
