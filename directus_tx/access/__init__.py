"""What a caller may do: permissions as conditions on rows and sets of fields. Pure: no I/O."""

from directus_tx.access.caller import Access, access_of
from directus_tx.access.grant import Grant, Permission

__all__ = ["Access", "Grant", "Permission", "access_of"]
