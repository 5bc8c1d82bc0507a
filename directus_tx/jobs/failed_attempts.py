"""The job that removes failed attempts to sign in that count no more."""

from typing import Any

from directus_tx.accounts.throttle import remove_restored
from directus_tx.config import RateLimitSettings
from directus_tx.jobs.removal import remove_from_all
from directus_tx.jobs.runner import Job
from directus_tx.projects.registry import Projects


def failed_attempts_job(reactor: Any, projects: Projects, settings: RateLimitSettings) -> Job:
    """Returns the job that removes the failed attempts of all projects that count no more."""
    return Job(
        "failed attempts",
        settings.prune_interval,
        lambda: remove_from_all(
            reactor, projects, "failed attempts to sign in", lambda _, session, limit: remove_restored(session, limit)
        ),
    )
