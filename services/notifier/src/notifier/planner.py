"""Which event is told to whom, and whether it is still worth telling. Pure.

| event | to the recipient | to the sharer |
|---|---|---|
| ShareRequested, InvitationResent | invitation | |
| ShareChanged in state requested | invitation_changed | |
| ShareChanged in state active | share_changed | |
| ShareAccepted | | accepted |
| ShareRejected | | rejected |
| ShareLeft | | left |
| ShareRevoked | revoked, when he had accepted or was told of the invitation; not an erased address | |
| ShareExpired | expired, when he had accepted | |
| the clock, a day before the end | expiring | |
| ConnectionOpened, the first of a share | | first_use |
| a mail or message that can never arrive | | undeliverable |

The recipient is the contact until somebody accepts, and from then on the account that did. A share whose
terms were given silently (``notify: false``) is told in the inbox only, to both, until its owner gives or
tells its terms otherwise.

A notice says what is so when it is sent: the terms as they are then; and when it is no longer so, because the
invitation was answered (also by a rule of the recipient's, in the same moment), taken back or has expired, or
because a later notice replaces it, it is not sent.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, Literal, assert_never
from uuid import UUID, uuid5

from contracts.events import (
    AnyShareEvent,
    InvitationResent,
    RevokeReason,
    ShareAccepted,
    ShareChanged,
    ShareExpired,
    ShareLeft,
    ShareRejected,
    ShareRequested,
    ShareRevoked,
)
from contracts.permissions import Terms

LINK_LIFE: Final = timedelta(days=30)
REMINDER_BEFORE: Final = timedelta(hours=24)
_REMINDERS: Final = UUID("6b0f6c0e-6a0e-5d0b-9a55-0d6f8a2c7f51")
_UNDELIVERABLE: Final = UUID("0f0b7a7e-20f1-5b6e-8a52-9d0b2f6a4c11")


class Channel(StrEnum):
    """A way on which a notice reaches a person outside the inbox."""

    EMAIL = "email"
    SMS = "sms"
    WEB_PUSH = "web_push"
    FCM = "fcm"


class Template(StrEnum):
    """What a notice says."""

    INVITATION = "invitation"
    INVITATION_CHANGED = "invitation_changed"
    SHARE_CHANGED = "share_changed"
    REVOKED = "revoked"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    LEFT = "left"
    UNDELIVERABLE = "undeliverable"
    FIRST_USE = "first_use"


INVITING: Final = frozenset({Template.INVITATION, Template.INVITATION_CHANGED})
TO_SHARER: Final = frozenset(
    {Template.ACCEPTED, Template.REJECTED, Template.LEFT, Template.UNDELIVERABLE, Template.FIRST_USE}
)
SECURITY: Final = frozenset({Template.ACCEPTED, Template.FIRST_USE})
"""Somebody has got access, or uses it for the first time: told at any hour."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A share event and its place: ``version`` in the device's stream, ``time`` when it happened.

    ``operation`` is that of the bulk to which it belongs, if it does.
    """

    event_id: UUID
    version: int
    time: datetime
    event: AnyShareEvent
    operation: str | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to be told to one person: ``contact_id``, or ``account_id`` when it is an account's.

    Event, person and template together are its identity. ``version`` and ``event_time`` are the event's; of
    ``expiring``, ``event_time`` is the end that it announces. ``outside``: on other ways than the inbox too.
    """

    event_id: UUID
    contact_id: UUID
    account_id: str | None
    template: Template
    share_id: UUID
    device_id: str
    owner_account_id: str
    version: int
    event_time: datetime
    outside: bool = True
    operation: str | None = None

    @property
    def reader(self) -> str:
        """Whom it is for, as one text."""
        return str(self.contact_id) if self.account_id is None else f"account {self.account_id}"


State = Literal["requested", "accepted", "ended"]


@dataclass(frozen=True, slots=True)
class Invitation:
    """What became of one share, as far as its notices need it.

    ``version`` is the ``invitation_version`` that can be accepted, until ``expires_at`` (None: no end);
    ``announced_version`` is that of the last event about its terms that was to be told, 0 when none was.
    ``account_id`` is who has accepted it. ``notify``: whether it is told outside the inbox.
    ``reminder_at`` is when its end is to be announced; None when there is nothing to announce.
    """

    share_id: UUID
    device_id: str
    contact_id: UUID
    owner_account_id: str
    state: State
    version: int
    announced_version: int
    expires_at: datetime | None
    terms: Terms
    account_id: str | None = None
    notify: bool = True
    reminder_at: datetime | None = None


def plan(before: Invitation | None, after: Invitation, occurrence: Occurrence) -> tuple[Notice, ...]:
    """The notices that are due because of an event, which made ``after`` out of ``before``."""
    event = occurrence.event
    match event:
        case ShareRequested() | InvitationResent():
            template, account_id = Template.INVITATION, None
        case ShareChanged(state="requested"):
            template, account_id = Template.INVITATION_CHANGED, None
        case ShareChanged():
            template, account_id = Template.SHARE_CHANGED, after.account_id
        case ShareAccepted():
            template, account_id = Template.ACCEPTED, after.owner_account_id
        case ShareRejected():
            template, account_id = Template.REJECTED, after.owner_account_id
        case ShareLeft():
            template, account_id = Template.LEFT, after.owner_account_id
        case ShareRevoked():
            template, account_id = Template.REVOKED, event.account_id
            if account_id is None and (before is None or before.announced_version == 0):
                return ()  # he never heard of it
            if account_id is None and event.reason is RevokeReason.ADDRESS_ERASED:
                return ()  # there is nobody any more to be told
        case ShareExpired():
            template, account_id = Template.EXPIRED, event.account_id
            if account_id is None:
                return ()
        case _:
            assert_never(event)
    return (
        Notice(
            event_id=occurrence.event_id,
            contact_id=event.contact_id,
            account_id=account_id,
            template=template,
            share_id=event.share_id,
            device_id=event.device_id,
            owner_account_id=after.owner_account_id,
            version=occurrence.version,
            event_time=occurrence.time,
            outside=after.notify,
            operation=occurrence.operation,
        ),
    )


