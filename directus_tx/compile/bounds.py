"""Limits of queries and reads. A query that exceeds a limit is refused before its SQL is built; the message names the setting."""

from directus_tx.config import LimitSettings
from directus_tx.errors import InvalidRequest
from directus_tx.query import Condition, Query

MOST_COLUMNS = 1500
"""The maximum number of columns, whatever the setting: PostgreSQL allows 1664, including those used for sorting and joining."""


def check_query(query: Query, limits: LimitSettings) -> None:
    """Raises InvalidRequest if a list in a query has more members than the limits allow. This runs for every read."""
    if len(query.fields) > limits.max_fields:
        raise InvalidRequest(f"fields may have up to {limits.max_fields} members (limits.max_fields).")
    most = limits.max_members
    for members in (query.sort, query.groups, query.groupby, query.aggregate, query.status, query.lang, query.meta):
        if members is not None and len(members) > most:
            raise _too_many_members(query, most)
    if query.filter or query.deep or query.where is not None:
        _check_conditions(query, limits)


def _too_many_members(query: Query, most: int) -> InvalidRequest:
    lists = {name: getattr(query, name) for name in ("sort", "groups", "groupby", "aggregate", "status", "lang", "meta")}
    name = next(name for name, members in lists.items() if members is not None and len(members) > most)
    return InvalidRequest(f"{name} may have up to {most} members (limits.max_members).")


def _check_conditions(query: Query, limits: LimitSettings) -> None:
    conditions = [*query.filter, *(() if query.where is None else query.where.leaves)]
    if len(query.deep) > limits.max_lists:
        raise InvalidRequest(f"deep may narrow up to {limits.max_lists} lists (limits.max_lists).")
    for _, nested in query.deep:
        for name, members in (("sort", nested.sort), ("status", nested.status or ())):
            if len(members) > limits.max_members:
                raise InvalidRequest(f"{name} may have up to {limits.max_members} members (limits.max_members).")
        conditions += nested.filter
    if len(conditions) > limits.max_conditions:
        text = f"The filters of a query may have up to {limits.max_conditions} conditions, those of deep included"
        raise InvalidRequest(f"{text} (limits.max_conditions).")
    for condition in conditions:
        if _values(condition) > limits.max_values:
            raise InvalidRequest(f"A condition may have up to {limits.max_values} values (limits.max_values).")


def _values(condition: Condition) -> int:
    value = condition.value
    if value is None:
        return 0
    return value.count(",") + 1 if isinstance(value, str) else len(value)


class Bounds:
    """Counts what a read needs while it is compiled. Each method raises InvalidRequest as soon as a limit is exceeded."""

    def __init__(self, limits: LimitSettings) -> None:
        self.limits = limits
        self._joins = 0
        self._lists = 0
        self._relations = 0

    def check_depth(self, relations: int) -> None:
        """Checks the number of relations that a path follows."""
        if relations > self.limits.max_depth:
            raise InvalidRequest(f"Fields and filters may follow up to {self.limits.max_depth} relations (limits.max_depth).")

    def count_join(self) -> None:
        """Counts a many-to-one field that is joined."""
        self._joins += 1
        if self._joins > self.limits.max_joins:
            raise InvalidRequest(f"fields may open up to {self.limits.max_joins} many-to-one fields (limits.max_joins).")

    def count_list(self) -> None:
        """Counts a one-to-many field, which takes a statement."""
        self._lists += 1
        if self._lists > self.limits.max_lists:
            raise InvalidRequest(f"fields may open up to {self.limits.max_lists} lists of related items (limits.max_lists).")

    def count_relation(self) -> None:
        """Counts a relation that a filter follows, which takes a subquery."""
        self._relations += 1
        if self._relations > self.limits.max_relations:
            text = f"The filters of a query may follow up to {self.limits.max_relations} relations, each time that one is named"
            raise InvalidRequest(f"{text} (limits.max_relations).")

    def check_columns(self, number: int) -> None:
        """Checks the number of columns of a statement."""
        most = min(self.limits.max_columns, MOST_COLUMNS)
        if number > most:
            text = f"An item may show up to {most} columns, those of many-to-one fields that are opened included"
            raise InvalidRequest(f"{text} (limits.max_columns).")
