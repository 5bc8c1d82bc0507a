"""The output of a read: under which names items show their values, and what converts these. A read without one shows fields under their own
names."""

from collections.abc import Callable
from typing import Any

from attrs import frozen


@frozen(cache_hash=True)
class OutputField:
    """A value that is shown as `key`: that of the field `name`, converted by `convert`, or the text `constant` if there is no name. `below`
    is the output of the items that the field refers to, None for a plain value."""

    key: str
    name: str | None
    convert: Callable[[Any], Any] | None = None
    below: "Output | None" = None
    constant: str | None = None


@frozen(cache_hash=True)
class Output:
    """What items show, in order."""

    fields: tuple[OutputField, ...]
