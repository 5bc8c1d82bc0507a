"""The job that removes uploads by the tus protocol that have expired."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from twisted.internet import defer
from twisted.logger import Logger

from directus_tx.config import FileSettings
from directus_tx.context import current_time
from directus_tx.db.session import Session
from directus_tx.files.uploads import remove_finished
from directus_tx.jobs.runner import Job
from directus_tx.projects.registry import Projects

log = Logger()
BATCH = 100


def uploads_job(reactor: Any, projects: Projects, settings: FileSettings, now: Callable[[], datetime] = current_time) -> Job:
    """Returns the job that removes the expired uploads of all projects, from the database and the storage. *now* returns the time of
    day."""
    return Job("expired uploads", settings.prune_interval, lambda: remove_expired(projects, now))


async def remove_expired(projects: Projects, now: Callable[[], datetime] = current_time) -> dict[str, int]:
    """Removes the expired uploads of all projects that are open, and what is left of others: of those that have been deleted, and the parts
    of those that have become files. Returns their numbers. A failure is logged, and the project is skipped. *now* returns the time of
    day."""
    removed: dict[str, int] = {}
    for key, project in projects.opened():
        if project.state != "ready" or project.read_only:
            continue
        try:
            removed[key] = 0
            while number := await remove_finished(Session(project.database), project.storage, now(), BATCH):
                removed[key] += number
        except defer.CancelledError:
            raise
        except Exception as error:
            log.error("the expired uploads of project {key} cannot be removed: {error}", key=key, error=error)
    return removed
