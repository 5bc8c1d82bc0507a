"""Writes the items of any collection, nested items included, with their history, in one transaction.

A `Writer` performs the writes of one request. Nested items are written by the same steps as others.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import orjson
from attrs import evolve

from directus_tx.access import Grant, access_of, refusals
from directus_tx.compile.plan import Item
from directus_tx.context import Context
from directus_tx.errors import ApiError, InvalidPayload, InvalidRequest, RevisionNotFound, UpdateForbidden
from directus_tx.items import hooks, values
from directus_tx.items.changes import Change, Event, Key, Parent, Row
from directus_tx.items.history import Extra, Record, record, record_of, revision_form, with_extras
from directus_tx.items.read import Result, key_of, keys_of, read_back, stored_key
from directus_tx.items.relations import nested_in, pending_fields, write_many_to_one, write_one_to_many
from directus_tx.items.rows import delete_rows, insert_rows, lock_rows, update_rows
from directus_tx.items.rules import NO_RULES
from directus_tx.items.sealed import seal_values
from directus_tx.items.service import Items
from directus_tx.outbox.messages import enqueue
from directus_tx.query import Query, WriteOptions
from directus_tx.schema.model import Collection, Snapshot
from directus_tx.schema.numbers import whole_number
from directus_tx.schema.parsing import restored
from directus_tx.schema.patterns import Matching

T = TypeVar("T")
NOTHING: Item = {}


async def create_items(
    service: Items, ctx: Context, collection: str, payload: Item | list[Item], query: Query, options: WriteOptions
) -> Result:
    """Creates an item or several items, all or none, and returns them. `data` is None if the caller may not read them.

    Raises InvalidPayload, InvalidRequest, NotUnique and other ApiErrors.
    """
    payloads = payload if isinstance(payload, list) else [payload]

    async def work(writer: Writer) -> Result:
        keys = await writer.create(collection, payloads)
        one = not isinstance(payload, list)
        return await read_back(service, writer.ctx, collection, query, keys, one=one, created=True, stored=writer.settled)

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
    """Updates items, all or none, and returns them. With *keys*, all items get the same payload; without, *payload* is a list of payloads
    with their keys. `data` is None if nothing is left to show (soft deletion).

    Raises ItemNotFound if an item is missing, ItemChanged if its version does not match that of *options*, and the errors of
    `create_items`.
    """
    if options.if_match is not None and (keys is None or len(keys) != 1):
        raise InvalidRequest("If-Match goes with one item.")
    access_of(ctx).grant(collection).check_possible("update")

    async def work(writer: Writer) -> Result:
        grant = access_of(ctx).grant(collection)
        changes: list[tuple[Key, Item]]
        if keys is None:
            changes = [(_key_in(grant, each), _without_key(grant, each)) async for each in ctx.in_slices(payload)]
        else:
            shared = _without_key(grant, payload)
            changes = [(key, shared) for key in dict.fromkeys(key_of(grant, key) for key in keys)]
        await writer.update(collection, changes, several=keys is None or len(keys) > 1, if_match=options.if_match)
        one = keys is not None and len(keys) == 1
        wanted = [key for key, _ in changes]
        return await read_back(service, writer.ctx, collection, query, wanted, one=one, stored=writer.settled)

    return await in_transaction(service, ctx, options, work)


async def delete_items(service: Items, ctx: Context, collection: str, keys: Sequence[str], options: WriteOptions) -> None:
    """Deletes items for good, all or none. Raises ItemNotFound if one is missing and DeleteForbidden if the caller may not delete one.
    Exception: when an administrator deletes items of an ordinary collection, the existing items are deleted even if others are
    missing."""
    if options.if_match is not None and len(keys) != 1:
        raise InvalidRequest("If-Match goes with one item.")

    grant = access_of(ctx).grant(collection)
    grant.check_possible("delete")

    async def work(writer: Writer) -> bool:
        found = keys_of(grant.collection, keys)
        wanted = list(dict.fromkeys(found))
        if options.if_match is not None:

            def refusal(row: Row | None) -> ApiError:
                return refusals.undeletable(
                    grant, public=writer.access.public, seen=0, hidden=[row] if row else [], missing=row is None
                )

            await lock_rows(writer.ctx, grant, wanted, refusal, deleted=True, if_match=options.if_match)
        gone = await writer.delete(collection, wanted)
        complete = len(gone) == len(wanted) and len(found) == len(keys)
        if not complete and (not grant.admin or grant.collection.system):
            raise refusals.no_item(grant)
        return complete

    if not await in_transaction(service, ctx, options, work):
        raise refusals.no_item(grant)


async def revert_item(
    service: Items, ctx: Context, collection: str, key: str, revision: str, query: Query, options: WriteOptions
) -> Result:
    """Restores an item to the state of a revision, also if it is soft-deleted, and returns it.

    Raises UpdateForbidden, also if the caller may not read the item; ItemNotFound, RevisionNotFound; and the errors of an update.
    """
    access_of(ctx).grant(collection)

    async def work(writer: Writer) -> Result:
        found = await writer.revert(collection, key, revision)
        return await read_back(service, writer.ctx, collection, query, [found], one=True)

    return await in_transaction(service, ctx, options, work)


def _key_in(grant: Grant, payload: Any) -> Key:
    """Returns the key in a payload. Raises InvalidPayload if there is none."""
    name = grant.collection.primary_key.field
    key = payload.get(name) if isinstance(payload, dict) else None
    if key is None or isinstance(key, (dict, list)):
        raise InvalidPayload(f'Each item needs its key, "{name}".')
    return key_of(grant, key)


def _without_key(grant: Grant, payload: Any) -> Item:
    """Returns the payload without the key, which cannot be changed."""
    return {n: v for n, v in values.payload_of(payload).items() if n != grant.collection.primary_key.field}


async def in_transaction(
    service: Items,
    ctx: Context,
    options: WriteOptions,
    work: "Callable[[Writer], Awaitable[T]]",
    *,
    changes_schema: bool = False,
    trusted: bool = False,
) -> T:
    """Calls *work* with a Writer in one transaction, writes the outbox and the history, commits, and then calls the actions after of
    plugins. Returns the result of *work*. Database errors name the fields that they concern. The actions are not called if the connection
    is lost during the commit. If *ctx* is in a transaction, *work* is part of it, and the actions are called after its commit.

    *trusted*: the caller's permissions have been checked, so the Writer checks none. *changes_schema*: the same, and *work* runs DDL
    (`Session.schema_change`)."""
    matching = Matching(service.limits.max_matching_time, service.limits.max_matched_length)

    async def attempt(ctx: Context) -> T:
        writer = Writer(service, ctx, options, matching, trusted=trusted or changes_schema)
        result = await work(writer)
        await writer.finish()
        return result

    try:
        return await (ctx.schema_change(attempt) if changes_schema else ctx.transaction(attempt))
    except ApiError as error:
        named = access_of(ctx).naming_fields(error)
        if named is error:
            raise
        raise named from error.__cause__


class Writer:
    """Performs the writes of one request in its transaction.

    Creating, updating and reverting all go through `_write`, and every written item, deleted items included, through `_emit`. A
    *trusted* writer is used by the server itself and checks no permissions. *matching* matches values with patterns and bounds the time
    that takes.
    """

    def __init__(self, service: Items, ctx: Context, options: WriteOptions, matching: Matching, *, trusted: bool = False) -> None:
        self.service = service
        self.ctx = ctx
        self.options = options
        self.matching = matching
        self.access = access_of(ctx, trusted=trusted)
        self.events: list[Event] = []
        self.records: list[Record] = []
        self.told: list[tuple[str, dict[str, Any]]] = []
        """The actions of plugins to be called after the commit, beside those about events, with their arguments."""
        self.new_schema: Snapshot | None = None
        """The snapshot that the actions after are called with, if the writer changes the schema."""
        self.asked = 0.0
        """The seconds for which the gates were asked."""
        self.extras: dict[tuple[str, Key], Extra] = {}
        """What the revisions of items have in addition to their fields, by collection and key."""
        self.settled: dict[Key, Row] | None = {}
        """The rows of the written items, by key. None if they may have changed since they were written."""

    # public methods

    async def create(
        self,
        name: str,
        payloads: Sequence[Item],
        *,
        parents: Sequence[Parent] | None = None,
        through: str | None = None,
        provided: Item = NOTHING,
    ) -> list[Key]:
        """Creates items and the related items in their payloads. Returns their keys, in order.

        *provided*: values of fields that only the server writes. *parents*: the parents of items that are written through a one-to-many
        field. *through*: the field of a junction that refers to the far side.
        """
        grant = self.access.grant(name)
        grant.check_possible("create")
        changes = []
        async for index, payload in self.ctx.in_slices(enumerate(payloads)):
            grant.check_create(values.payload_of(payload), self.options.comment)
            parent = parents[index] if parents else None
            changes.append(Change(grant.collection, "create", {**self._writable(name, payload), **provided}, parent=parent))
        await self._write(grant, changes, through)
        return [change.key for change in changes]

    async def check_new(self, name: str, payload: Item) -> None:
        """Raises the errors of `create` that the payload of an item causes without the database. Writes nothing, and asks neither plugins
        nor webhooks, which may still give values for required fields."""
        grant = self.access.grant(name)
        grant.check_possible("create")
        grant.check_create(values.payload_of(payload), self.options.comment)
        change = Change(grant.collection, "create", self._writable(name, payload))
        values.check_fields(grant, change.payload)
        ones, _ = nested_in(self.access.schema, grant.collection, [change])
        policies = self.service.rules_of(name).policies(self.ctx)
        values.parse_payload(change, self.matching, policies, pending_fields(ones).get(0, ()))

    async def update(
        self,
        name: str,
        changes: Sequence[tuple[Key, Item]],
        *,
        parents: Sequence[Parent] | None = None,
        through: str | None = None,
        several: bool = False,
        if_match: Callable[[str], bool] | None = None,
        provided: Item = NOTHING,
    ) -> None:
        """Updates items and the related items in their payloads. Several changes of one item are applied one after the other. Raises
        ItemNotFound if an item is missing or soft-deleted, and the errors of `Grant.check_update`. *provided*: values of fields that only
        the server writes, for all items."""
        grant = self.access.grant(name)
        grant.check_possible("update")
        for places in _rounds([key for key, _ in changes]):
            keys = [changes[place][0] for place in places]
            refusal = partial(refusals.unchangeable, grant, public=self.access.public, several=several)
            locked = await lock_rows(self.ctx, grant, keys, refusal, if_match=if_match)
            batch = []
            async for place, key in self.ctx.in_slices(zip(places, keys, strict=True)):
                payload, found = values.payload_of(changes[place][1]), locked[key]
                grant.check_update(found.row, payload, self.options.comment, update=found.update, delete=found.delete)
                parent = parents[place] if parents else None
                written = {**self._writable(name, payload), **provided}
                batch.append(Change(grant.collection, "update", written, key, found.row, parent))
            await self._write(grant, batch, through)

    async def revert(self, name: str, key: str, revision: str) -> Key:
        """Restores the values of a revision and returns the key of the item. Left out are fields that no longer exist, values that
        revisions do not contain, and fields that are hidden from the caller in the item or were hidden in the revision: whether these
        are refused would tell whether they have changed since."""
        grant = self.access.grant(name)
        grant.check_possible("update")
        collection = grant.collection
        wanted = key_of(grant, key)
        locked = await lock_rows(self.ctx, grant, [wanted], lambda row: refusals.unrevertable(grant), deleted=True)
        found = locked[wanted]
        if not found.update:
            raise UpdateForbidden(f"You may not change this item of {grant.title}.")
        rows = []
        number = whole_number(revision)
        if number is not None:
            rows = await self.ctx.db.query(
                "SELECT data FROM directus_revisions WHERE id = %s AND collection = %s AND item = %s",
                (number, name, str(wanted)),
            )
        if not rows:
            raise RevisionNotFound
        present, revised = revision_form(collection, whole=True).row(found.row), orjson.loads(rows[0][0])
        left_out = (
            {collection.primary_key.field} | grant.hidden_in(found.row) | grant.hidden_in(_status_then(collection, revised))
        )
        past = {
            n: v
            for n, v in revised.items()
            if n in collection.columns and n not in left_out and not collection.fields[n].computed
        }
        past = self._writable(name, past)
        changed = {n: v for n, v in past.items() if v != present[n]}
        grant.check_update(found.row, changed, self.options.comment, update=found.update, delete=found.delete)
        await self._write(grant, [Change(collection, "revert", past, wanted, found.row, from_history=True)])
        return wanted

    async def delete(self, name: str, keys: Sequence[Key]) -> set[Key]:
        """Deletes rows for good, soft-deleted rows included. Returns the keys of the deleted rows. Raises DeleteForbidden or another
        ApiError if the caller may not delete one."""
        grant = self.access.grant(name)
        grant.check_possible("delete")
        await hooks.before_deletion(self.service.plugins, self.ctx, name, keys)
        await self._ask(grant.collection, "delete", keys, [{}] * len(keys))
        await self.service.rules_of(name).prepare_delete(self.ctx, keys)
        gone = await delete_rows(self.ctx, self.access, grant, keys)
        status = grant.collection.status_field
        grant.check_delete([row[status.field] if status else None for row in gone.values()], self.options.comment)
        events = [Event("delete", grant.collection, key, gone[key], None) for key in dict.fromkeys(keys) if key in gone]
        await self._emit(events)
        await self._follow_rules(name, events)
        return set(gone)

    async def delete_all(self, name: str, keys: Sequence[Key]) -> None:
        """Deletes rows. Raises ItemNotFound if one is missing, and the errors of `delete`."""
        if len(await self.delete(name, keys)) < len(set(keys)):
            raise refusals.no_item(self.access.grant(name))

    async def finish(self) -> None:
        """Calls the action `items_written` of plugins, writes the messages about all events to the outbox, and their history. Has the
        actions after of plugins called."""
        await hooks.after_writing(self.service.plugins, self.ctx, self.events)
        for publisher in self.service.publishers:
            messages = await publisher.messages(self.ctx, self.events)
            if messages:
                await enqueue(self.ctx, messages)
        if self.records:
            await record(self.ctx, with_extras(self.records, self.extras), self.options.comment)
        if self.told or (self.events and self.service.plugins.named and hooks.listens(self.service.plugins, self.ctx)):
            self.ctx.db.follow(self._tell_plugins)

    async def before(self, hook: str, **arguments: Any) -> None:
        """Calls the action before something that is not about items. *hook* is its name without `_before`. Raises ApiError."""
        plugins = self.service.plugins
        if plugins.has(self.ctx, f"{hook}_before"):
            shown = {name: hooks.unchangeable(value) for name, value in arguments.items()}
            await plugins.call(f"{hook}_before", self.ctx, **shown)

    def after(self, hook: str, **arguments: Any) -> None:
        """Has the action after something called that is not about items, after the commit. *hook* is its name without `_after`."""
        if self.service.plugins.has(self.ctx, f"{hook}_after"):
            self.told.append((f"{hook}_after", {name: hooks.unchangeable(value) for name, value in arguments.items()}))

    async def _tell_plugins(self) -> None:
        """Calls the actions after of plugins. The transaction is committed."""
        ctx = evolve(self.ctx, db=self.ctx.db.outside, schema=self.new_schema or self.ctx.schema)
        plugins = self.service.plugins
        await hooks.after_events(plugins, ctx, self.events)
        for hook, arguments in self.told:
            await plugins.tell(hook, ctx, **arguments)

    # the steps of every write

    async def _write(self, grant: Grant, changes: Sequence[Change], through: str | None = None) -> None:
        """Writes items of one collection, all new or all locked. The caller's permissions have been checked."""
        if not changes:
            return
        collection = grant.collection
        name, new = collection.collection, changes[0].new
        await hooks.filter_changes(self.service.plugins, self.ctx, changes)
        action = "create" if new else "update"
        await self._ask(collection, action, [change.key for change in changes], [change.payload for change in changes])
        rules = self.service.rules_of(name)
        await rules.prepare(self.ctx, changes)
        async for change in self.ctx.in_slices(changes):
            values.check_fields(grant, change.payload)
        ones, manies = nested_in(self.access.schema, collection, changes)
        pending = pending_fields(ones)
        policies = rules.policies(self.ctx)
        async for index, change in self.ctx.in_slices(enumerate(changes)):
            hidden = () if change.stored is None else grant.hidden_in(change.stored)
            values.parse_payload(change, self.matching, policies, pending.get(index, ()), hidden)
            values.check_stored(change, grant, self.matching)
            values.check_required(change, grant, pending.get(index, ()))
        for nested in ones:
            for index, key in (await write_many_to_one(self, nested, through)).items():
                changes[index].row[nested.field.field] = changes[index].payload[nested.field.field] = key
        async for index in self.ctx.in_slices(pending):
            values.check_required(changes[index], grant)
        await values.complete(self.service.hasher, self.ctx, changes)
        await rules.check(self.ctx, grant, changes)
        await hooks.before_changes(self.service.plugins, self.ctx, changes)
        await seal_values(self.ctx, changes)
        rows, settled = await self._store(collection, changes)
        if settled and not (ones or manies) and self.settled is not None and self.service.rules_of(name) is NO_RULES:
            self.settled |= zip([change.key for change in changes], rows, strict=True)
        else:
            self.settled = None
        events = [self._event(change, row) async for change, row in self.ctx.in_slices(zip(changes, rows, strict=True))]
        await self._emit(events)
        for nested in manies:
            await write_one_to_many(self, collection, nested, [change.key for change in changes], new=new)
        await self._follow_rules(name, events)

    def _writable(self, name: str, payload: Item) -> Item:
        """Returns the payload without the fields that the caller cannot write."""
        unwritable = self.service.rules_of(name).unwritable(admin=self.access.admin)
        if self.access.trusted or not unwritable:
            return dict(payload)
        return {n: v for n, v in payload.items() if n not in unwritable}

    async def _ask(self, collection: Collection, action: str, keys: Sequence[Key], payloads: Sequence[Item]) -> None:
        """Asks the gates, which can refuse."""
        for gate in self.service.gates:
            if self.ctx.schema.webhooks:
                name = collection.primary_key.field if collection.key is not None else ""
                items = [payload if key is None else {name: key, **payload} for key, payload in zip(keys, payloads, strict=True)]
                self.asked += await gate.check(self.ctx, collection, action, items, self.asked)

    async def _store(self, collection: Collection, changes: Sequence[Change]) -> tuple[list[Row], bool]:
        """Inserts or updates the rows and returns them as stored, and whether they are `Written.settled`. New items get their keys."""
        try:
            return await self._store_rows(collection, changes)
        except ApiError as error:
            named = values.naming_values(error, collection, changes)
            if named is error:
                raise
            raise named from error.__cause__

    async def _store_rows(self, collection: Collection, changes: Sequence[Change]) -> tuple[list[Row], bool]:
        if changes[0].new:
            inserted = await insert_rows(self.ctx, collection, [change.row for change in changes])
            for change, row in zip(changes, inserted.rows, strict=True):
                change.key = stored_key(collection, row[collection.primary_key.field])
            return inserted.rows, inserted.settled
        written = {change.key: change.stored for change in changes if change.leaves_row and change.stored is not None}
        changed = [(change.key, change.changed_row) for change in changes if change.key not in written]
        updated, settled = await update_rows(self.ctx, collection, changed)
        settled = settled and not written
        written |= updated
        if len(written) < len(changes):
            raise InvalidRequest(f'An item of "{collection.collection}" is both changed and deleted.')
        return [written[change.key] for change in changes], settled

    def _event(self, change: Change, row: Row) -> Event:
        softly = change.action == "update" and values.is_soft_deleted(change)
        action = "soft-delete" if softly else change.action
        return Event(action, change.collection, change.key, change.stored, row, change.payload, change.parent)

    async def _emit(self, events: Sequence[Event]) -> None:
        """Records events of one collection for the history and for plugins. All writes pass here."""
        self.events += events
        if not events or self.options.activity_skip:
            return
        collection = events[0].collection
        rules = self.service.rules_of(collection.collection)
        if not rules.unlogged:
            key = "revision form", collection.collection
            form = self.ctx.schema.kept(key, lambda: revision_form(collection))
            self.records += [record_of(event, form, rules.created_as) async for event in self.ctx.in_slices(events)]

    async def _follow_rules(self, name: str, events: Sequence[Event]) -> None:
        """Calls the rules of the collection after events."""
        records = await self.service.rules_of(name).after(self.ctx, events) if events else ()
        if not self.options.activity_skip:
            self.records += records


def _status_then(collection: Collection, revised: Item) -> Row:
    """The status that an item had by one of its revisions, as its row held it. None where it had none."""
    field = collection.status_field
    return {} if field is None else {field.field: restored(field, revised.get(field.field))}


def _rounds(keys: Sequence[Key]) -> list[list[int]]:
    """Returns the indexes of the keys in rounds, so that no round contains a key twice."""
    rounds: list[list[int]] = []
    seen: dict[Key, int] = {}
    for place, key in enumerate(keys):
        number = seen.get(key, 0)
        seen[key] = number + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(place)
    return rounds
