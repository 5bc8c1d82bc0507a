"""The server's settings: from a TOML file and the environment into frozen values, every mistake reported at once.

A setting `key` of `[section]` is `DIRECTUS_SECTION_KEY` in the environment, one of no section `DIRECTUS_KEY`; a secret may also be
read from the file that `..._FILE` names. The environment wins over the file.
"""

from directus_tx.config.accounts import AccountSettings, ScimSettings, SessionSettings
from directus_tx.config.database import DatabaseSettings, HistorySettings, Retention, libpq_parameters, retention_of
from directus_tx.config.files import FileSettings, StorageSettings
from directus_tx.config.loading import load
from directus_tx.config.messages import MailSettings, OutboxSettings, OutgoingSettings, WebhookSettings
from directus_tx.config.plugins import PluginSettings, PluginTables, plugin_settings, unknown_plugin_settings
from directus_tx.config.requests import GraphQLSettings, LimitSettings, RateLimitSettings
from directus_tx.config.server import ServerSettings, public_url
from directus_tx.config.settings import SECTIONS, Settings, described
from directus_tx.config.values import ConfigError, check_class, read_table, setting

__all__ = [
    "SECTIONS",
    "AccountSettings",
    "ConfigError",
    "DatabaseSettings",
    "FileSettings",
    "GraphQLSettings",
    "HistorySettings",
    "LimitSettings",
    "MailSettings",
    "OutboxSettings",
    "OutgoingSettings",
    "PluginSettings",
    "PluginTables",
    "RateLimitSettings",
    "Retention",
    "ScimSettings",
    "ServerSettings",
    "SessionSettings",
    "Settings",
    "StorageSettings",
    "WebhookSettings",
    "check_class",
    "described",
    "libpq_parameters",
    "load",
    "plugin_settings",
    "public_url",
    "read_table",
    "retention_of",
    "setting",
    "unknown_plugin_settings",
]
