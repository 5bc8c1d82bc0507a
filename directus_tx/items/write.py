"""Writes the items of any collection: nested to any depth, with their history, in one transaction a request.

`Writer` is one request's writing: whatever it touches on the way, through whichever relation, goes by the same rules.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import orjson
from attrs import frozen

from directus_tx import values
from directus_tx.access import Grant, access_of
from directus_tx.clauses import TRUE, Asked, Clause, all_of, column, not_deleted
from directus_tx.context import Context
from directus_tx.db import SQL, Identifier
from directus_tx.errors import InvalidPayload, InvalidRequest, ItemChanged, ItemNotFound, RevisionNotFound, UpdateForbidden
from directus_tx.filters import comparison_type
from directus_tx.history import Record, chunks, logged, record
from directus_tx.items.read import Item, Key, Result, keys_of, read_back
from directus_tx.query import Query, WriteOptions
from directus_tx.rules import NO_RULES, CollectionRules
from directus_tx.schema.model import Collection, Field, Relation
from directus_tx.schema.types import NO_MATCH, comparable, decoded, restored, stored_as_text

T = TypeVar("T")


async def create_items(ctx: Context, collection: str, payload: Item | list[Item], query: Query, options: WriteOptions) -> Result:
    """Creates one item, or several all together, and reads them back. `data` is None where the result may not be read.

    Raises InvalidPayload, InvalidRequest, NotUnique and their like; then nothing has been written.
    """
    payloads = payload if isinstance(payload, list) else [payload]

    async def work(writer: Writer) -> Result:
        keys = await writer.create(collection, payloads, action="create")
        return await read_back(writer.ctx, collection, query, keys, one=not isinstance(payload, list), created=True)

    return await writing(ctx, options, work)


async def update_items(
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
        return await read_back(writer.ctx, collection, query, [key for key, _ in changes], one=one)

    return await writing(ctx, options, work)


async def delete_items(ctx: Context, collection: str, keys: Sequence[str], options: WriteOptions) -> None:
    """Deletes items for good. Raises ItemNotFound where one is missing, DeleteForbidden where one may not be deleted. Then nothing is
    deleted; but an administrator's deletion of the user's items takes those that are there, since what was asked for is so then."""
    if options.if_match is not None and len(keys) != 1:
        raise InvalidRequest("If-Match goes with one item.")

    async def work(writer: Writer) -> bool:
        grant = access_of(ctx).grant(collection)
        wanted = list(dict.fromkeys(keys_of(grant.collection, keys)))
        if options.if_match is not None:
            await writer.lock(grant, wanted, deleted=True, if_match=options.if_match)
        gone = await writer.delete(collection, wanted)
        complete = len(gone) == len(set(keys))
        if not complete and (not grant.admin or grant.collection.system):
            raise ItemNotFound(f'There is no such item in "{collection}".')
        return complete

    if not await writing(ctx, options, work):
        raise ItemNotFound(f'There is no such item in "{collection}".')


async def revert_item(ctx: Context, collection: str, key: str, revision: str, query: Query, options: WriteOptions) -> Result:
    """Brings an item back to the state of one of its revisions, from soft deletion too, and reads it back.

    Raises UpdateForbidden, also where the caller does not see the item; ItemNotFound, RevisionNotFound; and the errors of an update.
    """
    access_of(ctx).grant(collection)

    async def work(writer: Writer) -> Result:
        found = await writer.revert(collection, key, revision)
        return await read_back(writer.ctx, collection, query, [found], one=True)

    return await writing(ctx, options, work)


def _key(collection: Collection, key: Any) -> Key:
    """A key as the database holds it. Raises ItemNotFound where it can be none."""
    found = comparable(collection.primary_key, str(key))
    if found is NO_MATCH:
        raise ItemNotFound(f'There is no such item in "{collection.collection}".')
    return found


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


@frozen
class Locked:
    """A row that is locked for writing: its values, and whether the levels of the caller allow to change or delete it as it is."""

    row: Item
    update: bool
    delete: bool
    version: str


async def writing(ctx: Context, options: WriteOptions, work: "Callable[[Writer], Awaitable[T]]", *, trusted: bool = False) -> T:
    """What *work* gives, called with a Writer over one transaction, history included; then plugins hear of what has been written."""

    async def attempt(ctx: Context) -> tuple[T, Writer]:
        writer = Writer(ctx, options, trusted=trusted)
        result = await work(writer)
        await writer.finish()
        return result, writer

    result, writer = await ctx.transaction(attempt)
    for hook, arguments in writer.done:
        await ctx.plugins.tell(hook, ctx=ctx, **arguments)
    return result


class Writer:
    """One request's writing, inside its transaction. Collects the history, which `finish` writes, and what plugins are told afterwards
    (`done`: hooks and their arguments). A *trusted* one is the server's own: it asks for no permissions."""

    def __init__(self, ctx: Context, options: WriteOptions, *, trusted: bool = False) -> None:
        self.ctx = ctx
        self.options = options
        self.access = access_of(ctx, trusted=trusted)
        self.records: list[Record] = []
        self.done: list[tuple[str, dict[str, Any]]] = []

    async def before(self, action: str, collection: str, **arguments: Any) -> None:
        """Lets plugins change or refuse what is about to be done ("create", "update", "delete") to an item."""
        hook = f"item_{action}_before"
        if self.ctx.plugins.has(hook):
            await self.ctx.plugins.call(hook, ctx=self.ctx, collection=collection, **arguments)

    def after(self, action: str, collection: str, **arguments: Any) -> None:
        """Notes what plugins are to be told of when it is committed."""
        hook = f"item_{action}_after"
        if self.ctx.plugins.has(hook):
            self.done.append((hook, {"collection": collection, **arguments}))

    async def finish(self) -> None:
        """Writes the history of all that was done."""
        if self.records and not self.options.activity_skip:
            await record(self.ctx, self.records, self.options.comment)

    def rules(self, collection: str) -> CollectionRules:
        return self.ctx.rules.get(collection, NO_RULES)

    def log(self, each: Record) -> None:
        if not self.rules(each.collection).unlogged:
            self.records.append(each)

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
        payloads = [dict(payload) for payload in payloads]
        for payload in payloads:
            await self.before("create", name, payload=payload)
        payloads = [await rules.prepare_create(self.ctx, payload) for payload in payloads]
        for payload in payloads:
            values.check_fields(collection, payload)
        ones, manies = self.relations(collection, payloads)
        checked = []
        for payload in payloads:
            plain = {n: v for n, v in payload.items() if n in collection.columns and n not in _pending(ones, payload)}
            parsed = values.parse_all(collection, plain)
            values.require_on_create(collection, payload)
            checked.append(parsed)
        for nested in ones:
            for index, key in (await self.link(nested, through)).items():
                checked[index][nested.field.field] = payloads[index][nested.field.field] = key
        for row, payload in zip(checked, payloads, strict=True):
            await values.complete(self.ctx, collection, row, payload, stored_row=None)
        written = await self.insert(collection, checked)
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

    async def insert(self, collection: Collection, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Key, Item]]:
        """Inserts rows, a few statements for all, and gives each one's key and stored values."""
        written: list[tuple[Key, Item]] = []
        key = collection.primary_key
        for chunk in chunks(rows):
            names = list(dict.fromkeys(name for row in chunk for name in row)) or [key.field]
            lines = [
                "(" + ", ".join("%s" if n in row and row[n] is not values.DEFAULT else "DEFAULT" for n in names) + ")"
                for row in chunk
            ]
            bound = [row[n] for row in chunk for n in names if n in row and row[n] is not values.DEFAULT]
            sql = SQL("INSERT INTO {} AS t ({}) VALUES {} RETURNING {}").format(
                Identifier(collection.collection),
                SQL(", ").join([Identifier(n) for n in names]),
                SQL(", ".join(lines)),
                _returning(collection),
            )
            written += _stored_rows(collection, await self.ctx.db.query(sql, bound))
        given = [row[key.field] for row in rows if isinstance(row.get(key.field), int)]
        if key.auto_increment and given and max(given) > 0:
            # The counter goes on after the greatest key that a client chose.
            await self.ctx.db.query(
                "SELECT setval(s, greatest(%s, coalesce(pg_sequence_last_value(s), 0)))"
                " FROM (SELECT pg_get_serial_sequence(quote_ident(%s), %s)::regclass AS s) AS sequence WHERE s IS NOT NULL",
                (max(given), collection.collection, key.field),
            )
        return written

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
        if_match: Sequence[str] | None = None,
    ) -> None:
        """Changes items, and what their payloads hold of related ones. Raises ItemNotFound where one is missing or
        soft-deleted, and what the grant has against a change."""
        grant = self.access.grant(name)
        collection = grant.collection
        rules = self.rules(name)
        locked = await self.lock(grant, [key for key, _ in changes], several=several, if_match=if_match)
        present = {key: each.row for key, each in locked.items()}
        for key, payload in changes:
            found = locked[key]
            grant.check_update(
                found.row, values.payload_of(payload), self.options.comment, update=found.update, delete=found.delete
            )
        payloads = []
        for key, payload in changes:
            payload = dict(payload)
            await self.before("update", name, key=key, payload=payload)
            payload = await rules.prepare_update(self.ctx, present[key], payload)
            values.check_fields(collection, payload)
            payloads.append(payload)
        ones, manies = self.relations(collection, payloads)
        rows: list[tuple[Key, Item]] = []
        for (key, _), payload in zip(changes, payloads, strict=True):
            plain = {n: v for n, v in payload.items() if n in collection.columns and n not in _pending(ones, payload)}
            parsed = values.parse_all(collection, plain)
            values.require_on_update(collection, present[key], payload)
            rows.append((key, parsed))
        for nested in ones:
            for index, key in (await self.link(nested, through)).items():
                rows[index][1][nested.field.field] = payloads[index][nested.field.field] = key
        gone = set()
        for (key, row), payload in zip(rows, payloads, strict=True):
            await values.complete(self.ctx, collection, row, payload, stored_row=present[key])
            if values.is_soft_deleted(collection, row):
                gone.add(key)
        data = await self.write(collection, rows)
        for index, (key, _) in enumerate(rows):
            parent = parents[index] if parents else None
            delta = _delta(collection, payloads[index])
            done = "soft-delete" if key in gone else action
            self.log(Record(done, name, str(key), logged(collection, data[key]), logged(collection, delta), parent))
        for nested in manies:
            await self.spread(collection, nested, [key for key, _ in rows])
        for (key, _), payload in zip(rows, payloads, strict=True):
            await rules.updated(self.ctx, key, present[key], payload, self.log)
            self.after("update", name, key=key, payload=payload)

    async def lock(
        self,
        grant: Grant,
        keys: Sequence[Key],
        *,
        several: bool = False,
        deleted: bool = False,
        if_match: Sequence[str] | None = None,
    ) -> dict[Key, Locked]:
        """The rows of these keys by key, locked until the transaction ends, in the order of their keys (two requests that want
        the same rows wait for each other instead of deadlocking). *deleted*: soft-deleted ones too. *if_match*: the
        versions one of which each must have. Raises ItemNotFound where one is missing, or not for the caller to see; ItemChanged."""
        collection = grant.collection
        key = collection.primary_key
        names = list(collection.columns)
        alive = TRUE if deleted else not_deleted("t", collection)
        judged = [grant.condition(action, "t") for action in ("read", "update", "delete")]
        sql = SQL(
            "SELECT {}, t.xmin, {} FROM {} AS t WHERE {} = ANY(%s::"
            + comparison_type(key)
            + "[]) AND {} ORDER BY {} FOR UPDATE OF t"
        )
        sql = sql.format(  # type: ignore[assignment]
            SQL(", ").join([column("t", name) for name in names]),
            SQL(", ").join([clause.sql for clause in judged]),
            Identifier(collection.collection),
            column("t", key.field),
            alive.sql,
            column("t", key.field),
        )
        asked = Asked(Query(), user=self.ctx.accountability.user)
        bound = [value for clause in judged for value in clause.parameters(asked)]
        rows = await self.ctx.db.query(sql, [*bound, list(keys), *alive.parameters(asked)])
        found: dict[Key, Locked] = {}
        for row in rows:
            stored = dict(zip(names, row, strict=False))
            version, seen, update, delete = row[-4:]
            if not seen:
                raise self.access.unseen(collection.collection, several=several)
            if (
                if_match is not None
                and "*" not in if_match
                and await self.version(grant, stored[key.field], version) not in if_match
            ):
                raise ItemChanged
            found[stored[key.field]] = Locked(stored, bool(update), bool(delete), version)
        for wanted in keys:
            if wanted not in found:
                raise ItemNotFound(f'There is no such item in "{collection.collection}".')
        return found

    async def version(self, grant: Grant, key: Key, written: str) -> str | None:
        """The version of a locked row as the caller's reads tell it, *written* being the table's own."""
        if grant.whole:
            return written
        table, name = grant.table("t"), grant.collection.primary_key.field
        sql = SQL("SELECT {} FROM {} WHERE {} = %s").format(grant.version("t"), table.sql, column("t", name))
        asked = Asked(Query(), user=self.ctx.accountability.user)
        rows = await self.ctx.db.query(sql, [*table.parameters(asked), key])
        return rows[0][0] if rows else None

    async def revert(self, name: str, key: str, revision: str) -> Key:
        """Gives an item the stored values of a revision, and gives its key. What the collection had then and has no more is left
        out, as are values that the history does not keep."""
        grant = self.access.grant(name)
        collection = grant.collection
        wanted = _key(collection, key)
        try:
            found = (await self.lock(grant, [wanted], deleted=True))[wanted]
        except ItemNotFound:
            if await self.exists(collection, wanted):
                raise UpdateForbidden(f'You may not change this item of "{name}".') from None
            raise
        if not found.update:
            raise UpdateForbidden(f'You may not change this item of "{name}".')
        rows = []
        if revision.isdigit() and len(revision) < 19:
            rows = await self.ctx.db.query(
                "SELECT data FROM directus_revisions WHERE id = %s AND collection = %s AND item = %s",
                (int(revision), name, str(wanted)),
            )
        if not rows:
            raise RevisionNotFound
        present = dict(_stored_rows(collection, await self._stored(collection, wanted)))[wanted]
        past = {
            n: v for n, v in orjson.loads(rows[0][0]).items() if n in collection.columns and n != collection.primary_key.field
        }
        changed = {n: v for n, v in past.items() if v != present[n]}
        grant.check_update(found.row, changed, self.options.comment, update=found.update, delete=found.delete)
        await self.before("update", name, key=wanted, payload=past)
        row = {n: restored(collection.fields[n], v) for n, v in past.items()}
        await values.complete(self.ctx, collection, row, past, stored_row=found.row)
        data = logged(collection, (await self.write(collection, [(wanted, row)]))[wanted])
        self.log(Record("revert", name, str(wanted), data, data))
        self.after("update", name, key=wanted, payload=past)
        return wanted

    async def _stored(self, collection: Collection, key: Key) -> list[tuple[Any, ...]]:
        """The row of a key in the form of the history."""
        sql = SQL("SELECT {} FROM {} AS t WHERE {} = %s").format(
            _returning(collection), Identifier(collection.collection), column("t", collection.primary_key.field)
        )
        return await self.ctx.db.query(sql, (key,))

    async def write(self, collection: Collection, rows: Sequence[tuple[Key, Item]]) -> dict[Key, Item]:
        """Updates rows, one statement for all that set the same columns, and gives their stored values by key."""
        key = collection.primary_key
        alike: dict[tuple[str, ...], list[tuple[Key, Item]]] = {}
        for each in rows:
            alike.setdefault(tuple(sorted(each[1])), []).append(each)
        data: dict[Key, Item] = {}
        for names, group in alike.items():
            for chunk in chunks(group):
                # A row that sets nothing is "set" to its own key: its stored values are wanted all the same.
                assignments = [
                    SQL("{} = v.{}::" + comparison_type(collection.fields[n])).format(Identifier(n), Identifier(f"_{n}"))
                    for n in names
                ] or [SQL("{0} = t.{0}").format(Identifier(key.field))]
                line = "(" + ", ".join(["%s"] * (len(names) + 1)) + ")"
                sql = SQL(
                    'UPDATE {} AS t SET {} FROM (VALUES {}) AS v({}) WHERE t.{} = v."$key"::'
                    + comparison_type(key)
                    + " RETURNING {}"
                ).format(
                    Identifier(collection.collection),
                    SQL(", ").join(assignments),
                    SQL(", ".join([line] * len(chunk))),
                    SQL(", ").join([Identifier("$key"), *(Identifier(f"_{n}") for n in names)]),
                    Identifier(key.field),
                    _returning(collection),
                )
                bound = [value for item, row in chunk for value in (item, *(row[n] for n in names))]
                data.update(_stored_rows(collection, await self.ctx.db.query(sql, bound)))
        return data

    # deleting

    async def delete(self, name: str, keys: Sequence[Key]) -> set[Key]:
        """Deletes rows for good, soft-deleted ones too, and gives the keys of those that were there. Raises DeleteForbidden or its like
        where one may not be deleted."""
        grant = self.access.grant(name)
        collection = grant.collection
        rules = self.rules(name)
        for each in keys:
            await self.before("delete", name, key=each)
        await rules.prepare_delete(self.ctx, keys)
        key, status = collection.primary_key, collection.status_field
        allowed = grant.condition("delete", "t")
        asked = Asked(Query(), user=self.ctx.accountability.user)
        among = Clause(
            SQL("{} = ANY(%s::" + comparison_type(key) + "[])").format(column("t", key.field)), (lambda asked: list(keys),)
        )
        where = all_of([among, allowed])
        sql = SQL("DELETE FROM {} AS t WHERE {} RETURNING {}, {}").format(
            Identifier(collection.collection),
            where.sql,
            column("t", key.field),
            SQL("NULL") if status is None else column("t", status.field),
        )
        rows = await self.ctx.db.query(sql, where.parameters(asked))
        gone = {row[0] for row in rows}
        if allowed is not TRUE and len(gone) < len(set(keys)):
            await self.explain_refusal(grant, among, asked)
        grant.check_delete([row[1] for row in rows], self.options.comment)
        for each in keys:
            if each in gone:
                self.log(Record("delete", name, str(each)))
                self.after("delete", name, key=each)
        await rules.deleted(self.ctx, keys)
        return gone

    async def explain_refusal(self, grant: Grant, among: Clause, asked: Asked) -> None:
        """Raises what the deletion of items deserves of which some are left: they may not be deleted. Nothing where they are missing."""
        seen = grant.condition("read", "t")
        sql = SQL("SELECT bool_and(coalesce({}, FALSE)) FROM {} AS t WHERE {}").format(
            seen.sql, Identifier(grant.collection.collection), among.sql
        )
        ((all_seen,),) = await self.ctx.db.query(sql, [*seen.parameters(asked), *among.parameters(asked)])
        if all_seen is not None:
            raise self.access.undeletable(grant.collection.collection, seen=all_seen)

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
                lists = [(i, value) for i, value in wanted if value]
                if relation is not None and lists:
                    manies.append(Nested(field, relation, lists))
        return ones, manies

    async def link(self, nested: Nested, through: str | None) -> dict[int, Key]:
        """Creates, changes or deletes the items that many-to-one fields hold as objects; gives the key to store, by index."""
        target = self.access.grant(nested.relation.collection_one or "").collection
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
            exists = await self.exists(target, key)
            if not exists and not rest:
                raise ItemNotFound(f'There is no such item in "{target.collection}".')
            if not exists:
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

    async def exists(self, collection: Collection, key: Key) -> bool:
        sql = SQL("SELECT 1 FROM {} AS t WHERE {} = %s").format(
            Identifier(collection.collection), column("t", collection.primary_key.field)
        )
        return bool(await self.ctx.db.query(sql, (key,)))

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
                if key is None or (not target.primary_key.auto_increment and not await self.exists(target, _key(target, key))):
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


def _delta(collection: Collection, payload: Item) -> Item:
    """What a revision keeps of a payload: the values of columns, as sent."""
    return {name: value for name, value in payload.items() if name in collection.columns}


def _returning(collection: Collection) -> Any:
    """The key and then the stored form of every column."""
    columns = [
        SQL("{}::text" if stored_as_text(field) else "{}").format(column("t", field.field))
        for field in collection.columns.values()
    ]
    return SQL(", ").join([column("t", collection.primary_key.field), *columns])


def _stored_rows(collection: Collection, rows: Iterable[tuple[Any, ...]]) -> list[tuple[Key, Item]]:
    fields = collection.columns.values()
    return [(row[0], {f.field: decoded(f, v) for f, v in zip(fields, row[1:], strict=True)}) for row in rows]
