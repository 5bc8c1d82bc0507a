"""Encodes answers: the envelope of the API as JSON, entity tags, and gzip."""

import hashlib
import hmac
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import orjson
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

from directus_tx.errors import ApiError, Notice
from directus_tx.http.headers import DENIED
from directus_tx.slices import in_slices

GZIP_FROM = 1024
"""Size in bytes from which answers are compressed."""

GZIP_LEVEL = 3
"""Compression blocks the reactor: level 3 takes 0.8 ms for a list of items of 75 kB and reduces it to 43 %. Level 5 takes 50 % longer, and
its result is only 6 % smaller."""


PIECE = 64 * 1024
"""Bytes of a large body that are compressed in one step."""


def envelope(
    data: Any,
    meta: Mapping[str, Any] | None = None,
    *,
    public: bool = False,
    messages: Sequence[Notice] = (),
    error: ApiError | None = None,
) -> bytes:
    """Returns the body of an answer: `data` with `meta`, `messages`, `error` and `public`. Without `data` if *data* is `...`."""
    body: dict[str, Any] = {}
    if meta is not None:
        body["meta"] = meta
    if data is not ...:
        body["data"] = data
    if messages:
        body["messages"] = notices(messages)
    if error is not None:
        body["error"] = _described(error)
    if public:
        body["public"] = True
    return encoded(body)


def around_items(meta: Mapping[str, Any] | None = None, *, public: bool, messages: Sequence[Notice]) -> tuple[bytes, bytes]:
    """Returns the parts of an envelope before and after the items of a list."""
    # NUL marks the place of the items. It cannot occur elsewhere, because JSON escapes it in strings.
    head, _, tail = envelope(orjson.Fragment(b"[\0]"), meta, public=public, messages=messages).partition(b"\0")
    return head, tail


def notices(messages: Sequence[Notice]) -> list[dict[str, Any]]:
    """Returns the notices in the form of `messages` in an envelope."""
    return [{"type": "warning", "code": each.code, "message": each.message, "fields": each.fields} for each in messages]


def refusal(error: ApiError) -> bytes:
    """Returns the body of an error."""
    return orjson.dumps({"error": _described(error)})


def _described(error: ApiError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message}


def raw_refusal(error: ApiError) -> bytes:
    """Returns the whole answer for an error, with status line and headers, after which the connection must be closed."""
    body = refusal(error)
    status = HTTPStatus(error.status)
    headers = "".join(f"{name}: {value}\r\n" for name, value in error.headers.items())
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"Access-Control-Allow-Origin: *\r\n{DENIED.decode()}\r\n{headers}Connection: close\r\n\r\n"
    )
    return head.encode() + body


def encoded(body: Any) -> bytes:
    """Returns a value as JSON. Raises TypeError if it cannot be encoded."""
    try:
        return orjson.dumps(body)
    except TypeError:
        # Only tried after a failure, because the option makes encoding slower. Keys that are not strings are rare: a status may be null.
        return orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)


@lru_cache(maxsize=100)
def takes_gzip(accepted: bytes) -> bool:
    """Whether an Accept-Encoding header accepts gzip. A quality of 0 excludes an encoding; "*" stands for all that are not named."""
    wanted = {}
    for part in accepted.lower().split(b","):
        name, _, quality = part.partition(b";")
        wanted[name.strip()] = quality.replace(b" ", b"").rstrip(b"0.") != b"q="
    return wanted.get(b"gzip", wanted.get(b"*", False))


def digest(body: bytes, key: bytes) -> str:
    """Returns the digest of a body for its entity tag: its GMAC, which processors compute ten times faster than SHA-1. As the nonce is
    always the same, it tells bodies apart but proves nothing about where they come from."""
    return _body_cipher(key).encrypt(_NONCE, b"", body).hex()[:24]


async def digest_in_slices(reactor: Any, body: bytes, key: bytes) -> str:
    """Returns `digest` of a large body and lets the reactor run in between."""
    found = Cipher(AES(_body_key(key)), GCM(_NONCE)).encryptor()
    async for piece in in_slices(reactor, _pieces(body)):
        found.authenticate_additional_data(piece)
    found.finalize()
    return found.tag.hex()[:24]


_NONCE = bytes(12)


def _body_key(key: bytes) -> bytes:
    return hmac.digest(key, b"bodies", "sha256")


@lru_cache(maxsize=1000)
def _body_cipher(key: bytes) -> AESGCM:
    return AESGCM(_body_key(key))


def _pieces(body: bytes) -> Iterator[memoryview]:
    whole = memoryview(body)
    return (whole[start : start + PIECE] for start in range(0, len(whole), PIECE))


def etag(digest: str, version: str | None = None, key: bytes = b"") -> bytes:
    """Returns a weak entity tag from the digest of a body that is not compressed. The tag of an item ends with a code of its version, a
    BLAKE2 hash with the *key* (at most 64 bytes), from which clients cannot learn the version."""
    end = b"" if version is None else b"-" + _code(version, key)
    return b'W/"' + digest.encode() + end + b'"'


def _code(version: str, key: bytes) -> bytes:
    return hashlib.blake2b(version.encode(), key=key, digest_size=12).hexdigest().encode()


def precondition(wanted: bytes, key: bytes) -> Callable[[str], bool]:
    """Returns the condition of an If-Match header on the version of an item: one of the entity tags must have the code of the version.
    "*" matches every version."""
    tags = [each.strip().removeprefix(b"W/").strip(b'"') for each in wanted.split(b",")]
    codes = {tag.partition(b"-")[2] for tag in tags}
    return lambda version: b"*" in tags or _code(version, key) in codes


def has_tag(wanted: bytes, tag: bytes) -> bool:
    """Whether an If-None-Match header matches a tag. "*" matches every tag."""
    opaque = tag.removeprefix(b"W/")
    return any(each.strip().removeprefix(b"W/") in (opaque, b"*") for each in wanted.split(b","))


def compressed(body: bytes) -> bytes:
    """Returns the body compressed with gzip."""
    packer = zlib.compressobj(GZIP_LEVEL, wbits=31)
    return packer.compress(body) + packer.flush()


class Packer:
    """Compresses a body with gzip, piece by piece, and lets the reactor run in between."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self._packer = zlib.compressobj(GZIP_LEVEL, wbits=31)

    async def add(self, data: bytes) -> bytes:
        """Adds the next bytes of the body. Returns the bytes that can be sent."""
        return b"".join([self._packer.compress(piece) async for piece in in_slices(self.reactor, _pieces(data))])

    def end(self) -> bytes:
        """Returns the last bytes."""
        return self._packer.flush()

    async def whole(self, body: bytes) -> bytes:
        """Returns a whole body, compressed."""
        return await self.add(body) + self.end()
