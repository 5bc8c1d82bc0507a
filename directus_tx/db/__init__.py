"""The database. Only this package and `projects` import the driver."""
