"""Writes nested items: objects in many-to-one fields and lists in one-to-many fields."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from attrs import frozen

from directus_tx.access import Access
from directus_tx.access.refusals import no_item
from directus_tx.compile.plan import Item
from directus_tx.context import Context
from directus_tx.errors import InvalidPayload, InvalidRequest
from directus_tx.items.changes import Change, Key, Parent
from directus_tx.items.read import key_of
from directus_tx.items.rows import readable_keys
from directus_tx.schema.model import Collection, Field, Relation, Snapshot
from directus_tx.schema.parsing import parse_truth


class NestedWriter(Protocol):
    """The methods of the writer that nested writing uses. Related items are written like any others."""

    ctx: Context
    access: Access

    async def create(
        self, name: str, payloads: Sequence[Item], *, parents: Sequence[Parent] | None = None, through: str | None = None
    ) -> list[Key]: ...

    async def update(
        self,
        name: str,
        changes: Sequence[tuple[Key, Item]],
        *,
        parents: Sequence[Parent] | None = None,
        through: str | None = None,
    ) -> None: ...

    async def delete_all(self, name: str, keys: Sequence[Key]) -> None: ...


@frozen
class Nested:
    """The values of one relational field in several changes, by the index of the change."""

    field: Field
    relation: Relation
    values: list[tuple[int, Any]]


def nested_in(schema: Snapshot, collection: Collection, changes: Sequence[Change]) -> tuple[list[Nested], list[Nested]]:
    """Returns the related items in the changes of a collection: the objects in many-to-one fields and the lists in one-to-many
    fields."""
    ones: list[Nested] = []
    manies: list[Nested] = []
    for name in dict.fromkeys(n for change in changes for n in change.payload):
        field = collection.fields[name]
        relation = (schema.many_to_one if field.has_column else schema.one_to_many).get((collection.collection, name))
        if relation is None:
            continue
        values = [(i, change.payload[name]) for i, change in enumerate(changes) if name in change.payload]
        if field.has_column:
            objects = [(i, value) for i, value in values if isinstance(value, dict)]
            if objects:
                ones.append(Nested(field, relation, objects))
        else:
            lists = [(i, value) for i, value in values if value is not None and value != []]
            if lists:
                manies.append(Nested(field, relation, lists))
    return ones, manies


async def write_many_to_one(writer: NestedWriter, nested: Nested, through: str | None) -> dict[int, Key]:
    """Creates, updates or deletes the items that a many-to-one field holds as objects. Returns the keys to store, by index.

    An object with only a key refers to an item that the caller may read. An object with more fields updates that item or, if there is
    none that the caller may read, creates an item with that key. So it reveals nothing about hidden items except that their keys are
    taken. *through* is the field of a junction that refers to the far side, whose items cannot be deleted through it.
    """
    grant = writer.access.grant(nested.relation.collection_one or "")
    target = grant.collection
    name = target.primary_key.field
    links: dict[int, Key] = {}
    new: list[tuple[int, Item]] = []
    keyed: list[tuple[int, Key, Item]] = []
    deleted: list[Key] = []
    async for index, value in writer.ctx.in_slices(nested.values):
        rest = {n: v for n, v in value.items() if n != "$delete"}
        key = rest.pop(name, None)
        delete = _deletes(value)
        if delete and nested.field.field == through:
            raise InvalidPayload("The far side of a junction cannot be deleted through it.")
        links[index] = None
        if key is None:
            if rest:
                new.append((index, rest))
        elif delete:
            deleted.append(key_of(grant, key))
        else:
            links[index] = key_of(grant, key)
            keyed.append((index, links[index], rest))
    if deleted:
        await writer.delete_all(target.collection, deleted)
    known = await readable_keys(writer.ctx, grant, [key for _, key, _ in keyed])
    changed: dict[Key, list[Item]] = {}
    made: set[Key] = set()
    # Objects with more than a key come first, so that others with the same key find the item.
    async for index, key, rest in writer.ctx.in_slices(sorted(keyed, key=lambda each: not each[2])):
        if key in known:
            _add_unlike(changed.setdefault(key, []), rest)
        elif rest:
            new.append((index, {name: key, **rest}))
            known.add(key)
            made.add(key)
            changed[key] = [rest]
        else:
            raise no_item(grant)
    if new:
        keys = await writer.create(target.collection, [value for _, value in new])
        links |= dict(zip([index for index, _ in new], keys, strict=True))
    updates = [(key, rest) for key, several in changed.items() for rest in several[key in made :]]
    if updates:
        await writer.update(target.collection, updates)
    return links


def _add_unlike(several: list[Item], rest: Item) -> None:
    """Adds a change of an item unless it is empty or equal to the previous one."""
    if rest and not (several and several[-1] == rest):
        several.append(rest)


async def write_one_to_many(
    writer: NestedWriter, collection: Collection, nested: Nested, keys: Sequence[Key], *, new: bool = False
) -> None:
    """Creates, updates, unlinks and deletes the items in the lists of a one-to-many field. *keys* are the keys of the parents. *new*: the
    parents have just been created; revisions then have only the parent's collection, as in Directus 8."""
    relation = nested.relation
    grant = writer.access.grant(relation.collection_many)
    target = grant.collection
    if target.key is None:
        grant.check_possible("create")
    name, back = target.primary_key.field, relation.field_many
    deleted: list[Key] = []
    members: list[tuple[Key, Item, Parent]] = []
    for index, listed in nested.values:
        if not isinstance(listed, list) or not all(isinstance(member, dict) for member in listed):
            raise InvalidRequest(f'"{nested.field.field}" takes a list of items.')
        parent = (collection.collection, None if new else str(keys[index]))
        async for member in writer.ctx.in_slices(listed):
            value = {n: v for n, v in member.items() if n != "$delete"}
            key, delete = value.pop(name, None), _deletes(member)
            if key is not None:
                key = key_of(grant, key)
                if delete:
                    deleted.append(key)
                    continue
            value.setdefault(back, keys[index])
            members.append((key, value, parent))
    if deleted:
        await writer.delete_all(target.collection, deleted)
    known = {key for key, _, _ in members}
    if not target.primary_key.auto_increment:
        known = await readable_keys(writer.ctx, grant, [key for key in known if key is not None])
    through = relation.junction_field
    present = [each for each in members if each[0] is not None and each[0] in known]
    fresh = [each for each in members if each[0] is None or each[0] not in known]
    if present:
        changes = [(key, value) for key, value, _ in present]
        await writer.update(target.collection, changes, parents=[parent for *_, parent in present], through=through)
    if fresh:
        payloads = [value if key is None else {name: key, **value} for key, value, _ in fresh]
        await writer.create(target.collection, payloads, parents=[parent for *_, parent in fresh], through=through)


def pending_fields(ones: Iterable[Nested]) -> dict[int, set[str]]:
    """Returns the many-to-one fields that hold objects, by the index of the change. Writing the objects determines their keys."""
    found: dict[int, set[str]] = {}
    for nested in ones:
        for index, _ in nested.values:
            found.setdefault(index, set()).add(nested.field.field)
    return found


def _deletes(value: Item) -> bool:
    """Returns whether "$delete" is true. Raises InvalidRequest if it is neither true nor false."""
    wanted = value.get("$delete")
    return wanted is not None and parse_truth("$delete", wanted)
