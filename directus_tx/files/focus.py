"""The focal point of a picture: `focal_x` and `focal_y` in the field `metadata` of its file."""

import math
from typing import Any

import orjson

from directus_tx.errors import InvalidRequest

Focus = tuple[float, float]
"""A point of a picture, in parts of its width and height, from 0 to 1, in thousandths."""

CENTRE: Focus = (0.5, 0.5)
FIELDS = ("focal_x", "focal_y")


def focus_of(metadata: Any) -> Focus:
    """Returns the focal point in the field `metadata` of a file, which may be JSON. What is beyond the picture is moved to its edge; the
    middle takes the place of what is missing or is no number."""
    if isinstance(metadata, (str, bytes)):
        try:
            metadata = orjson.loads(metadata)
        except orjson.JSONDecodeError:
            return CENTRE
    if not isinstance(metadata, dict):
        return CENTRE
    x, y = (_part(metadata.get(name), middle) for name, middle in zip(FIELDS, CENTRE, strict=True))
    return x, y


def _part(value: Any, middle: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (isinstance(value, float) and math.isnan(value)):
        return middle
    return round(min(max(value, 0.0), 1.0), 3)


def check_focus(metadata: Any) -> None:
    """Raises InvalidRequest if a value for the field `metadata` has a focal point that is no number."""
    if not isinstance(metadata, dict):
        return
    for name in FIELDS:
        value = metadata.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise InvalidRequest(f'"{name}" in "metadata" must be a number from 0 to 1.')
