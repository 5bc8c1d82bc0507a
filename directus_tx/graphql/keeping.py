"""What is kept with a snapshot, within bounds: the catalogs of callers, their documents, and what these ask about the schema."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

from twisted.internet import defer

from directus_tx.cache import Cache
from directus_tx.graphql.catalog import Catalog

V = TypeVar("V")

MAX_CATALOGS = 64 * 2**20
MAX_DOCUMENTS = 32 * 2**20
MAX_DESCRIPTIONS = 16 * 2**20
"""The approximate sizes in bytes of what is kept with a snapshot."""

FIELD = 450
"""Bytes that a field of a type takes, on average."""


class Recent(Generic[V]):
    """Values by key, of which those that have not been used for longest are dropped when their weights exceed *most*. The newest is kept
    whatever its weight."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.weight = 0
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        """Returns a value, None if it is not kept."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def keep(self, key: Hashable, value: V, weight: int) -> None:
        """Keeps a value."""
        former = self._values.pop(key, None)
        self.weight += weight - (0 if former is None else former[1])
        self._values[key] = value, weight
        while self.weight > self.most and len(self._values) > 1:
            _, (_, gone) = self._values.popitem(last=False)
            self.weight -= gone


class Catalogs:
    """The catalogs of the callers of a snapshot, by what access depends on. `making` are those that wait for one that is being made;
    `documents` are documents and operations, `descriptions` what documents ask about the schema, as JSON."""

    def __init__(self) -> None:
        self._catalogs: Recent[Catalog] = Recent(MAX_CATALOGS)
        self.making: dict[Hashable, list[defer.Deferred[None]]] = {}
        self.documents: Cache[Any] = Cache(MAX_DOCUMENTS)
        self.descriptions: Recent[dict[str, Any]] = Recent(MAX_DESCRIPTIONS)

    def get(self, key: Hashable) -> Catalog | None:
        """Returns a catalog, None if it must be made."""
        return self._catalogs.get(key)

    def keep(self, key: Hashable, catalog: Catalog) -> None:
        """Keeps a catalog."""
        self._catalogs.keep(key, catalog, FIELD * catalog.fields)
