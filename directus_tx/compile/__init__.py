"""From a query and a grant to SQL. Pure: no I/O."""
