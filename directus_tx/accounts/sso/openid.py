"""OpenID Connect: the authorization code flow with PKCE, with the endpoints that the provider's discovery document names."""

import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from attrs import evolve, frozen
from zope.interface import implementer

from directus_tx.accounts.sso.documents import Document
from directus_tx.accounts.sso.interfaces import Flow, IAuthenticationProvider, Identity, Redemption, SignOnError
from directus_tx.accounts.sso.keys import SigningKeys
from directus_tx.accounts.sso.requests import Requests, access_token_of, printable, text_of
from directus_tx.accounts.sso.settings import ProviderSettings, check_endpoint

SCOPES = ("openid", "profile", "email")
LIFETIME = 3600.0
"""Seconds after which the discovery document is read again."""

SKEW = 60
"""Seconds by which the clocks of the server and of the provider may differ."""

MAX_TIME = 1e11
"""Times from here on are not in seconds since 1970."""

MAX_SUBJECT = 255
MAX_EMAIL = 128
MAX_NAME = 50
MAX_GROUPS = 1000


@frozen
class _Endpoints:
    """The endpoints in a discovery document. `basic`: clients sign in with HTTP Basic. `names_issuer`: the provider sends the parameter
    `iss` (RFC 9207)."""

    authorization: str
    token: str
    keys: str
    userinfo: str | None
    basic: bool
    names_issuer: bool


@implementer(IAuthenticationProvider)
class OpenIDConnect:
    """A provider of OpenID Connect. Its documents are read when they are first needed."""

    def __init__(self, reactor: Any, requests: Requests, settings: ProviderSettings) -> None:
        self._requests = requests
        self._settings = settings
        self.issuer = settings.issuer
        self._keys = SigningKeys(reactor, requests, self._address_of_keys)
        self._endpoints = Document(reactor, LIFETIME, self._discover)

    async def authorization_url(self, redirect_uri: str, flow: Flow) -> str:
        endpoints = await self._endpoints.get()
        parameters = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self._settings.scopes or SCOPES),
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": flow.challenge,
            "code_challenge_method": "S256",
        }
        return f"{endpoints.authorization}{'&' if '?' in endpoints.authorization else '?'}{urlencode(parameters)}"

    def check_answer(self, issuer: str | None) -> None:
        known = self._endpoints.content
        required = known is not None and known.names_issuer
        if issuer != self.issuer and (issuer is not None or required):
            raise SignOnError("the answer names another provider in its parameter iss, or none")

    async def identify(self, redemption: Redemption) -> Identity:
        endpoints = await self._endpoints.get()
        fields = {
            "grant_type": "authorization_code",
            "code": redemption.code,
            "redirect_uri": redemption.redirect_uri,
            "code_verifier": redemption.flow.verifier,
        }
        settings = self._settings
        answer = await self._requests.redeem(
            endpoints.token, fields, settings.client_id, settings.client_secret, basic=endpoints.basic
        )
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise SignOnError("the answer of the token endpoint has no ID token")
        claims = await self._keys.verified(token, settings.client_id, self.issuer)
        self._check(claims, redemption)
        access = access_token_of(answer)
        if endpoints.userinfo is not None and access is not None and self._lacks(claims):
            found = await self._requests.read(endpoints.userinfo, access)
            if not isinstance(found, dict) or found.get("sub") != claims["sub"]:
                # OpenID Connect Core, section 5.3.2: the answer may be that about another user.
                raise SignOnError("the answer of the userinfo endpoint is about another user")
            claims = _completed(claims, found)
        return self._identity(claims)

    def _check(self, claims: Mapping[str, Any], redemption: Redemption) -> None:
        """Checks the claims of an ID token (OpenID Connect Core, section 3.1.3.7). Raises SignOnError."""
        nonce, audience = claims.get("nonce"), claims["aud"]
        sent = nonce.encode("utf-8", "surrogatepass") if isinstance(nonce, str) else b""
        if not hmac.compare_digest(sent, redemption.flow.nonce.encode()):
            raise SignOnError("the ID token was issued for another sign-on (nonce)")
        party = claims.get("azp")
        if party != self._settings.client_id and (party is not None or (isinstance(audience, list) and len(audience) > 1)):
            raise SignOnError("the ID token was issued to another client (azp)")
        now = redemption.now.timestamp()
        expires, issued, begins = (_seconds(claims, name) for name in ("exp", "iat", "nbf"))
        if expires is None or expires <= now - SKEW:
            raise SignOnError(f"the ID token has expired{_clock(redemption.now)}")
        if any(each is not None and each > now + SKEW for each in (issued, begins)):
            raise SignOnError(f"the ID token is not valid yet{_clock(redemption.now)}")
        if text_of(claims["sub"], MAX_SUBJECT) != claims["sub"]:
            raise SignOnError("the subject of the ID token is not a text that can be stored")

    def _lacks(self, claims: Mapping[str, Any]) -> bool:
        """Whether claims are missing that the userinfo endpoint may have."""
        wanted = ["email", *([self._settings.group_claim] if self._settings.group_claim else [])]
        return any(name not in claims for name in wanted)

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        settings = self._settings
        address = text_of(claims.get("email"), MAX_EMAIL)
        verified = claims.get("email_verified", settings.trust_email)
        # Some providers send a text.
        email = address if verified is True or verified == "true" else None
        groups = _groups(claims.get(settings.group_claim)) if settings.group_claim else None
        first, last = (text_of(claims.get(name), MAX_NAME) for name in ("given_name", "family_name"))
        if first is None and last is None:
            first = text_of(claims.get("name"), MAX_NAME)
        return Identity(self.issuer, claims["sub"], email, first, last, groups)

    async def _address_of_keys(self) -> str:
        return (await self._endpoints.get()).keys

    async def _discover(self) -> _Endpoints:
        document = await self._requests.read(f"{self.issuer.removesuffix('/')}/.well-known/openid-configuration")
        if not isinstance(document, dict):
            raise SignOnError("the discovery document is not an object")
        if document.get("issuer") != self.issuer:
            raise SignOnError(f"the discovery document is that of {printable(document.get('issuer'))}, not of {self.issuer}")
        urls: dict[str, str] = {}
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"):
            url = document.get(name)
            if url is None and name == "userinfo_endpoint":
                continue
            if not isinstance(url, str):
                raise SignOnError(f"the discovery document has no {name}")
            try:
                check_endpoint(url, query=True)
            except ValueError as error:
                raise SignOnError(f"{name} of the discovery document {error}") from None
            urls[name] = url
        methods = document.get("token_endpoint_auth_methods_supported")
        return _Endpoints(
            urls["authorization_endpoint"],
            urls["token_endpoint"],
            urls["jwks_uri"],
            urls.get("userinfo_endpoint"),
            # The default of OpenID Connect Discovery.
            basic=not isinstance(methods, list) or "client_secret_basic" in methods,
            names_issuer=document.get("authorization_response_iss_parameter_supported") is True,
        )


