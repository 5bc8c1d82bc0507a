"""GraphQL: another face of the same services. A schema is made of what a caller may see, documents are planned as queries and then read."""
