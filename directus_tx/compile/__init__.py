"""Compiles queries and grants to SQL. This package performs no I/O."""
