"""Resolves `fields`: which columns are shown, and which related items are expanded."""

from collections.abc import Iterable, Mapping

from attrs import frozen

from directus_tx.access import Access, Grant
from directus_tx.access.refusals import no_field
from directus_tx.compile import file_data
from directus_tx.compile.bounds import Bounds
from directus_tx.schema.model import Field, Relation

Expressions = Mapping[str, None]
"""Expressions of `fields` at one level, in order: below `author`, those of `author.name,author.email` are "name" and "email". Names that
exclude a field begin with "-"."""

Path = tuple[str, ...]


def parse_fields(fields: Iterable[str], bounds: Bounds) -> Expressions:
    """Returns the expressions of `fields`, each once, "*" if there are none. Raises InvalidRequest if one is too deep."""
    found = dict.fromkeys([field for field in fields if field])
    for field in found:
        bounds.check_depth(field.count("."))
    return found or {"*": None}


@frozen(eq=False)
class Selection:
    """What is shown of the items of a collection.

    `names` are the fields whose values are shown, in order. `items` are the expanded many-to-one fields, each with the selection of the
    related item, or with the name of its key if the caller may not read it: then only the key is shown. `lists` are the expanded
    one-to-many fields.
    """

    grant: Grant
    names: tuple[str, ...]
    items: "tuple[tuple[Field, Selection | str], ...]"
    lists: "tuple[ListSelection, ...]"

    @property
    def columns(self) -> int:
        """The maximum number of columns of the statement: the shown columns, the key and the flags of masks."""
        own = len(self.names) + len(self.grant.masks) + 1
        return own + sum(1 if isinstance(below, str) else below.columns for _, below in self.items)


@frozen(eq=False)
class ListSelection:
    """An expanded one-to-many field: its name, its path from the root item, and the selection of the related items."""

    name: str
    path: Path
    relation: Relation
    selection: Selection


class Selector:
    """Builds selections. Collects the paths of expanded one-to-many fields in `lists`, and relations into collections that the caller may
    not read in `unreadable`."""

    def __init__(self, access: Access, bounds: Bounds) -> None:
        self.access = access
        self.bounds = bounds
        self.lists: set[Path] = set()
        self.unreadable: dict[str, None] = {}

    def select(self, grant: Grant, expressions: Expressions, path: Path = ()) -> Selection:
        """Returns the selection of the items of a statement. Raises UnknownField, or InvalidRequest if a limit is exceeded."""
        found = self._selection(grant, expressions, path)
        self.bounds.check_columns(found.columns)
        return found

    def _selection(self, grant: Grant, expressions: Expressions, path: Path) -> Selection:
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
                items.append((field, self._selection(target, below or {key: None}, (*path, name))))
            else:
                items.append((field, key))
                if any(each != key for each in below):
                    self.unreadable[name] = None
        return Selection(grant, tuple(names), tuple(items), tuple(lists))

    def _list(self, name: str, relation: Relation, expressions: Expressions, path: Path) -> ListSelection | None:
        """Returns an expanded one-to-many field; without expressions it shows the field that refers back. Returns None if the
        caller may not read the items, or the field that refers back."""
        self.lists.add(path)
        target = self.access.grant(relation.collection_many)
        if not target.read or relation.field_many in target.hidden:
            if expressions:
                self.unreadable[name] = None
            return None
        self.bounds.count_list()
        return ListSelection(name, path, relation, self.select(target, expressions or {relation.field_many: None}, path))

    @staticmethod
    def _resolve(
        grant: Grant, relations: Mapping[str, Relation], expressions: Expressions, *, top: bool
    ) -> tuple[list[str], dict[str, Expressions]]:
        """Returns the names of the columns to show, in order, and the relations to expand with the expressions below them.

        If one expression of the level has a path into a relation, relations that are only named are expanded too, without expressions.
        """
        collection = grant.collection
        shown: dict[str, None] = {}
        named: dict[str, None] = {}
        opened: dict[str, dict[str, None]] = {}
        left_out: set[str] = set()
        star = False
        for each in expressions:
            head, rest = grant.divide(each.split("."), relations)
            below = {".".join(rest): None} if rest else {}
            if head == "*":
                if not star:
                    shown.update(dict.fromkeys(collection.columns))
                    if file_data.has_file_data(grant):
                        shown[file_data.FIELD] = None
                    named.update(dict.fromkeys(relations))
                    star = True
                if below:
                    for name in relations:
                        opened.setdefault(name, {}).update(below)
                continue
            if top and head.startswith("-") and head not in collection.fields:
                left_out.add(grant.divide(each[1:].split("."), relations)[0])
                continue
            field = collection.fields.get(head)
            if field is None:
                raise no_field(grant, head)
            if head in relations:
                named[head] = None
                if below:
                    opened.setdefault(head, {}).update(below)
            if field.has_column or (head == file_data.FIELD and file_data.has_file_data(grant)):
                shown[head] = None
        if opened:
            for name in named:
                opened.setdefault(name, {})
        hidden = left_out | grant.hidden
        names = [name for name in shown if name not in hidden and name not in opened]
        return names, {name: below for name, below in opened.items() if name not in hidden}
