"""What happened to a share (topic ``share.events``), and to a connection (topic ``access.events``).

A published field is never renamed, retyped or removed: add an optional one, or a new version of the type.
No event holds an address: people are named by ``account_id`` and ``contact_id``.
"""

from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

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

    The version of this event is the ``invitation_version`` that the recipient accepts.
    """

    terms: Terms
    notify: bool = True


class ShareAccepted(ShareEvent):
    """The recipient accepted: the grant is ``account_id``'s from now on and never moves."""

    account_id: AccountId


class ShareRejected(ShareEvent):
    """The recipient refused, or left before he had accepted."""

    account_id: AccountId


class ShareChanged(ShareEvent):
    """The owner changed the terms; ``terms`` are the new ones, whole.

    ``state`` is the state the share keeps: ``requested`` (then this event's version is the new
    ``invitation_version``) or ``active`` (the new terms hold at once).
    """

    state: Literal["requested", "active"]
    terms: Terms
    notify: bool = True


class RevokeReason(StrEnum):
    """Why a share was taken back."""

    BY_OWNER = "by_owner"
    DEVICE_REMOVED = "device_removed"
    OWNERSHIP_TRANSFERRED = "ownership_transferred"
    RECIPIENT_DELETED = "recipient_deleted"


class ShareRevoked(ShareEvent):
    """The share was taken back. ``account_id`` is set when it had been accepted."""

    reason: RevokeReason
    account_id: AccountId | None = None


class ShareLeft(ShareEvent):
    """The recipient gave an accepted share back."""

    account_id: AccountId


AnyShareEvent = ShareRequested | ShareAccepted | ShareRejected | ShareChanged | ShareRevoked | ShareLeft


class CutReason(StrEnum):
    """Why the gateway ended an open connection."""

    GRANT_ENDED = "grant_ended"
    STALE = "stale"


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


class ConnectionOpened(AccessEvent):
    """The first byte may flow."""


class ConnectionRefused(AccessEvent):
    """Nothing was opened. ``reason`` is the verdict's stable code."""

    reason: str


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
