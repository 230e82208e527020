"""What a command does to one share: one device, one contact. Pure; ids and time come in as arguments.

| from \\ command    | request      | accept   | reject   | change       | resend  | revoke   | leave    |
|--------------------|--------------|----------|----------|--------------|---------|----------|----------|
| none               | requested    | refused  | refused  | refused      | refused | no event | refused  |
| rejected, revoked, | requested    | refused  | refused  | refused      | refused | no event | no event |
| left, expired      |              |          |          |              |         |          |          |
| requested          | changed (1)  | active   | rejected | changed (1)  | resent  | revoked  | rejected |
| active             | changed (1)  | no event | refused  | changed (1)  | refused | revoked  | left     |
| live, of a former  | revoked,     | refused  | as above | refused      | refused | revoked  | as above |
| owner              | requested    |          |          |              |         |          |          |

(1) revoked when nothing is left.

Time comes first: a share whose end has come is expired (one event more) before the command is judged. Where
there is nothing to leave, the answer is that of an unknown device. To delete a recipient revokes what is
live. An invitation to somebody who always accepts from this owner is accepted in the same decision.

A live share of a former owner is not the new owner's to change, since its recipient has not agreed to him:
his request ends it (ownership_transferred) and invites anew, as if there had been none; his revocation ends
it whole, whatever of the device it names. Until then it stands as it is.

A request that changes nothing gives no event. How a request changes the terms:

- Without services it sets the scope to all services with the permissions given.
- An ADD entry sets one service to exactly the permissions given, a REMOVE entry takes it out; in order.
- ADD to a share of all services leaves it a share of all. Its services have one set of permissions in
  common, so an ADD with another set cannot be expressed. It is refused (CONFLICT), whether it asks for more
  or for less: the owner must not believe that he has narrowed what he has not, nor widen all by naming one.
- REMOVE from a share of all services leaves the other services that the device has now, each with the
  permissions it had; services added to the device later are then not shared.
- A service named in place of its device means that service only. By its recipient a share is given back as
  a whole: naming one service of several is refused (CONFLICT).
- A revocation by somebody who is not the owner but the recipient is a leave.

A change sets the terms whole, by the owner who names the version that he saw: if anything has happened to
the share since, he gets CONFLICT and what it is now. New words to the recipient are a change too. New terms
do not give an invitation more time than it had.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from math import ceil
from typing import assert_never

from contracts.commands import (
    AcceptShare,
    AnyCommand,
    ChangeShare,
    LeaveShare,
    RejectShare,
    RemoveRecipient,
    RequestShare,
    ResendInvitation,
    RevokeShare,
    ServiceChange,
)
from contracts.events import (
    AnyShareEvent,
    InvitationResent,
    RevokeReason,
    ShareAccepted,
    ShareChanged,
    ShareLeft,
    ShareRejected,
    ShareRequested,
)
from contracts.permissions import AllServices, SomeServices, Terms
from share_command.domain.ending import common, overdue, revoked
from share_command.domain.share import Device, Rules, Share, Subject, is_recipient
from share_command.domain.terms import apply, require_period
from share_command.errors import (
    Conflict,
    DeviceNotFound,
    RateLimited,
    SelfShare,
    ServiceNotOnDevice,
)


def decide(
    share: Share | None, command: AnyCommand, subject: Subject, *, now: datetime, rules: Rules
) -> tuple[AnyShareEvent, ...]:
    """The events that the command leads to, in order; none when it succeeds without.

    Raises:
        DeviceNotFound: no such device, or the actor has nothing to say about it (the same answer).
        ServiceNotOnDevice: a service named is not one of the device.
        SelfShare: owner and recipient are the same person.
        InvalidPeriod: start and end leave no time in which the share would give anything.
        Conflict: the state of the share, or what its terms can express, does not allow it.
        RateLimited: the recipient was told less than a minute ago.
    """
    expired = None if share is None else overdue(share, now)
    if share is not None and expired is not None:
        share = replace(share, state="expired")
    before: tuple[AnyShareEvent, ...] = () if expired is None else (expired,)
    match command:
        case RequestShare():
            events = _request(share, command, subject, now, rules)
        case AcceptShare():
            events = _accept(share, command, subject)
        case RejectShare():
            events = _reject(share, command, subject)
        case ChangeShare():
            events = _change(share, command, subject, now)
        case ResendInvitation():
            events = _resend(share, command, subject, now, rules)
        case RevokeShare():
            events = _revoke(share, command, subject)
        case RemoveRecipient():
            events = _remove(share, command)
        case LeaveShare():
            events = _leave(share, command, subject)
        case _:
            assert_never(command)
    return (*before, *events)


def require_services(services: Iterable[ServiceChange], devices: Iterable[Device]) -> None:
    """Each service listed must belong to one of the devices named; raises ServiceNotOnDevice."""
    there = {service_id for device in devices for service_id in device.services}
    for change in services:
        if change.service_id not in there:
            raise ServiceNotOnDevice(service_id=change.service_id)


def _owned(command: AnyCommand, subject: Subject) -> Device | None:
    device = subject.device
    return device if device is not None and device.owner_account_id == command.actor else None


def _request(
    share: Share | None, command: RequestShare, subject: Subject, now: datetime, rules: Rules
) -> tuple[AnyShareEvent, ...]:
    device = _owned(command, subject)
    if device is None:
        raise DeviceNotFound
    if subject.verified:
        raise SelfShare
    changes = _changes(command, subject, device)
    live = share if share is not None and share.live else None
    ended: tuple[AnyShareEvent, ...] = ()
    if live is not None and live.owner_account_id != command.actor:
        ended, live = (_transferred(live),), None
    old = live.terms if live is not None else None
    scope = (
        apply(old.scope if old is not None else None, changes, device)
        if changes
        else AllServices(permissions=command.permissions)
    )
    if scope is None:
        return ended if live is None else (revoked(live),)
    terms = Terms(
        scope=scope,
        scripting=command.scripting if command.scripting is not None else old is not None and old.scripting,
        starts_at=command.starts_at or (old.starts_at if old is not None else None),
        ends_at=command.ends_at or (old.ends_at if old is not None else None),
    )
    require_period(terms.starts_at, terms.ends_at, now)
    if command.expires_at is not None:
        require_period(None, command.expires_at, now)
    if live is None:
        invited = ShareRequested(
            share_id=subject.share_id if share is None else share.share_id,  # one per device and contact
            device_id=subject.device_id,
            contact_id=subject.contact_id,
            owner_account_id=command.actor,
            terms=terms,
            notify=command.notify,
            expires_at=command.expires_at or now + rules.invitation_life,
        )
        return (*ended, invited, *_accepted_by_rule(invited, subject))
    if live.state == "active":
        return () if terms == live.terms else (_changed(live, terms, notify=command.notify),)
    if terms == live.terms and command.expires_at in (None, live.expires_at):
        return ()
    changed = _changed(live, terms, notify=command.notify)
    if command.expires_at is not None:
        changed = changed.model_copy(update={"expires_at": command.expires_at})
    return (changed, *_accepted_by_rule(changed, subject))


def _changes(command: RequestShare, subject: Subject, device: Device) -> tuple[ServiceChange, ...]:
    """The entries for this device; none means all of its services.

    Where something is only taken out, a service named in place of the device is not added.
    """
    for service_id in subject.named_services:
        if service_id not in device.services:
            raise ServiceNotOnDevice(service_id=service_id)
    named = tuple(
        ServiceChange(service_id=service_id, permissions=command.permissions)
        for service_id in subject.named_services
        if command.adds
    )
    listed = tuple(change for change in command.services if change.service_id in device.services)
    if command.services and not listed and not named:  # never "no entries: all services"
        raise ServiceNotOnDevice(
            "None of the services listed is on this device. Leave the device out, or list its services.",
            service_id=command.services[0].service_id,
        )
    return (*named, *listed)


def _accepted_by_rule(invited: ShareRequested | ShareChanged, subject: Subject) -> tuple[AnyShareEvent, ...]:
    if subject.accepting is None or subject.accepting == invited.owner_account_id:
        return ()
    return (
        ShareAccepted(
            share_id=invited.share_id,
            device_id=invited.device_id,
            contact_id=invited.contact_id,
            owner_account_id=invited.owner_account_id,
            account_id=subject.accepting,
            automatic=True,
        ),
    )


def _accept(share: Share | None, command: AcceptShare, subject: Subject) -> tuple[AnyShareEvent, ...]:
    mine = _mine(share, command, subject)
    device = subject.device
    if device is None or device.owner_account_id != mine.owner_account_id:
        raise DeviceNotFound  # whoever invited has no say over the device any more
    if device.owner_account_id == command.actor:
        raise SelfShare
    match mine.state:
        case "active":
            return ()
        case "requested":
            if command.invitation_version != mine.invitation_version:
                raise Conflict(
                    "The terms of this invitation have changed. Look at the new ones, then accept those.",
                    terms=mine.terms.model_dump(mode="json"),
                    invitation_version=mine.invitation_version,
                )
            return (ShareAccepted(**common(mine), account_id=command.actor),)
        case "rejected" | "revoked" | "left" | "expired":
            raise _ended(mine)
        case _:
            assert_never(mine.state)


def _reject(share: Share | None, command: RejectShare, subject: Subject) -> tuple[AnyShareEvent, ...]:
    mine = _mine(share, command, subject)
    match mine.state:
        case "active":
            raise Conflict("This share was accepted already. Leave it instead.", state=mine.state)
        case "requested":
            return (ShareRejected(**common(mine), account_id=command.actor),)
        case "rejected" | "revoked" | "left" | "expired":
            raise _ended(mine)
        case _:
            assert_never(mine.state)


def _given(
    share: Share | None, command: ChangeShare | ResendInvitation, subject: Subject
) -> tuple[Share, Device]:
    """A share that the actor gives, and its device."""
    device = _owned(command, subject)
    if device is None or share is None or share.owner_account_id != command.actor:
        raise DeviceNotFound
    return share, device


def _change(
    share: Share | None, command: ChangeShare, subject: Subject, now: datetime
) -> tuple[AnyShareEvent, ...]:
    given, device = _given(share, command, subject)
    if command.expected_version != given.version or not given.live:
        raise Conflict(
            "This share has changed since you looked at it. Look at what it is now, then decide again.",
            state=given.state,
            version=given.version,
            invitation_version=given.invitation_version,
            terms=given.terms.model_dump(mode="json"),
        )
    asked = command.terms.scope
    if isinstance(asked, SomeServices):
        for service_id in asked.services:
            if service_id not in device.services:
                raise ServiceNotOnDevice(service_id=service_id)
        if not asked.services:
            return (revoked(given),)
    terms = command.terms.as_terms()
    require_period(terms.starts_at, terms.ends_at, now)
    if terms == given.terms and command.message is None:
        return ()
    changed = _changed(given, terms, notify=command.notify)
    return (changed, *(_accepted_by_rule(changed, subject) if given.state == "requested" else ()))


def _resend(
    share: Share | None, command: ResendInvitation, subject: Subject, now: datetime, rules: Rules
) -> tuple[AnyShareEvent, ...]:
    given, _ = _given(share, command, subject)
    if given.state != "requested":
        raise Conflict(
            "This invitation is not open any more: there is nothing to send again.", state=given.state
        )
    wait = given.told_at + rules.resend_after - now
    if wait > timedelta(0):
        raise RateLimited(
            "The recipient was told of this invitation less than a minute ago. Wait, then send it again.",
            retry_after_seconds=ceil(wait.total_seconds()),
        )
    return (InvitationResent(**common(given), expires_at=now + rules.invitation_life),)


def _remove(share: Share | None, command: RemoveRecipient) -> tuple[AnyShareEvent, ...]:
    if share is None or not share.live or share.owner_account_id != command.actor:
        return ()
    return (revoked(share, RevokeReason.RECIPIENT_DELETED),)


def _revoke(share: Share | None, command: RevokeShare, subject: Subject) -> tuple[AnyShareEvent, ...]:
    device = _owned(command, subject)
    if device is None:
        return _leave(share, command, subject)
    if share is None or not share.live:
        return ()
    if share.owner_account_id != command.actor:
        return (_transferred(share),)
    if not subject.named_services:
        return (revoked(share),)
    removals = [ServiceChange(service_id=item, action="REMOVE") for item in subject.named_services]
    scope = apply(share.terms.scope, removals, device)
    if scope is None:
        return (revoked(share),)
    terms = share.terms.model_copy(update={"scope": scope})
    return () if terms == share.terms else (_changed(share, terms, notify=True),)


def _leave(
    share: Share | None, command: LeaveShare | RevokeShare, subject: Subject
) -> tuple[AnyShareEvent, ...]:
    mine = _mine(share, command, subject)
    if mine.live and subject.named_services:
        scope = mine.terms.scope
        if isinstance(scope, AllServices) or not scope.services.keys() <= set(subject.named_services):
            raise Conflict("A share is given back as a whole: name the device, not one of its services.")
    match mine.state:
        case "active":
            return (ShareLeft(**common(mine), account_id=command.actor),)
        case "requested":
            return (ShareRejected(**common(mine), account_id=command.actor),)
        case "rejected" | "revoked" | "left" | "expired":
            return ()
        case _:
            assert_never(mine.state)


def _mine(share: Share | None, command: AnyCommand, subject: Subject) -> Share:
    if share is None or not is_recipient(share, command.actor, verified=subject.verified):
        raise DeviceNotFound
    return share


def _ended(share: Share) -> Conflict:
    return Conflict("This invitation has ended. Ask the owner to share again.", state=share.state)


def _transferred(share: Share) -> AnyShareEvent:
    return revoked(share, RevokeReason.OWNERSHIP_TRANSFERRED)


def _changed(share: Share, terms: Terms, *, notify: bool) -> ShareChanged:
    """New terms: an active share has them at once, an open invitation is to be accepted on them."""
    if share.state == "active":
        return ShareChanged(**common(share), state="active", terms=terms, notify=notify)
    return ShareChanged(
        **common(share),
        state="requested",
        terms=terms,
        notify=notify,
        expires_at=share.expires_at,
    )
