"""The parts of schemas that are the same in all projects: object types that are no items, and the operators of filters."""

from collections.abc import Mapping
from typing import Any

from graphql import GraphQLBoolean, GraphQLFloat, GraphQLID, GraphQLList, GraphQLString

from directus_tx.graphql.catalog import Kind
from directus_tx.graphql.scalars import JSON, Date, Datetime, Int, Time
from directus_tx.schema.datatypes import family
from directus_tx.schema.model import Field

COLLECTIONS, FIELDS, FILES, USERS = "directus_collections", "directus_fields", "directus_files", "directus_users"

WITHOUT_ROOT = frozenset({"directus_migrations", "directus_user_sessions", "directus_webhooks"})
"""System collections without a root field, as in Directus 8."""

WRITTEN: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(
        (
            "directus_collection_presets",
            "directus_folders",
            "directus_permissions",
            "directus_relations",
            "directus_roles",
            "directus_settings",
        ),
        frozenset({"create", "update", "update each", "delete"}),
    ),
    "directus_users": frozenset({"create", "update", "delete"}),
    "directus_files": frozenset({"delete"}),
}
"""What the mutations of system collections do: the same as the routes that write their items. Files are written with their contents,
collections and fields with the schema, so these have routes of their own only."""

SHOWN_BY_KEY = frozenset({("directus_folders", "parent_folder")})
"""Many-to-one fields that show the key of the item instead of the item, as in Directus 8."""

OBJECTS: Mapping[str, Mapping[str, tuple[Any, Kind, str]]] = {
    "Metadata": {
        "collection": (GraphQLString, Kind.VALUE, ""),
        "type": (GraphQLString, Kind.VALUE, ""),
        **dict.fromkeys(
            ("result_count", "total_count", "filter_count", "limit", "offset", "page", "page_count"), (Int, Kind.VALUE, "")
        ),
        "status_count": (JSON, Kind.VALUE, ""),
    },
    "DirectusFileData": {
        **dict.fromkeys(("full_url", "url", "asset_url"), (GraphQLString, Kind.VALUE, "")),
        "thumbnails": (None, Kind.OBJECTS, "DirectusThumbnail"),
        "embed": (None, Kind.OBJECT, "DirectusEmbed"),
    },
    "DirectusThumbnail": {
        **dict.fromkeys(("key", "url", "relative_url", "dimension"), (GraphQLString, Kind.VALUE, "")),
        "width": (Int, Kind.VALUE, ""),
        "height": (Int, Kind.VALUE, ""),
    },
    "DirectusEmbed": {"html": (GraphQLString, Kind.VALUE, ""), "url": (GraphQLString, Kind.VALUE, "")},
}
"""The object types that are no items, with the types, kinds and targets of their fields."""

_TEXT, _FLAG = GraphQLString, GraphQLBoolean
FIELD_ATTRIBUTES: Mapping[str, Any] = {
    "id": GraphQLID,
    **dict.fromkeys(("field", "type", "datatype", "length", "interface", "default_value", "note", "validation", "width"), _TEXT),
    **dict.fromkeys(("primary_key", "auto_increment", "unique", "signed", "locked", "required", "readonly"), _FLAG),
    **dict.fromkeys(("hidden_detail", "hidden_browse"), _FLAG),
    "options": JSON,
    "translation": JSON,
    "sort": Int,
    "group": Int,
}
COLLECTION_ATTRIBUTES: Mapping[str, Any] = {
    "collection": _TEXT,
    **dict.fromkeys(("managed", "hidden", "single"), _FLAG),
    **dict.fromkeys(("icon", "note"), _TEXT),
    "translation": JSON,
}

_OF_NUMBERS = ("eq", "neq", "lt", "lte", "gt", "gte")
_OF_LISTS = ("in", "nin", "between", "nbetween")
_OF_TEXTS = ("eq", "neq", "contains", "ncontains", "rlike", "nrlike", "empty", "nempty", "null", "nnull")
_OF_NULL = ("null", "nnull")
_OF_PARTS = ("contains", "ncontains", "empty", "nempty", "null", "nnull")
OF_MANY = ("empty", "nempty")


def operators_of(field: Field, type: Any) -> Mapping[str, Any]:
    """Returns the operators of the filters on a field with a column and the types of their values. *type* is that of the field's values."""
    if field.sealed is not None:
        return dict.fromkeys(("eq", "neq"), GraphQLString)
    kind = family(field)
    if field.custom is not None and field.custom.parse is not None:
        # The type of a plugin makes the value of a text.
        return dict.fromkeys((*_OF_NUMBERS, *_OF_LISTS, *_OF_NULL), GraphQLString)
    if type in (JSON,) or isinstance(type, GraphQLList):
        return dict.fromkeys(_OF_PARTS, GraphQLString)
    if kind == "boolean" or type is GraphQLBoolean:
        return {**dict.fromkeys(("eq", "neq"), GraphQLBoolean), **dict.fromkeys(_OF_NULL, GraphQLString)}
    by_family = {
        "integer": GraphQLString if field.datatype == "BIGINT" else Int,
        "number": GraphQLFloat,
        "date": Date,
        "datetime": Datetime,
        "time": Time,
    }
    if kind in by_family:
        found = {**dict.fromkeys(_OF_NUMBERS, by_family[kind]), **dict.fromkeys(_OF_LISTS, GraphQLString)}
        return found if field.primary_key else {**found, **dict.fromkeys(_OF_NULL, GraphQLString)}
    if kind == "binary":
        return dict.fromkeys(_OF_NULL, GraphQLString)
    return dict.fromkeys(_OF_TEXTS, GraphQLString)
