"""The settings of single sign-on: the table `auth` of a project file."""

import ipaddress
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from attrs import field, fields, frozen

from directus_tx.accounts.sso.redirects import origin_of
from directus_tx.config import ConfigError, read_table
from directus_tx.outgoing.client import Client
from directus_tx.suggestions import suggestion

OPENID, GITHUB, GOOGLE, OKTA, FACEBOOK = "openid", "github", "google", "okta", "facebook"
DRIVERS = (OPENID, GITHUB, GOOGLE, OKTA, FACEBOOK)
"""The kinds of providers that are shipped."""

NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,39}")
RESERVED = frozenset({"access_token"})
"""Names that are parts of other routes."""

PUBLIC_ROLE = 2
MAX_ISSUER = 255
_PRINTABLE = re.compile(r"[!-~]+")
_VERSION = re.compile(r"v\d{1,3}\.\d{1,3}")

Role = int | str
"""A role by its id or its name."""


def _setting(default: Any, kind: str, *, drivers: tuple[str, ...] = DRIVERS, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"kind": kind, "drivers": drivers})


@frozen
class ProviderSettings:
    """The table auth.social_providers.NAME of a project file, or auth.password_providers.NAME; docs/single_sign_on.rst describes its
    settings. `options` are the own settings of a driver of a plugin, an instance of `AuthenticationDriver.settings`."""

    name: str
    driver: str = _setting("", "a text")
    client_id: str = _setting("", "a text")
    client_secret: str = _setting("", "a text", secret=True)
    icon: str | None = _setting(None, "a text")
    issuer: str = _setting("", "a text", drivers=(OPENID, GOOGLE))
    base_url: str = _setting("", "a text", drivers=(OKTA, GITHUB, FACEBOOK))
    graph_api_version: str = _setting("v19.0", "a text", drivers=(FACEBOOK,))
    scopes: tuple[str, ...] = _setting((), "a list of texts")
    trust_email: bool = _setting(False, "true or false")
    email_domains: tuple[str, ...] = _setting((), "a list of texts")
    create_users: bool = _setting(False, "true or false")
    role: int | str | None = _setting(None, "a role")
    link_by_email: bool = _setting(False, "true or false")
    link_administrators: bool = _setting(False, "true or false")
    group_claim: str = _setting("", "a text", drivers=(OPENID, GOOGLE, OKTA))
    group_roles: Mapping[str, Role] = _setting({}, "a table of roles", drivers=(OPENID, GOOGLE, OKTA))
    options: Any = None


@frozen
class ProviderTools:
    """What providers can use: the reactor, and the client that makes requests to other servers."""

    reactor: Any
    client: Client


class AuthenticationDriver(ABC):
    """A kind of providers. `settings` is an attrs class of its own settings, made with `setting`, or None. If `password`, its providers are
    in auth.password_providers and are IPasswordProviders; otherwise they are in auth.social_providers and are IAuthenticationProviders."""

    settings: type | None = None
    password: bool = False

    @abstractmethod
    def open(self, provider: ProviderSettings, tools: ProviderTools) -> Any:
        """Returns the provider with these settings. Connects to nothing yet. Raises ValueError if the settings cannot be used."""


Drivers = Mapping[str, AuthenticationDriver]
"""Kinds of providers by their names."""


@frozen
class SignOnSettings:
    """The settings of single sign-on of a project. `redirect_origins` are the origins of the pages that a sign-on may return to, beside the
    server's own. `passwords` are the providers that check passwords. `mistakes` has a line for each fault; the providers with faults are
    left out."""

    providers: Mapping[str, ProviderSettings]
    passwords: Mapping[str, ProviderSettings]
    redirect_origins: frozenset[str]
    mistakes: tuple[str, ...]


_ISSUERS = {GOOGLE: "https://accounts.google.com"}
_BASES = {GITHUB: "https://github.com"}
_SINGLE = {field.name: field for field in fields(ProviderSettings) if field.metadata}
_COMMON = "driver icon trust_email email_domains create_users role link_by_email link_administrators group_roles".split()
"""The settings of providers of plugins, beside their own."""


def sign_on_settings(auth: Mapping[str, Any], drivers: Drivers | None = None) -> SignOnSettings:
    """Returns the settings in the table `auth`. Other properties of the table are ignored: project files of Directus 8 have them. *drivers*
    are those of plugins."""
    mistakes: list[str] = []
    origins = set[str]()
    listed = auth.get("redirect_origins", [])
    if not _is_texts(listed):
        mistakes.append("auth.redirect_origins must be a list of texts")
        listed = []
    for each in listed:
        try:
            origins.add(_bare_origin(each))
        except ValueError as error:
            mistakes.append(f'auth.redirect_origins: "{each}" {error}')
    providers, passwords = (
        dict(_providers(auth, section, drivers or {}, mistakes)) for section in ("social_providers", "password_providers")
    )
    return SignOnSettings(providers, passwords, frozenset(origins), tuple(mistakes))


def _providers(
    auth: Mapping[str, Any], section: str, drivers: Drivers, mistakes: list[str]
) -> Iterator[tuple[str, ProviderSettings]]:
    """Yields the providers of a section of the table `auth` that can be used. Appends what is wrong with the others."""
    tables = auth.get(section) or {}
    if not isinstance(tables, dict):
        mistakes.append(f"auth.{section} must be a table")
        return
    password = section == "password_providers"
    own = {name: driver for name, driver in drivers.items() if driver.password == password}
    for name, table in tables.items():
        found = _provider(name, table, own, () if password else DRIVERS)
        if isinstance(found, ProviderSettings):
            yield name, found
        else:
            mistakes += [f"auth.{section}.{name}: {each}" for each in found]


