"""The `directus` command for administrators of the server. Each module has one group of its commands."""

from directus_tx.importing import without_collections

try:
    with without_collections():
        from directus_tx.cli.main import main
except KeyboardInterrupt:
    # Importing the server takes most of a second, in which Ctrl-C would end in a traceback.
    raise SystemExit("directus: interrupted") from None

__all__ = ["main"]
