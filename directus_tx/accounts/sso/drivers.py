"""The kinds of providers that are shipped."""

from collections.abc import Callable, Mapping
from typing import Any

from directus_tx.accounts.sso.oauth import Facebook, GitHub
from directus_tx.accounts.sso.openid import OpenIDConnect, okta
from directus_tx.accounts.sso.requests import Requests
from directus_tx.accounts.sso.settings import (
    FACEBOOK,
    GITHUB,
    GOOGLE,
    OKTA,
    OPENID,
    AuthenticationDriver,
    ProviderSettings,
    ProviderTools,
)


class _Driver(AuthenticationDriver):
    def __init__(self, make: Callable[[ProviderTools, Requests, ProviderSettings], Any]) -> None:
        self._make = make

    def open(self, provider: ProviderSettings, tools: ProviderTools) -> Any:
        return self._make(tools, Requests(tools.client), provider)


_openid = _Driver(lambda tools, requests, provider: OpenIDConnect(tools.reactor, requests, provider))

SHIPPED: Mapping[str, AuthenticationDriver] = {
    OPENID: _openid,
    GITHUB: _Driver(lambda tools, requests, provider: GitHub(requests, provider)),
    GOOGLE: _openid,
    OKTA: _Driver(lambda tools, requests, provider: okta(tools.reactor, requests, provider)),
    FACEBOOK: _Driver(lambda tools, requests, provider: Facebook(requests, provider)),
}
