"""Settings from environment variables."""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

from attrs import Attribute

from directus_tx.suggestions import suggestion

PREFIX = "DIRECTUS_"


def variable_of(name: tuple[str, str]) -> str:
    """Returns the environment variable of a setting, which is given as its section and its name."""
    return PREFIX + re.sub(r"\W", "_", "_".join(part for part in name if part)).upper()


def from_environment(
    known: Mapping[tuple[str, str], "Attribute[Any]"], environ: Mapping[str, str], mistakes: list[str]
) -> dict[tuple[str, str], Any]:
    """Returns the values of those of the *known* settings that have a variable; what is wrong is added to *mistakes*."""
    names = {variable_of(name): name for name in known}
    found: dict[tuple[str, str], Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX):
            continue
        name, from_file = names.get(variable), False
        if name is None and variable.endswith("_FILE"):
            name, from_file = names.get(variable.removesuffix("_FILE")), True
        if name is None or (from_file and not known[name].metadata["secret"]):
            mistakes.append(f"{variable}: there is no such setting{suggestion(variable, names)}")
            continue
        if from_file:
            try:
                text = pathlib.Path(text).read_text(encoding="utf-8").strip()
            except OSError as error:
                mistakes.append(f"{variable}: {error}")
                continue
        found[name] = _of_text(known[name], text, variable, mistakes)
    return found


def _of_text(attribute: "Attribute[Any]", text: str, variable: str, mistakes: list[str]) -> Any:
    kind = type(attribute.default)
    if kind is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    if kind is bool and text.lower() in _TRUTHS:
        return _TRUTHS[text.lower()]
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            mistakes.append(f"{variable}: {text!r} is no number")
            return attribute.default
    return text


_TRUTHS = {"true": True, "1": True, "false": False, "0": False}
