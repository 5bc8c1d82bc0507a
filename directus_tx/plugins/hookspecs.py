"""The hooks that plugins can implement.

A plugin is an installed package with an entry point in the group ``directus_tx`` that names a module or object::

    from directus_tx.plugins import hookimpl

    @hookimpl
    async def item_create_before(ctx, collection, payload):
        if collection == "articles":
            payload.setdefault("teaser", payload.get("body", "")[:200])

An implementation declares the arguments that it needs. It can return a coroutine or a Deferred, which is awaited before the next
implementation is called. *ctx* is the `directus_tx.context.Context` of the request; its session is in the transaction in ``before`` hooks.
"""

from typing import Any

import pluggy

from directus_tx.context import Context

PROJECT = "directus_tx"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def item_create_before(ctx: Context, collection: str, payload: dict[str, Any]) -> Any:
    """Called before an item is created, after the permission check. Can change *payload* (values by field name, as sent) in place; the
    result is validated. Raise an ApiError to refuse the request."""


@hookspec
def item_update_before(ctx: Context, collection: str, key: Any, payload: dict[str, Any]) -> Any:
    """Called before an item is updated or soft-deleted, with its row locked. Can change *payload* in place. Raise an ApiError to refuse
    the request."""


@hookspec
def item_delete_before(ctx: Context, collection: str, key: Any) -> Any:
    """Called before an item is deleted for good. The item may not exist. Raise an ApiError to refuse the request."""


@hookspec
def item_create_after(ctx: Context, collection: str, key: Any, payload: dict[str, Any]) -> Any:
    """Called after an item has been created and the transaction committed. Errors are logged and do not reach the client."""


@hookspec
def item_update_after(ctx: Context, collection: str, key: Any, payload: dict[str, Any]) -> Any:
    """Called after an item has been updated and the transaction committed. Errors are logged and do not reach the client."""


@hookspec
def item_delete_after(ctx: Context, collection: str, key: Any) -> Any:
    """Called after an item has been deleted and the transaction committed. Errors are logged and do not reach the client."""
