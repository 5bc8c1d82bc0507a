"""What plugins import. Everything else in directus_tx may change without notice.

A plugin says for which version of this module it is made, with an attribute of its module or object: ``directus_tx_api = 1``.
"""

from types import MappingProxyType
from typing import Any

from directus_tx import errors as errors
from directus_tx.context import Accountability
from directus_tx.errors import ApiError
from directus_tx.plugins.context import Context, ItemsService, Response
from directus_tx.plugins.hookspecs import hookimpl
from directus_tx.plugins.manager import API_VERSION
from directus_tx.query import Condition, Query, Sort, WriteOptions

__all__ = [
    "API_VERSION",
    "Accountability",
    "ApiError",
    "Condition",
    "Context",
    "ItemsService",
    "Query",
    "Response",
    "Sort",
    "WriteOptions",
    "errors",
    "hookimpl",
    "plain",
]


def plain(value: Any) -> Any:
    """Returns a copy, of dicts and lists, of a value that a hook was given and cannot change."""
    if isinstance(value, (dict, MappingProxyType)):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value
