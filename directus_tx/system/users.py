"""Users: what a new one gets beside what is sent. Their passwords are hashed as every field of type hash is."""

import uuid

from directus_tx.context import Context
from directus_tx.rules import CollectionRules, Item


class UserRules(CollectionRules):
    """The rules of directus_users."""

    async def prepare_create(self, ctx: Context, payload: Item) -> Item:
        """Every user has an external id, by which other systems know them."""
        return payload if payload.get("external_id") else payload | {"external_id": str(uuid.uuid4())}
