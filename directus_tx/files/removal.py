"""Deletes contents that belong to no file any more, after the commit: a kind of messages of the outbox."""

from typing import Any

from directus_tx.files.contents import KIND
from directus_tx.outbox.kinds import Attempt, Delivery, Outcome


class FileRemoval:
    """Deletes a content from the storage of its project."""

    name = KIND
    time_limit = 60.0

    async def deliver(self, project: Any, delivery: Delivery) -> Attempt:
        """Deletes the content. It is tried again if the storage cannot be used."""
        await project.storage.delete(delivery.message.payload["name"])
        return Attempt(Outcome.DELIVERED)
