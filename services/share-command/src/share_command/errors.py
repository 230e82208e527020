"""Everything that share-command refuses, and why it may fail.

    ShareCommandError
    ├── Refused                     decided; stored as the command's answer
    │   ├── DeviceNotFound          DEVICE_NOT_FOUND
    │   ├── ServiceNotOnDevice      SERVICE_NOT_ON_DEVICE
    │   ├── InvalidAddress
    │   │   ├── InvalidEmail        INVALID_EMAIL
    │   │   └── InvalidPhone        INVALID_PHONE
    │   ├── ContactNotFound         CONTACT_NOT_FOUND
    │   ├── SelfShare               SELF_SHARE
    │   ├── NotARecipient           NOT_A_RECIPIENT
    │   ├── InvalidPeriod           INVALID_PERIOD
    │   ├── Conflict                CONFLICT
    │   └── LimitReached            LIMIT_REACHED
    ├── IdempotencyConflict         IDEMPOTENCY_CONFLICT
    ├── RateLimited                 RATE_LIMITED
    ├── InvalidLink                 INVALID_LINK
    ├── InvalidContactCode          INVALID_CONTACT_CODE
    ├── TimedOut                    TIMED_OUT
    └── Unavailable                 UNAVAILABLE

The docstring of each is its message; ``docs/errors.md`` explains all codes.
"""

from collections.abc import Mapping
from inspect import cleandoc
from typing import ClassVar


class ShareCommandError(Exception):
    """Base of all: a stable ``code``, the HTTP ``status``, and ``details``, further public fields."""

    code: ClassVar[str]
    status: ClassVar[int]

    def __init__(self, message: str | None = None, **details: object) -> None:
        self.message = message or " ".join(cleandoc(type(self).__doc__ or "").split())
        self.details: Mapping[str, object] = {
            name: value for name, value in details.items() if value is not None
        }
        super().__init__(self.message)


class Refused(ShareCommandError):
    """The command was refused; nothing was changed."""

    def about(self, **named: str | None) -> "Refused":
        """The same refusal, with what the caller had written added to its details."""
        return type(self)(self.message, **{**named, **self.details})


class DeviceNotFound(Refused):
    """There is no such device or invitation that you may act on. Check the ids, and which account you use."""

    code, status = "DEVICE_NOT_FOUND", 404


class ServiceNotOnDevice(Refused):
    """The service does not belong to the devices named. Name services of these devices only."""

    code, status = "SERVICE_NOT_ON_DEVICE", 422


class InvalidAddress(Refused):
    """This is not an address that can be invited. Correct it."""


class InvalidEmail(InvalidAddress):
    """This is not an e-mail address. Correct it."""

    code, status = "INVALID_EMAIL", 422


class InvalidPhone(InvalidAddress):
    """This is not a telephone number. Write it with its country code, as in +49 151 12345678."""

    code, status = "INVALID_PHONE", 422


class ContactNotFound(Refused):
    """There is no such contact in your contact book. Look at the book, or name the address."""

    code, status = "CONTACT_NOT_FOUND", 404


class InvalidPeriod(Refused):
    """This leaves no time: an end must lie in the future, and after the start. Correct it; to end a share
    now, revoke it."""

    code, status = "INVALID_PERIOD", 422


class SelfShare(Refused):
    """This address is the owner's own: nobody shares with himself. Name another recipient."""

    code, status = "SELF_SHARE", 422


class NotARecipient(Refused):
    """This address is not one of yours. One can leave only with one's own address."""

    code, status = "NOT_A_RECIPIENT", 403


class Conflict(Refused):
    """The share is not in a state in which this can be done. Look at it again, then decide."""

    code, status = "CONFLICT", 409


class LimitReached(Refused):
    """This is more than one command may do. Split it into smaller ones, each with an id of its own."""

    code, status = "LIMIT_REACHED", 422


class IdempotencyConflict(ShareCommandError):
    """This command id was used for another command. Use a new id for a new command."""

    code, status = "IDEMPOTENCY_CONFLICT", 409


class RateLimited(ShareCommandError):
    """This was asked too often. Wait as long as `retry_after_seconds` says, then ask again."""

    code, status = "RATE_LIMITED", 429


class InvalidContactCode(ShareCommandError):
    """This contact code is not valid any more. Ask its owner to show a new one, and scan that."""

    code, status = "INVALID_CONTACT_CODE", 404


class InvalidLink(ShareCommandError):
    """This link cannot be used by this account. Open the newest mail you got, or sign in with the account
    that has verified the invited address."""

    code, status = "INVALID_LINK", 404


class TimedOut(ShareCommandError):
    """The database ended this command, each time it was tried, because it takes too long. Nothing was
    changed. Split it into smaller ones, or send it again later with the same id."""

    code, status = "TIMED_OUT", 503


class Unavailable(ShareCommandError):
    """The database does not answer. Nothing is lost: send the same command with the same id again."""

    code, status = "UNAVAILABLE", 503


REFUSALS: Mapping[str, type[Refused]] = {
    kind.code: kind
    for kind in (
        DeviceNotFound,
        ServiceNotOnDevice,
        InvalidEmail,
        InvalidPhone,
        ContactNotFound,
        SelfShare,
        NotARecipient,
        InvalidPeriod,
        Conflict,
        LimitReached,
    )
}
"""By code, to make a stored answer a refusal again; see `refusal_of`."""

ALL: tuple[type[ShareCommandError], ...] = (
    *REFUSALS.values(),
    IdempotencyConflict,
    RateLimited,
    InvalidLink,
    InvalidContactCode,
    TimedOut,
    Unavailable,
)
"""Every error with a code."""


def refusal_of(code: str) -> type[Refused]:
    """The refusal that has this code; one that only another release knows is made for it."""
    unknown = {"code": code, "status": 422, "__doc__": "This was refused when it was sent first."}
    return REFUSALS.get(code) or type("Refused", (Refused,), unknown)
