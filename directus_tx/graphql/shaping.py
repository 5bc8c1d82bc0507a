"""Makes the objects of an answer. The engine builds most of them at once (`output_of`). The others are made of those of the API, by a
function that is generated for each selection, as `compile.plan` does for rows."""

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from directus_tx.compile.output import Output, OutputField
from directus_tx.graphql.catalog import Kind
from directus_tx.graphql.selecting import Entry, Selected

Shape = Callable[[Sequence[Any]], list[Any]]
"""Returns the objects of an answer of a list of items."""

MAX_LOOPS = 12
"""The number of loops in each other, of which Python allows 20. Lists that are nested deeper have functions of their own."""


def output_of(selected: Selected) -> Output | None:
    """Returns what a selection shows as the output of a read. None if a read cannot show it: a list that is read again, objects that are
    parts of values, and lists of one."""
    found = []
    for entry in selected.entries:
        member = entry.member
        if member is None:
            found.append(OutputField(entry.key, None, constant=selected.type.name))
            continue
        if member.kind not in (Kind.VALUE, Kind.ONE, Kind.MANY) or entry.slot != member.name:
            return None
        below = None if entry.below is None else output_of(entry.below)
        if below is None and entry.below is not None:
            return None
        found.append(OutputField(entry.key, member.name, member.convert, below))
    return Output(tuple(found))


def shape_of(selected: Selected) -> Shape:
    """Returns a function that makes the objects of an answer. It is generated when it is called first: answers that the engine builds never
    call it."""
    generated: Shape | None = None

    def shape(items: Sequence[Any]) -> list[Any]:
        nonlocal generated
        if generated is None:
            generated = _generated(selected)
        return generated(items)

    return shape


def _generated(selected: Selected) -> Shape:
    """Returns the generated function. The text that is compiled consists of numbered names; names of fields are bound as values."""
    source = _Source()
    name = source.function(selected)
    namespace: dict[str, Any] = {"__builtins__": {}, **source.bound}
    # No text of clients is in it.
    exec(compile("\n".join(source.lines), "<selection>", "exec"), namespace)
    found: Shape = namespace[name]
    return found


class _Source:
    """The text of the functions of a selection, and the values that their names stand for."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bound: dict[str, Any] = {"whole": _whole, "nothing": {}, "mapping": dict, "sequence": list}
        self._names: dict[Any, str] = {}
        self._numbers = 0

    def name(self, value: Any) -> str:
        """Returns the name that a value is bound to."""
        key = (value.__class__, value)
        if key not in self._names:
            self._names[key] = f"v{len(self._names)}"
            self.bound[self._names[key]] = value
        return self._names[key]

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def function(self, selected: Selected) -> str:
        """Adds the function of a selection, and returns its name."""
        name = f"shape{self.number()}"
        lines = [f"def {name}(items):", " found = []", " for item in items:"]
        shown = self.object(selected, "item", lines, 2, 1)
        lines += [f"  found.append({shown})", " return found"]
        self.lines += lines
        return name

    def object(self, selected: Selected, item: str, lines: list[str], indent: int, loops: int) -> str:
        """Adds the lines that are run for an item, and returns the expression of the object."""
        if any(entry.member is not None and entry.member.lacking for entry in selected.entries):
            # An item without visible fields is a list.
            lines.append(f"{' ' * indent}if {item}.__class__ is not mapping: {item} = nothing")
        entries = [
            f"{self.name(each.key)}: {self.value(selected, each, item, lines, indent, loops)}" for each in selected.entries
        ]
        return f"{{{', '.join(entries)}}}"

    def value(self, selected: Selected, entry: Entry, item: str, lines: list[str], indent: int, loops: int) -> str:
        """Adds the lines that are run for a field, and returns the expression of its value."""
        member = entry.member
        if member is None:
            return self.name(selected.type.name)
        place = self.name(entry.slot)
        found = f"{item}.get({place})" if member.lacking or entry.slot != member.name else f"{item}[{place}]"
        if member.kind is Kind.VALUE:
            return found if member.convert is None else f"{self.name(member.convert)}({found})"
        assert entry.below is not None
        below = f"x{self.number()}"
        margin = " " * indent
        lines.append(f"{margin}{below} = {found}")
        if member.kind not in (Kind.MANY, Kind.OBJECTS):
            lines.append(f"{margin}if {below} is not None:")
            shown = self.object(entry.below, below, lines, indent + 1, loops)
            lines.append(f"{margin} {below} = {shown}")
            return f"([] if {below} is None else [{below}])" if member.kind is Kind.LISTED else below
        lines += [f"{margin}if {below}.__class__ is not sequence: {below} = whole({below})", f"{margin}if {below} is not None:"]
        if loops >= MAX_LOOPS:
            lines.append(f"{margin} {below} = {self.function(entry.below)}({below})")
            return below
        each, several = f"i{self.number()}", f"s{self.number()}"
        lines += [f"{margin} {several} = []", f"{margin} for {each} in {below}:"]
        shown = self.object(entry.below, each, lines, indent + 2, loops + 1)
        lines += [f"{margin}  {several}.append({shown})", f"{margin} {below} = {several}"]
        return below


def _whole(items: Any) -> list[Any] | None:
    """Returns a list that is no list of items: None, JSON if it is too long to be held as items, or another sequence."""
    if items is None:
        return None
    if isinstance(items, orjson.Fragment):
        found: list[Any] = orjson.loads(orjson.dumps(items))
        return found
    return list(items)
