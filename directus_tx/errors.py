"""The errors of the API: a class with a code and an HTTP status for each.

Clients branch on the code. The message names what was wrong. Any other exception is answered as `InternalError`.
"""

from collections.abc import Mapping

from attrs import frozen


@frozen
class Diagnostics:
    """The details of a database error: the SQLSTATE and the names of the table, the constraint or unique index, the column, and the domain
    whose check failed. `denied` is the object on which the server's role lacks a privilege, such as ``sequence "orders_id_seq"``. Do not
    show them to clients without checking the caller's permissions."""

    sqlstate: str
    table: str | None = None
    constraint: str | None = None
    column: str | None = None
    domain: str | None = None
    denied: str | None = None


MAX_MESSAGE = 2000
"""Characters that a message may have: it may repeat names that a client has sent, which are as long as the client likes."""


class ClientGone(Exception):
    """The connection is closed: by the client, or because the client received nothing for too long."""


class ApiError(Exception):
    """An error that is sent to the client as ``{"error": {"code": ..., "message": ...}}``.

    `code` and `status` belong to the class; `headers` are added to the response (such as `Retry-After`). `diagnostics` are set for database
    errors.
    """

    code = 0
    status = 500
    depends_on_schema = False
    """Whether the error may be caused by an outdated snapshot. If the schema has changed, the request is tried again."""

    def __init__(
        self, message: str = "", *, headers: Mapping[str, str] | None = None, diagnostics: Diagnostics | None = None
    ) -> None:
        text = message or (type(self).__doc__ or "Error").strip().splitlines()[0]
        super().__init__(text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + "…")
        self.headers: Mapping[str, str] = headers or {}
        self.diagnostics = diagnostics

    @property
    def message(self) -> str:
        return str(self.args[0])


class InternalError(ApiError):
    """The server failed; the log has the details under the request id."""

    logged = False
    """Whether the log has the details already."""


class NotFound(ApiError):
    """There is nothing at this address."""

    code, status = 1, 404


class Unauthorized(ApiError):
    """Sign in to do this."""

    code, status = 3, 401


class InvalidRequest(ApiError):
    """The request does not hold what it must."""

    code, status = 4, 422
    depends_on_schema = True


class MethodNotAllowed(ApiError):
    """This address does not answer to this method."""

    code, status = 6, 405


class TooManyRequests(ApiError):
    """There were too many requests, or too many failed attempts to sign in; try again later."""

    code, status = 7, 429


class CommentRequired(ApiError):
    """The role must explain this change: give a comment."""

    code, status = 10, 403


class InvalidPayload(ApiError):
    """The payload does not fit the collection."""

    code, status = 12, 422
    depends_on_schema = True


class InvitationForbidden(ApiError):
    """You may not invite users."""

    code, status = 10, 403


class UploadForbidden(ApiError):
    """You may not upload or change files."""

    code, status = 10, 403


class UnusableBody(ApiError):
    """The body cannot be read."""

    code, status = 13, 400


class BadRequest(ApiError):
    """The request cannot be done in this form."""

    code, status = 15, 400


class ServiceUnavailable(ApiError):
    """The server cannot answer now; try again shortly."""

    code, status = 16, 503

    def __init__(
        self, message: str = "", *, headers: Mapping[str, str] | None = None, diagnostics: Diagnostics | None = None
    ) -> None:
        super().__init__(message, headers={"Retry-After": "1", **(headers or {})}, diagnostics=diagnostics)


class Conflict(ApiError):
    """Others are changing the same items; try again."""

    code, status = 17, 409


class ProjectExists(ApiError):
    """A project of this key exists already."""

    code, status = 18, 409


class AddressNotAllowed(ApiError):
    """The role may not be used from this IP address."""

    code, status = 19, 401


class ItemChanged(ApiError):
    """The item has changed since it was read."""

    code, status = 20, 412


class RequestTimeout(ApiError):
    """The request was not received in time."""

    code, status = 21, 408


class RequestTooLong(ApiError):
    """The address of the request is too long."""

    code, status = 22, 414


class ReadOnlyDatabase(ApiError):
    """The project's database can only be read."""

    code, status = 23, 403
    depends_on_schema = True


class StandbyDatabase(ServiceUnavailable):
    """The project's database is a standby, which can only be read."""


class NotSupported(ApiError):
    """The server does not support this."""

    code, status = 24, 501


class PayloadTooLarge(ApiError):
    """The body is larger than the server accepts."""

    code, status = 601, 413


class StorageFull(ApiError):
    """There is no room for the file."""

    code, status = 602, 507


class OffsetConflict(ApiError):
    """The upload has another offset."""

    code, status = 603, 409


class WrongChecksum(ApiError):
    """The bytes do not have the checksum that the request names."""

    code, status = 604, 460


class UploadEnded(ApiError):
    """The upload has expired."""

    code, status = 605, 410


class UnsupportedVersion(ApiError):
    """The server does not support this version of the protocol."""

    code, status = 606, 412


class UnsupportedMediaType(ApiError):
    """The body has a media type that cannot be used here."""

    code, status = 607, 415


class UploadLocked(ApiError):
    """The file of the upload is being made; try again shortly."""

    code, status = 608, 423


class InvalidCredentials(ApiError):
    """The e-mail address or the password is wrong."""

    code, status = 100, 404


class InvalidToken(ApiError):
    """The token is not valid."""

    code, status = 101, 401


class ExpiredToken(ApiError):
    """The token has expired."""

    code, status = 102, 401


