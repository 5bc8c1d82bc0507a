"""Plugins: the hooks that installed packages implement, and the manager that calls them."""

from directus_tx.plugins.hookspecs import hookimpl

__all__ = ["hookimpl"]
