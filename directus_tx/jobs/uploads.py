"""The job that removes uploads by the tus protocol that have expired."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from directus_tx.config import FileSettings
from directus_tx.context import current_time
from directus_tx.db.session import Session
from directus_tx.files.uploads import remove_finished
from directus_tx.jobs.removal import remove_from_all
from directus_tx.jobs.runner import Job
from directus_tx.projects.project import Project
from directus_tx.projects.registry import Projects

BATCH = 100


def uploads_job(reactor: Any, projects: Projects, settings: FileSettings, now: Callable[[], datetime] = current_time) -> Job:
    """Returns the job that removes the expired uploads of all projects, from the database and the storage. *now* returns the time of
    day."""
    return Job("expired uploads", settings.prune_interval, lambda: remove_expired(reactor, projects, now))


async def remove_expired(reactor: Any, projects: Projects, now: Callable[[], datetime] = current_time) -> dict[str, int]:
    """Removes the expired uploads of all projects that are open, and what is left of others: of those that have been deleted, and the parts
    of those that have become files. Returns their numbers. A failure is logged, and the project is skipped. *now* returns the time of
    day."""

    async def remove(project: Project, session: Session, limit: int) -> int:
        return await remove_finished(session, project.storage, now(), limit)

    return await remove_from_all(reactor, projects, "the expired uploads", remove, BATCH)
