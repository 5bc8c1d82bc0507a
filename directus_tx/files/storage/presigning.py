"""URLs that AWS Signature Version 4 signs in their query, with headers that the answer is to have.

The library `obstore` signs URLs as well, but cannot ask for headers.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import quote, urlsplit

from directus_tx.files.storage.settings import S3Settings

MAX_SECONDS = 7 * 24 * 3600
"""The longest time for which S3 accepts such a URL."""

_ALGORITHM = "AWS4-HMAC-SHA256"


def presigned_url(settings: S3Settings, key: str, now: datetime, seconds: int, headers: dict[str, str]) -> str:
    """Returns the URL for reading the object with a key, which is valid for some seconds from *now*, an aware datetime in UTC. *headers*
    are those of the answer, by their names in the query, such as response-content-type."""
    return _signed("GET", settings, key, now, seconds, headers, {})


def presigned_upload(settings: S3Settings, key: str, now: datetime, seconds: int, headers: Mapping[str, str]) -> str:
    """Returns the URL for storing the object with a key by PUT, likewise. The request must have the *headers*, whose names are in lower
    case."""
    return _signed("PUT", settings, key, now, seconds, {}, headers)


def _signed(
    method: str,
    settings: S3Settings,
    key: str,
    now: datetime,
    seconds: int,
    values: Mapping[str, str],
    headers: Mapping[str, str],
) -> str:
    """Returns the URL for a request with a method and *headers*, and with *values* in its query."""
    url = f"{settings.base}/{quote(key, safe='/~')}"
    parts = urlsplit(url)
    scope = f"{now:%Y%m%d}/{settings.region}/s3/aws4_request"
    signed = sorted((dict(headers) | {"host": parts.netloc}).items())
    names = ";".join(name for name, _ in signed)
    given = dict(values) | {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{settings.key}/{scope}",
        "X-Amz-Date": f"{now:%Y%m%dT%H%M%SZ}",
        "X-Amz-Expires": str(max(1, min(seconds, MAX_SECONDS))),
        "X-Amz-SignedHeaders": names,
    }
    query = "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in sorted(given.items()))
    lines = "".join(f"{name}:{value}\n" for name, value in signed)
    request = f"{method}\n{parts.path}\n{query}\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
    text = f"{_ALGORITHM}\n{now:%Y%m%dT%H%M%SZ}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signing_key = f"AWS4{settings.secret}".encode()
    for part in scope.split("/"):
        signing_key = hmac.digest(signing_key, part.encode(), "sha256")
    signature = hmac.digest(signing_key, text.encode(), "sha256").hex()
    return f"{url}?{query}&X-Amz-Signature={signature}"
