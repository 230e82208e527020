"""Which event is told to whom, and whether it is still worth telling. Pure.

| event | notice |
|---|---|
| ShareRequested with notify | invitation, to the contact |
| ShareChanged in state requested, with notify | changed invitation, to the contact |
| anything else | none |

A notice says what the invitation is when it is sent: when the owner changed it silently (``notify: false``)
since, it shows the new terms; when a later event is to be told too, only that one's notice is sent; when the
invitation was answered or taken back, none is.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal, assert_never
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


class Channel(StrEnum):
    """A way on which a notice reaches a person."""

    EMAIL = "email"


class Template(StrEnum):
    """What a notice says."""

    INVITATION = "invitation"
    INVITATION_CHANGED = "invitation_changed"


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A share event and its place: ``version`` in the device's stream, ``time`` when it happened."""

    event_id: UUID
    version: int
    time: datetime
    event: AnyShareEvent


@dataclass(frozen=True, slots=True)
class Notice:
    """One message to one contact. Event, contact, channel and template together are its identity."""

    event_id: UUID
    contact_id: UUID
    channel: Channel
    template: Template
    share_id: UUID
    version: int
    event_time: datetime


State = Literal["requested", "accepted", "ended"]


@dataclass(frozen=True, slots=True)
class Invitation:
    """What became of one share, as far as its notices need it.

    ``version`` is the ``invitation_version`` that can be accepted; ``announced_version`` that of the last one
    that was to be told, 0 when none was.
    """

    share_id: UUID
    device_id: str
    contact_id: UUID
    owner_account_id: str
    state: State
    version: int
    announced_version: int
    terms: Terms


def plan(occurrence: Occurrence) -> tuple[Notice, ...]:
    """The notices that are due because of an event."""
    event = occurrence.event
    match event:
        case ShareRequested(notify=True):
            return (_notice(occurrence, Template.INVITATION),)
        case ShareChanged(state="requested", notify=True):
            return (_notice(occurrence, Template.INVITATION_CHANGED),)
        case (
            ShareRequested()
            | ShareChanged()
            | ShareAccepted()
            | ShareRejected()
            | ShareRevoked()
            | ShareLeft()
        ):
            return ()
        case _:
            assert_never(event)


def _notice(occurrence: Occurrence, template: Template) -> Notice:
    return Notice(
        event_id=occurrence.event_id,
        contact_id=occurrence.event.contact_id,
        channel=Channel.EMAIL,
        template=template,
        share_id=occurrence.event.share_id,
        version=occurrence.version,
        event_time=occurrence.time,
    )


def fold(before: Invitation | None, occurrence: Occurrence) -> Invitation | None:
    """The invitation after an event; None while nothing is known that a notice could be about."""
    event, version = occurrence.event, occurrence.version
    match event:
        case ShareRequested() | ShareChanged(state="requested"):
            announced = before.announced_version if before and before.state == "requested" else 0
            return _invitation(event, "requested", version, version if event.notify else announced)
        case ShareChanged():
            return _invitation(event, "accepted", version, 0)
        case ShareAccepted():
            return _answered(before, "accepted")
        case ShareRejected() | ShareRevoked() | ShareLeft():
            return _answered(before, "ended")
        case _:
            assert_never(event)


def _invitation(
    event: ShareRequested | ShareChanged, state: State, version: int, announced: int
) -> Invitation:
    return Invitation(
        share_id=event.share_id,
        device_id=event.device_id,
        contact_id=event.contact_id,
        owner_account_id=event.owner_account_id,
        state=state,
        version=version,
        announced_version=announced,
        terms=event.terms,
    )


def _answered(before: Invitation | None, state: State) -> Invitation | None:
    return None if before is None else replace(before, state=state, announced_version=0)


def still_due(notice_version: int, invitation: Invitation) -> bool:
    """Whether the notice of that version is still the one to send: open, and the last to be told."""
    return invitation.state == "requested" and invitation.announced_version == notice_version
