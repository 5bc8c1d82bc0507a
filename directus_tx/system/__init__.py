"""The rules of the system collections, a module each: what they add to the reading and writing of items."""

from collections.abc import Mapping

from directus_tx.items.rules import CollectionRules
from directus_tx.system.permissions import PermissionRules
from directus_tx.system.presets import PresetRules
from directus_tx.system.roles import RoleRules
from directus_tx.system.settings import SettingRules
from directus_tx.system.users import UserRules

RULES: Mapping[str, CollectionRules] = {
    "directus_collection_presets": PresetRules(),
    "directus_permissions": PermissionRules(),
    "directus_roles": RoleRules(),
    "directus_settings": SettingRules(),
    "directus_users": UserRules(),
}
