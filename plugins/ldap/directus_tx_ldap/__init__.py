"""Lets users sign in with the passwords of an LDAP directory, such as OpenLDAP or Active Directory."""

from collections.abc import Mapping

from directus_tx.api import AuthenticationDriver, Server, hookimpl

directus_tx_api = 1


@hookimpl
def register_authentication_drivers(server: Server) -> Mapping[str, AuthenticationDriver]:
    """The driver "ldap" of auth.password_providers in project files."""
    # Imports the reactor.
    from directus_tx_ldap.driver import LdapDriver

    return {"ldap": LdapDriver()}
