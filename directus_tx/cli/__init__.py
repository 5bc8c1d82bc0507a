"""The `directus` command."""

from directus_tx.cli.main import main

__all__ = ["main"]
