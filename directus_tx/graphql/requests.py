"""Requests of GraphQL over HTTP, and persisted queries: a client sends the hash of a document, and the document itself only if the server
does not know it yet."""

import hashlib
from collections.abc import Hashable, Mapping
from typing import Any

from attrs import frozen

from directus_tx.cache import Cache
from directus_tx.errors import ApiError, InvalidRequest

KEPT = 8 * 2**20
"""The approximate size in bytes of all persisted queries of a process."""


class PersistedQueryNotFound(ApiError):
    """The text of the document is not known. Clients look for the message "PersistedQueryNotFound" and send the text."""

    code, status = 4, 422


@frozen
class Request:
    """A request: the text of the document, "" if only its hash is sent, the variables, the name of the operation, and the hash."""

    text: str
    variables: Mapping[str, Any]
    operation: str | None
    hash: str | None = None


def request_of(body: Any) -> Request:
    """Returns the request in a body. Raises InvalidRequest."""
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be one object with a query. Several operations in one body are not supported.")
    text, variables, operation = body.get("query"), body.get("variables"), body.get("operationName")
    extensions = body.get("extensions")
    persisted = extensions.get("persistedQuery") if isinstance(extensions, dict) else None
    digest = persisted.get("sha256Hash") if isinstance(persisted, dict) else None
    if persisted is not None and not (isinstance(digest, str) and digest and persisted.get("version") == 1):
        raise InvalidRequest("A persisted query has the version 1 and a sha256Hash.")
    if variables is not None and not isinstance(variables, dict):
        raise InvalidRequest("The variables must be an object.")
    if operation is not None and not isinstance(operation, str):
        raise InvalidRequest("The operationName must be a text.")
    if text is not None and not isinstance(text, str):
        raise InvalidRequest("The query must be a text.")
    if not text and digest is None:
        raise InvalidRequest("The body has no query.")
    return Request(text or "", variables or {}, operation or None, digest)


class PersistedQueries:
    """The texts of documents by their hashes, of each project."""

    def __init__(self, size: int = KEPT) -> None:
        self._cache: Cache[str] = Cache(size)

    def text_of(self, project: Hashable, request: Request) -> str:
        """Returns the text of the document of a request, and keeps it if the request has both. Raises PersistedQueryNotFound, and
        InvalidRequest if the text has another hash."""
        if request.hash is None:
            return request.text
        if request.text:
            if hashlib.sha256(request.text.encode()).hexdigest() != request.hash.lower():
                raise InvalidRequest("The sha256Hash of the persisted query is not that of the query.")
            return self._cache.get(project, request.hash.lower(), lambda: request.text, _weight)
        found = self._cache.find(project, request.hash.lower())
        if found is None:
            raise PersistedQueryNotFound("PersistedQueryNotFound")
        return found


def _weight(text: str) -> int:
    return 300 + len(text)
