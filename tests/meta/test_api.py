"""What plugins import, held to a listing: a change of it is meant, and is told in a news fragment."""

import enum
import hashlib
import inspect
import pathlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from attrs import fields, has

from directus_tx import api
from directus_tx.plugins import hookspecs

ROOT = pathlib.Path(__file__).parents[2]
LISTING = pathlib.Path(__file__).with_name("api.txt")


def lines() -> Iterator[str]:
    """The names of `directus_tx.api` with their signatures, and the hooks."""
    yield f"version {api.API_VERSION}"
    for name in sorted(api.__all__):
        yield from described(name, getattr(api, name))
    for name, each in sorted(vars(hookspecs).items()):
        if hasattr(each, f"{hookspecs.PROJECT}_spec"):
            yield f"hook {name}{signature(each)}"


def described(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, ModuleType):
        # `errors`: docs/running.rst has its classes, which a test compares.
        yield f"module {name}"
    elif isinstance(value, type):
        yield f"class {name}"
        if issubclass(value, enum.Enum):
            yield from (f"{name}.{each.name}" for each in value)
            return
        if has(value):
            names = [(each.alias or each.name, each) for each in fields(value) if not each.name.startswith("_")]
            yield from (f"{name}.{each}: {annotation(attribute.type)}" for each, attribute in names)
        attributes = {each.name for each in fields(value)} if has(value) else set()
        for inner, each in sorted(vars(value).items()):
            if inner.startswith("_") or inner in attributes:
                continue
            if isinstance(each, property):
                yield f"{name}.{inner} -> {annotation(inspect.signature(each.fget).return_annotation)}"  # type: ignore[arg-type]
            elif callable(each):
                yield f"{name}.{inner}{signature(each)}"
    elif callable(value):
        yield f"{name}{signature(value)}" if inspect.isroutine(value) else name
    else:
        yield f"{name} = {value!r}"


def annotation(kind: Any) -> str:
    return kind if isinstance(kind, str) else inspect.formatannotation(kind).replace("directus_tx.", "")


def signature(function: Any) -> str:
    found = inspect.signature(function)
    shown = [
        f"{'**' if each.kind is each.VAR_KEYWORD else '*' if each.kind is each.VAR_POSITIONAL else ''}{each.name}"
        + ("" if each.annotation is each.empty else f": {annotation(each.annotation)}")
        + ("" if each.default is each.empty else f" = {each.default!r}")
        for each in found.parameters.values()
    ]
    result = "" if found.return_annotation is found.empty else f" -> {annotation(found.return_annotation)}"
    return f"({', '.join(shown)}){result}"


def test_the_public_face_is_the_listed_one_and_its_changes_are_told() -> None:
    """To change it: run this module to write the listing, and tell users in a news fragment, which names the digest in a comment."""
    text = "\n".join(lines()) + "\n"
    assert LISTING.read_text() == text, f"run python -m {__spec__.name if __spec__ else __name__}"  # type: ignore[name-defined]
    digest = digest_of(text)
    told = [path for path in (ROOT / "news").glob("*.rst") if f".. directus_tx.api {digest}" in path.read_text()]
    assert told, f"no news fragment tells of the change: add one with the line '.. directus_tx.api {digest}'"


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


if __name__ == "__main__":
    written = "\n".join(lines()) + "\n"
    LISTING.write_text(written)
    sys.stdout.write(f"the news fragment has the line\n.. directus_tx.api {digest_of(written)}\n")
