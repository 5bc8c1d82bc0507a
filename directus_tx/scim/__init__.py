"""SCIM 2 (RFC 7643, RFC 7644): users and roles as the resources of identity providers. The items are read and written through `items`, with
the permissions of the caller."""
