"""Changes the column of a field and its indexes, and says what was done."""

from directus_tx.context import Context
from directus_tx.db.sql import Composable
from directus_tx.errors import BadRequest, FieldNotAltered, InternalError, InvalidPayload, InvalidRequest, Notice, NotUnique
from directus_tx.schema import ddl
from directus_tx.schema.datatypes import searched
from directus_tx.schema.model import Collection, Field
from directus_tx.schema_service.indexes import drop_indexes_of, forget_indexes
from directus_tx.schema_service.rows import execute


async def change_column(ctx: Context, old: Field, new: Field) -> None:
    """Adds, drops or changes the column of a field and its indexes. Raises FieldNotAltered if values would be lost or do not allow the
    change, InvalidPayload for the key."""
    if not old.has_column and not new.has_column:
        return
    if not old.has_column:
        await execute(ctx, ddl.add_column(new, search=ctx.schema.collections[new.collection].search_index))
        return
    if not new.has_column:
        if old.primary_key:
            raise InvalidPayload("The key of a collection needs its column.")
        await forget_indexes(ctx, old.collection, field=old.field)
        await execute(ctx, [ddl.drop_column(old)])
        return
    # The index of a key of another item is only for columns that the server has made.
    indexed = _becomes_key(old, new)
    if new.required and not old.required and not new.auto_increment and await ctx.db.query(ddl.has_nulls(old)):
        raise FieldNotAltered(f'"{old.field}" cannot be required: some items have no value there.')
    unlike = old.column_type != new.column_type
    collection = ctx.schema.collections[old.collection]
    search = collection.search_index
    reindexed = unlike or old.unique != new.unique or (search and searched(old) != searched(new))
    try:
        if reindexed:
            keys = bool({old.type, new.type} & ddl.INDEXED_TYPES)
            found = await ctx.db.query(ddl.INDEXES_OF, {"table": old.collection, "column": old.field, "keys": keys})
            await execute(ctx, [ddl.drop_index(old.collection, name, constraint) for name, constraint in found])
        if unlike:
            using = ddl.conversion(old, new)
            if using is None:
                raise FieldNotAltered(f'The values of "{old.field}" cannot become {new.datatype}.')
            count = await _count_losses(ctx, old, new, using)
            if count:
                rows = "1 row" if count == 1 else f"{count} rows"
                raise FieldNotAltered(
                    f'"{old.field}" cannot change from {old.domain or old.column_type} to {new.column_type}:'
                    f" the value of {rows}, or a part of it, would be lost."
                )
            await drop_indexes_of(ctx, collection, old.field)
            await execute(ctx, ddl.alter_type(old, new, using))
        if unlike or old.default_value != new.default_value:
            await execute(ctx, [ddl.set_default(new)] if not new.auto_increment else [])
        if reindexed or indexed:
            await execute(ctx, ddl.indexes(new, search=search and reindexed))
    except (NotUnique, InvalidPayload, InvalidRequest) as error:
        raise FieldNotAltered(f'The stored values of "{old.field}" do not allow this: {error.message}') from error
    except (BadRequest, InternalError) as error:
        # Views, partial indexes and triggers may depend on the column.
        if (
            error.diagnostics is None
            or error.diagnostics.sqlstate[:2] not in ("0A", "42")
            or error.diagnostics.sqlstate == "42501"
        ):
            raise
        raise FieldNotAltered(f'Other parts of the database need "{old.field}" as it is.') from error


async def _count_losses(ctx: Context, old: Field, new: Field, using: Composable) -> int:
    """Returns the number of rows whose value cannot be converted, or not without losing a part of it."""
    ((input_checks, temporary),) = await ctx.db.query(ddl.INPUT_CHECKS)
    converts = temporary and ddl.needs_converts(old, new, input_checks=input_checks)
    if converts:
        await ctx.db.query(ddl.CREATE_CONVERTS)
    ((count,),) = await ctx.db.query(ddl.count_losses(old, new, using, input_checks=input_checks, converts=converts))
    return int(count)


def alters(old: Field, new: Field, *, search: bool) -> bool:
    """Whether `change_column` changes the table. *search*: the collection has trigram indexes."""
    if not (old.has_column and new.has_column):
        return old.has_column or new.has_column
    return (
        old.column_type != new.column_type
        or old.unique != new.unique
        or old.default_value != new.default_value
        or (search and searched(old) != searched(new))
        or _becomes_key(old, new)
    )


def _becomes_key(old: Field, new: Field) -> bool:
    """Whether a column that the server has made gets the index of a key of another item."""
    return new.declared and not new.unique and new.type in ddl.INDEXED_TYPES and old.type not in ddl.INDEXED_TYPES


def refitted(old: Field, new: Field) -> bool:
    """Whether the column is dropped or gets another type."""
    return old.has_column and (not new.has_column or old.column_type != new.column_type)


def alterations(old: Field, new: Field) -> tuple[Notice, ...]:
    """Returns a notice of what a change of a field does to its column; none if it does nothing."""
    before, after = old.domain or old.column_type, new.column_type
    if not (old.has_column and new.has_column):
        if old.has_column == new.has_column:
            return ()
        done = [f"the column was dropped; its type was {before}" if old.has_column else f"a column of type {after} was added"]
    else:
        done = []
        if old.column_type != new.column_type:
            done.append(f"the type of the column was changed from {before} to {after}")
        if old.default_value != new.default_value:
            shown = ["none" if each.default_value is None else f'"{each.default_value}"' for each in (old, new)]
            done.append(f"the default was changed from {shown[0]} to {shown[1]}")
        if old.unique != new.unique:
            done.append("the column was made unique" if new.unique else "the column is no longer unique")
    if not done:
        return ()
    return (Notice(FieldNotAltered.code, f"{old.collection}.{old.field}: {', '.join(done)}.", (old.field,)),)


async def index_searches(ctx: Context, old: Collection | None, new: Collection) -> None:
    """Creates or drops the trigram indexes if `search_index` has changed. Raises InvalidRequest if the database server cannot create
    them."""
    if new.search_index == (old is not None and old.search_index):
        return
    if not new.search_index:
        names = await ctx.db.query(ddl.SEARCH_INDEXES_OF, (new.collection,))
        await execute(ctx, [ddl.drop_index(new.collection, name) for (name,) in names])
        return
    found = await ctx.db.query(ddl.TRIGRAMS)
    if not any(installed or allowed for installed, allowed in found):
        raise InvalidRequest(
            '"search_index" needs the extension pg_trgm, which this PostgreSQL does not have, or may not be installed.'
        )
    if not any(installed for installed, _ in found):
        await ctx.db.query("CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public")
    # Creating an index on a large table may take longer than statement_timeout.
    await ctx.db.lift_time_limit()
    await execute(ctx, [ddl.search_index(field) for field in new.columns.values() if searched(field)])
