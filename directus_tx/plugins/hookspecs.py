"""The hooks that plugins can implement.

An implementation declares the arguments that it needs, by their names. It is a plain function, or returns a coroutine or a Deferred, which
is awaited before the next implementation is called. It returns nothing. *ctx* is the `Context` of the request.

A *filter* has the name of what happens: it can change its last argument in place, or refuse by raising an ApiError. Names that end with
``_before`` and ``_after`` are *actions*. Actions before get values that cannot be changed, and can refuse by raising an ApiError. Actions
after are called after the commit; their errors are logged and do not reach the client.

Filters and actions before of writes are called in the transaction of the request: what they read and write is part of it. If the
transaction fails with a deadlock or serialization failure, it is rolled back and run again, and they are called again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pluggy

from directus_tx.plugins.context import Context, Key, Response, WrittenItem
from directus_tx.query import Query

PROJECT = "directus_tx"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


# items


@hookspec
def item_create(ctx: Context, collection: str, payload: dict[str, Any]) -> Any:
    """Filter: an item is to be created. *payload* has the values by field, as sent. They are validated afterwards. The permissions of the
    caller have been checked, so the filter can also set fields that the caller may not write."""


@hookspec
def item_create_before(ctx: Context, collection: str, payload: Mapping[str, Any]) -> Any:
    """Action: an item is valid and about to be created. Fields of many-to-one relations hold keys."""


@hookspec
def item_create_after(ctx: Context, collection: str, key: Key, payload: Mapping[str, Any]) -> Any:
    """Action: an item has been created."""


@hookspec
def item_update(ctx: Context, collection: str, key: Key, payload: dict[str, Any]) -> Any:
    """Filter: an item is to be updated, deleted softly, or reverted to a revision. Its row is locked. *payload* is as for `item_create`."""


@hookspec
def item_update_before(ctx: Context, collection: str, key: Key, payload: Mapping[str, Any]) -> Any:
    """Action: a change of an item is valid and about to be written."""


@hookspec
def item_update_after(ctx: Context, collection: str, key: Key, payload: Mapping[str, Any]) -> Any:
    """Action: an item has been updated, deleted softly, or reverted to a revision."""


@hookspec
def item_delete(ctx: Context, collection: str, key: Key) -> Any:
    """Filter, which can only refuse: an item is to be deleted for good. The item may not exist, and whether the caller may delete it is not
    checked yet."""


@hookspec
def item_delete_before(ctx: Context, collection: str, key: Key) -> Any:
    """Action: no filter has refused, and an item is about to be deleted for good."""


@hookspec
def item_delete_after(ctx: Context, collection: str, key: Key) -> Any:
    """Action: an item has been deleted for good."""


@hookspec
def items_written(ctx: Context, items: Sequence[WrittenItem]) -> Any:
    """Action before: all items of a request have been written, in its transaction, and are about to be committed. Messages about them can
    be written to the outbox (`Context.enqueue`)."""


@hookspec
def item_read_before(ctx: Context, collection: str, query: Query, keys: Sequence[Key] | None) -> Any:
    """Action: items are to be read, by a query, or by their keys. Not in a transaction."""


@hookspec
def item_read(ctx: Context, collection: str, items: list[dict[str, Any]]) -> Any:
    """Filter: items are to be shown, because they have been read, or as the answer to a write, in whose transaction it is called. It can
    change each item in place, but not the list itself. The items have the fields that the query asks for, related items included, for which
    the filter is not called by themselves. Long lists come in several batches. It is not called for aggregates."""


@hookspec
def item_read_after(ctx: Context, collection: str, items: Sequence[Mapping[str, Any]]) -> Any:
    """Action: items have been read and filtered. Long lists come in several batches. It is not called for aggregates, nor for the answers
    to writes."""


# answers


@hookspec
def response(ctx: Context, response: Response) -> Any:
    """Filter: a request of a project is to be answered successfully. It can set `data`, `meta` and `headers` of the `Response`. Bodies of
    lists of more than 1000 items, and of files, are written while they are read; of these it can only change the headers."""


# collections and fields


@hookspec
def collection_create_before(ctx: Context, collection: str, payload: Mapping[str, Any]) -> Any:
    """Action: a collection is about to be created, or an existing table to be managed. *payload* is as sent, with its fields, for which
    `field_create_before` is not called. It is empty if the table is adopted."""


@hookspec
def collection_create_after(ctx: Context, collection: str) -> Any:
    """Action: a collection has been created, or an existing table is managed now."""


@hookspec
def collection_update_before(ctx: Context, collection: str, payload: Mapping[str, Any]) -> Any:
    """Action: a collection is about to be changed."""


@hookspec
def collection_update_after(ctx: Context, collection: str) -> Any:
    """Action: a collection has been changed."""


@hookspec
def collection_delete_before(ctx: Context, collection: str) -> Any:
    """Action: a collection is about to be deleted, with its table and its fields, for which `field_delete_before` is not called."""


@hookspec
def collection_delete_after(ctx: Context, collection: str) -> Any:
    """Action: a collection has been deleted."""


@hookspec
def field_create_before(ctx: Context, collection: str, field: str, payload: Mapping[str, Any]) -> Any:
    """Action: a field is about to be added to a collection."""


@hookspec
def field_create_after(ctx: Context, collection: str, field: str) -> Any:
    """Action: a field has been added to a collection."""


@hookspec
def field_update_before(ctx: Context, collection: str, field: str, payload: Mapping[str, Any]) -> Any:
    """Action: a field is about to be changed."""


@hookspec
def field_update_after(ctx: Context, collection: str, field: str) -> Any:
    """Action: a field has been changed."""


@hookspec
def field_delete_before(ctx: Context, collection: str, field: str) -> Any:
    """Action: a field is about to be deleted, with its column."""


@hookspec
def field_delete_after(ctx: Context, collection: str, field: str) -> Any:
    """Action: a field has been deleted."""


# files


@hookspec
def file_save_before(ctx: Context, key: Key | None, content: Mapping[str, Any]) -> Any:
    """Action: a file with a new content is about to be written. *key* is None for a new file. *content* has its `name`, `size` in bytes,
    `md5` and `sha256` in hexadecimal digits, and `charset`; for a video elsewhere only its `name` and `type`. The item hooks of
    directus_files are called, too."""


@hookspec
def file_save_after(ctx: Context, key: Key, content: Mapping[str, Any]) -> Any:
    """Action: a file has got a content."""


@hookspec
def file_delete_before(ctx: Context, key: Key) -> Any:
    """Action: a file is about to be deleted, with its content."""


@hookspec
def file_delete_after(ctx: Context, key: Key) -> Any:
    """Action: a file has been deleted."""


# signing in


@hookspec
def auth_success(ctx: Context, user: int, provider: str | None) -> Any:
    """Action: a user has signed in. *provider* is None with a password, and the name of the provider with single sign-on; it is empty if a
    request token was exchanged, which does not name it."""


@hookspec
def auth_fail(ctx: Context, email: str | None, provider: str | None, code: int) -> Any:
    """Action: an attempt to sign in has failed with the *code* of an error of the API. *email* is the address that was sent, which may
    belong to no user; None with single sign-on. *provider* is as for `auth_success`. It is not called when the server fails, or asks for a
    one-time password."""


# the server


@hookspec
def application_boot() -> Any:
    """Action: the server is ready. Called once in each of its processes."""


@hookspec
def application_error(ctx: Context | None, error: Exception, request_id: str) -> Any:
    """Action: a request has failed with an unexpected exception, and the client gets an internal error. *ctx* is None if it failed before
    its project was known."""
