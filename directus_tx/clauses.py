"""Pieces of SQL with the binds of their placeholders: what conditions and permissions are compiled to.

A clause never holds a value. It holds binds, functions that take the value of each placeholder from what a request asks
(`Asked`); so one clause serves every query of the same shape.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from attrs import frozen

from directus_tx.context import Context
from directus_tx.db import SQL, Composable, Identifier
from directus_tx.query import Query
from directus_tx.schema.datatypes import family
from directus_tx.schema.model import Collection, Field


@frozen
class Asked:
    """What fills the placeholders of a compiled statement: the query, the keys looked for, the paging, the time, and who asks."""

    query: Query
    keys: Sequence[Any] = ()
    limit: int | None = None
    offset: int = 0
    now: datetime | None = None
    user: int | None = None


Bind = Callable[[Asked], Any]


def asked_by(ctx: Context) -> Asked:
    """What the conditions of grants need to know: who asks."""
    return Asked(Query(), now=ctx.now, user=ctx.accountability.user)


@frozen
class Clause:
    """A piece of SQL with the binds of its placeholders, in order."""

    sql: Composable
    binds: tuple[Bind, ...] = ()

    def parameters(self, asked: Asked) -> list[Any]:
        return [bind(asked) for bind in self.binds]

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


def constant(value: Any) -> Bind:
    return lambda asked: value


def among(what: Composable, values: Iterable[str]) -> Clause:
    """The text is one of *values*."""
    return Clause(SQL("{} = ANY(%s)").format(what), (constant(sorted(values)),))


def status_of(alias: str, field: Field) -> Composable:
    """The status field's value as text."""
    plain = column(alias, field.field)
    return plain if family(field) == "text" else SQL("{}::text").format(plain)


def not_deleted(alias: str, collection: Collection) -> Clause:
    """The row is not soft-deleted."""
    field = collection.status_field
    if field is None:
        return TRUE
    return all_of(
        Clause(SQL("{} IS DISTINCT FROM %s").format(status_of(alias, field)), (constant(value),))
        for value in collection.soft_deleted
    )
