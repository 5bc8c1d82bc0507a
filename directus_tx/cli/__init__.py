"""The `directus` command for administrators of the server. Each module has one group of its commands."""

from directus_tx.importing import without_collections

try:
    with without_collections():
        from directus_tx.cli.main import main
except KeyboardInterrupt:
    # Click handles Ctrl-C only in the commands.
    raise SystemExit("directus: interrupted") from None

__all__ = ["main"]
