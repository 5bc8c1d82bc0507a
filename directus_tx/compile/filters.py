"""Compiles filter, q and status to a WHERE clause."""

from collections.abc import Callable, Sequence
from typing import Any

from directus_tx.access import Access, Grant
from directus_tx.access.refusals import no_field
from directus_tx.access.view import not_deleted, text_of
from directus_tx.compile.bounds import Bounds
from directus_tx.compile.custom import operator_of
from directus_tx.compile.operators import (
    CONTAINS,
    NCONTAINS,
    OPERATORS,
    SIGNS,
    Operator,
    Value,
    apply_sealed,
    as_text,
    check_unsealed,
    comparison_type,
    equal_keys,
    folded,
    is_not_null,
    list_bind,
    one,
    one_of,
    part_pattern,
    pattern_bind,
    several,
    storable,
)
from directus_tx.compile.shape import Chain, CombinationShape, ConditionShape, Narrowing
from directus_tx.db.sql import FALSE, SQL, TRUE, Bind, Clause, Composable, all_of, any_of, column, joined, negation
from directus_tx.errors import FieldNotFound, HiddenField, InvalidPayload, UnknownField
from directus_tx.query import BindValues, Condition, Query, Sort
from directus_tx.schema.datatypes import searched
from directus_tx.schema.model import Field, Relation
from directus_tx.schema.statistics import Asked, Lookup

# --- searches: q, and contains on a many-to-one field


def searched_fields(grant: Grant) -> list[Field]:
    """Returns the fields that a search looks in: text and number fields that the caller may filter by."""
    return [field for field in grant.collection.columns.values() if searched(field) and field.field not in grant.unaskable]


def search(alias: str, grant: Grant, bind: Bind) -> Clause:
    """Returns the condition that a searched field matches the pattern."""
    fields = searched_fields(grant)
    if not fields:
        return FALSE
    return joined(" OR ", [Clause(SQL("{} LIKE lower(%s)").format(as_text(alias, f)), (bind,)) for f in fields])


# --- conditions


def itself(query: Query) -> Query:
    """Returns the query: conditions of a list that is no list of related items are in it."""
    return query


