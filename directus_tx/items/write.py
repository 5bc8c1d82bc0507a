"""Writes the items of any collection: nested to any depth, with their history, in one transaction a request.

`Writer` is one request's writing: whatever it touches on the way, through whichever relation, goes by the same rules.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import orjson
from attrs import frozen

from directus_tx.access import access_of
from directus_tx.compile.plan import Item
from directus_tx.context import Context
from directus_tx.errors import ApiError, InvalidPayload, InvalidRequest, ItemNotFound, RevisionNotFound, UpdateForbidden
from directus_tx.items import values
from directus_tx.items.history import Record, logged, record
from directus_tx.items.read import Key, Result, keys_of, read_back
from directus_tx.items.rows import delete_rows, insert_rows, lock_rows, row_exists, stored_row, update_rows
from directus_tx.items.rules import CollectionRules
from directus_tx.items.service import Items
from directus_tx.query import Query, WriteOptions
from directus_tx.schema.model import Collection, Field, Relation
from directus_tx.schema.numbers import whole_number
from directus_tx.schema.patterns import Matching
from directus_tx.schema.types import restored

T = TypeVar("T")


async def create_items(
    service: Items, ctx: Context, collection: str, payload: Item | list[Item], query: Query, options: WriteOptions
) -> Result:
    """Creates one item, or several all together, and reads them back. `data` is None where the result may not be read.

    Raises InvalidPayload, InvalidRequest, NotUnique and their like; then nothing has been written.
    """
    payloads = payload if isinstance(payload, list) else [payload]

    async def work(writer: Writer) -> Result:
        keys = await writer.create(collection, payloads, action="create")
        return await read_back(service, writer.ctx, collection, query, keys, one=not isinstance(payload, list), created=True)

    return await in_transaction(service, ctx, options, work)


async def update_items(
    service: Items,
    ctx: Context,
    collection: str,
    keys: Sequence[str] | None,
    payload: Item | list[Item],
    query: Query,
    options: WriteOptions,
) -> Result:
    """Changes items and reads them back: those of *keys*, all in the same way; or without keys those of a list of payloads, each
    with its key in it. `data` is None where nothing is left to show (soft deletion).

    Raises ItemNotFound where one is missing, ItemChanged where it has another version than those of *options*, and the errors of
    `create_items`; then nothing has been written.
    """
    if options.if_match is not None and (keys is None or len(keys) != 1):
        raise InvalidRequest("If-Match goes with one item.")

    async def work(writer: Writer) -> Result:
        found = access_of(ctx).grant(collection).collection
        name = found.primary_key.field
        changes: list[tuple[Key, Any]]
        if keys is None:
            changes = [(_key_in(found, each), each) for each in payload]
        else:
            shared = {n: v for n, v in payload.items() if n != name}  # type: ignore[union-attr]
            changes = [(key, shared) for key in dict.fromkeys(_key(found, key) for key in keys)]
        await writer.update(collection, changes, several=keys is None or len(keys) > 1, if_match=options.if_match)
        one = keys is not None and len(keys) == 1
        return await read_back(service, writer.ctx, collection, query, [key for key, _ in changes], one=one)

    return await in_transaction(service, ctx, options, work)


async def delete_items(service: Items, ctx: Context, collection: str, keys: Sequence[str], options: WriteOptions) -> None:
    """Deletes items for good. Raises ItemNotFound where one is missing, DeleteForbidden where one may not be deleted. Then nothing is
    deleted; but an administrator's deletion of the user's items takes those that are there, since what was asked for is so then."""
    if options.if_match is not None and len(keys) != 1:
        raise InvalidRequest("If-Match goes with one item.")

    async def work(writer: Writer) -> bool:
        grant = access_of(ctx).grant(collection)
        found = keys_of(grant.collection, keys)
        wanted = list(dict.fromkeys(found))
        if options.if_match is not None:
            await lock_rows(writer.ctx, writer.access, grant, wanted, deleted=True, if_match=options.if_match)
        gone = await writer.delete(collection, wanted)
        complete = len(gone) == len(wanted) and len(found) == len(keys)
        if not complete and (not grant.admin or grant.collection.system):
            raise ItemNotFound(f'There is no such item in "{collection}".')
        return complete

    if not await in_transaction(service, ctx, options, work):
        raise ItemNotFound(f'There is no such item in "{collection}".')


async def revert_item(
    service: Items, ctx: Context, collection: str, key: str, revision: str, query: Query, options: WriteOptions
) -> Result:
    """Brings an item back to the state of one of its revisions, from soft deletion too, and reads it back.

    Raises UpdateForbidden, also where the caller does not see the item; ItemNotFound, RevisionNotFound; and the errors of an update.
    """
    access_of(ctx).grant(collection)

    async def work(writer: Writer) -> Result:
        found = await writer.revert(collection, key, revision)
        return await read_back(service, writer.ctx, collection, query, [found], one=True)

    return await in_transaction(service, ctx, options, work)


def _key(collection: Collection, key: Any) -> Key:
    """A key as the database holds it. Raises ItemNotFound where it can be none."""
    found = keys_of(collection, [key])
    if not found:
        raise ItemNotFound(f'There is no such item in "{collection.collection}".')
    return found[0]


def _key_in(collection: Collection, payload: Any) -> Key:
    """The key that a payload names. Raises InvalidPayload where it names none."""
    key = payload.get(collection.primary_key.field) if isinstance(payload, dict) else None
    if key is None or isinstance(key, (dict, list)):
        raise InvalidPayload(f'Each item needs its key, "{collection.primary_key.field}".')
    return _key(collection, key)


@frozen
class Nested:
    """What a payload asks of a related collection: for each of several items, a value of the same relational field."""

    field: Field
    relation: Relation
    wanted: list[tuple[int, Any]]


async def in_transaction(
    service: Items, ctx: Context, options: WriteOptions, work: "Callable[[Writer], Awaitable[T]]", *, trusted: bool = False
) -> T:
    """What *work* gives, called with a Writer over one transaction, history included; then plugins hear of what has been written. Errors
    of the database name the fields that they are about."""
    matching = Matching(service.limits.max_matching_time, service.limits.max_matched_length)

    async def attempt(ctx: Context) -> tuple[T, Writer]:
        writer = Writer(service, ctx, options, matching, trusted=trusted)
        result = await work(writer)
        await writer.finish()
        return result, writer

    try:
        result, writer = await ctx.transaction(attempt)
    except ApiError as error:
        named = access_of(ctx).naming_fields(error)
        if named is error:
            raise
        raise named from error.__cause__
    for hook, arguments in writer.done:
        await service.plugins.tell(hook, ctx=ctx, **arguments)
    return result


class Writer:
    """One request's writing, inside its transaction. Collects the history, which `finish` writes, and what plugins are told afterwards
    (`done`: hooks and their arguments). A *trusted* one is the server's own: it asks for no permissions. All values are matched with their
    patterns through *matching*, which counts what that takes."""

    def __init__(self, service: Items, ctx: Context, options: WriteOptions, matching: Matching, *, trusted: bool = False) -> None:
        self.service = service
        self.ctx = ctx
        self.options = options
        self.matching = matching
        self.access = access_of(ctx, trusted=trusted)
        self.records: list[Record] = []
        self.done: list[tuple[str, dict[str, Any]]] = []

    async def before(self, action: str, collection: str, **arguments: Any) -> None:
        """Lets plugins change or refuse what is about to be done ("create", "update", "delete") to an item."""
        hook = f"item_{action}_before"
        if self.service.plugins.has(hook):
            await self.service.plugins.call(hook, ctx=self.ctx, collection=collection, **arguments)

    def after(self, action: str, collection: str, **arguments: Any) -> None:
        """Notes what plugins are to be told of when it is committed."""
        hook = f"item_{action}_after"
        if self.service.plugins.has(hook):
            self.done.append((hook, {"collection": collection, **arguments}))

    async def finish(self) -> None:
        """Writes the history of all that was done."""
        if self.records and not self.options.activity_skip:
            await record(self.ctx, self.records, self.options.comment)

    def rules(self, collection: str) -> CollectionRules:
        return self.service.rules_of(collection)

    def log(self, each: Record) -> None:
        if not self.rules(each.collection).unlogged:
            self.records.append(each)

    def _writable(self, rules: CollectionRules, payload: Item) -> Item:
        """The payload without the fields that the server writes itself."""
        if self.access.trusted:
            return dict(payload)
        unwritable = rules.unwritable(admin=self.access.admin)
        return {name: value for name, value in payload.items() if name not in unwritable}

    # creating

    async def create(
        self,
        name: str,
        payloads: Sequence[Item],
        *,
        action: str = "create",
        parents: Sequence[tuple[str, str | None]] | None = None,
        through: str | None = None,
    ) -> list[Key]:
        """Creates items, with what their payloads hold of related ones, and gives their keys, in order.

        *parents*: the items through whose lists these are written; *through*: the field of theirs that leads on to the far side
        of a junction.
        """
        grant = self.access.grant(name)
        collection = grant.collection
        rules = self.rules(name)
        for payload in payloads:
            grant.check_create(values.payload_of(payload), self.options.comment)
        payloads = [self._writable(rules, payload) for payload in payloads]
        for payload in payloads:
            await self.before("create", name, payload=payload)
        payloads = [await rules.prepare_create(self.ctx, payload) for payload in payloads]
        for payload in payloads:
            values.check_fields(collection, payload)
        ones, manies = self.relations(collection, payloads)
        checked = []
        for payload in payloads:
            plain = {n: v for n, v in payload.items() if n in collection.columns and n not in _pending(ones, payload)}
            parsed = values.parse_all(collection, plain, self.matching, rules.policies(self.ctx))
            values.require_on_create(collection, payload)
            checked.append(parsed)
        for nested in ones:
            for index, key in (await self.link(nested, through)).items():
                checked[index][nested.field.field] = payloads[index][nested.field.field] = key
        for row, payload in zip(checked, payloads, strict=True):
            await values.complete(self.service.hasher, self.ctx, collection, row, payload, stored_row=None)
            await rules.check_values(self.ctx, grant, None, row)
        written = await insert_rows(self.ctx, collection, checked)
        keys = [key for key, _ in written]
        for index, (key, data) in enumerate(written):
            parent = parents[index] if parents else None
            delta = _delta(collection, payloads[index])
            self.log(Record(action, name, str(key), logged(collection, data), logged(collection, delta), parent))
        for nested in manies:
            await self.spread(collection, nested, keys, new=True)
        for key, payload in zip(keys, payloads, strict=True):
            await rules.created(self.ctx, key, payload)
            self.after("create", name, key=key, payload=payload)
        return keys

    # changing

    async def update(
        self,
        name: str,
        changes: Sequence[tuple[Key, Item]],
        *,
        action: str = "update",
        parents: Sequence[tuple[str, str | None]] | None = None,
        through: str | None = None,
        several: bool = False,
        if_match: Callable[[str], bool] | None = None,
    ) -> None:
        """Changes items, and what their payloads hold of related ones. Several changes of one item are done one after the other.
        Raises ItemNotFound where one is missing or soft-deleted, and what the grant has against a change."""
        if len({key for key, _ in changes}) < len(changes):
            for places in _rounds([key for key, _ in changes]):
                its = None if parents is None else [parents[place] for place in places]
                await self.update(
                    name, [changes[place] for place in places], action=action, parents=its, through=through, several=several
                )
            return
        grant = self.access.grant(name)
        collection = grant.collection
        rules = self.rules(name)
        locked = await lock_rows(self.ctx, self.access, grant, [key for key, _ in changes], several=several, if_match=if_match)
        present = {key: each.row for key, each in locked.items()}
        for key, payload in changes:
            found = locked[key]
            grant.check_update(
                found.row, values.payload_of(payload), self.options.comment, update=found.update, delete=found.delete
            )
        payloads = []
        for key, payload in changes:
            payload = self._writable(rules, payload)
            await self.before("update", name, key=key, payload=payload)
            payload = await rules.prepare_update(self.ctx, present[key], payload)
            values.check_fields(collection, payload)
            payloads.append(payload)
        ones, manies = self.relations(collection, payloads)
        rows: list[tuple[Key, Item]] = []
        for (key, _), payload in zip(changes, payloads, strict=True):
            plain = {n: v for n, v in payload.items() if n in collection.columns and n not in _pending(ones, payload)}
            parsed = values.parse_all(collection, plain, self.matching, rules.policies(self.ctx))
            values.check_stored(collection, present[key], payload, grant, self.matching)
            values.require_on_update(collection, present[key], payload)
            rows.append((key, parsed))
        for nested in ones:
            for index, key in (await self.link(nested, through)).items():
                rows[index][1][nested.field.field] = payloads[index][nested.field.field] = key
        gone = set()
        for (key, row), payload in zip(rows, payloads, strict=True):
            await values.complete(self.service.hasher, self.ctx, collection, row, payload, stored_row=present[key])
            await rules.check_values(self.ctx, grant, present[key], row)
            if values.is_soft_deleted(collection, row):
                gone.add(key)
        data = await update_rows(self.ctx, collection, rows)
        for index, (key, _) in enumerate(rows):
            if key not in data:
                raise InvalidRequest(f'An item of "{name}" is both changed and deleted.')
            parent = parents[index] if parents else None
            delta = _delta(collection, payloads[index])
            done = "soft-delete" if key in gone else action
            self.log(Record(done, name, str(key), logged(collection, data[key]), logged(collection, delta), parent))
        for nested in manies:
            await self.spread(collection, nested, [key for key, _ in rows])
        for (key, _), payload in zip(rows, payloads, strict=True):
            await rules.updated(self.ctx, key, present[key], payload, self.log)
            self.after("update", name, key=key, payload=payload)

    async def revert(self, name: str, key: str, revision: str) -> Key:
        """Gives an item the stored values of a revision, and gives its key. What the collection had then and has no more is left
        out, as are values that the history does not keep."""
        grant = self.access.grant(name)
        collection = grant.collection
        wanted = _key(collection, key)
        try:
            found = (await lock_rows(self.ctx, self.access, grant, [wanted], deleted=True))[wanted]
        except ItemNotFound:
            if await row_exists(self.ctx, collection, wanted):
                raise UpdateForbidden(f'You may not change this item of "{name}".') from None
            raise
        if not found.update:
            raise UpdateForbidden(f'You may not change this item of "{name}".')
        rows = []
        number = whole_number(revision)
        if number is not None:
            rows = await self.ctx.db.query(
                "SELECT data FROM directus_revisions WHERE id = %s AND collection = %s AND item = %s",
                (number, name, str(wanted)),
            )
        if not rows:
            raise RevisionNotFound
        present = await stored_row(self.ctx, collection, wanted)
        past = {
            n: v
            for n, v in orjson.loads(rows[0][0]).items()
            if n in collection.columns and n != collection.primary_key.field and not collection.fields[n].computed
        }
        past = self._writable(self.rules(name), past)
        changed = {n: v for n, v in past.items() if v != present[n]}
        grant.check_update(found.row, changed, self.options.comment, update=found.update, delete=found.delete)
        await self.before("update", name, key=wanted, payload=past)
        row = {n: restored(collection.fields[n], v) for n, v in past.items()}
        await values.complete(self.service.hasher, self.ctx, collection, row, past, stored_row=found.row)
        await self.rules(name).check_values(self.ctx, grant, found.row, row)
        data = logged(collection, (await update_rows(self.ctx, collection, [(wanted, row)]))[wanted])
        self.log(Record("revert", name, str(wanted), data, data))
        self.after("update", name, key=wanted, payload=past)
        return wanted

    # deleting

    async def delete(self, name: str, keys: Sequence[Key]) -> set[Key]:
        """Deletes rows for good, soft-deleted ones too, and gives the keys of those that were there. Raises DeleteForbidden or its like
        where one may not be deleted."""
        grant = self.access.grant(name)
        rules = self.rules(name)
        for each in keys:
            await self.before("delete", name, key=each)
        await rules.prepare_delete(self.ctx, keys)
        gone = await delete_rows(self.ctx, self.access, grant, keys)
        grant.check_delete(gone.values(), self.options.comment)
        for each in keys:
            if each in gone:
                self.log(Record("delete", name, str(each)))
                self.after("delete", name, key=each)
        await rules.deleted(self.ctx, keys)
        return set(gone)

    async def delete_all(self, collection: Collection, keys: Sequence[Key]) -> None:
        """Deletes rows, all of which must be there. Raises ItemNotFound."""
        if len(await self.delete(collection.collection, keys)) < len(set(keys)):
            raise ItemNotFound(f'There is no such item in "{collection.collection}".')

    # related items

    def relations(self, collection: Collection, payloads: Sequence[Item]) -> tuple[list[Nested], list[Nested]]:
        """What the payloads ask of related items: objects in many-to-one fields, and lists in one-to-many fields."""
        schema = self.access.schema
        ones: list[Nested] = []
        manies: list[Nested] = []
        for name in dict.fromkeys(n for payload in payloads for n in payload):
            field = collection.fields[name]
            wanted = [(i, payload[name]) for i, payload in enumerate(payloads) if name in payload]
            if field.has_column:
                relation = schema.many_to_one.get((collection.collection, name))
                objects = [(i, value) for i, value in wanted if isinstance(value, dict)]
                if relation is not None and objects:
                    ones.append(Nested(field, relation, objects))
            else:
                relation = schema.one_to_many.get((collection.collection, name))
                lists = [(i, value) for i, value in wanted if value is not None and value != []]
                if relation is not None and lists:
                    manies.append(Nested(field, relation, lists))
        return ones, manies

    async def link(self, nested: Nested, through: str | None) -> dict[int, Key]:
        """Creates, changes or deletes the items that many-to-one fields hold as objects; gives the key to store, by index."""
        grant = self.access.grant(nested.relation.collection_one or "")
        target = grant.collection
        name = target.primary_key.field
        links: dict[int, Key] = {}
        new: list[tuple[int, Item]] = []
        changed: list[tuple[Key, Item]] = []
        for index, value in nested.wanted:
            value = dict(value)
            doomed = value.pop("$delete", False)
            if doomed and nested.field.field == through:
                raise InvalidPayload("The far side of a junction cannot be deleted through it.")
            key = value.get(name)
            if key is None:
                value.pop(name, None)
                if value:
                    new.append((index, value))
                else:
                    links[index] = None
                continue
            key = _key(target, key)
            if doomed:
                await self.delete_all(target, [key])
                links[index] = None
                continue
            rest = {n: v for n, v in value.items() if n != name}
            # A mere link leads to what the caller may read; to be changed an item must only be there.
            if not await row_exists(self.ctx, target, key, None if rest else grant):
                if not rest:
                    raise ItemNotFound(f'There is no such item in "{target.collection}".')
                new.append((index, value))
                continue
            links[index] = key
            if rest:
                changed.append((key, rest))
        if new:
            keys = await self.create(target.collection, [value for _, value in new])
            links |= dict(zip([index for index, _ in new], keys, strict=True))
        if changed:
            await self.update(target.collection, changed)
        return links

    async def spread(self, collection: Collection, nested: Nested, keys: Sequence[Key], *, new: bool = False) -> None:
        """Creates, changes, unlinks and deletes the items that one-to-many fields hold as lists. *new*: those that hold them have just
        been made; the history then knows the parents' collection alone, as clients are used to."""
        relation = nested.relation
        target = self.access.grant(relation.collection_many).collection
        name, back = target.primary_key.field, relation.field_many
        fresh: list[Item] = []
        fresh_parents: list[tuple[str, str | None]] = []
        changed: list[tuple[Key, Item]] = []
        changed_parents: list[tuple[str, str | None]] = []
        doomed: list[Key] = []
        for index, members in nested.wanted:
            if not isinstance(members, list):
                raise InvalidRequest(f'"{nested.field.field}" takes a list of items.')
            parent = (collection.collection, None if new else str(keys[index]))
            for member in members:
                if not isinstance(member, dict):
                    raise InvalidRequest(f'"{nested.field.field}" takes a list of items.')
                value = dict(member)
                delete = value.pop("$delete", False)
                key = value.pop(name, None)
                if key is not None and delete:
                    doomed.append(_key(target, key))
                    continue
                value.setdefault(back, keys[index])
                if key is None or (
                    not target.primary_key.auto_increment and not await row_exists(self.ctx, target, _key(target, key))
                ):
                    fresh.append(value if key is None else {name: key, **value})
                    fresh_parents.append(parent)
                else:
                    changed.append((_key(target, key), value))
                    changed_parents.append(parent)
        through = relation.junction_field
        if doomed:
            await self.delete_all(target, doomed)
        if changed:
            await self.update(target.collection, changed, parents=changed_parents, through=through)
        if fresh:
            await self.create(target.collection, fresh, parents=fresh_parents, through=through)


def _pending(ones: Sequence[Nested], payload: Item) -> set[str]:
    """The many-to-one fields of a payload that hold objects, whose keys come later."""
    return {nested.field.field for nested in ones if isinstance(payload.get(nested.field.field), dict)}


def _rounds(keys: Sequence[Key]) -> list[list[int]]:
    """The places of keys, in rounds in which no key is there twice."""
    rounds: list[list[int]] = []
    seen: dict[Key, int] = {}
    for place, key in enumerate(keys):
        number = seen.get(key, 0)
        seen[key] = number + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(place)
    return rounds


def _delta(collection: Collection, payload: Item) -> Item:
    """What a revision keeps of a payload: the values of columns, as sent."""
    return {name: value for name, value in payload.items() if name in collection.columns}
