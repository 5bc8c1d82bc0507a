"""The job that removes uploads that clients have sent to the storage themselves and that have expired."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from twisted.internet import defer
from twisted.logger import Logger

from directus_tx.context import current_time
from directus_tx.db.session import Session
from directus_tx.files import presigned
from directus_tx.jobs.runner import Job
from directus_tx.projects.registry import Projects

log = Logger()

INTERVAL = 600.0
"""Seconds between two runs."""

BATCH = 100


def presigned_job(reactor: Any, projects: Projects, now: Callable[[], datetime] = current_time) -> Job:
    """Returns the job that removes the expired uploads of all projects, from the database and the storage. *now* returns the time of
    day."""
    return Job("expired presigned uploads", INTERVAL, lambda: remove_expired(projects, now))


async def remove_expired(projects: Projects, now: Callable[[], datetime] = current_time) -> dict[str, int]:
    """Removes the expired uploads of all projects that are open. Returns their numbers. A failure is logged, and the project is skipped.
    *now* returns the time of day."""
    removed: dict[str, int] = {}
    for key, project in projects.opened():
        if project.state != "ready" or project.read_only:
            continue
        try:
            removed[key] = 0
            session = Session(project.database)
            while number := await presigned.remove_expired(session, project.storage, now(), BATCH):
                removed[key] += number
        except defer.CancelledError:
            raise
        except Exception as error:
            log.error("the expired uploads of project {key} cannot be removed: {error}", key=key, error=error)
    return removed
