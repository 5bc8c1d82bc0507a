"""The job that removes delivered messages from the outbox."""

from typing import Any

from directus_tx.config import OutboxSettings
from directus_tx.jobs.removal import remove_from_all
from directus_tx.jobs.runner import Job
from directus_tx.outbox.records import remove_delivered
from directus_tx.projects.registry import Projects


def outbox_job(reactor: Any, projects: Projects, settings: OutboxSettings) -> Job | None:
    """Returns the job that removes messages of all projects that were delivered longer ago than the settings say, with their attempts, or
    None if they are kept."""
    if settings.retention_days == 0:
        return None
    return Job("delivered messages", settings.prune_interval, lambda: remove_old(reactor, projects, settings.retention_days))


async def remove_old(reactor: Any, projects: Projects, days: float) -> dict[str, int]:
    """Removes messages that were delivered more than *days* ago from the projects that are open, and returns their numbers. Dead and held
    messages are kept until somebody retries or drops them. A failure is logged, and the project is skipped."""
    return await remove_from_all(
        reactor, projects, "the delivered messages", lambda _, session, limit: remove_delivered(session, days, limit)
    )
