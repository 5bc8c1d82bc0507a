"""Which addresses the server may connect to when users or other servers name them."""

import ipaddress
from collections.abc import Iterator, Sequence

from attrs import frozen

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Networks that not every version of `ipaddress` knows as not global: addresses for protocols, relays of 6to4, IPv6 that is translated to
# the IPv4 of a local network, the former site-local addresses, and the second documentation network.
_NOT_GLOBAL = tuple(
    ipaddress.ip_network(each) for each in ("192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "fec0::/10", "3fff::/20")
)
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Returns networks, such as "10.0.0.0/8", or single addresses. Raises ValueError."""
    return tuple(ipaddress.ip_network(text) for text in texts)


@frozen
class AddressPolicy:
    """Allows the addresses of the public internet and those of the *allowed* networks."""

    allowed: tuple[Network, ...] = ()

    def allows(self, address: str) -> bool:
        """Whether the server may connect to an IP address. An IPv6 address that leads to an IPv4 address (mapped, translated by NAT64, 6to4
        or Teredo) is allowed if both are. What is not an address is not allowed."""
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        return all(self._allows(each) for each in _leads_to(found))

    def _allows(self, address: Address) -> bool:
        if any(address in network for network in self.allowed):
            return True
        return address.is_global and not address.is_multicast and not any(address in network for network in _NOT_GLOBAL)


def _leads_to(address: Address) -> Iterator[Address]:
    """Yields the address and the IPv4 addresses in it. A mapped address is the IPv4 address."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
        return
    if address in _TRANSLATED or (address in _COMPATIBLE and int(address) > 1):
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address in _TRANSLATED:
            return
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    yield address
