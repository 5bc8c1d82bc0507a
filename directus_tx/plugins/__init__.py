"""Plugins: how they are found, the hooks that they implement, and how these are called. Plugins themselves import `directus_tx.api`."""