def _provider(name: str, table: Any, own: Drivers, shipped: tuple[str, ...]) -> ProviderSettings | list[str]:
    """Returns the settings of a provider, or what is wrong with them. *own* are the drivers of plugins that it can have, *shipped* the
    others."""
    if not NAME.fullmatch(name) or name in RESERVED:
        return ["the name must consist of at most 40 letters, digits, dashes and underscores, and must not be access_token"]
    if not isinstance(table, dict):
        return ["must be a table"]
    known = (*shipped, *own)
    driver = table.get("driver", name if name in known or not shipped else OPENID)
    if driver not in known:
        return [f"driver must be one of {', '.join(known)}" if known else "there is no driver for it: a plugin has to add it"]
    wrong: list[str] = []
    values: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for key, value in table.items():
        setting = _SINGLE.get(key)
        if driver in own and key not in _COMMON:
            options[key] = value
        elif setting is None:
            wrong.append(f"there is no setting {key}{suggestion(key, _SINGLE)}")
        elif driver not in own and driver not in setting.metadata["drivers"]:
            wrong.append(f"{key} is not a setting of the driver {driver}")
        elif not _KINDS[setting.metadata["kind"]](value):
            wrong.append(f"{key} must be {setting.metadata['kind']}")
        else:
            values[key] = tuple(value) if isinstance(value, list) else value
    values["driver"] = driver
    if driver in own:
        try:
            values["options"] = read_table(own[driver].settings, options, _COMMON)
        except ConfigError as error:
            wrong += error.mistakes
    if wrong:
        return wrong
    for key, defaults in (("issuer", _ISSUERS), ("base_url", _BASES)):
        if driver in defaults and not values.get(key):
            values[key] = defaults[driver]
    found = ProviderSettings(name, **values)
    return [*(() if driver in own else _mistakes(found)), *_mistakes_of_users(found)] or found


def _mistakes(found: ProviderSettings) -> list[str]:
    wrong = []
    if not found.client_id:
        wrong.append("client_id is required")
    # A public client of OpenID Connect has none: PKCE protects the code.
    if not found.client_secret and found.driver != OPENID:
        wrong.append("client_secret is required")
    for name, needed in (("issuer", found.driver == OPENID), ("base_url", found.driver == OKTA)):
        text = getattr(found, name)
        if text:
            try:
                check_endpoint(text)
            except ValueError as error:
                wrong.append(f"{name} {error}")
        elif needed:
            wrong.append(f"{name} is required")
        if len(text) > MAX_ISSUER:
            wrong.append(f"{name} must have at most {MAX_ISSUER} characters")
    if not _VERSION.fullmatch(found.graph_api_version):
        wrong.append("graph_api_version must be like v19.0")
    if found.driver in (OPENID, GOOGLE, OKTA) and found.scopes and "openid" not in found.scopes:
        wrong.append("scopes must have openid")
    if any(not re.fullmatch(r"[!#-\[\]-~]+", scope) for scope in found.scopes):
        wrong.append("scopes must be texts without blanks and quotation marks")
    if bool(found.group_claim) != bool(found.group_roles):
        wrong.append("group_claim and group_roles require each other")
    return wrong


def _mistakes_of_users(found: ProviderSettings) -> list[str]:
    wrong = []
    if found.create_users and found.role is None and not found.group_roles:
        wrong.append("create_users requires role or group_roles")
    if PUBLIC_ROLE in (found.role, *found.group_roles.values()):
        wrong.append("the public role is not a role of users")
    return wrong


def check_endpoint(url: str, *, query: bool = False) -> None:
    """Raises ValueError if a URL cannot be that of a provider: https is required, except on this machine. *query*: it may have one. The
    message follows the name of the setting."""
    try:
        parsed = urlsplit(url)
        host = parsed.hostname or ""
        parsed.port  # noqa: B018
    except ValueError as error:
        raise ValueError(f"is not a URL: {error}") from None
    if not _PRINTABLE.fullmatch(url) or "@" in parsed.netloc or "#" in url or ("?" in url and not query):
        raise ValueError("must be a URL without user name, query, fragment and characters beyond ASCII")
    if not host or parsed.scheme not in ("https", "http"):
        raise ValueError("must begin with https://")
    if parsed.scheme == "http" and not _is_loopback(host):
        raise ValueError("must begin with https://: http is for addresses of this machine only")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bare_origin(text: str) -> str:
    """Returns an origin as `origin_of` does. Raises ValueError if it is not one, or has a path."""
    found = origin_of(text)
    parsed = urlsplit(text)
    if parsed.path not in ("", "/") or parsed.query or parsed.fragment:
        raise ValueError("must be an origin: scheme, host and port")
    return found


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_role(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool) and value > 0) or (isinstance(value, str) and value != "")


_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "a text": lambda value: isinstance(value, str),
    "true or false": lambda value: isinstance(value, bool),
    "a list of texts": _is_texts,
    "a role": _is_role,
    "a table of roles": lambda value: isinstance(value, dict) and all(_is_role(each) for each in value.values()),
}
