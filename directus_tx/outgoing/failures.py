"""Why outgoing requests fail, in words for users."""

from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost, DNSLookupError
from twisted.internet.error import (
    ConnectionRefusedError as RefusedConnection,
)
from twisted.internet.error import (
    TimeoutError as ConnectTimeout,
)
from twisted.web.client import ResponseFailed, ResponseNeverReceived
from twisted.web.http import PotentialDataLoss

from directus_tx.config import OutgoingSettings


class RequestFailed(Exception):
    """An outgoing request has no answer. The message says why, in words for users."""


class Refused(RequestFailed):
    """The server may not make the request: its URL cannot be used, or its address is not allowed."""


class Unreachable(RequestFailed):
    """There was no complete answer: the name could not be resolved, the connection or TLS failed, or a time limit was exceeded."""


def reasons_of(error: BaseException) -> list[BaseException]:
    """Returns an error of the HTTP client and the errors behind it."""
    found = [error]
    for failure in getattr(error, "reasons", ()):
        found += reasons_of(failure.value)
    return found


def closed_early(error: Exception) -> bool:
    """Whether the receiver has closed the connection without an answer."""
    reasons = reasons_of(error)
    return isinstance(error, ResponseNeverReceived) and any(
        isinstance(each, (ConnectionLost, ConnectionDone)) for each in reasons
    )


def explained(error: Exception, settings: OutgoingSettings) -> RequestFailed:
    """Returns the error for an error of the HTTP client. It has no details of the receiver's network, beyond what the URL says."""
    reasons = reasons_of(error)
    for each in reasons:
        if isinstance(each, RequestFailed):
            return each
    kinds = (
        (DNSLookupError, "The name of the host cannot be resolved."),
        (SSL.Error, "TLS failed: {tls}."),
        (VerificationError, "TLS failed: the certificate is not for this host."),
        (ConnectTimeout, f"There was no connection within {settings.connect_timeout:g} seconds."),
        (RefusedConnection, "The connection was refused."),
        (ConnectError, "The connection failed."),
        (PotentialDataLoss, "The connection was closed before the end of the answer."),
    )
    for kind, text in kinds:
        for each in reasons:
            if isinstance(each, kind):
                return Unreachable(text.format(tls=tls_reason(each)) if kind is SSL.Error else text)
    if isinstance(error, ResponseNeverReceived):
        return Unreachable("The connection was closed without an answer.")
    if isinstance(error, ResponseFailed):
        return Unreachable("The connection was closed before the end of the answer.")
    return Unreachable("There was no valid answer.")


def tls_reason(error: BaseException) -> str:
    """Returns the last reason of OpenSSL in words, for example "certificate verify failed"."""
    errors = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return errors[-1][-1] if errors and errors[-1] else "the connection is not encrypted properly"
