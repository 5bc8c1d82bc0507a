"""The two forms in which the resources are shown: that of Directus 8, and that of RFC 7643."""

from attrs import frozen

from directus_tx.scim.errors import refusal_document

MEDIA_TYPE = "application/scim+json"


@frozen
class Dialect:
    """A form of the resources. If it is `standard`, they are as RFC 7643 and RFC 7644 define them. Otherwise they are as those of
    Directus 8: `externalId` is the numeric id of a user or a role, the `value` of a member is an e-mail address, absent values
    are null, filters only compare with eq, a malformed request is answered with 422 instead of 400, and the status of an error is
    a number.

    In both, `id` is the external id of the user or the role."""

    standard: bool

    def refusal(self, error: Exception, *, signed_in: bool) -> tuple[int, dict[str, object]]:
        """Returns the status and the document of an ApiError."""
        return refusal_document(error, standard=self.standard, signed_in=signed_in)


DIRECTUS_8 = Dialect(standard=False)
STANDARD = Dialect(standard=True)


def dialect_of(accept: str | None, form: str = "accept") -> Dialect:
    """Returns the dialect of a request: the standard if its Accept header names application/scim+json, or *form*, the setting scim.form, is
    "standard"."""
    ranges = (accept or "").lower().split(",")
    named = any(each.partition(";")[0].strip() == MEDIA_TYPE for each in ranges)
    return STANDARD if named or form == "standard" else DIRECTUS_8
