"""The hooks with which plugins add to the server. They are called once, when the server starts, and are plain functions.

What is wrong with a registration (its type, a name that is taken, an exception) is reported with the name of the plugin.
"""

from typing import Any

import pluggy

from directus_tx.plugins.hookspecs import PROJECT

hookspec = pluggy.HookspecMarker(PROJECT)


@hookspec
def register_routes() -> Any:
    """Returns routes: a `Routes`, or a list of them. The path "/hello" is served at /custom/NAME/hello, and "/<project>/hello" at
    /:project/custom/NAME/hello, where NAME is the name of the plugin."""