def _completed(claims: Mapping[str, Any], found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the claims of an ID token with those of the userinfo endpoint that it lacks. Whether an address is verified belongs to the
    address."""
    if "email" in claims:
        found = {name: value for name, value in found.items() if name != "email_verified"}
    else:
        claims = {name: value for name, value in claims.items() if name != "email_verified"}
    return {**found, **claims}


def _groups(value: Any) -> frozenset[str] | None:
    """Returns the groups in a claim: a list of texts, or one text. None if it has none."""
    if isinstance(value, str):
        return frozenset({value})
    if not isinstance(value, list):
        return None
    return frozenset(each for each in value[:MAX_GROUPS] if isinstance(each, str))


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    """Returns a time in seconds since 1970, None if the claim is missing. Raises SignOnError if it is not a time."""
    found = claims.get(name)
    if found is None:
        return None
    # JSON of Python has NaN, which is neither more nor less than any time.
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not abs(found) < MAX_TIME:
        raise SignOnError(f"the claim {name} of the ID token is not a time")
    return found


def _clock(now: datetime) -> str:
    return f" (the server's clock says {now:%Y-%m-%d %H:%M:%S} UTC)"


def okta(reactor: Any, requests: Requests, settings: ProviderSettings) -> OpenIDConnect:
    """Returns the provider Okta: base_url is the address of the organization or of one of its authorization servers."""
    scopes = settings.scopes or ((*SCOPES, "groups") if settings.group_claim else SCOPES)
    return OpenIDConnect(reactor, requests, evolve(settings, issuer=settings.base_url.removesuffix("/"), scopes=scopes))
