"""What the expressions of `fields` show: of each collection on the way its columns, and the related items that they open."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen

from directus_tx.access import Access, Grant
from directus_tx.compile.bounds import Bounds
from directus_tx.errors import UnknownField
from directus_tx.schema.model import Field, Relation

Expressions = Mapping[str, "Expressions"]
"""Expressions of `fields` by their first names, each with what follows its dot: `author.name,author.email` is
{"author": {"name": {}, "email": {}}}. Those that leave a field out begin with "-"."""

Path = tuple[str, ...]


def parse_fields(fields: Iterable[str], bounds: Bounds) -> Expressions:
    """The expressions of `fields`; "*" where there is none. Raises InvalidRequest where one of them is too deep."""
    found: dict[str, Any] = {}
    for field in fields:
        if field:
            bounds.check_depth(field.count("."))
            place = found
            for name in field.split("."):
                place = place.setdefault(name, {})
    return found or {"*": {}}


@frozen(eq=False)
class Selection:
    """What is shown of the items of one collection, as far as `grant` allows it.

    `names` are the fields whose values are shown, in order. `items` are the many-to-one fields that are opened, each with what is shown
    behind it: a selection, or where the items may not be read the name of their key, which is shown alone. `lists` are the one-to-many
    fields that are opened.
    """

    grant: Grant
    names: tuple[str, ...]
    items: "tuple[tuple[Field, Selection | str], ...]"
    lists: "tuple[ListSelection, ...]"

    @property
    def columns(self) -> int:
        """The columns that its statement needs at most: the key and the flags of masks beside what is shown."""
        own = len(self.names) + len(self.grant.masks) + 1
        return own + sum(1 if isinstance(below, str) else below.columns for _, below in self.items)


@frozen(eq=False)
class ListSelection:
    """A one-to-many field that is opened: its name, its path from the item that is read, and what is shown of the related items."""

    name: str
    path: Path
    relation: Relation
    selection: Selection


class Selector:
    """Makes selections. It notes the paths of the `lists` that are opened, and in `unreadable` the relations that are opened into what
    may not be read."""

    def __init__(self, access: Access, bounds: Bounds) -> None:
        self.access = access
        self.bounds = bounds
        self.lists: set[Path] = set()
        self.unreadable: dict[str, None] = {}

    def select(self, grant: Grant, expressions: Sequence[Expressions], path: Path = ()) -> Selection:
        """What expressions show of the items of a statement. Raises UnknownField, and InvalidRequest where it is too much."""
        found = self._selection(grant, expressions, path)
        self.bounds.check_columns(found.columns)
        return found

    def _selection(self, grant: Grant, expressions: Sequence[Expressions], path: Path) -> Selection:
        self.bounds.check_depth(len(path))
        collection = grant.collection
        relations = self.access.schema.relations_of[collection.collection]
        names, opened = self._resolve(grant, relations, expressions, top=not path)
        items: list[tuple[Field, Selection | str]] = []
        lists: list[ListSelection] = []
        for name, below in opened.items():
            field, relation = collection.fields[name], relations[name]
            if not field.has_column:
                found = self._list(name, relation, below, (*path, name))
                if found is not None:
                    lists.append(found)
                continue
            target = self.access.grant(relation.collection_one or "")
            key = target.collection.primary_key.field
            if target.read:
                self.bounds.count_join()
                items.append((field, self._selection(target, below or [{key: {}}], (*path, name))))
            else:
                items.append((field, key))
                if any(each != {key: {}} for each in below):
                    self.unreadable[name] = None
        return Selection(grant, tuple(names), tuple(items), tuple(lists))

    def _list(self, name: str, relation: Relation, expressions: Sequence[Expressions], path: Path) -> ListSelection | None:
        """A list of related items, with the field that leads back where there are no expressions; None where the items may not be read,
        or not whose they are."""
        self.lists.add(path)
        target = self.access.grant(relation.collection_many)
        if not target.read or relation.field_many in target.hidden:
            if expressions:
                self.unreadable[name] = None
            return None
        self.bounds.count_list()
        return ListSelection(name, path, relation, self.select(target, expressions or [{relation.field_many: {}}], path))

    @staticmethod
    def _resolve(
        grant: Grant, relations: Mapping[str, Relation], expressions: Sequence[Expressions], *, top: bool
    ) -> tuple[list[str], dict[str, list[Expressions]]]:
        """The names of the columns to show, in order, and of the relations to open, each with the expressions below it.

        Where one expression goes deeper, the relations that the others only name are opened too; these have no expressions.
        """
        collection = grant.collection
        shown: dict[str, None] = {}
        named: dict[str, None] = {}
        opened: dict[str, list[Expressions]] = {}
        left_out: set[str] = set()
        star = False
        for each in expressions:
            for head, below in each.items():
                if head == "*":
                    if not star:
                        shown.update(dict.fromkeys(collection.columns))
                        named.update(dict.fromkeys(relations))
                        star = True
                    if below:
                        for name in relations:
                            opened.setdefault(name, []).append(below)
                    continue
                if top and head.startswith("-") and head not in collection.fields:
                    left_out.add(head[1:])
                    continue
                field = collection.fields.get(head)
                if field is None:
                    raise UnknownField(f'"{collection.collection}" has no field "{head}".')
                if head in relations:
                    named[head] = None
                    if below:
                        opened.setdefault(head, []).append(below)
                if field.has_column:
                    shown[head] = None
        if opened:
            for name in named:
                opened.setdefault(name, [])
        hidden = left_out | grant.hidden
        names = [name for name in shown if name not in hidden and name not in opened]
        return names, {name: below for name, below in opened.items() if name not in hidden}
