"""URLs that AWS Signature Version 4 signs in their query, with headers that the answer is to have.

The library `obstore` signs URLs as well, but cannot ask for headers.
"""

import hashlib
import hmac
from datetime import datetime
from urllib.parse import quote, urlsplit

from directus_tx.files.storage.settings import S3Settings

MAX_SECONDS = 7 * 24 * 3600
"""The longest time for which S3 accepts such a URL."""

_ALGORITHM = "AWS4-HMAC-SHA256"


def presigned_url(settings: S3Settings, key: str, now: datetime, seconds: int, headers: dict[str, str]) -> str:
    """Returns the URL for reading the object with a key, which is valid for some seconds from *now*, an aware datetime in UTC. *headers*
    are those of the answer, by their names in the query, such as response-content-type."""
    url = f"{settings.base}/{quote(key, safe='/~')}"
    parts = urlsplit(url)
    scope = f"{now:%Y%m%d}/{settings.region}/s3/aws4_request"
    values = headers | {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{settings.key}/{scope}",
        "X-Amz-Date": f"{now:%Y%m%dT%H%M%SZ}",
        "X-Amz-Expires": str(max(1, min(seconds, MAX_SECONDS))),
        "X-Amz-SignedHeaders": "host",
    }
    query = "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in sorted(values.items()))
    request = f"GET\n{parts.path}\n{query}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    text = f"{_ALGORITHM}\n{now:%Y%m%dT%H%M%SZ}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signing_key = f"AWS4{settings.secret}".encode()
    for part in scope.split("/"):
        signing_key = hmac.digest(signing_key, part.encode(), "sha256")
    signature = hmac.digest(signing_key, text.encode(), "sha256").hex()
    return f"{url}?{query}&X-Amz-Signature={signature}"
