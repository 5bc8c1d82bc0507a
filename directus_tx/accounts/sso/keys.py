"""The keys with which an OpenID Connect provider signs, and verifying a signature with them."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from directus_tx.accounts.sso.documents import Document
from directus_tx.accounts.sso.interfaces import SignOnError
from directus_tx.accounts.sso.requests import Requests, printable

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""The algorithms that ID tokens may be signed with. `none` and those with shared secrets (HS256) are not among them: who knows the public
key of a provider could sign with it."""

LIFETIME = 3600.0
"""Seconds after which the keys are read again, so that a key that the provider has withdrawn is not accepted for long."""

PAUSE = 60.0
"""Seconds between two readings of the keys because of an unknown key: anybody can send tokens with unknown ones."""

MIN_RSA = 2048
"""The minimum length of RSA keys in bits."""

MAX_KEYS = 100
Keys = tuple[Mapping[str, Any], ...]
"""The keys of a key set (RFC 7517)."""

_TYPES: Mapping[str, str] = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


class SigningKeys:
    """The public keys of a provider. *address* returns the URL of its key set."""

    def __init__(self, reactor: Any, requests: Requests, address: Callable[[], Coroutine[Any, Any, str]]) -> None:
        self._requests = requests
        self._address = address
        self._keys = Document(reactor, LIFETIME, self._read)

    async def verified(self, token: str, audience: str, issuer: str) -> Mapping[str, Any]:
        """Returns the claims of a token that is signed with one of the keys, for an audience and by an issuer. Its times and its nonce are
        not checked. Raises SignOnError."""
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise SignOnError("the ID token is not a JWT") from None
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS:
            raise SignOnError(f"the ID token is signed with {printable(algorithm)}, which is not allowed")
        claims = _claims(await self._keys.get(), token, header, audience, issuer)
        if claims is None:
            # The provider may have new keys.
            claims = _claims(await self._keys.renewed(PAUSE), token, header, audience, issuer)
        if claims is None:
            raise SignOnError("the ID token is not signed with a key of the provider")
        return claims

    async def _read(self) -> Keys:
        found = await self._requests.read(await self._address())
        keys = found.get("keys") if isinstance(found, dict) else None
        if not isinstance(keys, list):
            raise SignOnError("the key set of the provider is not one")
        return tuple(each for each in keys[:MAX_KEYS] if isinstance(each, dict))


def _claims(keys: Keys, token: str, header: Mapping[str, Any], audience: str, issuer: str) -> Mapping[str, Any] | None:
    """Returns the claims of a token; None if it is signed with none of the keys. Raises SignOnError if they are not those of the audience
    and the issuer."""
    for key in _fitting(keys, header):
        try:
            found: Mapping[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[header["alg"]],
                audience=audience,
                issuer=issuer,
                # The times are compared by the caller, with the time of the request instead of the system clock.
                options={
                    "require": ["iss", "sub", "aud", "exp", "iat"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
            return found
        except jwt.InvalidSignatureError:
            continue
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise SignOnError(f"the ID token is not valid: {printable(error)}") from None
    return None


def _fitting(keys: Keys, header: Mapping[str, Any]) -> "list[jwt.PyJWK]":
    """Returns the keys that the header of a token names, or all for its algorithm if it names none."""
    algorithm, name = header["alg"], header.get("kid")
    found = []
    for each in keys:
        if each.get("kty") != _TYPES[algorithm[:2]] or each.get("use", "sig") != "sig":
            continue
        if each.get("alg", algorithm) != algorithm or (name is not None and each.get("kid") != name):
            continue
        try:
            key = jwt.PyJWK(dict(each), algorithm)
        except Exception:
            # The library raises exceptions of many types for what is not a key.
            continue
        if not isinstance(key.key, RSAPublicKey) or key.key.key_size >= MIN_RSA:
            found.append(key)
    return found
