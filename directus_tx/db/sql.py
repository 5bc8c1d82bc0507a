"""SQL as values: psycopg2's composables, statements whose text is generated once, and clauses with the binds of their
placeholders.

SQL is built only from these, so that names are always quoted and values always bound. Percent signs in the text of a statement
are always doubled, with or without parameters; `Identifier` and `Literal` double their own.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from attrs import frozen
from psycopg2 import sql
from psycopg2.extensions import QuotedString, register_adapter
from psycopg2.sql import SQL as SQL
from psycopg2.sql import Composable as Composable

from directus_tx.query import BindValues, Folded, Typed, TypedList


class Identifier(sql.Identifier):
    """A quoted name. Unlike psycopg2's, it is rendered without a connection."""

    def as_string(self, context: Any) -> str:
        return ".".join('"' + name.replace('"', '""').replace("%", "%%") + '"' for name in self.strings)


class Literal(sql.Literal):  # type: ignore[type-arg] # generic only in its stubs
    """A quoted value, for statements that take no parameters, such as those that define tables."""

    def as_string(self, context: Any) -> str:
        return str(super().as_string(context)).replace("%", "%%")


class Statement:
    """A SELECT whose text is generated once, for cached plans. `select` is the SELECT itself, `text` the text that is run.

    With *many_tables*, PostgreSQL plans the order of only four joined tables at a time (join_collapse_limit). With thirty tables,
    planning the order of all, or of eight at a time (the default), would take a second or more.
    """

    __slots__ = ("_before", "select", "text")

    def __init__(self, composable: Composable, *, many_tables: bool = False) -> None:
        self.select: str = composable.as_string(None)  # type: ignore[arg-type] # names need no connection
        # The setting ends with the transaction. Outside of one, the two statements of the text are a transaction.
        self._before = "SET LOCAL join_collapse_limit = 4; " if many_tables else ""
        self.text = self._before + self.select

    @property
    def count(self) -> str:
        """The statement that counts the rows."""
        return f"{self._before}SELECT count(*) FROM ({self.select}) AS found"

    def cursor(self, name: str) -> str:
        """Returns the statement that opens a cursor over the rows. *name* is not quoted."""
        return f"{self._before}DECLARE {name} NO SCROLL CURSOR FOR {self.select}"


class _Literal:
    """The base of the adapters of bind values that the driver does not know: *text* as a quoted literal with SQL around it."""

    before = b""

    def __init__(self, text: str, after: bytes) -> None:
        self._after = after
        self._quoted = QuotedString(text)

    def prepare(self, connection: Any) -> None:
        self._quoted.prepare(connection)

    def getquoted(self) -> bytes:
        """Returns the SQL of the value, as the driver asks for it."""
        return self.before + bytes(self._quoted.getquoted().strip()) + self._after


class _TypedLiteral(_Literal):
    def __init__(self, value: Typed) -> None:
        super().__init__(value.text, b"::" + value.type_name.encode() + (b"::text" if value.as_text else b""))


class _FoldedLiteral(_Literal):
    before = b"lower("

    def __init__(self, value: Folded) -> None:
        super().__init__(value.text, b"::bpchar::text)" if value.padded else b")")


class _TypedListLiteral:
    def __init__(self, value: TypedList) -> None:
        self._members = [_TypedLiteral(each) for each in value.members]

    def prepare(self, connection: Any) -> None:
        for each in self._members:
            each.prepare(connection)

    def getquoted(self) -> bytes:
        """Returns the SQL of the list, as the driver asks for it. NULL stands for an empty list."""
        return b"(" + (b", ".join([each.getquoted() for each in self._members]) or b"NULL") + b")"


register_adapter(Typed, _TypedLiteral)
register_adapter(TypedList, _TypedListLiteral)
register_adapter(Folded, _FoldedLiteral)


def literal(value: Typed, connection: Any) -> str:
    """Returns the SQL of a typed value, as it is in the statements that *connection*, the driver's, runs."""
    adapter = _TypedLiteral(value)
    adapter.prepare(connection)
    return adapter.getquoted().decode()


def typed_values(parameters: Any) -> Iterator[Typed]:
    """Yields the typed values among bind values, those in lists included."""
    for each in parameters.values() if isinstance(parameters, dict) else parameters:
        if isinstance(each, Typed):
            yield each
        elif isinstance(each, TypedList):
            yield from each.members
        elif isinstance(each, list):
            yield from (member for member in each if isinstance(member, Typed))


Bind = Callable[[BindValues], Any]


@frozen
class Clause:
    """A piece of SQL with the binds of its placeholders, in order."""

    sql: Composable
    binds: tuple[Bind, ...] = ()

    def parameters(self, values: BindValues) -> list[Any]:
        return [bind(values) for bind in self.binds]

    @property
    def text(self) -> str:
        """The SQL in readable form, without doubled percent signs."""
        return self.sql.as_string(None).replace("%%", "%")  # type: ignore[arg-type] # names need no connection


TRUE = Clause(SQL("TRUE"))
FALSE = Clause(SQL("FALSE"))


def joined(separator: str, clauses: Iterable[Clause]) -> Clause:
    """Returns the clauses as one, in parentheses if there are several."""
    clauses = list(clauses)
    if len(clauses) == 1:
        return clauses[0]
    sql = SQL("({})").format(SQL(separator).join([clause.sql for clause in clauses]))
    return Clause(sql, tuple(bind for clause in clauses for bind in clause.binds))


def all_of(clauses: Iterable[Clause]) -> Clause:
    """Returns the conjunction of the clauses; TRUE if there are none."""
    needed = [clause for clause in clauses if clause is not TRUE]
    return joined(" AND ", needed) if needed else TRUE


def any_of(clauses: Iterable[Clause]) -> Clause:
    """Returns the disjunction of the clauses; FALSE if there are none."""
    found = [clause for clause in clauses if clause is not FALSE]
    if TRUE in found:
        return TRUE
    return joined(" OR ", found) if found else FALSE


def negation(clause: Clause) -> Clause:
    return Clause(SQL("NOT ({})").format(clause.sql), clause.binds)


def column(alias: str, name: str) -> Composable:
    return Identifier(alias, name)


def renamed(what: Composable, name: str) -> Composable:
    """Returns a column, or a table in parentheses, with an alias."""
    return SQL("{} AS {}").format(what, Identifier(name))


def constant(value: Any) -> Bind:
    return lambda _: value


def among(what: Composable, values: Iterable[str]) -> Clause:
    """Returns the condition that the text is one of *values*."""
    return Clause(SQL("{} = ANY(%s)").format(what), (constant(sorted(values)),))
