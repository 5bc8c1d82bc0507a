"""The errors raised when a grant does not allow a request. Messages name a collection only if the caller may do something with its
items: a nested write can reach collections that the caller did not name and may not know of."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from directus_tx.access.grant import Grant
from directus_tx.errors import (
    ApiError,
    CollectionNotFound,
    DeleteForbidden,
    InvalidRequest,
    ItemNotFound,
    ReadForbidden,
    Unauthorized,
    UnknownField,
    UpdateForbidden,
)
from directus_tx.suggestions import suggestion

Row = Mapping[str, Any]

LEVEL_BEFORE_ITEM = frozenset(
    {"directus_roles", "directus_permissions", "directus_folders", "directus_settings", "directus_webhooks"}
)
"""Collections in which changing an item that the caller may not read is answered with 403. Elsewhere the answer is 404."""

NOT_FOR_THE_PUBLIC = frozenset({"directus_roles", "directus_permissions", "directus_revisions", "directus_files"})
"""Collections for which a caller who is not signed in gets Unauthorized, also for a single item, instead of ItemNotFound."""


def for_caller(error: ApiError, *, public: bool) -> ApiError:
    """Returns Unauthorized instead of *error* if the caller is not signed in."""
    return Unauthorized() if public else error


def no_collection(name: str, readable: Iterable[str]) -> CollectionNotFound:
    """Returns the error for a collection that does not exist. *readable* are the collections that the caller may read."""
    return CollectionNotFound(f'There is no collection "{name}"{suggestion(name, readable)}')


def no_field(grant: Grant, name: str, purpose: str = "", error: type[ApiError] = UnknownField) -> ApiError:
    """Returns the error for a field that does not exist, for example with the purpose "to sort by". It suggests a field that the caller
    may read."""
    collection = grant.collection
    readable = (each for each in collection.fields if each not in grant.hidden)
    return error(f'"{collection.collection}" has no field "{name}"{purpose and " " + purpose}{suggestion(name, readable)}')


def check_key(grant: Grant) -> None:
    """Raises InvalidRequest if the items of a collection that the caller may read have no key of one column."""
    collection = grant.collection
    if collection.key is None:
        names = [f'"{name}"' for name in collection.key_columns if name not in grant.concealed]
        known = f", but the key {', '.join(names)}" if names and len(names) == len(collection.key_columns) else ""
        refusal = InvalidRequest(f"The items of {grant.title} have no key of one column{known}: list them with a filter.")
        refusal.depends_on_schema = True
        raise refusal


def no_item(grant: Grant) -> ItemNotFound:
    """Returns the error for an item that does not exist."""
    return ItemNotFound(f"There is no such item in {grant.title}.")


def unlisted(grant: Grant, *, public: bool) -> ApiError:
    """Returns the error for a list of a collection that the caller may not read."""
    return for_caller(ReadForbidden(f"You may not read items of {grant.title}."), public=public)


def unread(grant: Grant, *, public: bool) -> ApiError:
    """Returns the error for a single item of a collection that the caller may not read: as if the item did not exist."""
    return for_caller(no_item(grant), public=public and grant.collection.collection in NOT_FOR_THE_PUBLIC)


def unchangeable(grant: Grant, row: Row | None, *, public: bool, several: bool) -> ApiError:
    """Returns the error for changing an item that does not exist (*row* is None) or that the caller may not read. Both give the same
    error, except for users and roles, where clients rely on the difference. *several*: the item is one of a list."""
    name, missing = grant.collection.collection, no_item(grant)
    if grant.reads_all or (row is None and _tells_missing(grant)):
        return missing
    if name == "directus_users":
        return ReadForbidden("You may not read this user.") if row is None or grant.hides_status(row) else missing
    if name in LEVEL_BEFORE_ITEM and not (several and public):
        return UpdateForbidden(f"You may not change this item of {grant.title}.")
    return for_caller(missing, public=public and name == "directus_files")


def unrevertable(grant: Grant) -> ApiError:
    """Returns the error for reverting an item that does not exist or that the caller may not read."""
    return no_item(grant) if grant.reads_all else UpdateForbidden(f"You may not change this item of {grant.title}.")


def undeletable(grant: Grant, *, public: bool, seen: int, hidden: Sequence[Row], missing: int) -> ApiError:
    """Returns the error for a deletion. *seen* is the number of items that the caller may read but not delete, *hidden* are the rows of
    those that it may not read, *missing* is the number of keys without an item. Hidden and missing items give the same error, except
    for users, where clients rely on the difference."""
    name, not_found = grant.collection.collection, no_item(grant)
    forbidden = DeleteForbidden(f"You may not delete this item of {grant.title}.")
    if not (hidden or missing):
        return forbidden
    if grant.reads_all:
        return forbidden if seen else not_found
    if name == "directus_users" and _tells_missing(grant):
        return forbidden if seen or any(grant.hides_status(row) for row in hidden) else not_found
    if name in NOT_FOR_THE_PUBLIC and public:
        return Unauthorized()
    return not_found if name in ("directus_roles", "directus_files") else forbidden


def _tells_missing(grant: Grant) -> bool:
    """Whether clients rely on different errors for hidden and missing items: for users and roles, if the caller may read some of them."""
    return grant.read and grant.collection.collection in ("directus_users", "directus_roles")
