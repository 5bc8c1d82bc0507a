"""Adopts tables that the server has not made: describes them in directus_collections, directus_fields and directus_relations. The tables
themselves are not changed."""

from collections.abc import Collection as Container
from collections.abc import Iterable, Sequence

from attrs import asdict, frozen, mutable
from attrs import field as attribute

from directus_tx.access import access_of
from directus_tx.access.refusals import no_collection
from directus_tx.context import Context
from directus_tx.items import Writer, in_transaction
from directus_tx.items.service import Items
from directus_tx.query import WriteOptions
from directus_tx.schema.datatypes import is_long
from directus_tx.schema.introspect import read_snapshot
from directus_tx.schema.model import Collection, Field, ForeignKey, LeftOut, Snapshot
from directus_tx.schema_service.payloads import COLLECTIONS, IN_NO_FIELD, MAX_NAME, RESERVED, Item
from directus_tx.schema_service.rows import create_rows

RELATIONS = "directus_relations"

INTERFACES = {
    "array": "tags",
    "boolean": "switch",
    "date": "date",
    "datetime": "datetime",
    "decimal": "numeric",
    "integer": "numeric",
    "json": "json",
    "m2o": "many-to-one",
    "string": "text-input",
    "time": "time",
    "uuid": "text-input",
}
"""The interface of a field, by its type. Values of other types are shown as text."""


@frozen
class Adoption:
    """What adopting writes: the rows of `collections`, `fields` and `relations`, and what is `left_out`. `managed` are collections that
    have a row already, which becomes that of a managed collection. `changed` are relations that have a row already, by its key, with the
    names that it lacks."""

    collections: tuple[Item, ...]
    managed: tuple[str, ...]
    fields: tuple[tuple[Field, Item], ...]
    relations: tuple[Item, ...]
    changed: tuple[tuple[int, Item], ...]
    left_out: tuple[LeftOut, ...]

    @property
    def answer(self) -> Item:
        """What the API says about it."""
        return {
            "collections": [*self.managed, *(row["collection"] for row in self.collections)],
            "fields": [
                {"collection": field.collection, "field": field.field, "type": row["type"], "interface": row["interface"]}
                for field, row in self.fields
            ],
            "relations": [*self.relations, *({"id": key, **row} for key, row in self.changed)],
            "left_out": [asdict(each) for each in self.left_out],
        }


async def adopt(
    service: Items, ctx: Context, names: Sequence[str] | None, options: WriteOptions, *, dry_run: bool = False
) -> Item:
    """Adopts collections, all of them if *names* is None, and returns what has been written; with *dry_run*, what would be. What is
    described already stays as it is. Raises CollectionNotFound."""
    access_of(ctx).require_schema()
    own = {each.collection for each in ctx.schema.collections.values() if not each.system}
    for name in names or ():
        if name not in own:
            raise no_collection(name, own)
    if dry_run:
        return adoption_of(ctx.schema, names).answer

    async def work(writer: Writer) -> Item:
        # The schema may have changed since the request began. This change keeps others waiting.
        found = adoption_of(await read_snapshot(writer.ctx.db, ctx.schema.schemas, ctx.schema.custom), names)
        adopted = [*found.managed, *(row["collection"] for row in found.collections)]
        for name in adopted:
            await writer.before("collection_create", collection=name, payload={})
            writer.after("collection_create", collection=name)
        if found.managed:
            await writer.update(COLLECTIONS, [(name, {"managed": True}) for name in found.managed])
        if found.collections:
            await writer.create(COLLECTIONS, found.collections)
        await create_rows(writer, found.fields)
        if found.relations:
            await writer.create(RELATIONS, found.relations)
        if found.changed:
            await writer.update(RELATIONS, found.changed)
        return found.answer

    return await in_transaction(service, ctx, options, work, changes_schema=True)


def adoption_of(schema: Snapshot, names: Sequence[str] | None = None) -> Adoption:
    """Returns what adopting collections writes, all collections if *names* is None."""
    wanted = [
        collection
        for collection in schema.collections.values()
        if not collection.system and (names is None or collection.collection in names)
    ]
    new = {each.collection for each in wanted if not each.managed}
    relations = _Relations(schema, {each.collection for each in wanted}, new)
    own = [each for each in schema.collections.values() if not each.system]
    # The many sides that were adopted before get their fields on the other side now.
    described = {each.collection for each in own if each.managed or each.collection in relations.names}
    junctions = [junction for each in own if each.collection in described and (junction := _junction(schema, each)) is not None]
    for first, second in junctions:
        relations.add(first, second.fields[0])
        relations.add(second, first.fields[0])
    joined = [key for junction in junctions for key in junction]
    for key in schema.foreign_keys:
        if key.reason is None and key.collection in described and key not in joined:
            relations.add(key, None)
    hidden = {first.collection for first, _ in junctions}
    rows = [
        {"collection": each.collection, "managed": True, "hidden": each.collection in hidden}
        for each in wanted
        if not each.has_row
    ]
    fields = [
        (field, _field_row(field, place))
        for collection in wanted
        for place, field in enumerate(collection.columns.values(), 1)
        if field.id is None
    ]
    left_out = [*schema.left_out] if names is None else []
    left_out += (key.left_out for key in schema.foreign_keys if key.left_out is not None and key.collection in relations.names)
    left_out += relations.left_out
    managed = tuple(each.collection for each in wanted if each.has_row and not each.managed)
    return Adoption(
        tuple(rows), managed, (*fields, *relations.aliases), tuple(relations.rows), tuple(relations.changed), tuple(left_out)
    )


