"""Filters as SQL: the table of operators, and how conditions, searches and statuses become one WHERE clause.

Adding an operator is adding one entry to OPERATORS.
"""

from collections.abc import Callable, Sequence
from typing import Any

from attrs import frozen

from directus_tx.access import Access, Grant
from directus_tx.clauses import FALSE, TRUE, Asked, Bind, Clause, all_of, column, joined, negation, not_deleted
from directus_tx.db import SQL, Composable
from directus_tx.errors import FieldNotFound, HiddenField, InvalidPayload, UnknownField, UnknownOperator
from directus_tx.query import Condition, Query
from directus_tx.schema.datatypes import family, searched
from directus_tx.schema.model import Collection, Field, Relation
from directus_tx.schema.types import NO_MATCH, comparable


def is_text(field: Field) -> bool:
    """Whether the field's column holds text, which compares and sorts without case."""
    return family(field) == "text"


def is_number(field: Field) -> bool:
    return family(field) in ("integer", "number")


_COMPARISON = {
    "text": "text",
    "integer": "bigint",
    "number": "numeric",
    "boolean": "boolean",
    "date": "date",
    "time": "time",
    "datetime": "timestamp",
    "binary": "bytea",
    "uuid": "uuid",
    "other": "text",
}


def comparison_type(field: Field) -> str:
    """What a value to compare with the field is cast to: a wide type, which neither cuts nor rounds."""
    return _COMPARISON[family(field)]


def folded(alias: str, field: Field) -> Composable:
    """The column as it compares and sorts: text without case, and as text whatever has no order of its own."""
    plain = column(alias, field.field)
    if family(field) == "other":
        return SQL("lower({}::text)").format(plain)
    return SQL("lower({})").format(plain) if is_text(field) else plain


def as_text(alias: str, field: Field) -> Composable:
    """The column as lower-case text, to look for a part in."""
    plain = column(alias, field.field)
    return SQL("lower({})").format(plain if is_text(field) else SQL("{}::text").format(plain))


