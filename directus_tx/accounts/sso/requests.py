"""Requests to providers: for JSON documents, within the limits of the outgoing client."""

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus, urlencode

from directus_tx.accounts.sso.interfaces import SignOnError
from directus_tx.outgoing.client import Answer, Client
from directus_tx.outgoing.failures import RequestFailed

_SHOWN = 200
"""The maximum length of a text of a provider in the log."""


class Requests:
    """Makes the requests of providers."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def read(self, url: str, token: str | None = None) -> Any:
        """Returns the JSON document at a URL, with an access token if it is given. Raises SignOnError."""
        headers = {"Accept": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        answer = await self._request("GET", url, headers)
        if answer.status != 200:
            raise SignOnError(f"{_place(url)} answered with status {answer.status}")
        return _document(url, answer)

    async def redeem(
        self, url: str, fields: Mapping[str, str], client_id: str, client_secret: str, *, basic: bool
    ) -> Mapping[str, Any]:
        """Returns the answer of a token endpoint. The client signs in with HTTP Basic, or else in the form. Raises SignOnError."""
        headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
        form = dict(fields)
        if basic and client_secret:
            pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form["client_id"] = client_id
            if client_secret:
                form["client_secret"] = client_secret
        answer = await self._request("POST", url, headers, urlencode(form).encode())
        found = _document(url, answer) if answer.status in (200, 400, 401) else None
        if isinstance(found, dict) and "error" in found:
            # RFC 6749, section 5.2. GitHub answers errors with status 200.
            reason = ": ".join(printable(found[name]) for name in ("error", "error_description") if found.get(name))
            raise SignOnError(f"{_place(url)} refused the code: {reason}")
        if answer.status != 200 or not isinstance(found, dict):
            raise SignOnError(f"{_place(url)} answered with status {answer.status}")
        return found

    async def _request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
        try:
            return await self._client.request(method, url, headers=headers, body=body)
        except RequestFailed as error:
            raise SignOnError(f"{_place(url)}: {error}") from error


def access_token_of(answer: Mapping[str, Any]) -> str | None:
    """Returns the access token in the answer of a token endpoint, None if there is none that can be sent in a header."""
    found = answer.get("access_token")
    return found if isinstance(found, str) and found.isascii() and found.isprintable() else None


def _document(url: str, answer: Answer) -> Any:
    if answer.truncated:
        raise SignOnError(f"the answer of {_place(url)} is too large (outgoing.max_answer)")
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        raise SignOnError(f"the answer of {_place(url)} is not JSON") from None


def _place(url: str) -> str:
    """Returns a URL for the log, without its query."""
    return url.partition("?")[0]


def printable(value: object) -> str:
    """Returns a text of a provider as it is logged: short, and without control characters. Of a list or an object, returns the type."""
    text = str(value) if isinstance(value, (str, int, float, BaseException, type(None))) else type(value).__name__
    return "".join(character if character.isprintable() else "?" for character in text[:_SHOWN])


def text_of(value: object, most: int) -> str | None:
    """Returns a text of a provider without white space around it. None if it is empty, longer than *most* characters, or not a text that
    can be stored."""
    if not isinstance(value, str):
        return None
    found = value.strip()
    if not 0 < len(found) <= most or not found.isprintable():
        return None
    return found
