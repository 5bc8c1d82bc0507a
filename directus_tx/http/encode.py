"""Answers as bytes: the envelope of the API, as JSON, and gzip for those who ask."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from directus_tx.errors import ApiError, Warning

GZIP_FROM = 1024
"""Bytes below which gzip does not pay."""

GZIP_LEVEL = 5
"""Measured on lists of items: higher levels take much longer and save little."""


def envelope(
    data: Any, meta: Mapping[str, Any] | None = None, *, public: bool = False, messages: Sequence[Warning] = ()
) -> bytes:
    """An answer's body: `data`, and what else there is to say. *data* of `...` is none."""
    body: dict[str, Any] = {}
    if meta is not None:
        body["meta"] = meta
    if data is not ...:
        body["data"] = data
    if messages:
        body["messages"] = [{"code": each.code, "message": each.message} for each in messages]
    if public:
        body["public"] = True
    return encoded(body)


def refusal(error: ApiError) -> bytes:
    """The body of an error."""
    return orjson.dumps({"error": {"code": error.code, "message": error.message}})


def encoded(body: Any) -> bytes:
    return orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)


def compressed(body: bytes) -> bytes:
    """The body as gzip."""
    packer = zlib.compressobj(GZIP_LEVEL, wbits=31)
    return packer.compress(body) + packer.flush()