class InactiveUser(ApiError):
    """The user is not active."""

    code, status = 103, 401


class SuspendedUser(ApiError):
    """The user is suspended."""

    code, status = 103, 404


class TooManyFailedSignIns(ApiError):
    """The user is suspended after too many failed sign-ins."""

    code, status = 103, 401


class InvalidResetToken(ApiError):
    """The token for a new password is not valid."""

    code, status = 104, 401


class UsedResetToken(ApiError):
    """The token for a new password has been used, or the account has changed since."""

    code, status = 105, 401


class InvitationNotFound(ApiError):
    """There is no such invitation, or it has been accepted already."""

    code, status = 106, 404


class AddressUnknown(ApiError):
    """There is no active user with this e-mail address."""

    code, status = 107, 404


class UserUnknown(ApiError):
    """Sign in as a user of the project to do this."""

    code, status = 108, 401


class InvalidRequestToken(ApiError):
    """The request token is not valid."""

    code, status = 109, 401


class SignOnFailed(ApiError):
    """Signing in with the provider has failed; the log says why."""

    code, status = 120, 401


class SignOnRefused(ApiError):
    """The account of the provider has no access to this project."""

    code, status = 121, 401


class OneTimePasswordRequired(ApiError):
    """The user has activated two-factor authentication: a one-time password is needed, as "otp"."""

    code, status = 111, 404


class InvalidOneTimePassword(ApiError):
    """The one-time password is wrong."""

    code, status = 112, 404


class TwoFactorRequired(ApiError):
    """The role of the user enforces two-factor authentication, which the user has not activated."""

    code, status = 113, 401


class InvalidSignIn(ApiError):
    """E-mail address and password are needed, both as text."""

    code, status = 114, 422


class CollectionNotFound(ApiError):
    """There is no such collection."""

    code, status = 200, 404
    depends_on_schema = True


class SystemCollection(ApiError):
    """System collections have endpoints of their own."""

    code, status = 201, 401


class FieldNotFound(ApiError):
    """There is no such field."""

    code, status = 202, 404
    depends_on_schema = True


class UnknownField(ApiError):
    """The query names a field that the collection does not have."""

    code, status = 202, 422
    depends_on_schema = True


class ItemNotFound(ApiError):
    """There is no such item."""

    code, status = 203, 404


class NotUnique(ApiError):
    """An item with this value exists already."""

    code, status = 204, 409


class UnmanagedCollection(ApiError):
    """The collection is not managed."""

    code, status = 205, 404
    depends_on_schema = True


class RevisionNotFound(ApiError):
    """The item has no such revision."""

    code, status = 207, 404


class CommentNotCreatable(ApiError):
    """Comments may not be made here."""

    code, status = 210, 403


class CommentNotUpdatable(ApiError):
    """The comment may not be changed."""

    code, status = 211, 403


class CommentNotDeletable(ApiError):
    """The comment may not be deleted."""

    code, status = 212, 403


class InvalidFieldValue(ApiError):
    """The field does not take a value of this kind."""

    code, status = 213, 422
    depends_on_schema = True


class UnknownOperator(ApiError):
    """There is no such filter operator."""

    code, status = 214, 422


class HiddenField(ApiError):
    """The field may not be read."""

    code, status = 215, 403


class LastAdministrator(ApiError):
    """The project needs an active administrator."""

    code, status = 216, 403


class ReadForbidden(ApiError):
    """The items may not be read."""

    code, status = 300, 403


class CreateForbidden(ApiError):
    """Items may not be created here."""

    code, status = 301, 403


class UpdateForbidden(ApiError):
    """The item may not be changed."""

    code, status = 302, 403


class DeleteForbidden(ApiError):
    """The item may not be deleted."""

    code, status = 303, 403


class FieldNotWritable(ApiError):
    """The field may not be written."""

    code, status = 305, 403


class AlterForbidden(ApiError):
    """The schema may not be changed."""

    code, status = 306, 403


class CollectionExists(ApiError):
    """A collection of this name exists already."""

    code, status = 307, 422
    depends_on_schema = True


class FieldExists(ApiError):
    """A field of this name exists already."""

    code, status = 308, 422
    depends_on_schema = True


class UnknownType(ApiError):
    """There is no such field type or datatype."""

    code, status = 401, 422


class UnknownHasher(ApiError):
    """There is no such hasher."""

    code, status = 1000, 422


class LengthRequired(ApiError):
    """The datatype needs a length."""

    code, status = 402, 422


class LengthForbidden(ApiError):
    """The datatype takes no length."""

    code, status = 403, 422


class FieldNotAltered(ApiError):
    """The stored data do not allow this change of the field."""

    code, status = 404, 422
    depends_on_schema = True


@frozen
class Notice:
    """A warning in the `messages` of a response: its `code`, and the `fields` that it concerns."""

    code: int
    message: str
    fields: tuple[str, ...] = ()


UNREADABLE = 18
"""The code of the warning that the caller may not read related items."""


def drop_tracebacks(error: BaseException) -> None:
    """Removes the tracebacks of an exception that has been handled, and of those that led to it. Where a function keeps an exception in a
    variable, the traceback and the function's frame refer to each other, and only the garbage collector frees what they refer to."""
    rest: list[BaseException | None] = [error]
    while rest:
        each = rest.pop()
        if each is not None and each.__traceback__ is not None:
            each.__traceback__ = None
            rest += (each.__cause__, each.__context__)
