"""Settings: rows of key and text, which the API shows as values of the types in the catalogue."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from directus_tx.access import access_of
from directus_tx.context import Context
from directus_tx.errors import ItemNotFound
from directus_tx.items.changes import Change, Item
from directus_tx.items.read import keys_of
from directus_tx.items.rows import readable_keys
from directus_tx.items.rules import CollectionRules, Shown
from directus_tx.query import Query
from directus_tx.schema.numbers import whole_number
from directus_tx.schema.system import CATALOGUE

_TYPES: Mapping[str, str] = {field["field"]: field["type"] for field in CATALOGUE.setting_fields}


def shown(key: str | None, text: str | None) -> Any:
    """Returns the value of a setting as lists show it: a number or boolean, null for an empty file, otherwise the text."""
    kind = _TYPES.get(key or "", "string")
    if kind == "boolean":
        return (text or "").strip().lower() not in ("", "0", "false")
    if kind == "integer":
        return whole_number((text or "").strip(), signed=True)
    if kind == "file":
        return text or None
    return text


def _as_written(key: str | None, text: str | None) -> Any:
    """Returns the value of a setting as the response to a write shows it: as it was sent."""
    kind = _TYPES.get(key or "", "string")
    if kind == "array":
        return text.split(",") if text else []
    if kind == "json" and text:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
    return shown(key, text)


def _stored(key: str | None, value: Any) -> Any:
    """Returns a value as stored text."""
    kind = _TYPES.get(key or "", "string")
    if isinstance(value, bool):
        return "1" if value else "0"
    if kind == "array" and isinstance(value, list):
        return ",".join(str(each) for each in value)
    return orjson.dumps(value).decode() if isinstance(value, (dict, list)) else value


class SettingRules(CollectionRules):
    """The rules of directus_settings."""

    needed = ("key",)

    async def prepare(self, ctx: Context, changes: Sequence[Change]) -> None:
        """Converts the values to text. Raises ItemNotFound for a file that does not exist or that the caller may not read."""
        files = []
        async for change in ctx.in_slices(changes):
            if "value" not in change.payload:
                continue
            key, value = change.value("key"), change.payload["value"]
            if _TYPES.get(key or "") == "file" and value not in (None, ""):
                # The value is the id of a file or its record.
                value = value.get("id") if isinstance(value, dict) else value
                files.append(value)
            change.payload["value"] = _stored(key, value)
        if files:
            await _check_files(ctx, files)

    def present(self, ctx: Context, query: Query, item: Item, shown_for: Shown) -> None:
        """Converts the value: in lists to the type of its field, after a write to what was sent. By key it is the stored text."""
        if "value" not in item:
            return
        key, text = item.get("key"), item["value"]
        if shown_for is Shown.BY_KEY:
            item["value"] = text or None
        else:
            item["value"] = _as_written(key, text) if shown_for is Shown.WRITTEN else shown(key, text)


async def _check_files(ctx: Context, files: Sequence[Any]) -> None:
    """Raises ItemNotFound if a file does not exist or the caller may not read it."""
    grant = access_of(ctx).grant("directus_files")
    keys = keys_of(grant.collection, files)
    if len(keys) < len(files) or len(await readable_keys(ctx, grant, keys)) < len(set(keys)):
        raise ItemNotFound("There is no such file.")
