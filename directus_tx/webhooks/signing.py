"""Signatures as the specification Standard Webhooks defines them (https://www.standardwebhooks.com), by HMAC-SHA256."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence

PREFIX = "whsec_"
"""The beginning of secrets. The rest is the key in base64."""

KEY_LENGTH = 32
"""The length of a new key in bytes."""


def new_secret() -> str:
    """Returns a new secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(KEY_LENGTH)).decode()


def signed_headers(keys: Sequence[str], message_id: str, timestamp: int, body: bytes) -> Mapping[str, str]:
    """Returns the headers of a request with a body: webhook-id, webhook-timestamp, and if there are secrets, webhook-signature with a
    signature by each of them. *timestamp* is in seconds since 1970."""
    headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    if keys:
        headers["webhook-signature"] = " ".join(_signature(key, message_id, timestamp, body) for key in keys)
    return headers


def _signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()
