"""What an event means for the read models. Pure.

`project` judges one share event against its device's stream:

| event's version | recorded under that version | outcome |
|---|---|---|
| one above the stream's | nothing | `Applied`, or `Quarantine` when the share's state does not allow it |
| at or below the stream's | the same event id | `Duplicate` |
| at or below the stream's | another event id | `Quarantine` ``VERSION_CONFLICT`` |
| further above | nothing | `Quarantine` ``VERSION_GAP`` |

A stream in quarantine takes nothing more: what came after the fault cannot be trusted, and a refold of the
whole history is the way out. Shares that ended stay as they were: absent means deny, and so does ended.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import assert_never
from uuid import UUID

from contracts.events import (
    AnyShareEvent,
    ShareAccepted,
    ShareChanged,
    ShareLeft,
    ShareRejected,
    ShareRequested,
    ShareRevoked,
)
from contracts.permissions import Terms


class ShareState(StrEnum):
    """Where a share is in its life; only an active one gives access."""

    REQUESTED = "requested"
    ACTIVE = "active"
    REJECTED = "rejected"
    REVOKED = "revoked"
    LEFT = "left"


_ENDED = frozenset({ShareState.REJECTED, ShareState.REVOKED, ShareState.LEFT})


@dataclass(frozen=True, slots=True)
class Share:
    """A share as its events left it.

    ``account_id`` is who accepted; the grant is his for good. ``since`` is when the state began.
    """

    share_id: UUID
    device_id: str
    contact_id: UUID
    owner_account_id: str
    state: ShareState
    account_id: str | None
    terms: Terms
    invitation_version: int
    requested_at: datetime
    since: datetime


@dataclass(frozen=True, slots=True)
class VersionedEvent:
    """A share event at its place in its device's stream."""

    event_id: UUID
    version: int
    time: datetime
    data: AnyShareEvent


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record of which only the key could be read. ``code`` and ``message`` say why."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Applied:
    """The stream moves on to ``event`` and the share becomes ``share``."""

    event: VersionedEvent
    share: Share


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Applied before: nothing changes."""


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The device's shares give no access from now on. ``code`` is stable."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """The stream is in quarantine: nothing changes."""


Outcome = Applied | Duplicate | Quarantine | Ignored


@dataclass(slots=True)
class Stream:
    """A device's stream as far as it is known here: all of it, or the parts that a batch is about."""

    version: int = 0
    quarantine: str | None = None
    event_ids: dict[int, UUID] = field(default_factory=dict[int, UUID])
    shares: dict[UUID, Share] = field(default_factory=dict[UUID, Share])

    def advance(self, outcome: Outcome) -> None:
        """Take over what `project` found."""
        match outcome:
            case Applied(event=event, share=share):
                self.version = event.version
                self.event_ids[event.version] = event.event_id
                self.shares[share.share_id] = share
            case Quarantine(code=code):
                self.quarantine = code
            case Duplicate() | Ignored():
                pass
            case _:
                assert_never(outcome)


def project(entry: VersionedEvent | Unreadable, stream: Stream) -> Outcome:
    """Judge the next entry of a device's stream; see the table above."""
    if stream.quarantine is not None:
        return Ignored()
    if isinstance(entry, Unreadable):
        return Quarantine(entry.code, entry.message)
    if entry.version == stream.version + 1:
        share = _next_share(entry, stream.shares)
        return Applied(entry, share) if share is not None else _impossible(entry)
    if entry.version > stream.version:
        return Quarantine("VERSION_GAP", f"Version {entry.version} came after version {stream.version}.")
    if stream.event_ids.get(entry.version) == entry.event_id:
        return Duplicate()
    return Quarantine("VERSION_CONFLICT", f"Version {entry.version} was another event before.")


def _impossible(event: VersionedEvent) -> Quarantine:
    return Quarantine(
        "IMPOSSIBLE_EVENT", f"Version {event.version} does not follow from the state of its share."
    )


def _next_share(event: VersionedEvent, shares: Mapping[UUID, Share]) -> Share | None:
    """The share after ``event``; None when its life has no such step."""
    data = event.data
    share = shares.get(data.share_id)
    match data:
        case ShareRequested():
            after = _requested(event, data) if share is None or share.state in _ENDED else None
        case ShareAccepted(account_id=account_id):
            after = _step(share, event, {ShareState.REQUESTED}, ShareState.ACTIVE, account_id)
        case ShareRejected(account_id=account_id):
            after = _step(share, event, {ShareState.REQUESTED}, ShareState.REJECTED, account_id)
        case ShareChanged(state=kept, terms=terms):
            same = (
                share is not None and share.state == kept and share.owner_account_id == data.owner_account_id
            )
            after = _changed(share, event, terms) if share is not None and same else None
        case ShareRevoked():
            after = _step(share, event, {ShareState.REQUESTED, ShareState.ACTIVE}, ShareState.REVOKED)
        case ShareLeft():
            after = _step(share, event, {ShareState.ACTIVE}, ShareState.LEFT)
        case _:
            assert_never(data)
    return after


def _requested(event: VersionedEvent, data: ShareRequested) -> Share:
    return Share(
        share_id=data.share_id,
        device_id=data.device_id,
        contact_id=data.contact_id,
        owner_account_id=data.owner_account_id,
        state=ShareState.REQUESTED,
        account_id=None,
        terms=data.terms,
        invitation_version=event.version,
        requested_at=event.time,
        since=event.time,
    )


def _changed(share: Share, event: VersionedEvent, terms: Terms) -> Share:
    invited = share.state is ShareState.REQUESTED
    return replace(
        share, terms=terms, invitation_version=event.version if invited else share.invitation_version
    )


def _step(
    share: Share | None,
    event: VersionedEvent,
    allowed: set[ShareState],
    state: ShareState,
    account_id: str | None = None,
) -> Share | None:
    if share is None or share.state not in allowed:
        return None
    return replace(share, state=state, since=event.time, account_id=account_id or share.account_id)
