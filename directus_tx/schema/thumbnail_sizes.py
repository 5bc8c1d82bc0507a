"""The sizes of thumbnails that a project allows: the settings asset_whitelist_system and asset_whitelist."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from attrs import frozen

from directus_tx.errors import InvalidPayload
from directus_tx.schema.model import Snapshot

CONTAIN, CROP = "contain", "crop"
AUTO = "auto"
FORMATS = ("", AUTO, "webp", "avif", "jpg", "png")
"""The formats of thumbnails. Empty: that of the file; "auto": a smaller one if the client accepts it."""

QUALITY = 80
"""The quality of sizes in a setting that name none."""


@frozen
class Size:
    """The size of a thumbnail, in pixels. With `fit` "crop" the picture fills it and is cut, with "contain" it fits in. `quality` is from
    0 to 100, and `format` one of FORMATS."""

    width: int
    height: int
    fit: str
    quality: int
    format: str = ""


@frozen
class Sizes:
    """The sizes that a project allows, by key: those of the system first. With `any_size`, all others are allowed, too."""

    by_key: Mapping[str, Size]
    any_size: bool

    def find(self, asked: Mapping[str, Any]) -> Size:
        """Returns the size that the parameters `key`, or `w`, `h`, `f`, `q` and `format` of a request ask for. `key` takes precedence: a
        key stands for one format. Raises InvalidPayload if a parameter is missing or invalid, or the size is not allowed in this
        format."""
        if "key" in asked:
            found = self.by_key.get(asked["key"]) if isinstance(asked["key"], str) else None
            if found is None:
                raise InvalidPayload('"key" is not the key of a size in the setting asset_whitelist.')
            return found
        width, height = (_number(asked.get(name)) for name in ("w", "h"))
        if not width or not height:
            raise InvalidPayload('"w" and "h" must be numbers of pixels.')
        fit, quality = asked.get("f"), _number(asked.get("q"))
        if fit not in (CONTAIN, CROP):
            raise InvalidPayload('"f" must be "contain" or "crop".')
        if quality is None or quality > 100:
            raise InvalidPayload('"q" must be a number from 0 to 100.')
        format = asked.get("format", "")
        if not isinstance(format, str) or format not in FORMATS:
            raise InvalidPayload(f'"format" must be one of {", ".join(FORMATS[1:])}.')
        size = Size(width, height, fit, quality, format)
        if not self.any_size and size not in self.by_key.values():
            named = f" with the format {format}" if format else ""
            raise InvalidPayload(f"The setting asset_whitelist has no such size{named}.")
        return size


def allowed_sizes(schema: Snapshot) -> Sizes:
    """Returns the sizes that the settings allow. What is not a size is left out. An empty asset_whitelist allows any size."""
    found: Sizes = schema.kept("thumbnail sizes", lambda: _allowed(schema))
    return found


def _allowed(schema: Snapshot) -> Sizes:
    system, own = (_document(schema.setting(name)) for name in ("asset_whitelist_system", "asset_whitelist"))
    # The keys of the system cannot be given another meaning.
    by_key = _sizes(system)
    by_key.update((key, size) for key, size in _sizes(own).items() if key not in by_key)
    return Sizes(by_key, own in ([], "", None))


def _document(text: str) -> Any:
    """Returns the value of a setting. A text that is not JSON has no sizes."""
    try:
        return orjson.loads(text) if text.strip() else None
    except orjson.JSONDecodeError:
        return text


def _sizes(value: Any) -> dict[str, Size]:
    return {each["key"]: size for each in _objects(value) if (size := _size(each)) is not None}


def _objects(value: Any) -> Sequence[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _size(value: Mapping[str, Any]) -> Size | None:
    width, height = _number(value.get("width")), _number(value.get("height"))
    fit, quality = value.get("fit"), value.get("quality")
    number = QUALITY if quality in (None, "") else _number(quality)
    if not isinstance(value.get("key"), str) or not value["key"] or not width or not height:
        return None
    if fit not in (CONTAIN, CROP) or number is None or number > 100:
        return None
    format = value.get("format") or ""
    return Size(width, height, fit, number, format) if format in FORMATS else None


def _number(value: Any) -> int | None:
    """Returns a whole number of at most five digits, which may be given as a text. None if it is none."""
    return int(value) if re.fullmatch(r"[0-9]{1,5}", str(value), re.ASCII) else None
