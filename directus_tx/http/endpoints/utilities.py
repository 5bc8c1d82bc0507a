"""/:project/utils: hashes, random strings and secrets. Anyone may use them."""

import base64
import hashlib
import hmac
import secrets
import string
from typing import Any

from directus_tx.accounts.hashes import MAX_BCRYPT_COST, check_length
from directus_tx.errors import InvalidRequest, UnknownHasher
from directus_tx.http.answers import Answer, Envelope
from directus_tx.http.operations import FLAG, INTEGER, TEXT, Operation, record
from directus_tx.http.routes import Call, Caller, Routes
from directus_tx.schema.numbers import whole_number

routes = Routes()
UTILS = "/<project>/utils"
ALPHABET = string.digits + string.ascii_letters + "!@#$%^&*()_+}{;?>.<,"
DIGESTS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")
MAX_LENGTH = 100_000
SECRET = {"type": "object", "properties": {"2fa_secret": TEXT}}
MIN_COST = 4
_FAIR = 256 - 256 % len(ALPHABET)
"""Random bytes below this number map to each letter of the alphabet equally often; other bytes are dropped."""

_LETTERS = bytes(ord(ALPHABET[byte % len(ALPHABET)]) for byte in range(256))
_UNFAIR = bytes(range(_FAIR, 256))


def _text(payload: dict[str, Any], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f'"{name}" must be a text that is not empty.')
    return value


def _string(payload: dict[str, Any]) -> str:
    """Returns the text to hash. Raises InvalidRequest."""
    text = _text(payload, "string")
    check_length(text)
    return text


def _hasher(payload: dict[str, Any]) -> str:
    name = payload.get("hasher") or "core"
    if name not in ("core", "bcrypt", *DIGESTS):
        raise UnknownHasher(f'There is no hasher "{name}".')
    return str(name)


@routes.post(UTILS + "/hash", Caller.PUBLIC, Operation("Hash a text", record(hash=TEXT), record(string=TEXT)))
async def make_hash(call: Call) -> Answer:
    payload = await call.item()
    text, hasher = _string(payload), _hasher(payload)
    if hasher in DIGESTS:
        return Envelope({"hash": hashlib.new(hasher, text.encode()).hexdigest()})
    options = payload.get("options")
    cost = options.get("cost", 10) if isinstance(options, dict) else 10
    if not isinstance(cost, int) or not MIN_COST <= cost <= MAX_BCRYPT_COST:
        raise InvalidRequest(f'"cost" must be a number from {MIN_COST} to {MAX_BCRYPT_COST}.')
    return Envelope({"hash": await call.services.hasher.bcrypt(text, cost)})


@routes.post(
    UTILS + "/hash/match",
    Caller.PUBLIC,
    Operation("Compare a text with a hash", record(valid=FLAG), record(string=TEXT, hash=TEXT)),
)
async def match_hash(call: Call) -> Answer:
    payload = await call.item()
    text, hashed, hasher = _string(payload), _text(payload, "hash"), _hasher(payload)
    if hasher in DIGESTS:
        found = hashlib.new(hasher, text.encode()).hexdigest()
        return Envelope({"valid": hmac.compare_digest(found.encode(), hashed.lower().encode())})
    return Envelope({"valid": await call.services.hasher.matches(text, hashed)})


@routes.post(
    UTILS + "/random/string", Caller.PUBLIC, Operation("Generate a random text", record(random=TEXT), record(length=INTEGER))
)
async def make_string(call: Call) -> Answer:
    length = (await call.item()).get("length")
    if length is None:
        length = 32
    if isinstance(length, str):
        length = whole_number(length)
    if not isinstance(length, int) or isinstance(length, bool) or not 0 <= length <= MAX_LENGTH:
        raise InvalidRequest(f'"length" must be a number from 0 to {MAX_LENGTH}.')
    return Envelope({"random": _random_text(length)})


def _random_text(length: int) -> str:
    """Returns a text of random letters of the alphabet."""
    found = b""
    while len(found) < length:
        found += secrets.token_bytes(length - len(found)).translate(_LETTERS, _UNFAIR)
    return found.decode()


@routes.get(UTILS + "/2fa_secret", Caller.PUBLIC, Operation("Generate a secret for two-factor authentication", SECRET))
async def make_secret(call: Call) -> Answer:
    return Envelope({"2fa_secret": base64.b32encode(secrets.token_bytes(10)).decode()})
