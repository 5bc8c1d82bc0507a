"""GraphQL, which reads and writes through the same services as REST. A schema is made of what a caller may see, documents are
planned as queries and then read."""
