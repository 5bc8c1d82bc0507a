"""Signing on: begins flows, ends them, and makes sessions of them."""

import contextlib
import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from attrs import field, frozen
from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger
from zope.interface.verify import verifyObject

from directus_tx.access.addresses import check_address
from directus_tx.accounts.sign_in import SignIn, sign_in_identified
from directus_tx.accounts.sso import tokens
from directus_tx.accounts.sso.drivers import SHIPPED
from directus_tx.accounts.sso.identities import Account
from directus_tx.accounts.sso.interfaces import (
    Flow,
    IAuthenticationProvider,
    Identity,
    IPasswordProvider,
    Redemption,
    Refusal,
    SignOnError,
)
from directus_tx.accounts.sso.redirects import check_redirect, origin_of
from directus_tx.accounts.sso.requests import printable
from directus_tx.accounts.sso.settings import Drivers, ProviderSettings, ProviderTools, SignOnSettings, sign_on_settings
from directus_tx.accounts.sso.tokens import RequestToken
from directus_tx.accounts.sso.users import account_of
from directus_tx.accounts.tokens import KeyRing
from directus_tx.context import Context
from directus_tx.errors import (
    ApiError,
    InvalidRequest,
    InvalidRequestToken,
    NotFound,
    ServiceUnavailable,
    SignOnFailed,
    SignOnRefused,
)
from directus_tx.items.service import Items
from directus_tx.outgoing.client import Client

log = Logger()
MAX_RUNNING = 20
"""The number of sign-ons for which a process asks a provider at the same time. A provider that does not answer takes no more."""

MAX_SECONDS = 20.0
"""Seconds that a provider has to check a password."""

MAX_CODE = 4096


class SignOnProject(KeyRing, Protocol):
    """The attributes of a project that single sign-on uses."""

    config: Any


