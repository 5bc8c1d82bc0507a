"""Parts of the views that reads select from: conditions on the status, and fields that are hidden in some rows."""

from collections.abc import Callable, Mapping

from attrs import frozen

from directus_tx.db.sql import SQL, TRUE, Clause, Composable, all_of, column, constant
from directus_tx.schema.datatypes import base_type
from directus_tx.schema.model import Collection, Field


@frozen(eq=False)
class Mask:
    """Fields that are shown in some rows and hidden in others. The column `flag` of the view says whether a row shows them."""

    flag: str
    names: frozenset[str]
    shown: Clause


def _no_columns(alias: str) -> Mapping[str, Clause]:
    return {}


def _no_join(alias: str) -> Clause:
    return Clause(SQL(""))


@frozen(eq=False)
class Subjects:
    """The part of a view that depends on what the rows describe: a row of directus_fields describes a field, a revision an item. The
    functions take the alias of the table. `visible` returns the condition on rows, `columns` the expressions that replace columns, and
    `join` what those expressions need joined to the table."""

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
    """Returns the condition that a row is not soft-deleted."""
    field = collection.status_field
    if field is None:
        return TRUE
    return all_of(
        Clause(SQL("{} IS DISTINCT FROM %s").format(text_of(alias, field)), (constant(value),))
        for value in collection.soft_deleted
    )
