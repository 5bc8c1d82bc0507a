"""The job that removes uploads that clients have sent to the storage themselves and that have expired."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from directus_tx.context import current_time
from directus_tx.db.session import Session
from directus_tx.files import presigned
from directus_tx.jobs.removal import remove_from_all
from directus_tx.jobs.runner import Job
from directus_tx.projects.project import Project
from directus_tx.projects.registry import Projects

INTERVAL = 600.0
"""Seconds between two runs."""

BATCH = 100


def presigned_job(reactor: Any, projects: Projects, now: Callable[[], datetime] = current_time) -> Job:
    """Returns the job that removes the expired uploads of all projects, from the database and the storage. *now* returns the time of
    day."""
    return Job("expired presigned uploads", INTERVAL, lambda: remove_expired(reactor, projects, now))


async def remove_expired(reactor: Any, projects: Projects, now: Callable[[], datetime] = current_time) -> dict[str, int]:
    """Removes the expired uploads of all projects that are open. Returns their numbers. A failure is logged, and the project is skipped.
    *now* returns the time of day."""

    async def remove(project: Project, session: Session, limit: int) -> int:
        return await presigned.remove_expired(session, project.storage, now(), limit)

    return await remove_from_all(reactor, projects, "the expired presigned uploads", remove, BATCH)
