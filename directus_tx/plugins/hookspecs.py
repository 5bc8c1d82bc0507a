"""The plugin contract: the hooks that directus_tx calls, one function each.

A plugin is an installed package whose entry point in the group ``directus_tx`` names a module or an object with implementations::

    from directus_tx.plugins import hookimpl

    @hookimpl
    async def item_create_before(ctx, collection, payload):
        if collection == "articles":
            payload.setdefault("teaser", payload.get("body", "")[:200])

An implementation takes those of the arguments that it needs. It may return a coroutine or a Deferred, which is awaited before that of
the next one. *ctx* is the `directus_tx.context.Context` of the request: within the write's transaction *before*, out of it *after*.
"""

from typing import Any

import pluggy

from directus_tx.context import Context

PROJECT = "directus_tx"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def item_create_before(ctx: Context, collection: str, payload: dict[str, Any]) -> Any:
    """An item is about to be created, its caller being allowed to. *payload* (field names and values as sent) may be changed in place;
    what comes of it is validated. Raising an ApiError refuses the whole request."""


@hookspec
def item_update_before(ctx: Context, collection: str, key: Any, payload: dict[str, Any]) -> Any:
    """An item is about to be changed; its row is locked. *payload* may be changed in place, raising an ApiError refuses the request.
    Soft deletion is a change."""


@hookspec
def item_delete_before(ctx: Context, collection: str, key: Any) -> Any:
    """An item is about to be deleted for good, if it is there. Raising an ApiError refuses the request."""


@hookspec
def item_create_after(ctx: Context, collection: str, key: Any, payload: dict[str, Any]) -> Any:
    """An item has been created, and the transaction is committed. A failure here is logged, and is not the client's."""


@hookspec
def item_update_after(ctx: Context, collection: str, key: Any, payload: dict[str, Any]) -> Any:
    """An item has been changed, and the transaction is committed. A failure here is logged, and is not the client's."""


@hookspec
def item_delete_after(ctx: Context, collection: str, key: Any) -> Any:
    """An item has been deleted, and the transaction is committed. A failure here is logged, and is not the client's."""