class Conditions:
    """Compiles the conditions of a statement. Each table gets its own alias. `relations` counts the relations that the conditions
    follow. Raises InvalidRequest if there are more than `bounds` allow."""

    def __init__(self, access: Access, bounds: Bounds) -> None:
        self.access = access
        self.bounds = bounds
        self.relations = 0

    def alias(self) -> str:
        self.bounds.count_relation()
        self.relations += 1
        return f"t{self.relations}"

    def chain(self, alias: str, grant: Grant, conditions: Chain, of: "Callable[[Query], Sequence[Condition]]") -> Clause:
        """Compiles conditions as a flat chain in their order; AND binds tighter than OR. *of* returns the conditions of the
        actual query, from which values are bound."""
        groups: list[list[Clause]] = [[]]
        for index, condition in enumerate(conditions):
            if condition.logical == "or" and groups[-1]:
                groups.append([])
            groups[-1].append(self.condition(alias, grant, condition, _value_of(of, index)))
        return joined(" OR ", [all_of(group) for group in groups]) if groups[0] else TRUE

    def combination(self, alias: str, grant: Grant, where: CombinationShape, first: int = 0) -> Clause:
        """Compiles conditions in parentheses. *first* is the number of conditions of the query before them."""
        clauses = []
        for member in where.members:
            if isinstance(member, CombinationShape):
                clauses.append(self.combination(alias, grant, member, first))
                first += _size(member)
            else:
                clauses.append(self.condition(alias, grant, member, _value_of(of_where, first)))
                first += 1
        if where.kind == "all":
            return all_of(clauses)
        found = any_of(clauses)
        if where.kind == "any":
            return found
        # NOT of a condition that is not known to hold is not known to hold either; IS NOT TRUE is.
        return Clause(SQL("(({}) IS NOT TRUE)").format(found.sql), found.binds)

    def condition(self, alias: str, grant: Grant, condition: ConditionShape, value: Value) -> Clause:
        self.bounds.check_depth(len(self._divide(grant, condition.path)[1]))
        operator = operator_of(self.access.schema, condition.operator)
        if len(condition.path) == 1 and condition.path[0] not in grant.collection.fields:
            raise no_field(grant, condition.path[0])
        return self._walk(alias, grant, condition.path, condition.operator, operator, condition.empty, value)

    def _divide(self, grant: Grant, path: Sequence[str]) -> tuple[str, Sequence[str]]:
        return grant.divide(path, self.access.schema.relations_of[grant.collection.collection])

    def _walk(
        self,
        alias: str,
        grant: Grant,
        path: Sequence[str],
        name: str,
        operator: Operator,
        empty: bool,
        value: Value,
    ) -> Clause:
        collection = grant.collection
        head, rest = self._divide(grant, path)
        field = collection.fields.get(head)
        if field is None:
            raise no_field(grant, head, error=FieldNotFound)
        grant.check_question(field.field)
        schema = self.access.schema
        many = schema.one_to_many.get((collection.collection, field.field))
        upward = schema.many_to_one.get((collection.collection, field.field)) if field.has_column else None
        if rest:
            relation = many or upward
            if relation is None:
                raise FieldNotFound(f'"{field.field}" of "{collection.collection}" leads to no other collection.')
            behind, target, joint = self._behind(alias, grant, field, relation, is_many=many is not None)
            inner = self._walk(behind, target, rest, name, operator, empty, value)
            return self._exists(behind, target, joint, inner)
        if many is not None:
            return self._of_many(alias, grant, field, many, name, operator, empty, value)
        if not field.has_column:
            raise UnknownField(f'"{field.field}" of "{collection.collection}" holds no value to filter by.')
        if field.sealed is not None:
            return apply_sealed(alias, field, name, value, self.access.keys)
        if operator.ignores_empty and empty:
            return TRUE
        if upward is not None and operator in (CONTAINS, NCONTAINS):
            behind, target, joint = self._behind(alias, grant, field, upward, is_many=False)
            found = self._exists(behind, target, joint, search(behind, target, pattern_bind(value, part_pattern)))
            return found if operator is CONTAINS else all_of([negation(found), is_not_null(alias, field, value)])
        return operator.apply(alias, field, value)

    def _behind(
        self, alias: str, grant: Grant, field: Field, relation: Relation, *, is_many: bool
    ) -> tuple[str, Grant, Composable]:
        """Returns the alias and grant of the related collection, and the condition that joins it to the table *alias*, whose grant is
        *grant*. Rows that hide the field are joined to nothing."""
        name = relation.collection_many if is_many else relation.collection_one
        target = self.access.grant(name or "")
        behind = self.alias()
        if not target.read or (is_many and relation.field_many in target.hidden):
            raise HiddenField(f'You may not ask about what "{field.field}" leads to.')
        if is_many:
            here, there = grant.collection.primary_key, target.collection.fields[relation.field_many]
        else:
            here, there = field, target.collection.primary_key
        joint = equal_keys(alias, here, behind, there)
        mask = grant.mask_of(field.field) if is_many else None
        # The view shows a hidden many-to-one column as NULL. A one-to-many field has no column, so the flag of the mask is checked.
        return behind, target, joint if mask is None else SQL("{} AND {}").format(column(alias, mask.flag), joint)

    def _exists(self, behind: str, target: Grant, joint: Composable, inner: Clause) -> Clause:
        table = target.table(behind)
        sql = SQL("EXISTS (SELECT 1 FROM {} WHERE {} AND {})").format(table.sql, joint, inner.sql)
        return Clause(sql, (*table.binds, *inner.binds))

    def _of_many(
        self,
        alias: str,
        grant: Grant,
        field: Field,
        relation: Relation,
        name: str,
        operator: Operator,
        empty: bool,
        value: Value,
    ) -> Clause:
        """Compiles a condition on a one-to-many field itself."""
        behind, target, joint = self._behind(alias, grant, field, relation, is_many=True)
        view = target.table(behind)
        table = SQL("FROM {} WHERE {}").format(view.sql, joint)
        if name in ("empty", "null", "nempty", "nnull"):
            sql = SQL(("NOT " if name in ("empty", "null") else "") + "EXISTS (SELECT 1 {})").format(table)
            return Clause(sql, view.binds)
        if name == "has":
            sql = SQL("(SELECT count(*) {}) >= %s").format(table)
            return Clause(sql, (*view.binds, lambda values: _count(one(value(values)))))
        far = target.collection.fields.get(relation.junction_field or "") or target.collection.primary_key
        if far.field in target.unaskable:
            raise HiddenField(f'You may not ask about what "{field.field}" leads to.')
        check_unsealed(far)
        if name == "all":
            # If one of the values cannot be a key, no item has all of them.
            def wanted(values: BindValues) -> list[Any] | None:
                texts = several(value(values))
                keys = texts if far.native is not None else list_bind(far, value)(values)
                return keys if len(keys) == len(texts) else None

            of, key = comparison_type(far), text_of(behind, far) if far.native is not None else folded(behind, far)
            sql = SQL("ARRAY(SELECT {far} {table}) @> %s::" + of + "[]").format(far=SQL("({})::" + of).format(key), table=table)
            return Clause(sql, (*view.binds, wanted))
        if operator.ignores_empty and empty:
            return TRUE
        return self._exists(behind, target, joint, operator.apply(behind, far, value))

    def status(self, alias: str, grant: Grant, statuses: str, of: Callable[[Query], Query] = itself) -> Clause:
        """Compiles the parameter `status`: the statuses in it, or by default all that do not mean deleted. *of* returns the query that
        has them."""
        field = grant.collection.status_field
        if field is None or statuses == "all":
            return TRUE
        if statuses == "given":
            grant.check_question(field.field)
            return one_of(alias, field, lambda values: of(values.query).status or ())
        return not_deleted(alias, grant.collection)


