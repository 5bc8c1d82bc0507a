"""Where reading and writing items calls the hooks of plugins. `plugins.manager` calls their implementations."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from directus_tx.compile.plan import Item
from directus_tx.context import Context
from directus_tx.items.changes import Change, Event, Key, WrittenItem
from directus_tx.query import Query

FILES = "directus_files"


class Hooks(Protocol):
    """Calls the hooks of plugins. `named` are the hooks that any plugin implements."""

    @property
    def named(self) -> frozenset[str]: ...

    def has(self, ctx: Context | None, hook: str) -> bool:
        """Whether a plugin that is enabled in the project of a context implements a hook."""

    async def call(self, hook: str, ctx: Context | None, **arguments: Any) -> None:
        """Calls a filter or an action before. Raises ApiError."""

    async def tell(self, hook: str, ctx: Context | None, **arguments: Any) -> None:
        """Calls an action after. Raises nothing."""

    def implementing(self, ctx: Context | None, *hooks: str) -> list[str]:
        """Returns the names of the plugins that implement one of some hooks."""

    def shown(self) -> list[dict[str, Any]]:
        """Returns what there is to show of the plugins, their hooks and what these cost."""

    def report(self, hook: str, ctx: Context | None, **arguments: Any) -> None:
        """Calls an action after, without waiting for it."""

    def enabled(self, name: str, project: Any) -> bool:
        """Whether a plugin is enabled in a project (`projects.project.Project`)."""


def unchangeable(value: Any) -> Any:
    """Returns a value of JSON in a form that cannot be changed: mappings and tuples."""
    if isinstance(value, dict):
        return MappingProxyType({name: unchangeable(each) for name, each in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple([unchangeable(each) for each in value])
    return value


async def filter_changes(hooks: Hooks, ctx: Context, changes: Sequence[Change]) -> None:
    """Calls the filters of items to be created, or of items to be updated, which can change payloads or refuse."""
    hook = "item_create" if changes[0].new else "item_update"
    if hooks.has(ctx, hook):
        async for change in ctx.in_slices(changes):
            name = change.collection.collection
            await hooks.call(hook, ctx, collection=name, key=change.key, payload=change.payload)


async def before_changes(hooks: Hooks, ctx: Context, changes: Sequence[Change]) -> None:
    """Calls the actions before items are created or updated."""
    hook = "item_create_before" if changes[0].new else "item_update_before"
    if hooks.has(ctx, hook):
        async for change in ctx.in_slices(changes):
            name, payload = change.collection.collection, unchangeable(change.payload)
            await hooks.call(hook, ctx, collection=name, key=change.key, payload=payload)


async def before_deletion(hooks: Hooks, ctx: Context, collection: str, keys: Sequence[Key]) -> None:
    """Calls the filters of items to be deleted, and then the actions before that."""
    for hook in ("item_delete", "item_delete_before"):
        if hooks.has(ctx, hook):
            async for key in ctx.in_slices(keys):
                await hooks.call(hook, ctx, collection=collection, key=key)
    if collection == FILES and hooks.has(ctx, "file_delete_before"):
        async for key in ctx.in_slices(keys):
            await hooks.call("file_delete_before", ctx, key=key)


async def after_writing(hooks: Hooks, ctx: Context, events: Sequence[Event]) -> None:
    """Calls the action for items that have been written, in the transaction."""
    if events and hooks.has(ctx, "items_written"):
        items = tuple([WrittenItem(each.action, each.collection.collection, each.key) async for each in ctx.in_slices(events)])
        await hooks.call("items_written", ctx, items=items)


_AFTER = {"create": "item_create_after", "delete": "item_delete_after"}


async def after_events(hooks: Hooks, ctx: Context, events: Sequence[Event]) -> None:
    """Calls the actions after items have been written. *ctx* is outside of the transaction."""
    async for event in ctx.in_slices(events):
        hook = _AFTER.get(event.action, "item_update_after")
        name = event.collection.collection
        if hooks.has(ctx, hook):
            await hooks.tell(hook, ctx, collection=name, key=event.key, payload=unchangeable(dict(event.payload)))
        if name == FILES and event.action == "delete" and hooks.has(ctx, "file_delete_after"):
            await hooks.tell("file_delete_after", ctx, key=event.key)


AFTER_EVENTS = frozenset({"item_create_after", "item_update_after", "item_delete_after", "file_delete_after"})


def listens(hooks: Hooks, ctx: Context, names: Iterable[str] = AFTER_EVENTS) -> bool:
    """Whether a plugin implements one of some hooks."""
    return any(hooks.has(ctx, name) for name in names)


AT_READING = frozenset({"item_read", "item_read_after"})
"""The hooks of items that have been read."""


async def before_read(hooks: Hooks, ctx: Context, collection: str, query: Query, keys: Sequence[Key] | None) -> None:
    """Calls the actions before items are read."""
    if hooks.has(ctx, "item_read_before"):
        found = None if keys is None else tuple(keys)
        await hooks.call("item_read_before", ctx, collection=collection, query=query, keys=found)


async def filter_items(hooks: Hooks, ctx: Context, collection: str, items: Sequence[Item]) -> None:
    """Calls the filters of items that are to be shown, which can change the items."""
    if items and hooks.has(ctx, "item_read"):
        await hooks.call("item_read", ctx, collection=collection, items=list(items))


async def after_read(hooks: Hooks, ctx: Context, collection: str, items: Sequence[Mapping[str, Any]]) -> None:
    """Calls the actions after items have been read."""
    if items and hooks.has(ctx, "item_read_after"):
        await hooks.tell("item_read_after", ctx, collection=collection, items=unchangeable(list(items)))
