"""The protocol of Meilisearch: documents are added to and deleted from indexes by tasks, which the engine performs later."""

import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from attrs import frozen
from twisted.internet.task import deferLater

from directus_tx.api import Client, RequestFailed

_SAFE = re.compile(r"[A-Za-z0-9_-]{1,200}")
ID, KEY = "_id", "_key"
"""Attributes of documents: the id by which the engine knows them, and the key of the item."""

PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds between questions whether a task has been performed."""


class EngineError(Exception):
    """The engine has refused a request, or cannot be reached. `status` is that of its answer, None without one. `final`: it would refuse
    the request again."""

    def __init__(self, message: str, status: int | None = None, *, final: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.final = final


@frozen
class Engine:
    """A search engine at a URL. *key* is its API key, empty if it needs none."""

    reactor: Any
    client: Client
    url: str
    key: str

    async def add(self, index: str, documents: Sequence[dict[str, Any]]) -> None:
        """Adds documents to an index, which is made if it does not exist, and replaces those with the same ids. Raises EngineError."""
        await self._perform("POST", f"/indexes/{index}/documents?primaryKey={ID}", documents)

    async def delete(self, index: str, key: Any) -> None:
        """Deletes the document of an item, if there is one. Raises EngineError."""
        await self._perform("DELETE", f"/indexes/{index}/documents/{quote(safe(key))}")

    async def clear(self, index: str) -> None:
        """Deletes all documents of an index, if it exists. Raises EngineError."""
        await self._perform("DELETE", f"/indexes/{index}/documents")

    async def drop(self, index: str) -> None:
        """Deletes an index, if it exists. Raises EngineError."""
        await self._perform("DELETE", f"/indexes/{index}")

    async def search(self, index: str, text: str, fields: Sequence[str], limit: int) -> list[str]:
        """Returns the keys of the items whose documents have a text in some fields, the best first. Raises EngineError."""
        try:
            wanted = {"q": text, "limit": limit, "attributesToSearchOn": list(fields), "attributesToRetrieve": [KEY]}
            found = await self._request("POST", f"/indexes/{index}/search", wanted)
        except EngineError as error:
            if error.status == 404:
                # There is no index as long as there is no document.
                return []
            raise
        hits = found.get("hits")
        if not isinstance(hits, list):
            raise EngineError("the answer to a search has no hits")
        return [str(each[KEY]) for each in hits if isinstance(each, dict) and KEY in each]

    async def _perform(self, method: str, path: str, body: Any = None) -> None:
        """Sends a request that makes a task, and waits some seconds for the task to be performed. A task that takes longer has been
        accepted all the same. Raises EngineError if the task fails."""
        task = (await self._request(method, path, body)).get("taskUid")
        if not isinstance(task, int):
            raise EngineError("the answer has no taskUid")
        for pause in PAUSES:
            await deferLater(self.reactor, pause)
            found = await self._request("GET", f"/tasks/{task}")
            if found.get("status") in ("failed", "canceled"):
                error = found.get("error") or {}
                if error.get("code") == "index_not_found":
                    return
                raise EngineError(f"task {task} has failed: {error.get('message')}", final=True)
            if found.get("status") == "succeeded":
                return

    async def _request(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        data = None if body is None else json.dumps(body, default=str).encode()
        try:
            answer = await self.client.request(method, self.url + path, headers=headers, body=data)
        except RequestFailed as error:
            raise EngineError(str(error)) from error
        if answer.status >= 300:
            # 408 and 429 mean: try again later. The key or the limits of the engine may be corrected meanwhile.
            final = answer.status in (400, 404, 405, 415)
            raise EngineError(f"the engine has answered {answer.status}: {answer.text[:200]}", answer.status, final=final)
        try:
            found = json.loads(answer.body)
        except ValueError:
            raise EngineError("the answer is not JSON", answer.status) from None
        if not isinstance(found, dict):
            raise EngineError("the answer is not an object", answer.status)
        return found


def safe(key: Any) -> str:
    """Returns a key, or a name, in characters that ids and names of indexes may have. Different keys have different results."""
    text = str(key)
    # A text that looks like an encoded one is encoded, too.
    return text if _SAFE.fullmatch(text) and not text.startswith("x-") else "x-" + text.encode().hex()
