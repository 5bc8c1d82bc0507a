"""The `Items` service: what reading and writing items needs from the server."""

from collections.abc import Mapping

from attrs import frozen

from directus_tx.config import LimitSettings
from directus_tx.items.rules import NO_RULES, CollectionRules
from directus_tx.items.values import Hasher
from directus_tx.plugins.manager import Plugins


@frozen
class Items:
    """The parts of the server that reading and writing items needs. `directus_tx.service` creates it once, and functions take it beside
    the context: the `rules` of system collections by name, the `plugins`, the `limits` of a request, and the `hasher` of hash fields."""

    rules: Mapping[str, CollectionRules]
    plugins: Plugins
    limits: LimitSettings
    hasher: Hasher

    def rules_of(self, collection: str) -> CollectionRules:
        """Returns the rules of a collection, `NO_RULES` for ordinary collections."""
        return self.rules.get(collection, NO_RULES)