def escaped(text: str) -> str:
    """Text as a LIKE pattern that means just itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


# --- values: from a condition's text to what is bound

Value = Callable[[Asked], str | tuple[str, ...] | None]


def one(value: str | tuple[str, ...] | None) -> str:
    return value if isinstance(value, str) else (value[0] if value else "")


def several(value: str | tuple[str, ...] | None) -> list[str]:
    """The members of a list, sent as csv or as an array; none for an empty text."""
    if isinstance(value, tuple):
        return [part.strip() for part in value]
    return [part.strip() for part in value.split(",")] if value else []


def scalar_bind(field: Field, value: Value, pick: Callable[[Any], str | None] = one) -> Bind:
    """Binds the value to compare a column with; NULL, which nothing equals, where the text can be no such value."""

    def bind(asked: Asked) -> Any:
        text = pick(value(asked))
        found = NO_MATCH if text is None else comparable(field, text, asked.now)
        return None if found is NO_MATCH else found

    return bind


def list_bind(field: Field, value: Value) -> Bind:
    def bind(asked: Asked) -> list[Any]:
        found = [comparable(field, text, asked.now) for text in several(value(asked))]
        return [v.lower() if isinstance(v, str) and is_text(field) else v for v in found if v is not NO_MATCH]

    return bind


def pattern_bind(value: Value, make: Callable[[str], str]) -> Bind:
    return lambda asked: _storable(make(one(value(asked))))


def _storable(text: str) -> str | None:
    """The text, or None, which nothing is like, where it holds what no text of the database can."""
    return None if "\x00" in text else text


def _first(value: str | tuple[str, ...] | None) -> str | None:
    parts = several(value)
    return parts[0] if len(parts) > 1 else None


def _last(value: str | tuple[str, ...] | None) -> str | None:
    parts = several(value)
    return parts[-1] if len(parts) > 1 else None


# --- operators on a column

ColumnOperator = Callable[[str, Field, Value], Clause]


def comparing(sign: str) -> ColumnOperator:
    def operator(alias: str, field: Field, value: Value) -> Clause:
        right = "lower(%s)" if is_text(field) else "%s"
        return Clause(SQL("{} " + sign + " " + right).format(folded(alias, field)), (scalar_bind(field, value),))

    return operator


def _neq(alias: str, field: Field, value: Value) -> Clause:
    # What cannot equal any value differs from all; IS DISTINCT FROM makes a NULL bind mean so. Nulls stay out.
    right = SQL("lower(%s)" if is_text(field) else "%s")
    sql = SQL("({} IS DISTINCT FROM {} AND {} IS NOT NULL)").format(folded(alias, field), right, column(alias, field.field))
    return Clause(sql, (scalar_bind(field, value),))


def _in(alias: str, field: Field, value: Value) -> Clause:
    sql = SQL("{} = ANY(%s::" + comparison_type(field) + "[])").format(folded(alias, field))
    return Clause(sql, (list_bind(field, value),))


def _nin(alias: str, field: Field, value: Value) -> Clause:
    sql = SQL("({} <> ALL(%s::" + comparison_type(field) + "[]) AND {} IS NOT NULL)")
    return Clause(sql.format(folded(alias, field), column(alias, field.field)), (list_bind(field, value),))


def between(negated: bool) -> ColumnOperator:
    def operator(alias: str, field: Field, value: Value) -> Clause:
        ends = " AND ".join(["lower(%s)" if is_text(field) else f"%s::{comparison_type(field)}"] * 2)
        sql = SQL("{} " + ("NOT BETWEEN " if negated else "BETWEEN ") + ends).format(folded(alias, field))
        return Clause(sql, (scalar_bind(field, value, _first), scalar_bind(field, value, _last)))

    return operator


def matching(make: Callable[[str], str], negated: bool) -> ColumnOperator:
    def operator(alias: str, field: Field, value: Value) -> Clause:
        sql = SQL("{} " + ("NOT LIKE" if negated else "LIKE") + " lower(%s)").format(as_text(alias, field))
        return Clause(sql, (pattern_bind(value, make),))

    return operator


def _null(alias: str, field: Field, value: Value) -> Clause:
    return Clause(SQL("{} IS NULL").format(column(alias, field.field)))


def _nnull(alias: str, field: Field, value: Value) -> Clause:
    return Clause(SQL("{} IS NOT NULL").format(column(alias, field.field)))


def _empty(alias: str, field: Field, value: Value) -> Clause:
    name = column(alias, field.field)
    if is_text(field):
        return Clause(SQL("({0} IS NULL OR {0} = '')").format(name))
    if is_number(field):
        return Clause(SQL("({0} IS NULL OR {0} = 0)").format(name))
    if family(field) == "boolean":
        return Clause(SQL("{} IS NOT TRUE").format(name))
    return _null(alias, field, value)


def _nempty(alias: str, field: Field, value: Value) -> Clause:
    return negation(_empty(alias, field, value))


def _not_for_columns(alias: str, field: Field, value: Value) -> Clause:
    raise InvalidPayload(f'"{field.field}" is no one-to-many field: has and all do not apply to it.')


@frozen
class Operator:
    """An operator: what it does to a column, and whether an empty text makes it filter nothing."""

    apply: ColumnOperator
    ignores_empty: bool = False


def _part(text: str) -> str:
    return f"%{escaped(text)}%"


CONTAINS = Operator(matching(_part, negated=False), ignores_empty=True)
NCONTAINS = Operator(matching(_part, negated=True), ignores_empty=True)

OPERATORS: dict[str, Operator] = {
    "eq": Operator(comparing("=")),
    "neq": Operator(_neq),
    "lt": Operator(comparing("<")),
    "lte": Operator(comparing("<=")),
    "gt": Operator(comparing(">")),
    "gte": Operator(comparing(">=")),
    "in": Operator(_in),
    "nin": Operator(_nin),
    "between": Operator(between(negated=False)),
    "nbetween": Operator(between(negated=True)),
    "contains": CONTAINS,
    "ncontains": NCONTAINS,
    "like": CONTAINS,
    "nlike": NCONTAINS,
    "rlike": Operator(matching(str, negated=False), ignores_empty=True),
    "nrlike": Operator(matching(str, negated=True), ignores_empty=True),
    "null": Operator(_null),
    "nnull": Operator(_nnull),
    "empty": Operator(_empty),
    "nempty": Operator(_nempty),
    "has": Operator(_not_for_columns),
    "all": Operator(_not_for_columns),
}
OPERATORS |= {
    sign: OPERATORS[word]
    for sign, word in {"=": "eq", "!=": "neq", "<>": "neq", "<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}.items()
}


# --- what is searched by q, and by contains on a many-to-one field


def searched_fields(grant: Grant) -> list[Field]:
    """The fields that a search looks into: text and numbers, neither dates nor what the caller may not read."""
    return [field for field in grant.collection.columns.values() if searched(field) and field.field not in grant.unaskable]


def search(alias: str, grant: Grant, bind: Bind) -> Clause:
    """Some searched field contains the bound pattern."""
    fields = searched_fields(grant)
    if not fields:
        return FALSE
    return joined(" OR ", [Clause(SQL("{} LIKE lower(%s)").format(as_text(alias, f)), (bind,)) for f in fields])


# --- conditions


class Conditions:
    """Makes clauses of the conditions of one statement, with an alias of its own for each table on the way."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.count = 0

    def alias(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def chain(
        self, alias: str, grant: Grant, conditions: Sequence[Condition], of: "Callable[[Query], Sequence[Condition]]"
    ) -> Clause:
        """The conditions as one flat chain in their order; AND binds tighter than OR. *of* gives those of the query that is asked in
        their place."""
        groups: list[list[Clause]] = [[]]
        for index, condition in enumerate(conditions):
            if condition.logical == "or" and groups[-1]:
                groups.append([])
            groups[-1].append(self.condition(alias, grant, condition, _value_of(of, index)))
        return joined(" OR ", [all_of(group) for group in groups]) if groups[0] else TRUE

    def condition(self, alias: str, grant: Grant, condition: Condition, value: Value) -> Clause:
        operator = OPERATORS.get(condition.operator)
        if operator is None:
            raise UnknownOperator(f'There is no filter operator "{condition.operator}".')
        if len(condition.path) == 1 and condition.path[0] not in grant.collection.fields:
            raise UnknownField(f'"{grant.collection.collection}" has no field "{condition.path[0]}".')
        return self._walk(alias, grant, condition.path, condition.operator, operator, _is_empty(condition), value)

    def _walk(
        self,
        alias: str,
        grant: Grant,
        path: tuple[str, ...],
        name: str,
        operator: Operator,
        empty: bool,
        value: Value,
    ) -> Clause:
        collection = grant.collection
        field = collection.fields.get(path[0])
        if field is None:
            raise FieldNotFound(f'"{collection.collection}" has no field "{path[0]}".')
        grant.check_question(field.field)
        schema = self.access.schema
        many = schema.one_to_many.get((collection.collection, field.field))
        upward = schema.many_to_one.get((collection.collection, field.field)) if field.has_column else None
        if len(path) > 1:
            relation = many or upward
            if relation is None:
                raise FieldNotFound(f'"{field.field}" of "{collection.collection}" leads to no other collection.')
            behind, target, joint = self._behind(alias, collection, field, relation, is_many=many is not None)
            inner = self._walk(behind, target, path[1:], name, operator, empty, value)
            return self._exists(behind, target, joint, inner)
        if many is not None:
            return self._of_many(alias, collection, field, many, name, operator, empty, value)
        if not field.has_column:
            raise UnknownField(f'"{field.field}" of "{collection.collection}" holds no value to filter by.')
        if operator.ignores_empty and empty:
            return TRUE
        if upward is not None and operator in (CONTAINS, NCONTAINS):
            behind, target, joint = self._behind(alias, collection, field, upward, is_many=False)
            found = self._exists(behind, target, joint, search(behind, target, pattern_bind(value, _part)))
            return found if operator is CONTAINS else all_of([negation(found), _nnull(alias, field, value)])
        return operator.apply(alias, field, value)

    def _behind(
        self, alias: str, collection: Collection, field: Field, relation: Relation, *, is_many: bool
    ) -> tuple[str, Grant, Composable]:
        """The alias and grant of the collection that a relation leads to, and the condition that joins it."""
        name = relation.collection_many if is_many else relation.collection_one
        target = self.access.grant(name or "")
        if not target.read:
            raise HiddenField(f'You may not ask about "{name}".')
        behind = self.alias()
        if is_many and relation.field_many in target.hidden:
            raise HiddenField(f'You may not ask about "{relation.field_many}" of "{name}".')
        if is_many:
            here, there = collection.primary_key, target.collection.fields[relation.field_many]
        else:
            here, there = field, target.collection.primary_key
        return behind, target, equal_keys(column(alias, here.field), here, column(behind, there.field), there)

    def _exists(self, behind: str, target: Grant, joint: Composable, inner: Clause) -> Clause:
        table = target.table(behind)
        sql = SQL("EXISTS (SELECT 1 FROM {} WHERE {} AND {})").format(table.sql, joint, inner.sql)
        return Clause(sql, (*table.binds, *inner.binds))

    def _of_many(
        self,
        alias: str,
        collection: Collection,
        field: Field,
        relation: Relation,
        name: str,
        operator: Operator,
        empty: bool,
        value: Value,
    ) -> Clause:
        """A condition on the list of related items itself."""
        behind, target, joint = self._behind(alias, collection, field, relation, is_many=True)
        view = target.table(behind)
        table = SQL("FROM {} WHERE {}").format(view.sql, joint)
        if name in ("empty", "null", "nempty", "nnull"):
            sql = SQL(("NOT " if name in ("empty", "null") else "") + "EXISTS (SELECT 1 {})").format(table)
            return Clause(sql, view.binds)
        if name == "has":
            sql = SQL("(SELECT count(*) {}) >= %s").format(table)
            return Clause(sql, (*view.binds, lambda asked: _count(one(value(asked)))))
        far = target.collection.fields.get(relation.junction_field or "") or target.collection.primary_key
        if far.field in target.hidden:
            raise HiddenField(f'You may not ask about "{far.field}" of "{target.collection.collection}".')
        if name == "all":
            # A list that holds something that can be no key is held by nobody.
            def wanted(asked: Asked) -> list[Any] | None:
                keys = [comparable(far, text, asked.now) for text in several(value(asked))]
                return None if any(key is NO_MATCH for key in keys) else keys

            sql = SQL("ARRAY(SELECT {far} {table}) @> %s::" + comparison_type(far) + "[]").format(
                far=SQL("{}::" + comparison_type(far)).format(column(behind, far.field)), table=table
            )
            return Clause(sql, (*view.binds, wanted))
        if operator.ignores_empty and empty:
            return TRUE
        return self._exists(behind, target, joint, operator.apply(behind, far, value))

    def status(self, alias: str, grant: Grant, given: bool, everything: bool) -> Clause:
        """The condition of the parameter `status`: the statuses asked for, or all that do not mean deleted."""
        field = grant.collection.status_field
        if field is None or (given and everything):
            return TRUE
        if given:
            grant.check_question(field.field)
            sql = SQL("{} = ANY(%s)").format(folded(alias, field))
            return Clause(sql, (lambda asked: [status.lower() for status in asked.query.status or () if "\x00" not in status],))
        return not_deleted(alias, grant.collection)


def equal_keys(left: Composable, left_field: Field, right: Composable, right_field: Field) -> Composable:
    """Two keys are equal; as text where one is a number and the other is not."""
    if comparable_keys(left_field, right_field):
        return SQL("{} = {}").format(right, left)
    return SQL("{}::text = {}::text").format(right, left)


def comparable_keys(left: Field, right: Field) -> bool:
    return is_text(left) == is_text(right) and is_number(left) == is_number(right)


def _is_empty(condition: Condition) -> bool:
    return not condition.value


def _value_of(of: "Callable[[Query], Sequence[Condition]]", index: int) -> Value:
    return lambda asked: of(asked.query)[index].value


def of_filter(query: Query) -> Sequence[Condition]:
    return query.filter


def of_scope(query: Query) -> Sequence[Condition]:
    return query.scope


def _count(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidPayload("has takes the number of related items.") from None


def q_bind(asked: Asked) -> str | None:
    return _storable(_part(asked.query.q or ""))


def shape(conditions: Sequence[Condition]) -> tuple[Any, ...]:
    """What of a chain of conditions its SQL depends on."""
    return tuple((c.path, c.operator, c.logical, _is_empty(c)) for c in conditions)
