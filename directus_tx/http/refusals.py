"""The form of errors: that of the API, or of SCIM below /:project/scim."""

from typing import Any

from directus_tx.config import ScimSettings
from directus_tx.errors import ApiError
from directus_tx.http import encode
from directus_tx.http.answers import JSON, Rendered
from directus_tx.scim.dialects import MEDIA_TYPE, dialect_of


def rendered_refusal(request: Any, error: ApiError, settings: ScimSettings) -> Rendered:
    """Returns the answer for an error."""
    if request.path.split(b"/", 3)[2:3] != [b"scim"]:
        return Rendered(error.status, JSON, encode.refusal(error))
    who = request.accountability
    signed_in = who is not None and not who.public
    status, document = dialect_of(request.getHeader("accept"), settings.form).refusal(error, signed_in=signed_in)
    return Rendered(status, MEDIA_TYPE, encode.encoded(document))
