"""What one query may ask for and one read may take. It is refused, with the limit's setting named, before its SQL is made."""

from directus_tx.config import LimitSettings
from directus_tx.errors import InvalidRequest
from directus_tx.query import Condition, Query

MOST_COLUMNS = 1500
"""Columns that a statement may have whatever the setting says: PostgreSQL takes 1664, those that it sorts and joins by included."""


def check_query(query: Query, limits: LimitSettings) -> None:
    """Raises InvalidRequest where a list within a query has more members than the limits allow. It is on the way of every read."""
    if len(query.fields) > limits.max_fields:
        raise InvalidRequest(f"fields may have up to {limits.max_fields} members (limits.max_fields).")
    most = limits.max_members
    for members in (query.sort, query.groups, query.groupby, query.aggregate, query.status, query.lang, query.meta):
        if members is not None and len(members) > most:
            raise _too_many_members(query, most)
    if query.filter or query.deep:
        _check_conditions(query, limits)


def _too_many_members(query: Query, most: int) -> InvalidRequest:
    lists = {name: getattr(query, name) for name in ("sort", "groups", "groupby", "aggregate", "status", "lang", "meta")}
    name = next(name for name, members in lists.items() if members is not None and len(members) > most)
    return InvalidRequest(f"{name} may have up to {most} members (limits.max_members).")


def _check_conditions(query: Query, limits: LimitSettings) -> None:
    conditions = list(query.filter)
    if len(query.deep) > limits.max_lists:
        raise InvalidRequest(f"deep may narrow up to {limits.max_lists} lists (limits.max_lists).")
    for _, asked in query.deep:
        if len(asked.sort) > limits.max_members:
            raise InvalidRequest(f"sort may have up to {limits.max_members} members (limits.max_members).")
        conditions += asked.filter
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
    """Counts what a read in the making takes. Each method raises InvalidRequest where it is more than the limits allow, so that no work
    is done for a read that is refused in the end."""

    def __init__(self, limits: LimitSettings) -> None:
        self.limits = limits
        self._joins = 0
        self._lists = 0
        self._relations = 0

    def check_depth(self, relations: int) -> None:
        """Refuses a path that follows so many relations."""
        if relations > self.limits.max_depth:
            raise InvalidRequest(f"Fields and filters may follow up to {self.limits.max_depth} relations (limits.max_depth).")

    def count_join(self) -> None:
        """Counts a related item that is read beside its item."""
        self._joins += 1
        if self._joins > self.limits.max_joins:
            raise InvalidRequest(f"fields may open up to {self.limits.max_joins} many-to-one fields (limits.max_joins).")

    def count_list(self) -> None:
        """Counts a list of related items, which takes a statement."""
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
        """Refuses a statement that needs so many columns."""
        most = min(self.limits.max_columns, MOST_COLUMNS)
        if number > most:
            text = f"An item may show up to {most} columns, those of many-to-one fields that are opened included"
            raise InvalidRequest(f"{text} (limits.max_columns).")
