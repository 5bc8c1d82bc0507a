"""The endpoints, a module for each group of routes. A new group is a module with `routes`, and its name here."""

from collections.abc import Iterator

from directus_tx.http.endpoints import (
    activity,
    auth,
    collections,
    fields,
    home,
    items,
    permissions,
    server,
    specs,
    system,
    types,
    utilities,
)
from directus_tx.http.routes import Route

GROUPS = (home, server, types, auth, activity, collections, fields, items, permissions, specs, system, utilities)


def all_routes() -> Iterator[Route]:
    """Every route of the API."""
    for group in GROUPS:
        yield from group.routes
