"""Deletes contents that belong to no file any more, with their thumbnails, after the commit: a kind of messages of the outbox."""

from typing import Any

from directus_tx.files.contents import KIND
from directus_tx.files.thumbnails import remove_crops, remove_thumbnails
from directus_tx.outbox.kinds import Attempt, Delivery, Outcome


class FileRemoval:
    """Deletes a content from the storage of its project."""

    name = KIND
    time_limit = 60.0

    async def deliver(self, project: Any, delivery: Delivery) -> Attempt:
        """Deletes the content and its thumbnails, or, if the message has a focal point, the thumbnails that are cut around another one. It
        is tried again if the storage cannot be used."""
        name, focus = delivery.message.payload["name"], delivery.message.payload.get("focus")
        if focus is not None:
            await remove_crops(project.storage, name, (focus[0], focus[1]))
            return Attempt(Outcome.DELIVERED)
        await project.storage.delete(name)
        await remove_thumbnails(project.storage, name)
        return Attempt(Outcome.DELIVERED)
