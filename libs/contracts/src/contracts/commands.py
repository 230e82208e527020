"""What somebody asks of share-command (topic ``share.commands``), and its answer (``share.command-results``).

``command_id`` is the idempotency key on every way in: the same id again gives the same answer and no new
event; the same id with another body is refused with ``IDEMPOTENCY_CONFLICT``.
"""

import unicodedata
from typing import Annotated, Final, Literal, get_args
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from contracts.base import AccountId, CommandId, Fact, Id, Moment, Order, Text
from contracts.permissions import PermissionSet, Terms, TermsOrder
from contracts.positions import PositionField

_TEXT_CONTROLS = frozenset("\n\t\u00ad\u200c\u200d\u200e\u200f")
"""Control characters that writing needs: lines, joiners, marks of direction."""


def plain_text(value: str) -> str:
    """Text without control characters, and without those that hide text or turn it round.

    Raises:
        ValueError: naming the character.
    """
    value = value.replace("\r\n", "\n")
    for character in value:
        if unicodedata.category(character) in {"Cc", "Cf", "Cs"} and character not in _TEXT_CONTROLS:
            raise ValueError(f"the character U+{ord(character):04X} is not plain text")
    return value


DeviceIds = Annotated[tuple[Id, ...], Field(min_length=1, max_length=1000)]
"""Devices meant. The id of a service stands for that one service of its device."""

Recipients = Annotated[tuple[Text, ...], Field(min_length=1, max_length=1000)]
"""Addresses as typed: e-mail, or a telephone number with its country code; share-command makes them canonical
and refuses what is none. ``contact:<contact_id>`` names a contact of the actor's own contact book."""

Message = Annotated[str, StringConstraints(max_length=500), AfterValidator(plain_text)]
"""Plain text to the recipient, at most 500 characters; empty means none."""


class Command(Order):
    """Common to all. ``actor`` is the account that asks; over HTTP it is taken from the caller's token."""

    command_id: CommandId
    actor: AccountId


class ServiceChange(Order):
    """One service added to a share or taken out of it."""

    service_id: Id
    action: Literal["ADD", "REMOVE"] = "ADD"
    permissions: PermissionSet = "all"


class RequestShare(Command):
    """Invite contacts to devices, or change what they were invited to: a delta to the present state.

    Without ``services`` every service is shared, those added later included, with ``permissions``. With
    ``services`` the entries are applied in order to what is shared now; services not listed stay as they are.
    ``scripting``, ``starts_at``, ``ends_at`` and ``message`` absent leave those as they are (a new share has
    none). ``expires_at`` is until when the invitation can be accepted; absent, it stays as it is (a new one
    can be accepted for as long as is usual). All devices and recipients, or none.
    """

    device_ids: DeviceIds
    recipients: Recipients
    services: Annotated[tuple[ServiceChange, ...], Field(max_length=1000)] = ()
    permissions: PermissionSet = "all"
    scripting: bool | None = None
    notify: bool = True
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    expires_at: Moment | None = None
    message: Message | None = None

    @property
    def adds(self) -> bool:
        """Whether it may give anything: it is not only about taking services out."""
        return not self.services or any(change.action == "ADD" for change in self.services)


class AcceptShare(Command):
    """Accept an invitation, as the terms were at ``invitation_version``."""

    device_id: Id
    share_id: UUID
    invitation_version: Annotated[int, Field(ge=1)]


class ChangeShare(Command):
    """Set the terms of one share, whole, by the owner who saw it at ``expected_version``.

    If anything has changed since, it is refused with CONFLICT and the present state: nobody overwrites what
    he has not seen. ``message`` absent leaves the message as it is.
    """

    device_id: Id
    share_id: UUID
    expected_version: Annotated[int, Field(ge=1)]
    terms: TermsOrder
    message: Message | None = None
    notify: bool = True


class ResendInvitation(Command):
    """Tell the recipient of an open invitation again, and let it be acceptable for the usual time from now.

    At most once a minute (RATE_LIMITED).
    """

    device_id: Id
    share_id: UUID


class RejectShare(Command):
    """Refuse an invitation."""

    device_id: Id
    share_id: UUID


class RevokeShare(Command):
    """End the shares of devices with recipients.

    By a recipient who names an address of his own this is a `LeaveShare`.
    """

    device_ids: DeviceIds
    recipients: Recipients


class RemoveRecipient(Command):
    """Delete a recipient from the actor's contact book, and with him all that the actor shares with him, on
    all devices; his remark too."""

    recipient: Text


class LeaveShare(Command):
    """Give shared devices back. An address in ``recipients`` must be the actor's own; empty means his."""

    device_ids: DeviceIds
    recipients: Annotated[tuple[Text, ...], Field(max_length=1000)] = ()


AnyCommand = (
    RequestShare
    | AcceptShare
    | RejectShare
    | ChangeShare
    | RevokeShare
    | LeaveShare
    | ResendInvitation
    | RemoveRecipient
)
COMMAND_TYPES: Final[tuple[type[AnyCommand], ...]] = get_args(AnyCommand)
"""What may stand on ``share.commands``."""


class CommandAccepted(Fact):
    """The command was decided and is durable. ``positions`` are where its devices' streams stand now."""

    command_id: CommandId
    positions: tuple[PositionField, ...] = ()


class CommandRefused(Fact):
    """Nothing was changed. ``code`` is stable; ``message`` says what was wrong and what to do.

    ``command_id`` is absent when the message was too broken to have one. ``device_id``, ``service_id`` and
    ``recipient`` name what was refused, as the caller wrote it. With CONFLICT, ``state``, ``version``,
    ``invitation_version`` and ``terms`` are those of the share now. ``retry_after_seconds``: try again then.
    """

    command_id: CommandId | None = None
    code: str
    message: str
    device_id: str | None = None
    service_id: str | None = None
    recipient: str | None = None
    state: str | None = None
    version: int | None = None
    invitation_version: int | None = None
    terms: Terms | None = None
    retry_after_seconds: int | None = None


AnyCommandResult = CommandAccepted | CommandRefused
