"""The errors of SCIM, and errors of the API as SCIM shows them (RFC 7644, section 3.12)."""

from typing import Any

from directus_tx.errors import (
    ApiError,
    BadRequest,
    InvalidPayload,
    InvalidRequest,
    ItemChanged,
    NotUnique,
    Unauthorized,
    UnusableBody,
)

ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"


class InvalidFilter(InvalidRequest):
    """The filter is malformed, or compares an attribute that it cannot compare."""


class InvalidValue(InvalidRequest):
    """The value does not fit the attribute."""


class InvalidOperation(BadRequest):
    """The operation of a PATCH is malformed."""

    scim_type = "invalidSyntax"


class InvalidPath(InvalidOperation):
    """The path of an operation is malformed, or names no attribute."""

    scim_type = "invalidPath"


class NoTarget(InvalidOperation):
    """The path of an operation matches no value."""

    scim_type = "noTarget"


class NotMutable(InvalidOperation):
    """The attribute cannot be changed."""

    scim_type = "mutability"


class TooMany(BadRequest):
    """The answer would hold too many values."""

    scim_type = "tooMany"


_TYPES: tuple[tuple[type[ApiError], str], ...] = (
    (InvalidFilter, "invalidFilter"),
    (NotUnique, "uniqueness"),
    (UnusableBody, "invalidSyntax"),
    (InvalidRequest, "invalidValue"),
    (InvalidPayload, "invalidValue"),
)


def refusal_document(error: Any, *, standard: bool, signed_in: bool) -> tuple[int, dict[str, Any]]:
    """Returns the status and the document of an error. *signed_in*: the caller is a user, for whom signing in changes nothing:
    401 becomes 403. *standard*: as RFC 7644 defines it."""
    status: int = error.status
    if signed_in and isinstance(error, Unauthorized):
        status = 403
    if standard and status == 422:
        status = 400
    document: dict[str, Any] = {"schemas": [ERROR], "status": str(status) if standard else status, "detail": error.message}
    kind = _type_of(error)
    if kind is not None:
        document["scimType"] = kind
    return status, document


def _type_of(error: ApiError) -> str | None:
    named = getattr(error, "scim_type", None)
    if named is not None or isinstance(error, ItemChanged):
        return named
    return next((kind for each, kind in _TYPES if isinstance(error, each)), None)
