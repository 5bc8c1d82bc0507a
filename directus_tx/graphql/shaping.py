"""Makes the objects of an answer of those of the API. A function is generated for each selection, as `compile.plan` does for rows."""

from collections.abc import Callable
from typing import Any

import orjson

from directus_tx.graphql.catalog import Kind
from directus_tx.graphql.selecting import Entry, Selected

Shape = Callable[[Any], Any]

NOTHING: dict[Any, Any] = {}


def shape_of(selected: Selected) -> Shape:
    """Returns the function that makes an object of an answer of an item. The text that is compiled consists of numbered names; names of
    fields are bound as values."""
    source = _Source()
    name = source.level(selected)
    namespace: dict[str, Any] = {"__builtins__": {"str": str}, **source.bound}
    # No text of clients is in it.
    exec(compile("\n".join(source.lines), "<selection>", "exec"), namespace)
    found: Shape = namespace[name]
    return found


class _Source:
    """The text of the functions of a selection and of those in it, and the values that their names stand for."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bound: dict[str, Any] = {"listed": _listed, "nothing": NOTHING, "mapping": dict}
        self._names: dict[Any, str] = {}
        self._functions = 0

    def name(self, value: Any) -> str:
        """Returns the name that a value is bound to."""
        key = (value.__class__, value)
        if key not in self._names:
            self._names[key] = f"v{len(self._names)}"
            self.bound[self._names[key]] = value
        return self._names[key]

    def level(self, selected: Selected) -> str:
        """Adds the function of a selection, and returns its name."""
        entries = [f"{self.name(entry.key)}: {self.value(selected, entry)}" for entry in selected.entries]
        self._functions += 1
        name = f"shape{self._functions}"
        self.lines.append(f"def {name}(item):")
        if any(entry.member is not None and entry.member.lacking for entry in selected.entries):
            # An item without visible fields is a list.
            self.lines.append(" if item.__class__ is not mapping: item = nothing")
        self.lines.append(f" return {{{', '.join(entries)}}}")
        return name

    def value(self, selected: Selected, entry: Entry) -> str:
        """Returns the expression of a field."""
        member = entry.member
        if member is None:
            return self.name(selected.type.name)
        place = self.name(entry.slot)
        found = f"item.get({place})" if member.lacking or entry.slot != member.name else f"item[{place}]"
        if member.kind is Kind.VALUE:
            return found if member.convert is None else f"{self.name(member.convert)}({found})"
        assert entry.below is not None
        below = self.level(entry.below)
        if member.kind in (Kind.MANY, Kind.OBJECTS):
            return f"listed({found}, {below})"
        shown = f"None if {found} is None else {below}({found})"
        if member.kind is Kind.LISTED:
            return f"[] if {found} is None else [{below}({found})]"
        return f"({shown})"


def _listed(items: Any, shape: Shape) -> Any:
    """Returns the objects of an answer of a list of items. A list that is too long to be held as items is JSON."""
    if items.__class__ is list:
        return [shape(item) for item in items]
    if items is None:
        return None
    if items.__class__ is orjson.Fragment:
        return [shape(item) for item in orjson.loads(orjson.dumps(items))]
    return [shape(item) for item in items]
