"""Access to PostgreSQL. Only this package and `projects` import the driver."""