def about(
    invitation: Invitation, template: Template, event_id: UUID, time: datetime, version: int | None = None
) -> Notice:
    """A notice about a share that no event of the share gave rise to, to whom its template is for."""
    account_id = invitation.owner_account_id if template in TO_SHARER else invitation.account_id
    return Notice(
        event_id=event_id,
        contact_id=invitation.contact_id,
        account_id=account_id,
        template=template,
        share_id=invitation.share_id,
        device_id=invitation.device_id,
        owner_account_id=invitation.owner_account_id,
        version=invitation.version if version is None else version,
        event_time=time,
        outside=invitation.notify,
    )


def reminder(invitation: Invitation) -> Notice | None:
    """The notice that a share or an open invitation ends soon; None when it has no end.

    Its event id is made of the share and the end, so that whoever finds it due plans the same notice.
    """
    end = end_of(invitation)
    if end is None or invitation.state == "ended":
        return None
    event_id = uuid5(_REMINDERS, f"{invitation.share_id} {end.isoformat()}")
    return about(invitation, Template.EXPIRING, event_id, end)


def undeliverable(notice: Notice, invitation: Invitation, time: datetime) -> Notice:
    """The notice to the sharer that the recipient could not be told."""
    event_id = uuid5(_UNDELIVERABLE, str(notice.event_id))
    return about(invitation, Template.UNDELIVERABLE, event_id, time, notice.version)


def end_of(invitation: Invitation) -> datetime | None:
    """When time ends it, as it is now, in UTC: the invitation, or once accepted the share; None: never."""
    offered = invitation.terms.ends_at
    ends = (invitation.expires_at, offered) if invitation.state == "requested" else (offered,)
    return min((end.astimezone(UTC) for end in ends if end is not None), default=None)


def fold(before: Invitation | None, occurrence: Occurrence) -> Invitation | None:
    """The invitation after an event; None while nothing is known that a notice could be about."""
    after = _folded(before, occurrence)
    if after is None:
        return None
    end = end_of(after)
    due = None if end is None or after.state == "ended" else end - REMINDER_BEFORE
    # Who is told of terms less than a day before they end has just been told when that is.
    return replace(after, reminder_at=due if due is not None and due > occurrence.time else None)


def _folded(before: Invitation | None, occurrence: Occurrence) -> Invitation | None:
    event, version = occurrence.event, occurrence.version
    match event:
        case ShareRequested() | ShareChanged(state="requested"):
            announced = before.announced_version if before and before.state == "requested" else 0
            return _invitation(event, "requested", version, version if event.notify else announced)
        case ShareChanged():
            account_id = before.account_id if before else None
            told = _invitation(event, "accepted", version, version if event.notify else 0)
            return replace(told, account_id=account_id)
        case InvitationResent(expires_at=expires_at):
            return before and replace(before, announced_version=version, expires_at=expires_at, notify=True)
        case ShareAccepted():
            return before and replace(
                before, state="accepted", announced_version=0, account_id=event.account_id
            )
        case ShareRejected() | ShareRevoked() | ShareLeft() | ShareExpired():
            return before and replace(before, state="ended", announced_version=0)
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
        expires_at=event.expires_at,
        terms=event.terms,
        notify=event.notify,
    )


def still_due(notice: Notice, invitation: Invitation, now: datetime) -> bool:  # noqa: PLR0911 - one a template
    """Whether a notice still tells what is so: nobody is told what has been overtaken."""
    match notice.template:
        case Template.INVITATION | Template.INVITATION_CHANGED:
            return invitation.state == "requested" and invitation.announced_version == notice.version
        case Template.SHARE_CHANGED:
            return invitation.state == "accepted" and invitation.announced_version == notice.version
        case Template.REVOKED | Template.EXPIRED | Template.REJECTED | Template.LEFT:
            return invitation.state == "ended"
        case Template.EXPIRING:
            return (
                invitation.state != "ended"
                and end_of(invitation) == notice.event_time
                and now < notice.event_time
            )
        case Template.ACCEPTED:
            return invitation.state == "accepted"
        case Template.UNDELIVERABLE:
            return invitation.state == "requested"
        case Template.FIRST_USE:
            return True
        case _:
            assert_never(notice.template)


def link_ends_at(event_time: datetime, invitation: Invitation) -> datetime:
    """When the links of a notice end, in UTC: 30 days after its event, or with the invitation or what it
    offers, whichever comes first."""
    ends = (event_time + LINK_LIFE, invitation.expires_at, invitation.terms.ends_at)
    return min(end for end in ends if end is not None).astimezone(UTC)
