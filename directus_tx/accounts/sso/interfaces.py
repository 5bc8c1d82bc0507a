"""The interface of providers of single sign-on, and what they are given and return."""

import base64
import hashlib
import hmac
import secrets
from datetime import datetime

from attrs import field, frozen
from zope.interface import Attribute, Interface


@frozen
class Flow:
    """A sign-on that a browser has begun: the name of its `provider`, and when it `expires`, in seconds since 1970. `cookie`: it is to end
    with a session cookie. `redirect_url`: the page to return to, if there is one. The texts that bind the provider's answer to the flow
    are derived from its `secret`."""

    provider: str
    expires: int
    cookie: bool = False
    redirect_url: str | None = None
    secret: str = field(factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def state(self) -> str:
        """The parameter `state`, which the provider sends back."""
        return self._derived("state")

    @property
    def nonce(self) -> str:
        """The claim `nonce` that an ID token must have."""
        return self._derived("nonce")

    @property
    def verifier(self) -> str:
        """The secret of PKCE (RFC 7636), without which the provider does not redeem the code."""
        return self._derived("verifier")

    @property
    def challenge(self) -> str:
        """The challenge S256 of the verifier."""
        return _base64(hashlib.sha256(self.verifier.encode()).digest())

    def _derived(self, what: str) -> str:
        return _base64(hmac.digest(self.secret.encode(), what.encode(), "sha256"))


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@frozen
class Redemption:
    """What a provider needs to find out who has signed in: the `code` that it has given to the browser, the `redirect_uri` and the `flow`
    that it was asked with, and the time of the request, an aware datetime."""

    code: str = field(repr=False)
    redirect_uri: str
    flow: Flow
    now: datetime


@frozen
class Identity:
    """An account of a provider. `issuer` and `subject` identify it for ever. `email` is an address that the provider has verified, None if
    there is none. `groups` are None if the provider says nothing about groups."""

    issuer: str
    subject: str
    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    groups: frozenset[str] | None = None


class SignOnError(Exception):
    """A sign-on has failed: the provider did not say reliably who has signed in, or the settings are wrong. The message says why, for the
    log: it is not shown to users."""


class Refusal(SignOnError):
    """The provider says who has signed in, but the settings give the account no access."""


class IAuthenticationProvider(Interface):  # type: ignore[misc]
    """A provider of single sign-on."""

    issuer = Attribute("The URL that identifies the provider, a text. Identities of another issuer belong to other people.")

    async def authorization_url(redirect_uri: str, flow: Flow) -> str:  # type: ignore[empty-body] # noqa: N805
        """Returns the URL of the page of the provider that asks the user to sign in, and then redirects the browser to *redirect_uri* with
        a code and the state of the flow. Raises SignOnError."""

    def check_answer(issuer: str | None) -> None:  # noqa: N805
        """Checks the parameter `iss` of the request with which the browser comes back (RFC 9207); None if it has none. Raises
        SignOnError if it names another provider."""

    async def identify(redemption: Redemption) -> Identity:  # type: ignore[empty-body] # noqa: N805
        """Redeems a code and returns the account that has signed in. Raises SignOnError."""


class IPasswordProvider(Interface):  # type: ignore[misc]
    """A provider that checks passwords, such as a directory service. Users sign in with it as with the password of the project."""

    issuer = Attribute("The URL that identifies the provider, a text. Identities of another issuer belong to other people.")

    async def verify(email: str, password: str) -> Identity | None:  # noqa: N805
        """Returns the account that has this address and password; None if there is none, or the password is wrong. Neither text is empty.
        Raises SignOnError if the provider cannot be asked."""
