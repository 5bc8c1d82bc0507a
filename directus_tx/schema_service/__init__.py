"""Shows, creates, changes and deletes collections and fields."""

from directus_tx.schema_service.adopt import adopt
from directus_tx.schema_service.advice import read_advice
from directus_tx.schema_service.collections import create_collection, delete_collection, update_collection
from directus_tx.schema_service.fields import create_field, delete_field, update_fields
from directus_tx.schema_service.payloads import COLLECTIONS, FIELDS
from directus_tx.schema_service.read import read_collections, read_fields, read_setting_fields

__all__ = [
    "COLLECTIONS",
    "FIELDS",
    "adopt",
    "create_collection",
    "create_field",
    "delete_collection",
    "delete_field",
    "read_advice",
    "read_collections",
    "read_fields",
    "read_setting_fields",
    "update_collection",
    "update_fields",
]
