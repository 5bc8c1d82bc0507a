"""What a request says about its client: IP address, token, project, and the base URL that the client uses."""

import base64
import ipaddress
import re
from collections.abc import Iterable
from typing import Any

from directus_tx.accounts.tokens import project_of
from directus_tx.errors import Unauthorized
from directus_tx.http.params import Params
from directus_tx.rate_limits import network_of


def token_of(request: Any, params: Params) -> str | None:
    """Returns the token of a request: the parameter access_token, or the Bearer token or the user name of the Authorization header."""
    token = params.text("access_token")
    if token:
        return token
    header = request.getHeader("authorization")
    if not header:
        return None
    scheme, _, value = header.partition(" ")
    scheme, value = scheme.lower(), value.strip()
    if scheme == "bearer":
        return value or None
    if scheme == "basic":
        try:
            user, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            return None
        return user if user and password in ("", user) else None
    return None


def named_project(request: Any, params: Params) -> tuple[str, str | None]:
    """Returns the project and the token of a request without a project in its path: the project of the bearer's JWT, or the parameter
    `project` or the header X-Directus-Project with the parameter access_token. Raises Unauthorized if no project is named."""
    scheme, _, token = (request.getHeader("authorization") or "").partition(" ")
    token = token.strip()
    if scheme.lower() == "bearer" and token:
        key = project_of(token)
        if key is None:
            raise Unauthorized("The token does not name a project.")
        return key, token
    named = params.text("project") or request.getHeader("x-directus-project")
    if not named:
        raise Unauthorized
    return named, params.text("access_token")


def plain_address(address: str) -> str:
    """Returns an IP address; an IPv4 address that is written as one of IPv6, as by sockets that listen for both, in its own form."""
    return address[len(_MAPPED) :] if address[: len(_MAPPED)].lower() == _MAPPED and "." in address else address


_MAPPED = "::ffff:"


def forwarded_addresses(header: str) -> list[str]:
    """Returns the addresses in a header X-Forwarded-For, without the ports and brackets that some proxies add: with them, each connection
    would seem to come from an address of its own."""
    parts = (part.strip() for part in header.split(","))
    return [_without_port(part) for part in parts if part]


def _without_port(address: str) -> str:
    found = _WITH_PORT.fullmatch(address)
    return address if found is None else found[1] or found[2]


_WITH_PORT = re.compile(r"([0-9.]+):[0-9]+|\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?")


class Proxies:
    """The proxies whose X-Forwarded-For and X-Forwarded-Proto are trusted (server.trusted_proxies)."""

    def __init__(self, trusted: Iterable[str]) -> None:
        self.networks = [ipaddress.ip_network(each, strict=False) for each in trusted]

    def ip(self, request: Any) -> str:
        """Returns the IP address of the client: that of the peer, or the one that a trusted proxy forwards."""
        peer = plain_address(getattr(request.getClientAddress(), "host", None) or "")
        if self.trusts(peer):
            # Each proxy appends the address that it sees. The first addresses may have been sent by the client.
            for address in reversed(forwarded_addresses(request.getHeader("x-forwarded-for") or "")):
                if not self.trusts(address):
                    return plain_address(address)
        return peer

    def network(self, request: Any) -> str | None:
        """Returns what a request is counted for by rate limits: the address of the client, of IPv6 the network of 64 bits. None for UNIX
        sockets and for requests of trusted proxies themselves, which have no limit."""
        address = self.ip(request)
        return None if not address or self.trusts(address) else network_of(address)

    def base(self, request: Any) -> str:
        """Returns the URL that the client uses, without a path: "https://example.com"."""
        scheme = "https" if request.isSecure() else "http"
        if self.trusts(getattr(request.getClientAddress(), "host", None) or ""):
            # Of several proxies, each may add what it sees. The first one talks with the client.
            forwarded = (request.getHeader("x-forwarded-proto") or "").partition(",")[0].strip().lower()
            scheme = forwarded if forwarded in ("http", "https") else scheme
        host = request.getHeader("host") or f"{request.getHost().host}:{request.getHost().port}"
        return f"{scheme}://{host}"

    def trusts(self, address: str) -> bool:
        """Whether an address is that of a trusted proxy."""
        if not self.networks:
            return False
        try:
            found = ipaddress.ip_address(plain_address(address))
        except ValueError:
            return False
        return any(found in network for network in self.networks)
