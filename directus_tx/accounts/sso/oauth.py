"""Providers of OAuth 2 without OpenID Connect: GitHub and Facebook. They are asked for the user with the access token."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from zope.interface import implementer

from directus_tx.accounts.sso.interfaces import Flow, IAuthenticationProvider, Identity, Redemption, SignOnError
from directus_tx.accounts.sso.openid import MAX_EMAIL, MAX_NAME, MAX_SUBJECT
from directus_tx.accounts.sso.requests import Requests, access_token_of, text_of
from directus_tx.accounts.sso.settings import ProviderSettings


@implementer(IAuthenticationProvider)
class OAuth2(ABC):
    """The authorization code flow with PKCE, for providers with known endpoints."""

    scopes: tuple[str, ...]
    issuer: str

    def __init__(self, requests: Requests, settings: ProviderSettings, authorization: str, token: str) -> None:
        self.requests = requests
        self.settings = settings
        self._authorization = authorization
        self._token = token

    @abstractmethod
    async def user(self, access: str) -> Identity:
        """Returns the account that an access token belongs to. Raises SignOnError."""

    async def authorization_url(self, redirect_uri: str, flow: Flow) -> str:
        parameters = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self.settings.scopes or self.scopes),
            "state": flow.state,
            "code_challenge": flow.challenge,
            "code_challenge_method": "S256",
        }
        return f"{self._authorization}?{urlencode(parameters)}"

    def check_answer(self, issuer: str | None) -> None:
        if issuer not in (None, self.issuer):
            raise SignOnError("the answer names another provider in its parameter iss")

    async def identify(self, redemption: Redemption) -> Identity:
        fields = {
            "grant_type": "authorization_code",
            "code": redemption.code,
            "redirect_uri": redemption.redirect_uri,
            "code_verifier": redemption.flow.verifier,
        }
        settings = self.settings
        answer = await self.requests.redeem(self._token, fields, settings.client_id, settings.client_secret, basic=False)
        access = access_token_of(answer)
        if access is None:
            raise SignOnError("the answer of the token endpoint has no access token")
        return await self.user(access)

    async def record(self, url: str, access: str) -> Mapping[str, Any]:
        """Returns the JSON object at a URL. Raises SignOnError."""
        found = await self.requests.read(url, access)
        if not isinstance(found, dict):
            raise SignOnError(f"the answer of {url.partition('?')[0]} is not an object")
        return found


class GitHub(OAuth2):
    """GitHub, or GitHub Enterprise with its `base_url`."""

    scopes = ("read:user", "user:email")

    def __init__(self, requests: Requests, settings: ProviderSettings) -> None:
        base = settings.base_url.removesuffix("/")
        super().__init__(requests, settings, f"{base}/login/oauth/authorize", f"{base}/login/oauth/access_token")
        self.issuer = base
        self._api = "https://api.github.com" if base == "https://github.com" else f"{base}/api/v3"

    async def user(self, access: str) -> Identity:
        found = await self.record(f"{self._api}/user", access)
        subject = found.get("id")
        # The name of an account can be given to another one, its number cannot.
        if not isinstance(subject, int) or isinstance(subject, bool) or subject <= 0:
            raise SignOnError("the answer of GitHub has no id")
        name = text_of(found.get("name"), MAX_NAME) or text_of(found.get("login"), MAX_NAME)
        return Identity(self.issuer, str(subject), await self._email(access), name)

    async def _email(self, access: str) -> str | None:
        """Returns the primary address, if it is verified. Those in the profile need not be."""
        listed = await self.requests.read(f"{self._api}/user/emails", access)
        for each in listed if isinstance(listed, list) else ():
            if isinstance(each, dict) and each.get("primary") is True and each.get("verified") is True:
                return text_of(each.get("email"), MAX_EMAIL)
        return None


class Facebook(OAuth2):
    """Facebook. It does not say whether an address is verified; trust_email decides."""

    scopes = ("email", "public_profile")

    def __init__(self, requests: Requests, settings: ProviderSettings) -> None:
        version = settings.graph_api_version
        page, graph = settings.base_url or "https://www.facebook.com", settings.base_url or "https://graph.facebook.com"
        page, graph = page.removesuffix("/"), graph.removesuffix("/")
        super().__init__(requests, settings, f"{page}/{version}/dialog/oauth", f"{graph}/{version}/oauth/access_token")
        self.issuer = page
        self._graph = f"{graph}/{version}"

    async def user(self, access: str) -> Identity:
        fields = urlencode({"fields": "id,email,first_name,last_name"})
        found = await self.record(f"{self._graph}/me?{fields}", access)
        subject = text_of(found.get("id"), MAX_SUBJECT)
        if subject is None:
            raise SignOnError("the answer of Facebook has no id")
        email = text_of(found.get("email"), MAX_EMAIL) if self.settings.trust_email else None
        first, last = (text_of(found.get(name), MAX_NAME) for name in ("first_name", "last_name"))
        return Identity(self.issuer, subject, email, first, last)
