"""The endpoints, a module for each group of routes. To add a group, add a module with `routes`, and its name to GROUPS."""

from collections.abc import Iterator

from directus_tx.http.endpoints import (
    activity,
    assets,
    auth,
    collections,
    extensions,
    fields,
    files,
    graphql,
    home,
    items,
    links,
    mail,
    permissions,
    presigned,
    reference,
    schema,
    scim,
    server,
    sharing,
    specs,
    sso,
    system,
    tokens,
    tus,
    types,
    utilities,
    webhooks,
)
from directus_tx.http.routes import Route

GROUPS = (
    home,
    server,
    types,
    extensions,
    auth,
    sso,
    activity,
    collections,
    fields,
    files,
    presigned,
    sharing,
    assets,
    graphql,
    items,
    links,
    mail,
    permissions,
    schema,
    scim,
    specs,
    reference,
    system,
    tokens,
    tus,
    utilities,
    webhooks,
)


def all_routes() -> Iterator[Route]:
    """Yields all routes of the API."""
    for group in GROUPS:
        yield from group.routes
