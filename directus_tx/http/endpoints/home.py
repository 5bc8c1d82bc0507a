"""/ and /:project: the start page, and information about a project."""

import platform

from directus_tx import __version__
from directus_tx.files.contents import data_of
from directus_tx.http import pages
from directus_tx.http.answers import Answer, Empty, Envelope, Redirect, Text
from directus_tx.http.operations import ANY, Operation
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.schema.numbers import whole_number
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


PICTURES = ("project_logo", "project_foreground", "project_background")
"""The settings that are files. The URLs of these are shown, because pages for signing in need them before anybody has signed in."""

PROJECT = Operation("Name, appearance and versions of a project", ANY)


@routes.get("/", Caller.PUBLIC, Operation("The start page for browsers; others are redirected to the admin app", ANY))
async def root(call: Call) -> Answer:
    """The JavaScript client asks here for the versions of the server (`serverInfo`). It names its project, and cannot read a page."""
    accepted = (call.request.getHeader(b"accept") or b"").lower()
    if call.services.settings.server.admin_app or b"text/html" not in accepted:
        named = call.request.getHeader("x-directus-project")
        if named and b"application/json" in accepted:
            return Redirect(f"./{call.services.projects.get(named).key}/")
        return Redirect("./admin/")
    headers = {"Content-Security-Policy": pages.START_POLICY, "Vary": "Accept"}
    return Text(pages.start_page(call.services.projects.listed()), headers=headers)


@routes.get("/<project>", Caller.PUBLIC, PROJECT)
@routes.get("/<project>/", Caller.PUBLIC, PROJECT)
async def home(call: Call) -> Answer:
    """Returns the public settings of a project: its name and appearance. Users also get the versions and limits of the server."""
    settings = call.ctx.schema.settings
    api: dict[str, object] = {"requires2FA": False}
    api |= {name: shown(name, settings.get(name)) for name in PUBLIC_SETTINGS}
    ids = {name: id for name in PICTURES if (id := whole_number(str(api[name] or ""))) is not None}
    found = await data_of(call.ctx, list(ids.values())) if ids else {}
    api |= {name: found.get(ids[name]) if name in ids else None for name in PICTURES}
    for name in ("project_public_note", "default_locale"):
        api[name] = api[name] or None
    if call.ctx.accountability.public:
        return Envelope({"api": api})
    api = {"version": __version__, "database": DATABASE, **api}
    general = {"php_version": None, "php_api": None, "python_version": platform.python_version()}
    return Envelope({"api": api, "server": {"max_upload_size": call.services.settings.server.max_body_size, "general": general}})


@routes.post("/<project>/update", Caller.ADMINISTRATOR, Operation("Bring the system tables up to date"))
async def update(call: Call) -> Answer:
    """Does nothing, because the system tables are brought up to date when the project is opened."""
    return Empty()