def _junction(schema: Snapshot, collection: Collection) -> tuple[ForeignKey, ForeignKey] | None:
    """Returns the two foreign keys of a junction: a table that has nothing but them, and perhaps a key of its own; or whose key they are.
    Returns None for any other table."""
    keys = [key for key in schema.foreign_keys if key.collection == collection.collection and key.reason is None]
    if len(keys) != 2 or keys[0].fields == keys[1].fields:
        return None
    names = {keys[0].fields[0], keys[1].fields[0]}
    own = set(collection.key_columns)
    if collection.key is not None:
        own = {collection.key.field} - names
        if set(collection.columns) != names | own:
            return None
    elif own != names and not (not own and set(collection.columns) == names):
        return None
    return keys[0], keys[1]


def _field_row(field: Field, place: int) -> Item:
    """Returns the row of directus_fields of a column."""
    row: Item = {"type": field.type, "interface": INTERFACES.get(field.type, "text-input"), "sort": place}
    if field.primary_key:
        row["interface"] = "primary-key"
    elif field.native is not None and field.native.labels and field.native.member is None:
        row |= {"interface": "dropdown", "options": {"choices": {label: label for label in field.native.labels}}}
    elif field.type == "string" and is_long(field):
        row["interface"] = "textarea"
    # As the snapshot shows it without a row, so that adopting changes no rule.
    row["required"] = field.required
    if field.computed:
        row["readonly"] = True
    return row


@mutable
class _Relations:
    """The relations of an adoption, and the one-to-many fields on their other side. `names` are the collections that are adopted, `new`
    those of them that are not managed yet."""

    schema: Snapshot
    names: Container[str]
    new: Container[str]
    rows: list[Item] = attribute(factory=list)
    changed: list[tuple[int, Item]] = attribute(factory=list)
    aliases: list[tuple[Field, Item]] = attribute(factory=list)
    left_out: list[LeftOut] = attribute(factory=list)
    taken: set[tuple[str, str]] = attribute(factory=set)

    def add(self, key: ForeignKey, other: str | None) -> None:
        """Adds the relation of a foreign key. *other*: the field of the other foreign key if the collection is a junction."""
        schema, many, field, one = self.schema, key.collection, key.fields[0], key.target
        if many not in self.names and one not in self.new:
            return
        present = next((each for each in schema.relations if (each.collection_many, each.field_many) == (many, field)), None)
        row: Item = {
            "collection_many": many,
            "field_many": field,
            "collection_one": one,
            "field_one": None,
            "junction_field": other,
        }
        if present is not None:
            # A relation without a field on the other side gets one only if the other collection is adopted now: its many side was adopted
            # before. Otherwise a client has left the field out on purpose.
            if present.id is None or present.collection_one != one or present.field_one is not None or one not in self.new:
                return
            row = {}
        if one in self.names or schema.collections[one].managed:
            row["field_one"] = alias = self._alias(key, other)
            to_many = schema.many_to_one[many, other].collection_one if other is not None else None
            about: Item = {"type": "o2m", "interface": "many-to-many" if to_many else "one-to-many"}
            collection = schema.collections[many]
            if collection.refused:
                reason = next(iter(collection.refused.values()))
                about["readonly"] = True
                self.left_out.append(
                    LeftOut(f"{one}.{alias}", "field", f'It can only be read: "{many}" cannot be written, because {reason}.')
                )
            self.aliases.append((Field(one, alias, "o2m"), about))
        if present is None:
            self.rows.append(row)
        elif present.id is not None:
            self.changed.append((present.id, row))

    def _alias(self, key: ForeignKey, other: str | None) -> str:
        """Returns the name of the one-to-many field for a foreign key: that of the collection that it lists, which for a junction is the
        one behind it. If the collection has a field of this name or several foreign keys lead there, that of the field is added; then
        a number."""
        schema, many, one = self.schema, key.collection, key.target
        listed = many if other is None else schema.many_to_one[many, other].collection_one or many
        ways = [each for each in schema.foreign_keys if each.reason is None and (each.collection, each.target) == (many, one)]
        for name in _names(listed, many, key.fields[0], alone=len(ways) == 1 and listed != one):
            place = (one, name)
            if name not in schema.collections[one].fields and place not in self.taken and name not in RESERVED:
                self.taken.add(place)
                return name
        raise AssertionError


def _names(listed: str, many: str, field: str, *, alone: bool) -> Iterable[str]:
    """Yields names for a one-to-many field, without end."""
    if alone:
        yield _valid(listed)
        if listed != many:
            yield _valid(many)
    found = _valid(f"{many}_{field}")
    yield found
    number = 2
    while True:
        yield f"{found[: MAX_NAME - 10]}_{number}"
        number += 1


def _valid(name: str) -> str:
    """Returns a name that a new field can have."""
    found = "".join("_" if character in IN_NO_FIELD else character for character in name).strip().lstrip("-") or "items"
    return found.encode()[:MAX_NAME].decode(errors="ignore")