class Provider:
    """A provider with its settings. *driver* is an IAuthenticationProvider or an IPasswordProvider."""

    def __init__(self, settings: ProviderSettings, driver: Any) -> None:
        self.settings = settings
        self.driver = driver
        self._running = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A context in which the provider is asked. Raises ServiceUnavailable if it is being asked too often already."""
        if self._running >= MAX_RUNNING:
            raise ServiceUnavailable("Too many users are signing in; try again shortly.")
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1


@frozen
class _Project:
    settings: SignOnSettings
    providers: Mapping[str, Provider]
    passwords: tuple[Provider, ...]


@frozen
class Answer:
    """The parameters with which a browser comes back from a provider, beside the state."""

    code: str | None = field(repr=False)
    issuer: str | None = None
    error: str | None = None


class SingleSignOn:
    """Single sign-on for all projects of a server. *client* makes the requests to providers; *items* makes users; *drivers* are the kinds
    of providers that plugins add."""

    def __init__(self, reactor: Any, client: Client, items: Items, drivers: Drivers | None = None) -> None:
        self._tools = ProviderTools(reactor, client)
        self._items = items
        self._drivers: Drivers = drivers or {}
        self._projects: WeakKeyDictionary[Any, _Project] = WeakKeyDictionary()

    def shown(self, project: SignOnProject) -> list[dict[str, Any]]:
        """Returns the names and icons of the providers of a project, as clients list them."""
        return [{"name": name, "icon": each.settings.icon} for name, each in self._of(project).providers.items()]

    def provider(self, project: SignOnProject, name: str) -> Provider:
        """Returns a provider of a project. Raises NotFound."""
        found = self._of(project).providers.get(name)
        if found is None:
            raise NotFound("There is no such provider.")
        return found

    def _of(self, project: SignOnProject) -> _Project:
        """Returns the providers of a project. A project whose file has changed is another object."""
        found = self._projects.get(project)
        if found is None:
            settings = sign_on_settings(project.config.auth, self._drivers)
            for mistake in settings.mistakes:
                log.error("project {project}: {mistake}", project=project.key, mistake=mistake)
            providers = {each.settings.name: each for each in self._opened(project.key, settings.providers)}
            passwords = tuple(self._opened(project.key, settings.passwords))
            self._projects[project] = found = _Project(settings, providers, passwords)
        return found

    def _opened(self, project: str, settings: Mapping[str, ProviderSettings]) -> Iterator[Provider]:
        """Yields the providers that can be opened. Logs what is wrong with the others."""
        for each in settings.values():
            driver = self._drivers.get(each.driver) or SHIPPED[each.driver]
            try:
                opened = driver.open(each, self._tools)
                verifyObject(IPasswordProvider if driver.password else IAuthenticationProvider, opened)
            except Exception as error:
                # Drivers of plugins can raise anything.
                log.error(
                    "project {project}: the provider {provider} cannot be used: {error}",
                    project=project,
                    provider=each.name,
                    error=printable(f"{type(error).__name__}: {error}"),
                )
            else:
                yield Provider(each, opened)

    def checks_passwords(self, project: SignOnProject) -> bool:
        """Whether a project has providers that check passwords."""
        return bool(self._of(project).passwords)

    async def verify_password(
        self, project: SignOnProject, ctx: Context, email: str, password: str
    ) -> tuple[str, Account] | None:
        """Returns the user who has an e-mail address and a password at one of the providers that check passwords, with the name of the
        provider; the first one that knows them counts. None if there is no such user.

        Raises SignOnFailed if no provider knows them and one could not be asked, SignOnRefused, SuspendedUser, InactiveUser,
        AddressNotAllowed, ServiceUnavailable, and the errors of writing.
        """
        failed: ApiError | None = None
        for provider in self._of(project).passwords:
            try:
                with provider.place():
                    identity = await self._verified(provider, email, password)
                if identity is not None:
                    account = await account_of(self._items, ctx, provider.settings, identity)
                    check_address(ctx.schema, account.role, ctx.accountability.ip)
                    return provider.settings.name, account
            except SignOnError as error:
                failed = self._failed(ctx, provider, error)
                if isinstance(error, Refusal):
                    raise failed from None
        if failed is not None:
            raise failed
        return None

    async def _verified(self, provider: Provider, email: str, password: str) -> Identity | None:
        """Asks a provider, for MAX_SECONDS at most. Raises SignOnError, also for exceptions of other types."""
        asking = Deferred.fromCoroutine(_asked(provider, email, password))
        asking.addTimeout(MAX_SECONDS, self._tools.reactor)
        try:
            identity = await asking
        except SignOnError:
            raise
        except TimeoutError:
            raise SignOnError(f"the provider has not answered within {MAX_SECONDS:g} seconds") from None
        except Exception as error:
            raise SignOnError(f"{type(error).__name__}: {error}") from error
        if not isinstance(identity, Identity | None):
            raise SignOnError(f"the provider has returned {type(identity).__name__}, not an Identity")
        return identity

    def check_redirect(self, project: SignOnProject, url: str | None, own: Iterable[str]) -> str | None:
        """Returns the URL of the page to return to after a sign-on, None if none is given. *own* are the URLs of the server; its pages are
        allowed. Raises InvalidRequest for pages of other origins."""
        if not url:
            return None
        allowed = set(self._of(project).settings.redirect_origins)
        for each in own:
            with contextlib.suppress(ValueError):
                allowed.add(origin_of(each))
        try:
            return check_redirect(url, allowed)
        except ValueError as error:
            raise InvalidRequest(f'"redirect_url" {error}.') from None

    async def begin(self, ctx: Context, provider: Provider, flow: Flow, redirect_uri: str) -> str:
        """Returns the URL of the page of a provider at which the user signs in. Raises SignOnFailed."""
        try:
            with provider.place():
                url: str = await provider.driver.authorization_url(redirect_uri, flow)
                return url
        except SignOnError as error:
            raise self._failed(ctx, provider, error) from None

    async def finish(self, ctx: Context, provider: Provider, flow: Flow, answer: Answer, redirect_uri: str) -> Account:
        """Returns the user who has signed in at a provider, and is still to be signed in here. The flow is used up.

        Raises SignOnFailed, SignOnRefused, SuspendedUser, InactiveUser, AddressNotAllowed, ServiceUnavailable, and the errors of writing.
        """
        try:
            if not await ctx.transaction(lambda ctx: tokens.use(ctx, flow.state, flow.expires)):
                raise SignOnError("the flow has been used before")
            provider.driver.check_answer(answer.issuer)
            if answer.error is not None:
                raise SignOnError(f"the provider reports {printable(answer.error)}")
            if not answer.code or len(answer.code) > MAX_CODE or not answer.code.isascii():
                raise SignOnError("the provider has sent no code")
            with provider.place():
                identity: Identity = await provider.driver.identify(Redemption(answer.code, redirect_uri, flow, ctx.now))
            account = await account_of(self._items, ctx, provider.settings, identity)
        except SignOnError as error:
            raise self._failed(ctx, provider, error) from None
        check_address(ctx.schema, account.role, ctx.accountability.ip)
        return account

    def _failed(self, ctx: Context, provider: Provider, error: SignOnError) -> ApiError:
        """Logs why a sign-on has failed, and returns the error for the client, which does not say it."""
        log.warn(
            "project {project}: sign-on with {provider} ({request_id}): {error}",
            project=ctx.project,
            provider=provider.settings.name,
            request_id=ctx.request_id,
            error=printable(error),
        )
        return SignOnRefused() if isinstance(error, Refusal) else SignOnFailed()


async def _asked(provider: Provider, email: str, password: str) -> Any:
    return await provider.driver.verify(email, password)


def find_flow(flows: Sequence[Flow], provider: str, state: str | None) -> Flow:
    """Returns the flow of a provider that a state belongs to. Raises SignOnFailed if the browser has begun none."""
    sent = (state or "").encode("utf-8", "surrogatepass")
    for flow in flows:
        if flow.provider == provider and hmac.compare_digest(flow.state.encode(), sent):
            return flow
    raise SignOnFailed("This browser has not begun a sign-on with this state, or too long ago.")


async def exchange(ctx: Context, project: KeyRing, token: RequestToken, code: Any, *, cookie: bool) -> SignIn:
    """Signs in the user of a request token, once; *code* is the one-time password, if the user has activated two-factor authentication.
    After a wrong one, the token can be used again. Raises InvalidRequestToken, InvalidRequest, and the errors of `sign_in_identified`."""
    if not isinstance(code, (str, type(None))):
        raise InvalidRequest('"otp" must be a text.')
    if await tokens.is_used(ctx, token.id):
        raise InvalidRequestToken

    async def use(ctx: Context) -> None:
        if not await tokens.use(ctx, token.id, token.expires):
            raise InvalidRequestToken

    return await sign_in_identified(ctx, project, token.user, code, use, cookie=cookie)
