"""The job that removes expired sessions, tokens of users, used tokens and links."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from directus_tx.accounts import links, sessions, user_tokens
from directus_tx.accounts.sso import tokens
from directus_tx.config import SessionSettings
from directus_tx.context import current_time
from directus_tx.db.session import Session
from directus_tx.jobs.removal import remove_from_all
from directus_tx.jobs.runner import Job
from directus_tx.projects.project import Project
from directus_tx.projects.registry import Projects


def sessions_job(reactor: Any, projects: Projects, settings: SessionSettings, now: Callable[[], datetime] = current_time) -> Job:
    """Returns the job that removes the expired sessions, tokens of users, used tokens and links of all projects. *now* returns the time of
    day."""
    return Job("expired sessions", settings.prune_interval, lambda: remove_expired(reactor, projects, now))


async def remove_expired(reactor: Any, projects: Projects, now: Callable[[], datetime] = current_time) -> dict[str, int]:
    """Removes the expired sessions, tokens of users, used tokens and links of all projects that are open, and returns their numbers. In
    others, nobody has signed in. A failure is logged, and the project is skipped. *now* returns the time of day."""

    async def remove(project: Project, session: Session, limit: int) -> int:
        return sum([await each.remove_expired(session, now(), limit) for each in (sessions, user_tokens, tokens, links)])

    return await remove_from_all(reactor, projects, "the expired sessions", remove)
