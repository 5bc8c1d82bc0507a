"""The embedded database: a private PostgreSQL in the data directory, and the supervisor that starts it again when it ends."""

from directus_tx.embedded.server import LOG_DAYS, SETTINGS, EmbeddedError, EmbeddedPostgres, Interrupted
from directus_tx.embedded.supervisor import Supervisor

__all__ = ["LOG_DAYS", "SETTINGS", "EmbeddedError", "EmbeddedPostgres", "Interrupted", "Supervisor"]
