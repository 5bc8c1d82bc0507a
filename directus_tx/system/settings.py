"""Settings: rows of key and text, which the API shows as values of the types in the catalogue."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from directus_tx.access import access_of
from directus_tx.context import Context
from directus_tx.errors import InvalidRequest, ItemNotFound
from directus_tx.files.reading import SETTING as PRIVATE_ASSETS
from directus_tx.items.changes import Change, Item
from directus_tx.items.read import keys_of
from directus_tx.items.rows import readable_keys
from directus_tx.items.rules import CollectionRules, ReadOthers, Shown
from directus_tx.query import Query
from directus_tx.schema.numbers import whole_number
from directus_tx.schema.parsing import parse_truth
from directus_tx.schema.system import CATALOGUE

_OWN: Mapping[str, str] = {PRIVATE_ASSETS: "boolean"}
"""Settings that the API does not list as fields and that projects do not have until somebody creates them."""

_TYPES: Mapping[str, str] = {**{field["field"]: field["type"] for field in CATALOGUE.setting_fields}, **_OWN}


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
    if kind == "boolean" and value not in (None, ""):
        return "1" if parse_truth(key or "", value) else "0"
    if kind == "integer" and isinstance(value, float):
        return int(value)
    if isinstance(value, bool):
        return "1" if value else "0"
    if kind == "array" and isinstance(value, list):
        return ",".join(str(each) for each in value)
    return orjson.dumps(value).decode() if isinstance(value, (dict, list)) else value


def check(key: str | None, value: Any) -> None:
    """Raises InvalidRequest if a value of a payload is not of the kind that the setting needs. Null and an empty text, which unset a
    setting, are always allowed, and so is any value of a setting that is not in the catalogue."""
    kind = _TYPES.get(key or "")
    if kind is None or value is None or value == "":
        return
    wanted, fits = _KINDS[kind]
    if not fits(value):
        raise InvalidRequest(f'The setting "{key}" takes {wanted}.')


def _is_whole(value: Any) -> bool:
    """Whether a value is a whole number, or the text of one, with up to 18 digits."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return (
        isinstance(value, (int, str))
        and not isinstance(value, bool)
        and whole_number(str(value).strip(), signed=True) is not None
    )


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool) or str(value).strip().lower() in ("true", "false", "0", "1")


def _is_plain(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _is_words(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(map(_is_plain, value)))


def _is_json(value: Any) -> bool:
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return False
    return isinstance(value, (dict, list))


def _is_file(value: Any) -> bool:
    return _is_whole(value.get("id") if isinstance(value, dict) else value)


_KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "string": ("a text", _is_plain),
    "integer": ("a whole number", _is_whole),
    "boolean": ("true or false", _is_truth),
    "array": ("a list of texts", _is_words),
    "json": ("an object or a list", _is_json),
    "file": ("the id of a file, or the file as an object with its id", _is_file),
}
"""What the settings of each type take, for messages, and the function that says whether a value is such a one."""


class SettingRules(CollectionRules):
    """The rules of directus_settings."""

    needed = ("key",)

    async def prepare(self, ctx: Context, changes: Sequence[Change]) -> None:
        """Converts the values to text. Raises InvalidRequest for a value of the wrong kind, ItemNotFound for a file that does not exist
        or that the caller may not read."""
        files = []
        async for change in ctx.in_slices(changes):
            if "value" not in change.payload:
                if "key" in change.payload and change.stored is not None and change.value("key") != change.stored["key"]:
                    # The stored value becomes that of another setting.
                    check(change.value("key"), change.stored["value"])
                continue
            key, value = change.value("key"), change.payload["value"]
            if not change.from_history:
                check(key, value)
            if _TYPES.get(key or "") == "file" and value not in (None, ""):
                # The value is the id of a file or its record.
                value = value.get("id") if isinstance(value, dict) else value
                files.append(value)
            change.payload["value"] = value if change.from_history else _stored(key, value)
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

    async def complete(self, items: Sequence[Item], shown_for: Shown, read: ReadOthers) -> None:
        """Shows files as objects, except by key; those that the caller may not read as their keys."""
        if shown_for is Shown.BY_KEY:
            return
        files = [
            (item, id)
            for item in items
            if _TYPES.get(item.get("key") or "") == "file" and (id := whole_number(str(item.get("value") or ""))) is not None
        ]
        if not files:
            return
        found = await read("directus_files", [id for _, id in files])
        for item, id in files:
            item["value"] = found.get(id, item["value"])


async def _check_files(ctx: Context, files: Sequence[Any]) -> None:
    """Raises ItemNotFound if a file does not exist or the caller may not read it."""
    grant = access_of(ctx).grant("directus_files")
    keys = keys_of(grant.collection, files)
    if len(keys) < len(files) or len(await readable_keys(ctx, grant, keys)) < len(set(keys)):
        raise ItemNotFound("There is no such file.")
