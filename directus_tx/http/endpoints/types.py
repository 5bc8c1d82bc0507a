"""/types: the field types. It has no project in its path: the bearer's JWT names it, or a parameter or header does."""

import time

from directus_tx.accounts.tokens import Bearer, identify, project_of
from directus_tx.context import moment
from directus_tx.db.session import Session
from directus_tx.errors import Unauthorized, UserUnknown
from directus_tx.http.routes import Answer, Call, Routes
from directus_tx.schema.datatypes import FIELD_TYPES

routes = Routes()


async def bearer_of(call: Call) -> Bearer:
    """The user who asks for something that belongs to no project's path. Raises Unauthorized where no project is named, UserUnknown
    where one is, but no valid user of it."""
    header = call.request.getHeader("authorization") or ""
    scheme, _, token = header.partition(" ")
    token = token.strip()
    named = call.params.text("project") or call.request.getHeader("x-directus-project")
    if scheme.lower() == "bearer" and token:
        key = project_of(token)
        if key is None:
            raise Unauthorized("The token names no project.")
    elif named:
        key, token = named, call.params.text("access_token") or ""
    else:
        raise Unauthorized
    project = call.services.projects.get(key)
    bearer = await identify(project, Session(project.database), token, moment(time.time())) if token else None
    if bearer is None:
        raise UserUnknown
    return bearer


@routes.get("/types")
async def list_types(call: Call) -> Answer:
    await bearer_of(call)
    return Answer([{"name": name} for name in FIELD_TYPES])
