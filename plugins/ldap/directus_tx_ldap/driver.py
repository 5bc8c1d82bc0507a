"""The driver of providers that check passwords with an LDAP directory."""

import pathlib
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from attrs import frozen
from ldaptor.ldapfilter import InvalidLDAPFilter, parseFilter
from ldaptor.protocols.ldap.distinguishedname import DistinguishedName, InvalidRelativeDistinguishedName
from ldaptor.protocols.ldap.ldapclient import LDAPClient, LDAPClientConnectionLostException
from ldaptor.protocols.ldap.ldaperrors import LDAPException, LDAPInappropriateAuthentication, LDAPInvalidCredentials
from ldaptor.protocols.ldap.ldapsyntax import LDAPEntry
from OpenSSL import SSL
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.ssl import Certificate, optionsForClientTLS, platformTrust, trustRootFromCertificates
from zope.interface import implementer

from directus_tx.api import AuthenticationDriver, Identity, IPasswordProvider, SignOnError, setting

PORTS = {"ldap": 389, "ldaps": 636}
MOST = 2
"""The number of entries that are asked for: if there are two, the filter does not identify users."""


@frozen
class LdapSettings:
    """The settings of a provider, in auth.password_providers.NAME of a project file."""

    url: str = setting("", "Address of the directory: ldap://host, or ldaps://host.")
    start_tls: bool = setting(
        True, "Whether connections to ldap:// are encrypted, with StartTLS. If not, others can read passwords."
    )
    ca_file: str = setting("", "File of the certificate authorities of the directory, in PEM format. Empty: those of the system.")
    bind_dn: str = setting("", "Distinguished name of the account that looks for users. Empty: anonymous.")
    bind_password: str = setting("", "Its password.", secret=True)
    base_dn: str = setting("", "Distinguished name of the entry below which users are.")
    user_filter: str = setting(
        "(&(objectClass=person)(mail={email}))", "Filter that finds a user; {email} is the address in a request."
    )
    id_attribute: str = setting("entryUUID", "Attribute that identifies a user for ever; objectGUID in Active Directory.")
    email_attribute: str = setting("mail", "Attribute with the e-mail address.")
    first_name_attribute: str = setting("givenName", "Attribute with the first name.")
    last_name_attribute: str = setting("sn", "Attribute with the last name.")
    group_base_dn: str = setting("", "Distinguished name of the entry below which groups are. Empty: there are no groups.")
    group_filter: str = setting(
        "(member={dn})", "Filter that finds the groups of a user; {dn} is the distinguished name of the user."
    )
    group_attribute: str = setting("cn", "Attribute with the name of a group, which group_roles has.")
    timeout: float = setting(5.0, "Seconds that the directory has to answer.")


class LdapDriver(AuthenticationDriver):
    """Opens providers."""

    settings = LdapSettings
    password = True

    def open(self, provider: Any, tools: Any) -> "LdapProvider":
        return LdapProvider(tools.reactor, provider.options)


