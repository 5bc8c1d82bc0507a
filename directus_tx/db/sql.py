"""SQL as values: psycopg2's composables, statements whose text is made once, and clauses with the values their placeholders take.

SQL is built of these and of nothing else, so that names are always quoted and values always bound. In the text of a statement a
percent sign is always written twice, whether the statement takes parameters or not; `Identifier` and `Literal` see to their own.
"""

from collections.abc import Callable, Iterable
from typing import Any

from attrs import frozen
from psycopg2 import sql
from psycopg2.sql import SQL as SQL
from psycopg2.sql import Composable as Composable

from directus_tx.query import BindValues


class Identifier(sql.Identifier):
    """A quoted name. It needs no connection to be written."""

    def as_string(self, context: Any) -> str:
        return ".".join('"' + name.replace('"', '""').replace("%", "%%") + '"' for name in self.strings)


class Literal(sql.Literal):  # type: ignore[type-arg] # generic in its stubs alone
    """A quoted value, for statements that take no parameters, as those that define tables do."""

    def as_string(self, context: Any) -> str:
        return str(super().as_string(context)).replace("%", "%%")


class Statement:
    """A SELECT whose text is made once: what a cached plan holds. `select` is the SELECT alone, `text` what is run for its rows.

    Where *many_tables* are joined, PostgreSQL looks for the best order of four at a time only. It would take a second and more to find
    that of thirty, or of the first eight of them again and again.
    """

    __slots__ = ("_before", "select", "text")

    def __init__(self, composable: Composable, *, many_tables: bool = False) -> None:
        self.select: str = composable.as_string(None)  # type: ignore[arg-type] # names need no connection
        # The setting ends with the transaction, which these two are where they run in no other.
        self._before = "SET LOCAL join_collapse_limit = 4; " if many_tables else ""
        self.text = self._before + self.select

    def cursor(self, name: str) -> str:
        """The statement that opens a cursor over the rows; *name* is not quoted."""
        return f"{self._before}DECLARE {name} NO SCROLL CURSOR FOR {self.select}"


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
        """The SQL, for people to read."""
        return self.sql.as_string(None).replace("%%", "%")  # type: ignore[arg-type] # names need no connection


TRUE = Clause(SQL("TRUE"))
FALSE = Clause(SQL("FALSE"))


def joined(separator: str, clauses: Iterable[Clause]) -> Clause:
    """The clauses as one, in parentheses where they are several."""
    clauses = list(clauses)
    if len(clauses) == 1:
        return clauses[0]
    sql = SQL("({})").format(SQL(separator).join([clause.sql for clause in clauses]))
    return Clause(sql, tuple(bind for clause in clauses for bind in clause.binds))


def all_of(clauses: Iterable[Clause]) -> Clause:
    """All must hold; TRUE where there is none."""
    needed = [clause for clause in clauses if clause is not TRUE]
    return joined(" AND ", needed) if needed else TRUE


def any_of(clauses: Iterable[Clause]) -> Clause:
    """One must hold; FALSE where there is none."""
    found = [clause for clause in clauses if clause is not FALSE]
    if TRUE in found:
        return TRUE
    return joined(" OR ", found) if found else FALSE


def negation(clause: Clause) -> Clause:
    return Clause(SQL("NOT ({})").format(clause.sql), clause.binds)


def column(alias: str, name: str) -> Composable:
    return Identifier(alias, name)


def renamed(what: Composable, name: str) -> Composable:
    """A column, or a table in parentheses, under a name."""
    return SQL("{} AS {}").format(what, Identifier(name))


def constant(value: Any) -> Bind:
    return lambda _: value


def among(what: Composable, values: Iterable[str]) -> Clause:
    """The text is one of *values*."""
    return Clause(SQL("{} = ANY(%s)").format(what), (constant(sorted(values)),))
