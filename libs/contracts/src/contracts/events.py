"""What happened to a share (topic ``share.events``), and to a connection (topic ``access.events``).

A published field is never renamed, retyped or removed: add an optional one, or a new version of the type.
No event holds an address: people are named by ``account_id`` and ``contact_id``.
"""

from enum import StrEnum
from typing import Annotated, Final, Literal, get_args
from uuid import UUID

from pydantic import AwareDatetime, Field

from contracts.base import AccountId, Fact, Id
from contracts.permissions import Permission, Terms


class ShareEvent(Fact):
    """Common to all: which share (one per device and contact) and whose device it is about."""

    share_id: UUID
    device_id: Id
    contact_id: UUID
    owner_account_id: AccountId


class ShareRequested(ShareEvent):
    """The owner invited a contact. Nothing is granted yet.

    The version of this event is the ``invitation_version`` that the recipient accepts, until ``expires_at``
    (absent: until it is taken back).
    """

    terms: Terms
    notify: bool = True
    expires_at: AwareDatetime | None = None


class ShareAccepted(ShareEvent):
    """The recipient accepted: the grant is ``account_id``'s from now on and never moves.

    ``automatic``: by his rule to accept whatever this owner shares with him.
    """

    account_id: AccountId
    automatic: bool = False


class ShareRejected(ShareEvent):
    """The recipient refused, or left before he had accepted."""

    account_id: AccountId


class InvitationResent(ShareEvent):
    """The owner asked to tell the recipient again; the terms, and the version to accept, are as they were."""

    expires_at: AwareDatetime | None = None


class ChangeReason(StrEnum):
    """Why the terms of a share were changed."""

    BY_OWNER = "by_owner"
    SERVICE_REMOVED = "service_removed"


class ShareChanged(ShareEvent):
    """The terms were changed; ``terms`` are the new ones, whole.

    ``state`` is the state the share keeps: ``requested`` (then this event's version is the new
    ``invitation_version``, acceptable until ``expires_at``) or ``active`` (the new terms hold at once).
    """

    state: Literal["requested", "active"]
    terms: Terms
    notify: bool = True
    expires_at: AwareDatetime | None = None
    reason: ChangeReason = ChangeReason.BY_OWNER


class RevokeReason(StrEnum):
    """Why a share was taken back."""

    BY_OWNER = "by_owner"
    DEVICE_REMOVED = "device_removed"
    SERVICE_REMOVED = "service_removed"
    """The registry removed the last service that was shared."""
    OWNERSHIP_TRANSFERRED = "ownership_transferred"
    RECIPIENT_DELETED = "recipient_deleted"
    """The owner deleted the recipient with all that he shared with him."""
    ACCOUNT_DELETED = "account_deleted"
    """The registry deleted the account that gave the share, or the one that had accepted it."""
    ADDRESS_ERASED = "address_erased"
    """An operator erased the recipient's address, because the person asked for it."""


class ShareRevoked(ShareEvent):
    """The share was taken back. ``account_id`` is set when it had been accepted."""

    reason: RevokeReason
    account_id: AccountId | None = None


class ShareLeft(ShareEvent):
    """The recipient gave an accepted share back."""

    account_id: AccountId


class ShareExpired(ShareEvent):
    """Time ended it: an invitation that nobody accepted, or a share whose end has come.

    ``account_id`` is set when it had been accepted.
    """

    account_id: AccountId | None = None


AnyShareEvent = (
    ShareRequested
    | ShareAccepted
    | ShareRejected
    | ShareChanged
    | InvitationResent
    | ShareRevoked
    | ShareLeft
    | ShareExpired
)
SHARE_EVENT_TYPES: Final[tuple[type[AnyShareEvent], ...]] = get_args(AnyShareEvent)
"""What may stand on ``share.events``."""


class CutReason(StrEnum):
    """Why the gateway ended an open connection."""

    GRANT_ENDED = "grant_ended"
    STALE = "stale"
    BY_HAND = "by_hand"
    """By the owner of the device, or by who had opened it; what was granted still is."""


class AccessEvent(Fact):
    """Common to all: who used, or tried to use, what. ``share_id`` is absent when the owner himself did."""

    connection_id: UUID
    gateway_id: str
    account_id: AccountId
    service_id: Id
    device_id: Id | None = None
    permission: Permission
    share_id: UUID | None = None
    device_version: Annotated[int, Field(ge=0)] | None = None
    way: str | None = None
    """By what the gateway was asked: ``port``, ``connect``, ``websocket``, ``rtsp``; there may be others."""


class ConnectionOpened(AccessEvent):
    """The first byte may flow."""


class ConnectionRefused(AccessEvent):
    """Nothing was opened. ``reason`` is the verdict's stable code.

    ``age_seconds`` is how old the proof was of what was known of the grant, whose version is
    ``device_version``; both are absent when nothing was found that could have granted it.
    """

    reason: str
    age_seconds: float | None = None


class ConnectionClosed(AccessEvent):
    """One of the two ends closed. Bytes are payload relayed to and from the device; seconds are wall time."""

    bytes_to_device: int
    bytes_from_device: int
    seconds: float


class ConnectionCut(AccessEvent):
    """The gateway ended it, because access had ended or could no longer be proved."""

    reason: CutReason
    bytes_to_device: int
    bytes_from_device: int
    seconds: float


AnyAccessEvent = ConnectionOpened | ConnectionRefused | ConnectionClosed | ConnectionCut


class GatewayStarted(Fact):
    """A gateway began: what it had opened before is not open any more, whatever it could still tell of it."""

    gateway_id: str