@implementer(IPasswordProvider)
class LdapProvider:
    """A directory. Raises ValueError if the settings cannot be used. Each verification has a connection of its own: it looks for the entry
    of the user with the account of the settings, and then tries whether the directory accepts the password for that entry."""

    def __init__(self, reactor: Any, settings: LdapSettings) -> None:
        self.reactor = reactor
        self.settings = settings
        parts = urlsplit(settings.url)
        if parts.scheme not in PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError("url must be like ldap://host:389 or ldaps://host:636")
        self.scheme, self.host = parts.scheme, parts.hostname
        self.port = parts.port or PORTS[parts.scheme]
        self.issuer = f"{self.scheme}://{self.host}:{self.port}/{settings.base_dn}"
        self.trust = platformTrust() if not settings.ca_file else _authorities(settings.ca_file)
        if bool(settings.bind_dn) != bool(settings.bind_password):
            # A directory takes a name without a password for an anonymous sign-in.
            raise ValueError("bind_dn and bind_password require each other")
        if not settings.base_dn:
            raise ValueError("base_dn is missing")
        for name in ("base_dn", "bind_dn", "group_base_dn"):
            try:
                DistinguishedName(getattr(settings, name))
            except InvalidRelativeDistinguishedName as error:
                raise ValueError(f"{name}: {error}") from None
        for name, placeholder in (("user_filter", "{email}"), ("group_filter", "{dn}")):
            if placeholder not in getattr(settings, name):
                raise ValueError(f"{name} must have {placeholder}")
            _filter(name, getattr(settings, name), placeholder, "x")
        if settings.timeout <= 0:
            raise ValueError("timeout must be more than 0")

    async def verify(self, email: str, password: str) -> Identity | None:
        """Returns the account with an e-mail address and a password. Raises SignOnError."""
        if not email or not password:
            # A directory takes a name without a password for an anonymous sign-in, and accepts it.
            return None
        connections: list[LDAPClient] = []
        asking = Deferred.fromCoroutine(self._verify(connections, email, password))
        asking.addTimeout(self.settings.timeout, self.reactor)
        try:
            return await asking
        except TimeoutError:
            raise SignOnError(f"the directory has not answered within {self.settings.timeout:g} seconds") from None
        except (LDAPException, LDAPClientConnectionLostException, ConnectError, ConnectionClosed, SSL.Error, OSError) as error:
            raise SignOnError(f"the directory cannot be asked: {type(error).__name__}: {_text(error)}") from error
        finally:
            for each in connections:
                if each.transport is not None:
                    each.transport.abortConnection()

    async def _verify(self, connections: list[LDAPClient], email: str, password: str) -> Identity | None:
        settings = self.settings
        client = await self._connected(connections)
        await self._sign_in(client)
        wanted = _filter("user_filter", settings.user_filter, "{email}", email)
        names = (
            settings.id_attribute,
            settings.email_attribute,
            settings.first_name_attribute,
            settings.last_name_attribute,
        )
        base = LDAPEntry(client, settings.base_dn)
        entries = await base.search(filterObject=wanted, attributes=names, sizeLimit=MOST, sizeLimitIsNonFatal=True)
        if len(entries) > 1:
            raise SignOnError("user_filter finds several entries for an address")
        if not entries:
            return None
        (entry,) = entries
        try:
            await client.bind(entry.dn.getText(), password.encode())
        except (LDAPInvalidCredentials, LDAPInappropriateAuthentication):
            return None
        subject = _identifier(entry, settings.id_attribute)
        if subject is None:
            raise SignOnError(f"the entry of the user has no attribute {settings.id_attribute} (id_attribute)")
        return Identity(
            issuer=self.issuer,
            subject=subject,
            email=_value(entry, settings.email_attribute),
            first_name=_value(entry, settings.first_name_attribute),
            last_name=_value(entry, settings.last_name_attribute),
            groups=await self._groups(client, entry.dn.getText()),
        )

    async def _connected(self, connections: list[LDAPClient]) -> LDAPClient:
        """Returns a connection, encrypted if the settings say so."""
        tls = optionsForClientTLS(self.host, trustRoot=self.trust)
        endpoint: Any = HostnameEndpoint(self.reactor, self.host, self.port, timeout=self.settings.timeout)
        if self.scheme == "ldaps":
            endpoint = wrapClientTLS(tls, endpoint)
        client = LDAPClient()
        connections.append(client)
        await connectProtocol(endpoint, client)
        if self.scheme == "ldap" and self.settings.start_tls:
            await client.startTLS(tls)
        return client

    async def _sign_in(self, client: LDAPClient) -> None:
        """Signs in with the account of the settings."""
        if self.settings.bind_dn:
            try:
                await client.bind(self.settings.bind_dn, self.settings.bind_password.encode())
            except LDAPInvalidCredentials as error:
                raise SignOnError("the directory refuses bind_dn and bind_password") from error

    async def _groups(self, client: LDAPClient, dn: str) -> frozenset[str] | None:
        """Returns the names of the groups of a user; None if the settings name no groups."""
        settings = self.settings
        if not settings.group_base_dn:
            return None
        # The user may not be allowed to see groups.
        await self._sign_in(client)
        base = LDAPEntry(client, settings.group_base_dn)
        wanted = _filter("group_filter", settings.group_filter, "{dn}", dn)
        found = await base.search(filterObject=wanted, attributes=(settings.group_attribute,))
        return frozenset(name for each in found if (name := _value(each, settings.group_attribute)) is not None)


def _filter(setting: str, template: str, placeholder: str, value: str) -> Any:
    """Returns a filter with a value in it. Raises ValueError if the template is no filter."""
    try:
        return parseFilter(template.replace(placeholder, escaped(value)))
    except InvalidLDAPFilter:
        raise ValueError(f"{setting}: {template} is not a filter") from None


def escaped(value: str) -> str:
    """Returns a value as filters have it (RFC 4515): characters that mean something in filters, and control characters, by their codes."""
    return re.sub(r"[\x00-\x1f*()\\\x7f]", lambda found: f"\\{ord(found[0]):02x}", value)


def _authorities(file: str) -> Any:
    """Returns the certificates of a file. Raises ValueError."""
    try:
        text = pathlib.Path(file).read_text(encoding="ascii")
    except (OSError, ValueError) as error:
        raise ValueError(f"ca_file: {error}") from None
    blocks = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", text, re.DOTALL)
    if not blocks:
        raise ValueError(f"ca_file: there is no certificate in {file}")
    return trustRootFromCertificates([Certificate.loadPEM(each) for each in blocks])


def _value(entry: Mapping[Any, Any], name: str) -> str | None:
    """Returns the first value of an attribute, as text; None if there is none."""
    found = _bytes(entry, name)
    return None if found is None else found.decode("utf-8", "replace")


def _identifier(entry: Mapping[Any, Any], name: str) -> str | None:
    """Returns the first value of an attribute that identifies a user; in hexadecimal digits if it is no text, as objectGUID."""
    found = _bytes(entry, name)
    if found is None:
        return None
    try:
        text = found.decode()
    except UnicodeDecodeError:
        return found.hex()
    return text if text.isprintable() else found.hex()


def _bytes(entry: Mapping[Any, Any], name: str) -> bytes | None:
    values = sorted(each if isinstance(each, bytes) else str(each).encode() for each in entry.get(name.encode(), ()))
    return values[0] if values else None


def _text(error: BaseException) -> str:
    message = getattr(error, "message", None) or str(error)
    return message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)
