"""The order of a list: the expressions that its rows are sorted by."""

from collections.abc import Sequence

from attrs import evolve, frozen

from directus_tx.access import Grant
from directus_tx.access.refusals import no_field
from directus_tx.compile.operators import has_order, is_text, sorted_by
from directus_tx.db.sql import SQL, Composable, column
from directus_tx.errors import InvalidPayload
from directus_tx.query import Sort
from directus_tx.schema.datatypes import base_type
from directus_tx.schema.model import Field


@frozen
class Term:
    """One expression of an order. `nulls_first`: whether NULLs come first; None if there are none. `field` is None for random order and for
    expressions that only group rows. `as_text`: the expression is a text, whatever the type of the field."""

    value: Composable
    field: Field | None = None
    descending: bool = False
    nulls_first: bool | None = None
    as_text: bool = False

    @property
    def sql(self) -> Composable:
        """The expression and its direction."""
        template = "{}"
        if self.descending:
            template += " DESC"
        if self.nulls_first is not None:
            template += " NULLS FIRST" if self.nulls_first else " NULLS LAST"
        return SQL(template).format(self.value)

    @property
    def name(self) -> str:
        """The field and the direction, as `sort` writes them, and whether NULLs come first."""
        if self.field is None:
            return "?"
        return f"{'-' if self.descending else ''}{self.field.field}{' nulls first' if self.nulls_first else ''}"

    @property
    def type_name(self) -> str:
        """The PostgreSQL type of the expression, without a length."""
        if self.as_text or self.field is None:
            return "text"
        if self.field.native is not None:
            return self.field.native.name
        found = base_type(self.field.column_type)
        # Without a length, "character" means character(1).
        return "bpchar" if found == "character" else found

    @property
    def reversed(self) -> "Term":
        nulls_first = None if self.nulls_first is None else not self.nulls_first
        return evolve(self, descending=not self.descending, nulls_first=nulls_first)


@frozen
class Order:
    """An ORDER BY list."""

    terms: tuple[Term, ...]

    @property
    def sql(self) -> Composable:
        return SQL(", ").join([each.sql for each in self.terms])

    @property
    def reversed(self) -> "Order":
        return Order(tuple(each.reversed for each in self.terms))


UNORDERED = Order(())


def default_sort(grant: Grant) -> tuple[Sort, ...]:
    """Returns what lists without `sort` are sorted by, before the key: the sort field, if the caller may read it."""
    own = grant.collection.sort_field
    return (Sort(own.field),) if own is not None and own.field not in grant.hidden else ()


def order_of(alias: str, grant: Grant, sort: Sequence[Sort], *, nulls_last: bool = True) -> Order:
    """Returns the order of rows: by `sort`, or else by the sort field; then by the key, ascending. Rows without a key that are equal by
    `sort` have no order. Raises UnknownField and InvalidPayload if it is not possible to sort by a field."""
    collection = grant.collection
    sort = sort or default_sort(grant)
    terms: list[Term] = []
    sort = [_named(grant, each) for each in sort]
    for each in sort:
        if each.field == "?" and ("?" not in collection.fields or "?" in grant.unaskable):
            terms.append(Term(SQL("random()")))
            continue
        field = collection.fields.get(each.field)
        if field is None:
            raise no_field(grant, each.field, "to sort by")
        grant.check_question(field.field)
        if not field.has_column:
            raise InvalidPayload(f'"{each.field}" holds no value to sort by.')
        nulls_first = None
        if (field.nullable and not field.primary_key) or grant.mask_of(field.field) is not None:
            # By default, nulls are last in both directions; with sort_null_last off they are the lowest. PostgreSQL treats them
            # as the highest.
            nulls_first = not (nulls_last or each.descending)
        terms.append(Term(sorted_by(alias, field), field, each.descending, nulls_first, is_text(field)))
    for key in collection.order_columns:
        if has_order(key) and (not any(each.field == key.field for each in sort) or is_text(key)):
            terms.append(Term(column(alias, key.field), key))
    return Order(tuple(terms))


def _named(grant: Grant, sort: Sort) -> Sort:
    """Returns what `-name` means: an ascending order if there is a field `-name` and no field `name`. Only tables that other programs
    have made have such fields."""
    name = f"-{sort.field}"
    known = sort.descending and name in grant.collection.fields and name not in grant.unaskable
    return Sort(name) if known and sort.field not in grant.collection.fields else sort
