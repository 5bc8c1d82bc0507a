"""What plugins import. Everything else in directus_tx may change without notice.

A plugin says for which version of this module it is made, with an attribute of its module or object: ``directus_tx_api = 1``.
"""

from types import MappingProxyType
from typing import Any

from directus_tx import errors as errors
from directus_tx.accounts.sso.interfaces import (
    Flow,
    IAuthenticationProvider,
    Identity,
    IPasswordProvider,
    Redemption,
    Refusal,
    SignOnError,
)
from directus_tx.accounts.sso.settings import AuthenticationDriver, ProviderSettings, ProviderTools
from directus_tx.cli.command import Failed, PluginEnvironment, plugin_command
from directus_tx.config import setting
from directus_tx.context import Accountability
from directus_tx.errors import ApiError
from directus_tx.files.storage.adapters import StorageAdapter, StoragePlace, StorageThreads
from directus_tx.files.storage.interfaces import (
    PIECE,
    FileNotStored,
    FileReplaced,
    IDirectUploads,
    IFileStorage,
    IUpload,
    Stored,
    UploadRequest,
    check_name,
)
from directus_tx.files.storage.local import LocalStorage
from directus_tx.http.answers import Answer, Document, Empty, Envelope, Redirect, Text
from directus_tx.http.custom import Request
from directus_tx.http.operations import ANY, BYTES, FLAG, INTEGER, TEXT, Header, Operation, Parameters, record
from directus_tx.http.routes import Caller, Routes
from directus_tx.items.changes import WrittenItem
from directus_tx.outbox.kinds import Attempt, Delivery, Outcome
from directus_tx.outbox.messages import Message
from directus_tx.outgoing.client import Client
from directus_tx.outgoing.failures import RequestFailed
from directus_tx.plugins.context import Context, ItemsService, Response
from directus_tx.plugins.hookspecs import hookimpl
from directus_tx.plugins.manager import API_VERSION
from directus_tx.query import Condition, Query, Sort, WriteOptions
from directus_tx.registered import Server
from directus_tx.schema.custom import AggregateFunction, FieldType, FilterOperator

__all__ = [
    "ANY",
    "API_VERSION",
    "BYTES",
    "FLAG",
    "INTEGER",
    "PIECE",
    "TEXT",
    "Accountability",
    "AggregateFunction",
    "Answer",
    "ApiError",
    "Attempt",
    "AuthenticationDriver",
    "Caller",
    "Client",
    "Condition",
    "Context",
    "Delivery",
    "Document",
    "Empty",
    "Envelope",
    "Failed",
    "FieldType",
    "FileNotStored",
    "FileReplaced",
    "FilterOperator",
    "Flow",
    "Header",
    "IAuthenticationProvider",
    "IDirectUploads",
    "IFileStorage",
    "IPasswordProvider",
    "IUpload",
    "Identity",
    "ItemsService",
    "LocalStorage",
    "Message",
    "Operation",
    "Outcome",
    "Parameters",
    "PluginEnvironment",
    "ProviderSettings",
    "ProviderTools",
    "Query",
    "Redemption",
    "Redirect",
    "Refusal",
    "Request",
    "RequestFailed",
    "Response",
    "Routes",
    "Server",
    "SignOnError",
    "Sort",
    "StorageAdapter",
    "StoragePlace",
    "StorageThreads",
    "Stored",
    "Text",
    "UploadRequest",
    "WriteOptions",
    "WrittenItem",
    "check_name",
    "errors",
    "hookimpl",
    "plain",
    "plugin_command",
    "record",
    "setting",
]


def plain(value: Any) -> Any:
    """Returns a copy, of dicts and lists, of a value that a hook was given and cannot change."""
    if isinstance(value, (dict, MappingProxyType)):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value
