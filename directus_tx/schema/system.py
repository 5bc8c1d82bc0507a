"""The system catalogue: the fields of the `directus_*` collections, and the permissions of a new role. The data is in `system.json`."""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any
from zoneinfo import available_timezones

from attrs import frozen


@frozen
class Catalogue:
    """`collections`: the attributes of the fields of each system collection, in order; those with `unmanaged` are plain columns.
    `setting_fields`: the fields that describe settings. `role_permissions`: what each new role may do."""

    collections: Mapping[str, tuple[Mapping[str, Any], ...]]
    setting_fields: tuple[Mapping[str, Any], ...]
    role_permissions: tuple[Mapping[str, Any], ...]


def _load() -> Catalogue:
    data = json.loads(files(__package__).joinpath("system.json").read_text(encoding="utf-8"))
    number = 0
    for fields in data["collections"].values():
        for field in fields:
            choices = (field.get("options") or {}).get("choices")
            if choices == "$timezones":
                field["options"]["choices"] = {zone: zone for zone in sorted(available_timezones())}
            if not field.get("unmanaged"):
                # Ids below 1001 are reserved for the catalogue; rows of directus_fields start at 1001.
                number += 1
                field["id"] = number
    return Catalogue(
        {name: tuple(fields) for name, fields in data["collections"].items()},
        tuple(data["setting_fields"]),
        tuple(data["role_permissions"]),
    )


CATALOGUE = _load()
