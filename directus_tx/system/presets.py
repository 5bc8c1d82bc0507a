"""Collection presets: what a user has set in passing, of which no history is kept."""

from directus_tx.items.rules import CollectionRules


class PresetRules(CollectionRules):
    """The rules of directus_collection_presets."""

    unlogged = True
