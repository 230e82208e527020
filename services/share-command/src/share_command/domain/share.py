"""A share as its events made it, and what a decision needs to know besides. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias, assert_never
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
from contracts.permissions import Permission, Terms

State: TypeAlias = Literal["requested", "active", "rejected", "revoked", "left", "expired"]
LIVE: Final[frozenset[State]] = frozenset({"requested", "active"})
ENDED: Final[frozenset[State]] = frozenset({"rejected", "revoked", "left", "expired"})


@dataclass(frozen=True, slots=True)
class Share:
    """A share as its events made it.

    ``version`` is that of its last event in the device's stream: whoever edits it says which one he saw.
    ``invitation_version`` is the version of the last ShareRequested, or ShareChanged while requested: what a
    recipient accepts. ``expires_at`` is until when an open invitation can be accepted (None: for ever),
    ``told_at`` when its recipient was last to be told of it. ``account_id`` is the account that accepted; the
    grant is that account's.
    """

    share_id: UUID
    device_id: str
    contact_id: UUID
    owner_account_id: str
    state: State
    terms: Terms
    version: int
    invitation_version: int
    told_at: datetime
    expires_at: datetime | None = None
    account_id: str | None = None

    @property
    def live(self) -> bool:
        """Whether it is an open invitation or a grant."""
        return self.state in LIVE


@dataclass(frozen=True, slots=True)
class Device:
    """What the directory says of a device now.

    ``services`` maps each service to the permissions that it supports; None while that is not known, for a
    device that has had no snapshot since they are kept.
    """

    device_id: str
    owner_account_id: str
    services: Mapping[str, frozenset[Permission] | None]


@dataclass(frozen=True, slots=True)
class Subject:
    """What a command is about, once its names are resolved.

    ``share_id`` is the id that a new share would get. ``verified`` tells whether the actor has proved that
    the contact's address is his. ``named_services`` are services named in place of the device; none means
    the device as a whole. ``device`` is None when the directory has no such device. ``accepting`` is the
    account of the contact that always accepts from the actor, if there is one.
    """

    device_id: str
    contact_id: UUID
    share_id: UUID
    device: Device | None
    verified: bool
    named_services: tuple[str, ...] = ()
    accepting: str | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """How long an invitation can be accepted, and how soon it may be sent again."""

    invitation_life: timedelta = timedelta(days=30)
    resend_after: timedelta = timedelta(minutes=1)


def due_at(share: Share) -> datetime | None:
    """When time ends a live share: the end of its terms, or of an invitation that nobody has accepted."""
    ends = [share.terms.ends_at] if share.state == "active" else [share.terms.ends_at, share.expires_at]
    return min((end for end in ends if end is not None), default=None) if share.live else None


def is_recipient(share: Share, actor: str, *, verified: bool) -> bool:
    """Whether the share is the actor's: he accepted it, or it is not accepted and the address is his."""
    return verified if share.account_id is None else share.account_id == actor


def evolve(  # noqa: PLR0911 - one for each event
    share: Share | None, event: AnyShareEvent, version: int, time: datetime
) -> Share:
    """The share after the event, which has this version in the device's stream and happened then.

    Raises:
        ValueError: the event cannot follow; the history is broken.
    """
    if isinstance(event, ShareRequested):
        return Share(
            share_id=event.share_id,
            device_id=event.device_id,
            contact_id=event.contact_id,
            owner_account_id=event.owner_account_id,
            state="requested",
            terms=event.terms,
            version=version,
            invitation_version=version,
            told_at=time,
            expires_at=event.expires_at,
        )
    if share is None:
        raise ValueError(f"{type(event).__name__} at version {version} without a ShareRequested before it")
    match event:
        case ShareAccepted():
            return replace(
                share, version=version, state="active", account_id=event.account_id, expires_at=None
            )
        case ShareRejected():
            return replace(share, version=version, state="rejected")
        case ShareChanged(state="requested"):
            return replace(
                share,
                version=version,
                terms=event.terms,
                invitation_version=version,
                expires_at=event.expires_at,
                told_at=time if event.notify else share.told_at,
            )
        case ShareChanged():
            return replace(share, version=version, terms=event.terms)
        case InvitationResent():
            return replace(share, version=version, expires_at=event.expires_at, told_at=time)
        case ShareRevoked():
            return replace(share, version=version, state="revoked")
        case ShareLeft():
            return replace(share, version=version, state="left")
        case ShareExpired():
            return replace(share, version=version, state="expired")
        case _:
            assert_never(event)
