"""Seals the values of sealed fields that are written."""

from collections.abc import Sequence

from directus_tx.context import Context
from directus_tx.db.sql import SQL, Identifier
from directus_tx.errors import NotUnique
from directus_tx.items.changes import Change
from directus_tx.schema.model import Collection
from directus_tx.schema.sealed import Sealing


async def seal_values(ctx: Context, changes: Sequence[Change]) -> None:
    """Replaces the values in the rows of changes of one collection by what is stored: sealed values, and their fingerprints.

    Raises NotUnique if another item has the same value and is not found by the unique index of fingerprints, because it was stored with a
    former key, or is not sealed.
    """
    if not changes:
        return
    collection = changes[0].collection
    for name, sealing in collection.sealed.items():
        written = [change for change in changes if name in change.row]
        texts = [change.row[name] for change in written if change.row[name]]
        if texts and sealing.fingerprint is not None:
            await _check_unique(ctx, collection, name, sealing, texts, written)
        async for change in ctx.in_slices(written):
            text = change.row[name]
            change.row[name] = sealing.sealed(ctx.keys, text)
            if sealing.fingerprint is not None:
                change.row[sealing.fingerprint] = sealing.mark(ctx.keys, text)


async def _check_unique(
    ctx: Context, collection: Collection, name: str, sealing: Sealing, texts: Sequence[str], written: Sequence[Change]
) -> None:
    assert sealing.fingerprint is not None
    key = collection.primary_key.field
    sql = SQL(
        "SELECT FROM {table} WHERE ({mark} = ANY(%s) OR ({mark} IS NULL AND {name} = ANY(%s))) AND {key} <> ALL(%s) LIMIT 1"
    ).format(
        table=Identifier(*collection.table),
        mark=Identifier(sealing.fingerprint),
        name=Identifier(name),
        key=Identifier(key),
    )
    keys = [change.key for change in written if not change.new]
    if await ctx.db.query(sql, (sealing.marks(ctx.keys, texts), list(texts), keys)):
        raise NotUnique(f'An item with this value exists already: "{name}" of "{collection.collection}".')
