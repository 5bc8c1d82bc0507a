"""How the programs import the server."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collections() -> Iterator[None]:
    """A context for imports in which Python's garbage collector does not run. Almost all objects that modules make live as long as the
    process, and the collector would examine them again and again: that takes a fifth of the time in which the server is imported.
    Afterwards the collector runs if it did before, and leaves out the objects that exist then."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if running:
            gc.enable()
