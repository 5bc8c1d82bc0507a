"""directus_tx: a server for the Directus 8 API on Twisted and PostgreSQL."""

__version__ = "0.1.0"
