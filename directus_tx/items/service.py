"""The `Items` service: what the reading and writing of items needs of the server, rather than of one request."""

from collections.abc import Mapping

from attrs import frozen

from directus_tx.config import LimitSettings
from directus_tx.items.rules import NO_RULES, CollectionRules
from directus_tx.items.values import Hasher
from directus_tx.plugins.manager import Plugins


@frozen
class Items:
    """Made once, by `service`. Whoever reads or writes items passes it on beside the context: the `rules` of the system collections by
    name, the `plugins` whose hooks take part in writes, the `limits` of a request, and the `hasher` of fields of type hash."""

    rules: Mapping[str, CollectionRules]
    plugins: Plugins
    limits: LimitSettings
    hasher: Hasher

    def rules_of(self, collection: str) -> CollectionRules:
        """The rules of a collection; those of an ordinary one are `NO_RULES`."""
        return self.rules.get(collection, NO_RULES)
