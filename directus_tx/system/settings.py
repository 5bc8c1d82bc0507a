"""Settings: rows of key and text, which the API shows as the values that the fields of the catalogue describe."""

from collections.abc import Mapping
from typing import Any

import orjson

from directus_tx.context import Context
from directus_tx.query import Query
from directus_tx.rules import CollectionRules, Item
from directus_tx.schema.system import CATALOGUE

_TYPES: Mapping[str, str] = {field["field"]: field["type"] for field in CATALOGUE.setting_fields}


def shown(key: str | None, text: str | None) -> Any:
    """A setting's value as the API shows it: numbers and booleans as such, an empty file as null, the rest as text."""
    kind = _TYPES.get(key or "", "string")
    if kind == "boolean":
        return (text or "").strip().lower() not in ("", "0", "false")
    if kind == "integer":
        stripped = (text or "").strip()
        return int(stripped) if stripped.lstrip("-").isdigit() else None
    if kind == "file":
        return text or None
    return text


def _written(value: Any) -> Any:
    if isinstance(value, bool):
        return "1" if value else "0"
    return orjson.dumps(value).decode() if isinstance(value, (dict, list)) else value


class SettingRules(CollectionRules):
    """The rules of directus_settings."""

    needed = ("key",)

    async def prepare_create(self, ctx: Context, payload: Item) -> Item:
        return payload | {"value": _written(payload["value"])} if "value" in payload else payload

    async def prepare_update(self, ctx: Context, stored: Mapping[str, Any], payload: Item) -> Item:
        return payload | {"value": _written(payload["value"])} if "value" in payload else payload

    def present(self, ctx: Context, query: Query, item: Item) -> None:
        if "value" in item:
            item["value"] = shown(item.get("key"), item["value"])
