"""The `directus` command for administrators of the server. Each module has one group of its commands."""

from directus_tx.cli.main import main

__all__ = ["main"]
