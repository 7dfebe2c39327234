"""Tables: rows of columns of several types."""

from sparring.domains.table.domain import TableDomain

DOMAIN = TableDomain()
"""The domain of tables, as the verbs see it."""