def _value_of(of: "Callable[[Query], Sequence[Condition]]", index: int) -> Value:
    return lambda values: of(values.query)[index].value


def of_filter(query: Query) -> Sequence[Condition]:
    return query.filter


def of_scope(query: Query) -> Sequence[Condition]:
    return query.scope


def of_where(query: Query) -> Sequence[Condition]:
    return () if query.where is None else query.where.leaves


def _size(where: CombinationShape) -> int:
    """Returns the number of conditions in parentheses."""
    return sum([_size(each) if isinstance(each, CombinationShape) else 1 for each in where.members])


def _count(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidPayload("has takes the number of related items.") from None


def q_of(of: Callable[[Query], Query] = itself) -> Bind:
    """Returns the bind of the pattern that a search looks for. *of* returns the query that has it."""
    return lambda values: storable(part_pattern(of(values.query).q or ""))


def list_of(index: int) -> Callable[[Query], Query]:
    """Returns the function that returns the query of a list: the one at *index* in `deep`."""
    return lambda query: query.deep[index][1]


# --- the whole of a query


def where_of(conditions: Conditions, grant: Grant, narrowing: Narrowing) -> Clause:
    """Returns the condition of status, q, the filter and conditions in parentheses."""
    return all_of(
        [
            conditions.status("t0", grant, narrowing.status),
            search("t0", grant, q_of()) if narrowing.search else TRUE,
            conditions.chain("t0", grant, narrowing.filter, of_filter),
            TRUE if narrowing.where is None else conditions.combination("t0", grant, narrowing.where),
        ]
    )


def lookup_of(grant: Grant, narrowing: Narrowing, sort: Sequence[Sort] = ()) -> Lookup:
    """Returns how the rows of a list are found. The filter has been compiled. A status that is asked for is left out beside OR."""
    asked = asked_of((*narrowing.scope, *narrowing.filter))
    if narrowing.where is not None and narrowing.where.kind == "all" and all(each.logical == "and" for each in asked[1:]):
        asked += asked_of(tuple([each for each in narrowing.where.members if isinstance(each, ConditionShape)]))
    status = grant.collection.status_field
    if narrowing.status == "given" and status is not None and all(each.logical == "and" for each in asked[1:]):
        asked = (*asked, Asked(status.field, "in"))
    names = tuple([f"-{each.field}" if each.descending else each.field for each in sort])
    return Lookup(grant.collection.collection, asked, names, narrowing.search)


def asked_of(chain: Chain) -> tuple[Asked, ...]:
    """Returns the conditions of a filter, except those that are ignored because their value is empty."""
    return tuple(
        [
            Asked(".".join(each.path), SIGNS.get(each.operator, each.operator), each.logical)
            for each in chain
            if not (each.empty and each.operator in OPERATORS and OPERATORS[each.operator].ignores_empty)
        ]
    )


def readable_column(grant: Grant, name: str) -> Field:
    """Returns a field with a column that the caller may filter by. Raises UnknownField or HiddenField."""
    field = grant.collection.columns.get(name)
    if field is None:
        raise no_field(grant, name, "that holds a value")
    grant.check_question(name)
    return field


def grouping_column(grant: Grant, name: str) -> Field:
    """Returns a field that rows can be grouped by. Raises UnknownField, HiddenField, or InvalidPayload if its values are sealed."""
    field = readable_column(grant, name)
    check_unsealed(field)
    return field
