"""The IP addresses from which a role may be used."""

from directus_tx.errors import AddressNotAllowed
from directus_tx.schema.model import Snapshot


def check_address(schema: Snapshot, role: int | None, ip: str) -> None:
    """Raises AddressNotAllowed if a role has an ip_whitelist without an IP address."""
    found = None if role is None else schema.roles.get(role)
    if found is not None and found["ip_whitelist"] and ip not in found["ip_whitelist"]:
        raise AddressNotAllowed
