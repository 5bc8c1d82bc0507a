"""What a setting is, and what values it takes."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from attrs import Attribute, field, fields, has

from directus_tx.suggestions import suggestion

T = TypeVar("T")


def setting(default: Any, about: str, *, secret: bool = False, choices: tuple[str, ...] = ()) -> Any:
    """A setting with its default and its description, which etc/directus.toml repeats."""
    return checked_setting(default, about, secret=secret, choices=choices)


def checked_setting(
    default: Any,
    about: str,
    *,
    secret: bool = False,
    choices: tuple[str, ...] = (),
    largest: int = 0,
    check: Callable[[str], object] | None = None,
) -> Any:
    """A setting with more conditions: a number between 1 and *largest*, unless that is 0; and what *check* accepts, which is called with a
    text that is not empty, or with each member of a list, and raises ValueError."""
    return field(
        default=default,
        metadata={"about": about, "secret": secret, "choices": choices, "largest": largest, "check": check},
    )


class ConfigError(Exception):
    """The configuration is wrong: `mistakes` has a line for each fault."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def attributes(cls: type | None) -> "dict[str, Attribute[Any]]":
    """Returns the settings of a class by name; none without a class."""
    found: dict[str, Attribute[Any]] = {} if cls is None else {each.name: each for each in fields(cls)}
    return found


def read_table(cls: "type[T] | None", table: Mapping[str, Any], others: Iterable[str] = (), label: str = "") -> "T | None":
    """Returns the settings of a table as an instance of an attrs class whose attributes `setting` has made; None without a class, which
    has no settings. *others* are settings of the table that are read elsewhere; they are only suggested. *label* is the name of the table
    in messages. Raises ConfigError with every mistake."""
    known = attributes(cls)
    mistakes: list[str] = []
    values = {}
    for key, value in table.items():
        if key in known:
            values[key] = checked((label, key), known[key], value, mistakes)
        else:
            mistakes.append(f"there is no setting {f'{label}.' if label else ''}{key}{suggestion(key, (*known, *others))}")
    if mistakes:
        raise ConfigError(mistakes)
    return None if cls is None else cls(**values)


def check_class(cls: Any) -> None:
    """Raises ValueError if `read_table` cannot read settings of a class, which a plugin has made."""
    if not isinstance(cls, type) or not has(cls):
        raise ValueError("settings must be an attrs class")
    for each in fields(cls):
        if type(each.default) not in (str, int, float, bool, tuple) or not set(each.metadata) >= _KEYS:
            raise ValueError(
                f"the setting {each.name} must be made with setting(), with a text, a number, true, false or a tuple of texts"
            )


_KEYS = {"about", "secret", "choices", "largest", "check"}


def checked(name: tuple[str, str], attribute: "Attribute[Any]", value: Any, mistakes: list[str]) -> Any:
    """Returns a value as the setting's type, or the default, after adding to *mistakes*. *name* is the section and the setting."""
    label = ".".join(part for part in name if part)
    metadata: Mapping[str, Any] = attribute.metadata
    kind = type(attribute.default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is tuple and isinstance(value, (list, tuple)) and all(isinstance(member, str) for member in value):
        value = tuple(value)
    if kind is tuple and isinstance(value, str):
        value = (value,)
    faults = []
    if type(value) is not kind:
        wanted = {str: "text", int: "a whole number", float: "a number", bool: "true or false", tuple: "a list of texts"}[kind]
        faults.append(f"takes {wanted}")
    elif isinstance(value, (int, float)) and value < 0:
        faults.append("takes no negative number")
    elif isinstance(value, int) and metadata["largest"] and not 1 <= value <= metadata["largest"]:
        faults.append(f"is a number between 1 and {metadata['largest']}")
    elif metadata["choices"] and value not in metadata["choices"]:
        faults.append(f"is one of {', '.join(metadata['choices'])}")
    elif metadata["check"] is not None:
        for text in value if isinstance(value, tuple) else (value,) if value else ():
            try:
                metadata["check"](text)
            except ValueError as error:
                faults.append(str(error))
    mistakes += [f"{label}: {fault}" for fault in faults]
    return attribute.default if faults else value
