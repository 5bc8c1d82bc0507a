"""Removing rows of all projects in batches: what the jobs that remove old rows have in common."""

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet import defer
from twisted.internet.task import deferLater
from twisted.logger import Logger

from directus_tx.db.session import Session
from directus_tx.projects.project import Project
from directus_tx.projects.registry import Projects

log = Logger()
BATCH = 1000
"""The number of rows that are removed at a time, unless a job has its own."""

PAUSE = 0.1
"""Seconds between batches, so that requests are answered in between."""


async def remove_from_all(
    reactor: Any,
    projects: Projects,
    what: str,
    remove: Callable[[Project, Session, int], Awaitable[int]],
    batch: int = BATCH,
) -> dict[str, int]:
    """Calls *remove* with a project, a session of it and the size of a batch until it returns 0, for each project that is open and can be
    written. Returns the number of removed rows of each. A failure is logged, with *what* naming the rows, and the project is skipped."""
    removed: dict[str, int] = {}
    for key, project in projects.opened():
        if project.state != "ready" or project.read_only:
            continue
        try:
            removed[key] = 0
            while number := await remove(project, Session(project.database), batch):
                removed[key] += number
                await deferLater(reactor, PAUSE)
        except defer.CancelledError:
            raise
        except Exception as error:
            log.error("{what} of project {key} cannot be removed: {error}", what=what, key=key, error=error)
    return removed
