"""All settings together."""

from collections.abc import Mapping
from typing import Any

from attrs import field, fields, frozen

from directus_tx.config.accounts import AccountSettings, ScimSettings, SessionSettings
from directus_tx.config.database import DatabaseSettings, HistorySettings
from directus_tx.config.files import FileSettings, StorageSettings
from directus_tx.config.messages import MailSettings, OutboxSettings, OutgoingSettings, WebhookSettings
from directus_tx.config.plugins import PluginSettings, PluginTables
from directus_tx.config.requests import GraphQLSettings, LimitSettings, RateLimitSettings
from directus_tx.config.server import ServerSettings
from directus_tx.config.values import setting


@frozen
class Settings:
    """All settings. `super_admin_token` is empty where none is configured."""

    super_admin_token: str = setting(
        "",
        "Token for creating and deleting projects. Empty: it is generated at the first start, printed once, and kept in the file"
        " super_admin_token of the data directory.",
        secret=True,
    )
    server: ServerSettings = field(factory=ServerSettings)
    database: DatabaseSettings = field(factory=DatabaseSettings)
    limits: LimitSettings = field(factory=LimitSettings)
    history: HistorySettings = field(factory=HistorySettings)
    outbox: OutboxSettings = field(factory=OutboxSettings)
    outgoing: OutgoingSettings = field(factory=OutgoingSettings)
    sessions: SessionSettings = field(factory=SessionSettings)
    rate_limits: RateLimitSettings = field(factory=RateLimitSettings)
    accounts: AccountSettings = field(factory=AccountSettings)
    webhooks: WebhookSettings = field(factory=WebhookSettings)
    files: FileSettings = field(factory=FileSettings)
    graphql: GraphQLSettings = field(factory=GraphQLSettings)
    scim: ScimSettings = field(factory=ScimSettings)
    mail: MailSettings = field(factory=MailSettings)
    storage: StorageSettings = field(factory=StorageSettings)
    plugins: PluginSettings = field(factory=PluginSettings)
    plugin_tables: PluginTables = field(factory=PluginTables)


SECTIONS: Mapping[str, type] = {
    each.name: each.type for each in fields(Settings) if isinstance(each.type, type) and each.type not in (str, PluginTables)
}
"""The class of each section, in the order of etc/directus.toml."""


def described(settings: Settings) -> dict[str, Any]:
    """The settings as nested plain values, secrets hidden."""

    def shown(owner: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for each in fields(type(owner)):
            value = getattr(owner, each.name)
            if isinstance(value, PluginTables):
                continue
            if each.name in SECTIONS and owner is settings:
                found[each.name] = shown(value)
            elif each.metadata["secret"]:
                found[each.name] = "(hidden)" if value else ""
            else:
                found[each.name] = list(value) if isinstance(value, tuple) else value
        return found

    return shown(settings)
