"""The rules of the system collections, one module for each: what they add to reading and writing items."""

from collections.abc import Mapping

from directus_tx.items.rules import CollectionRules
from directus_tx.system.files import FileRules
from directus_tx.system.permissions import PermissionRules
from directus_tx.system.presets import PresetRules
from directus_tx.system.relations import RelationRules
from directus_tx.system.roles import RoleRules
from directus_tx.system.settings import SettingRules
from directus_tx.system.users import UserRules
from directus_tx.system.webhooks import WebhookRules

RULES: Mapping[str, CollectionRules] = {
    "directus_collection_presets": PresetRules(),
    "directus_files": FileRules(),
    "directus_permissions": PermissionRules(),
    "directus_relations": RelationRules(),
    "directus_roles": RoleRules(),
    "directus_settings": SettingRules(),
    "directus_users": UserRules(),
    "directus_webhooks": WebhookRules(),
}
