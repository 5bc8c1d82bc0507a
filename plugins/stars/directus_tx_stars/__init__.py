"""Extensions of the admin app: an interface and a layout for ratings, and a module that shows how many items there are."""

import pathlib

from directus_tx.api import Server, hookimpl

directus_tx_api = 1


@hookimpl
def register_extensions(server: Server) -> pathlib.Path:
    """Returns the directory with the directories interfaces, layouts and modules."""
    return pathlib.Path(__file__).parent / "extensions"
