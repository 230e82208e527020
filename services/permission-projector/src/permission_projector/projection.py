"""What an event means for the read models. Pure.

`project` judges one share event against its device's stream:

| event's version | recorded under that version | outcome |
|---|---|---|
| one above the stream's | nothing | `Applied`, or `Quarantine` when the share's state does not allow it |
| at or below the stream's | the same event id | `Duplicate` |
| at or below the stream's | another event id | `Quarantine` ``VERSION_CONFLICT`` |
| further above | nothing | `Quarantine` ``VERSION_GAP`` |

What each event makes of a share; where nothing stands, the event is impossible:

| event \\ state | none | requested | active | rejected, revoked, left, expired |
|---|---|---|---|---|
| ShareRequested | requested | | | requested |
| ShareAccepted | | active | | |
| ShareRejected | | rejected | | |
| ShareChanged | | requested, if it says so | active, if it says so | |
| InvitationResent | | requested | | |
| ShareRevoked | | revoked | revoked | |
| ShareLeft | | | left | |
| ShareExpired | | expired | expired | |

A stream in quarantine takes nothing more: what came after the fault cannot be trusted, and a refold of the
whole history is the way out. Shares that ended stay as they were: absent means deny, and so does ended.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple, assert_never
from uuid import UUID

from contracts.events import (
    AnyShareEvent,
    InvitationResent,
    ShareAccepted,
    ShareChanged,
    ShareExpired,
    ShareLeft,
    ShareRejected,
    ShareRequested,
    ShareRevoked,
)


class ShareState(StrEnum):
    """Where a share is in its life; only an active one gives access."""

    REQUESTED = "requested"
    ACTIVE = "active"
    REJECTED = "rejected"
    REVOKED = "revoked"
    LEFT = "left"
    EXPIRED = "expired"


_OPEN = frozenset({ShareState.REQUESTED, ShareState.ACTIVE})
_ENDED = frozenset(ShareState) - _OPEN


class Share(NamedTuple):
    """A share as its events left it.

    ``account_id`` is who accepted; the grant is his for good. ``since`` is when the state began.
    ``expires_at`` is until when an open invitation can be accepted (None: no end). ``version`` is that of the
    last event about this share: whoever edits it names it. ``terms`` are the JSON of a
    `contracts.permissions.Terms`: nothing here depends on what they say.
    """

    share_id: UUID
    device_id: str
    contact_id: UUID
    owner_account_id: str
    state: ShareState
    account_id: str | None
    terms: str
    invitation_version: int
    expires_at: datetime | None
    version: int
    requested_at: datetime
    since: datetime


class VersionedEvent(NamedTuple):
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


class Applied(NamedTuple):
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
    return _STEPS[type(event.data)](event, shares.get(event.data.share_id), event.data)


def _own(share: Share | None, event: VersionedEvent, state: str) -> Share | None:
    """``share`` when it is in ``state`` and its owner's event: another owner can edit nothing."""
    if share is None or share.state != state or share.owner_account_id != event.data.owner_account_id:
        return None
    return share


def _requested(event: VersionedEvent, share: Share | None, data: ShareRequested) -> Share | None:
    if share is not None and share.state not in _ENDED:
        return None
    return Share(
        share_id=data.share_id,
        device_id=data.device_id,
        contact_id=data.contact_id,
        owner_account_id=data.owner_account_id,
        state=ShareState.REQUESTED,
        account_id=None,
        terms=data.terms.model_dump_json(),
        invitation_version=event.version,
        expires_at=data.expires_at,
        version=event.version,
        requested_at=event.time,
        since=event.time,
    )


def _accepted(event: VersionedEvent, share: Share | None, data: ShareAccepted) -> Share | None:
    return _step(share, event, {ShareState.REQUESTED}, ShareState.ACTIVE, data.account_id)


def _rejected(event: VersionedEvent, share: Share | None, data: ShareRejected) -> Share | None:
    return _step(share, event, {ShareState.REQUESTED}, ShareState.REJECTED, data.account_id)


def _changed(event: VersionedEvent, share: Share | None, data: ShareChanged) -> Share | None:
    own = _own(share, event, data.state)
    if own is None:
        return None
    changed = own._replace(terms=data.terms.model_dump_json(), version=event.version)
    if own.state is ShareState.ACTIVE:
        return changed
    return changed._replace(invitation_version=event.version, expires_at=data.expires_at)


def _resent(event: VersionedEvent, share: Share | None, data: InvitationResent) -> Share | None:
    own = _own(share, event, "requested")
    return None if own is None else own._replace(expires_at=data.expires_at, version=event.version)


def _revoked(event: VersionedEvent, share: Share | None, _: ShareRevoked) -> Share | None:
    return _step(share, event, _OPEN, ShareState.REVOKED)


def _left(event: VersionedEvent, share: Share | None, _: ShareLeft) -> Share | None:
    return _step(share, event, {ShareState.ACTIVE}, ShareState.LEFT)


def _expired(event: VersionedEvent, share: Share | None, _: ShareExpired) -> Share | None:
    return _step(share, event, _OPEN, ShareState.EXPIRED)


def _step(
    share: Share | None,
    event: VersionedEvent,
    allowed: Set[ShareState],
    state: ShareState,
    account_id: str | None = None,
) -> Share | None:
    if share is None or share.state not in allowed:
        return None
    return share._replace(
        state=state,
        account_id=account_id or share.account_id,
        expires_at=None,
        version=event.version,
        since=event.time,
    )


_STEPS: Final[dict[type[AnyShareEvent], Callable[[VersionedEvent, Share | None, Any], Share | None]]] = {
    ShareRequested: _requested,
    ShareAccepted: _accepted,
    ShareRejected: _rejected,
    ShareChanged: _changed,
    InvitationResent: _resent,
    ShareRevoked: _revoked,
    ShareLeft: _left,
    ShareExpired: _expired,
}
"""By type, and not by patterns: each pattern that does not match costs as much as the whole step."""
