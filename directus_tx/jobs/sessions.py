"""The job that removes expired sessions."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from twisted.internet import defer
from twisted.internet.task import deferLater
from twisted.logger import Logger

from directus_tx.accounts import sessions
from directus_tx.config import SessionSettings
from directus_tx.context import current_time
from directus_tx.db.session import Session
from directus_tx.jobs.runner import Job
from directus_tx.projects.registry import Projects

log = Logger()
BATCH = 1000
PAUSE = 0.1
"""Seconds between batches, so that requests are answered in between."""


def sessions_job(reactor: Any, projects: Projects, settings: SessionSettings, now: Callable[[], datetime] = current_time) -> Job:
    """Returns the job that removes the expired sessions of all projects. *now* returns the time of day."""
    return Job("expired sessions", settings.prune_interval, lambda: remove_expired(reactor, projects, now))


async def remove_expired(reactor: Any, projects: Projects, now: Callable[[], datetime] = current_time) -> dict[str, int]:
    """Removes the expired sessions of all projects that are open, and returns their numbers. In others, nobody has signed in. A failure is
    logged, and the project is skipped. *now* returns the time of day."""
    removed: dict[str, int] = {}
    for key, project in projects.opened():
        if project.state != "ready" or project.read_only:
            continue
        try:
            removed[key] = 0
            while number := await sessions.remove_expired(Session(project.database), now(), BATCH):
                removed[key] += number
                await deferLater(reactor, PAUSE)
        except defer.CancelledError:
            raise
        except Exception as error:
            log.error("the expired sessions of project {key} cannot be removed: {error}", key=key, error=error)
    return removed
