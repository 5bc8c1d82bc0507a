"""Pieces of the views through which rows are read: conditions on status, and the fields that only some rows show."""

from collections.abc import Callable, Mapping

from attrs import frozen

from directus_tx.db.sql import SQL, TRUE, Clause, Composable, all_of, column, constant
from directus_tx.schema.datatypes import base_type
from directus_tx.schema.model import Collection, Field


@frozen(eq=False)
class Mask:
    """Fields that some of the rows show and others don't. `flag` is the column of the view that says which."""

    flag: str
    names: frozenset[str]
    shown: Clause


def _no_columns(alias: str) -> Mapping[str, Clause]:
    return {}


def _no_join(alias: str) -> Clause:
    return Clause(SQL(""))


@frozen(eq=False)
class Subjects:
    """How far rows that are about other things (a row of directus_fields is about a field, one of the history about an item) show
    what a caller may not know of those things. All are called with the table's alias: `visible` gives the condition on rows, `columns`
    the values that stand in place of columns, `join` what is joined to the table for them."""

    visible: Callable[[str], Clause]
    columns: Callable[[str], Mapping[str, Clause]] = _no_columns
    join: Callable[[str], Clause] = _no_join


# PostgreSQL casts an address to a text with the length of its network, and shows it without where that is all of it.
_ADDRESS = "CASE WHEN masklen({0}) = CASE family({0}) WHEN 4 THEN 32 ELSE 128 END THEN host({0}) ELSE {0}::text END"


def text_of(alias: str, field: Field) -> Composable:
    """The column as text, as the API shows it. No value of any type makes this fail."""
    plain = column(alias, field.field)
    base = base_type(field.column_type)
    # Other types of text compare in their own ways: citext without case, character without the blanks at its end.
    if base in ("character varying", "text"):
        return plain
    return SQL(_ADDRESS if base == "inet" else "{0}::text").format(plain)


def not_deleted(alias: str, collection: Collection) -> Clause:
    """The row is not soft-deleted."""
    field = collection.status_field
    if field is None:
        return TRUE
    return all_of(
        Clause(SQL("{} IS DISTINCT FROM %s").format(text_of(alias, field)), (constant(value),))
        for value in collection.soft_deleted
    )
