"""The schema of a project's database: its model and types, reading it, and changing it."""
