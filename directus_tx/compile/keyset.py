"""Keyset paging: the rows behind a row in the order of a list. An index finds them however many rows are before them."""

from collections.abc import Sequence

from attrs import evolve, frozen

from directus_tx.access import Grant
from directus_tx.access.grant import ACCOUNT_SECRETS
from directus_tx.compile.operators import null_test_of
from directus_tx.compile.order import Order, Term
from directus_tx.compile.shape import CursorShape
from directus_tx.db.sql import FALSE, SQL, Bind, Clause, Composable, all_of
from directus_tx.errors import InvalidRequest
from directus_tx.query import BindValues, Typed

MAX_TERMS = 8
"""The maximum number of fields that such a list is sorted by, its key included."""

MAX_LENGTH = 1000
"""The maximum length of a value of a cursor, in characters. A cursor is a part of a URL."""

Parts = tuple[tuple[Clause, Order], ...]
"""Conditions that divide rows, each with the order of its rows. The rows of a part are before those of the next."""


@frozen
class Keyset:
    """How the rows of a page are read: in `order`, that of the list or its reverse, and in `parts`; without parts, all rows are one.
    `names` are the collection and the fields of the order of the list."""

    order: Order
    names: tuple[str, ...]
    parts: Parts

    @property
    def texts(self) -> list[Composable]:
        """The values of the order, as texts, from which the cursor of a row is made."""
        return [SQL(f"left(({{}})::text, {MAX_LENGTH + 1})").format(each.value) for each in self.order.terms]

    def within(self, where: Clause) -> "list[tuple[Clause, Order]]":
        """Returns the parts, with a condition added to each."""
        return [(all_of([where, part]), order) for part, order in self.parts] or [(where, self.order)]


def keyset_of(grant: Grant, order: Order, shape: CursorShape) -> Keyset:
    """Returns how a page of a list in *order* is read. Raises InvalidRequest if the order is not unique, if the cursor is about another
    one, or if cursors would contain what must not be in a URL: a key that the caller may not see, or a credential."""
    collection = grant.collection
    if any(each.field is None for each in order.terms):
        raise InvalidRequest("A list in random order has no cursor.")
    # A cursor shows the values of the order to its holder. To a caller who may not see the key, the items have none.
    if not collection.order_columns or not all(
        key.field not in grant.hidden and any(each.field is key and not each.as_text for each in order.terms)
        for key in collection.order_columns
    ):
        raise InvalidRequest(f'The lists of "{collection.collection}" have no cursor, because its items have no key.')
    if len(order.terms) > MAX_TERMS:
        raise InvalidRequest(f"A list with a cursor can be sorted by up to {MAX_TERMS} fields, its key included.")
    credentials = collection.hashes | (ACCOUNT_SECRETS if collection.collection == "directus_users" else frozenset())
    shown = [each.field.field for each in order.terms if each.field is not None and each.field.field in credentials]
    if shown:
        raise InvalidRequest(f'A list sorted by "{shown[0]}" has no cursor, which would contain its values.')
    names = (collection.collection, *(each.name for each in order.terms))
    if not shape.order:
        return Keyset(order, names, _beginning(order))
    if shape.order != names or len(shape.nulls) != len(order.terms):
        raise InvalidRequest("The cursor belongs to a list of another collection or with another order.")
    directed = order.reversed if shape.backward else order
    return Keyset(directed, names, _behind(directed, shape.nulls))


def _beginning(order: Order) -> Parts:
    """Returns the parts of the first page: rows with and without a value of the first term. PostgreSQL reads each along an index, wherever
    that has the NULLs."""
    term, rest = order.terms[0], order.terms[1:]
    if term.nulls_first is None:
        return ()
    parts = ((_null(term, negated=True), Order((evolve(term, nulls_first=None), *rest))), (_null(term), Order(rest)))
    return parts[::-1] if term.nulls_first else parts


def _behind(order: Order, nulls: Sequence[bool]) -> Parts:
    """Returns the parts of the rows behind the row with the values of the cursor: those that are equal to it in all terms but the last, in
    all but the last two, and so on."""
    found = []
    for place in reversed(range(len(order.terms))):
        term, rest = order.terms[place], order.terms[place + 1 :]
        same = [_equal(each, number, null=nulls[number]) for number, each in enumerate(order.terms[:place])]
        # As in `_beginning`.
        others = Order((evolve(term, nulls_first=None), *rest))
        if not nulls[place]:
            beyond = SQL("{} < %s" if term.descending else "{} > %s").format(term.value)
            found.append((all_of([*same, Clause(beyond, (_bind(term, place),))]), others))
            if term.nulls_first is False:
                found.append((all_of([*same, _null(term)]), Order(rest)))
        elif term.nulls_first:
            found.append((all_of([*same, _null(term, negated=True)]), others))
    return tuple(found) or ((FALSE, order),)


def _equal(term: Term, place: int, *, null: bool) -> Clause:
    return _null(term) if null else Clause(SQL("{} = %s").format(term.value), (_bind(term, place),))


def _null(term: Term, *, negated: bool = False) -> Clause:
    assert term.field is not None
    return Clause(null_test_of(term.value, term.field, negated))


def _bind(term: Term, place: int) -> Bind:
    type_name, name = term.type_name, term.field.field if term.field is not None else ""

    def bind(values: BindValues) -> Typed:
        cursor = values.query.cursor
        assert cursor is not None
        return Typed(cursor.values[place] or "", type_name, name)

    return bind
