"""What may happen to one share: one device, one contact. Pure; ids come in as arguments.

| from \\ command    | request            | accept   | reject   | revoke   | leave                     |
|--------------------|--------------------|----------|----------|----------|---------------------------|
| none               | requested          | refused  | refused  | no event | refused as unknown device |
| rejected, revoked, | requested          | refused  | refused  | no event | no event                  |
| left               |                    |          |          |          |                           |
| requested          | changed, or        | active   | rejected | revoked  | rejected                  |
|                    | revoked when empty |          |          |          |                           |
| active             | changed, or        | no event | refused  | revoked  | left                      |
|                    | revoked when empty |          |          |          |                           |
| live, of a former  | revoked, then      | refused  | as above | revoked  | as above                  |
| owner              | requested          |          |          |          |                           |

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
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, TypedDict, assert_never
from uuid import UUID

from contracts.commands import (
    AcceptShare,
    AnyCommand,
    LeaveShare,
    RejectShare,
    RequestShare,
    RevokeShare,
    ServiceChange,
)
from contracts.events import (
    AnyShareEvent,
    RevokeReason,
    ShareAccepted,
    ShareChanged,
    ShareLeft,
    ShareRejected,
    ShareRequested,
    ShareRevoked,
)
from contracts.permissions import AllServices, PermissionSet, Scope, SomeServices, Terms
from share_command.errors import Conflict, DeviceNotFound, SelfShare, ServiceNotOnDevice


class _Common(TypedDict):
    share_id: UUID
    device_id: str
    contact_id: UUID
    owner_account_id: str


State: TypeAlias = Literal["requested", "active", "rejected", "revoked", "left"]


@dataclass(frozen=True, slots=True)
class Share:
    """A share as its events made it.

    ``invitation_version`` is the version of the last ShareRequested, or ShareChanged while requested: what a
    recipient accepts. ``account_id`` is the account that accepted; the grant is that account's.
    """

    share_id: UUID
    device_id: str
    contact_id: UUID
    owner_account_id: str
    state: State
    terms: Terms
    invitation_version: int
    account_id: str | None = None

    @property
    def live(self) -> bool:
        """Whether it is an open invitation or a grant."""
        return self.state in ("requested", "active")


@dataclass(frozen=True, slots=True)
class Device:
    """What the directory says of a device now."""

    device_id: str
    owner_account_id: str
    services: frozenset[str]


@dataclass(frozen=True, slots=True)
class Subject:
    """What a command is about, once its names are resolved.

    ``share_id`` is the id that a new share would get. ``verified`` tells whether the actor has proved that
    the contact's address is his. ``named_services`` are services named in place of the device; none means
    the device as a whole. ``device`` is None when the directory has no such device.
    """

    device_id: str
    contact_id: UUID
    share_id: UUID
    device: Device | None
    verified: bool
    named_services: tuple[str, ...] = ()


def decide(share: Share | None, command: AnyCommand, subject: Subject) -> tuple[AnyShareEvent, ...]:
    """The events that the command leads to, in order; none when it succeeds without.

    Raises:
        DeviceNotFound: no such device, or the actor has nothing to say about it (the same answer).
        ServiceNotOnDevice: a service named is not one of the device.
        SelfShare: owner and recipient are the same person.
        Conflict: the state of the share, or what its terms can express, does not allow it.
    """
    match command:
        case RequestShare():
            return _request(share, command, subject)
        case AcceptShare():
            event = _accept(share, command, subject)
        case RejectShare():
            event = _reject(share, command, subject)
        case RevokeShare():
            event = _revoke(share, command, subject)
        case LeaveShare():
            event = _leave(share, command, subject)
        case _:
            assert_never(command)
    return () if event is None else (event,)


def evolve(share: Share | None, event: AnyShareEvent, version: int) -> Share:
    """The share after the event, which has this version in the device's stream.

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
            invitation_version=version,
        )
    if share is None:
        raise ValueError(f"{type(event).__name__} at version {version} without a ShareRequested before it")
    match event:
        case ShareAccepted():
            return replace(share, state="active", account_id=event.account_id)
        case ShareRejected():
            return replace(share, state="rejected")
        case ShareChanged():
            invitation = version if event.state == "requested" else share.invitation_version
            return replace(
                share,
                state=event.state,
                terms=event.terms,
                invitation_version=invitation,
                owner_account_id=event.owner_account_id,
            )
        case ShareRevoked():
            return replace(share, state="revoked")
        case ShareLeft():
            return replace(share, state="left")
        case _:
            assert_never(event)


def is_recipient(share: Share, actor: str, *, verified: bool) -> bool:
    """Whether the share is the actor's: he accepted it, or it is not accepted and the address is his."""
    return verified if share.account_id is None else share.account_id == actor


def require_services(command: RequestShare, devices: Iterable[Device]) -> None:
    """Each service listed must belong to one of the devices named; raises ServiceNotOnDevice."""
    there = {service_id for device in devices for service_id in device.services}
    for change in command.services:
        if change.service_id not in there:
            raise ServiceNotOnDevice(service_id=change.service_id)


def _owned(command: AnyCommand, subject: Subject) -> Device | None:
    device = subject.device
    return device if device is not None and device.owner_account_id == command.actor else None


def _request(share: Share | None, command: RequestShare, subject: Subject) -> tuple[AnyShareEvent, ...]:
    device = _owned(command, subject)
    if device is None:
        raise DeviceNotFound
    if subject.verified:
        raise SelfShare
    for service_id in subject.named_services:
        if service_id not in device.services:
            raise ServiceNotOnDevice(service_id=service_id)
    named = tuple(
        ServiceChange(service_id=service_id, permissions=command.permissions)
        for service_id in subject.named_services
    )
    listed = tuple(change for change in command.services if change.service_id in device.services)
    if command.services and not listed and not named:  # never "no entries: all services"
        raise ServiceNotOnDevice(
            "None of the services listed is on this device. Leave the device out, or list its services.",
            service_id=command.services[0].service_id,
        )
    live = share if share is not None and share.live else None
    ended: tuple[AnyShareEvent, ...] = ()
    if live is not None and live.owner_account_id != command.actor:
        ended, live = (_transferred(live),), None
    scope = live.terms.scope if live is not None else None
    changed = (
        _apply(scope, (*named, *listed), device)
        if named or listed
        else AllServices(permissions=command.permissions)
    )
    if changed is None:
        return ended if live is None else (_revoked(live),)
    before = live.terms.scripting if live is not None else False
    terms = Terms(scope=changed, scripting=before if command.scripting is None else command.scripting)
    if live is None:
        invited = ShareRequested(
            share_id=subject.share_id if share is None else share.share_id,  # one per device and contact
            device_id=subject.device_id,
            contact_id=subject.contact_id,
            owner_account_id=command.actor,
            terms=terms,
            notify=command.notify,
        )
        return (*ended, invited)
    return () if terms == live.terms else (_changed(live, terms, notify=command.notify),)


def _apply(scope: Scope | None, changes: Iterable[ServiceChange], device: Device) -> Scope | None:
    """The scope after the entries, in order; None when nothing is left."""
    every = scope if isinstance(scope, AllServices) else None
    services: dict[str, PermissionSet] = dict(scope.services) if isinstance(scope, SomeServices) else {}
    for change in changes:
        if every is None:
            services.pop(change.service_id, None)
            if change.action == "ADD":
                services[change.service_id] = change.permissions
        elif change.action == "REMOVE":
            services = dict.fromkeys(sorted(device.services - {change.service_id}), every.permissions)
            every = None
        elif change.permissions != every.permissions:
            raise Conflict(
                "All services of this device are shared with the same permissions. Request the whole device "
                "with the permissions wanted, or take services out first.",
                service_id=change.service_id,
            )
    if every is not None:
        return every
    return SomeServices(services=services) if services else None  # once: it looks at each service again


def _accept(share: Share | None, command: AcceptShare, subject: Subject) -> AnyShareEvent | None:
    mine = _mine(share, command, subject)
    device = subject.device
    if device is None or device.owner_account_id != mine.owner_account_id:
        raise DeviceNotFound  # whoever invited has no say over the device any more
    if device.owner_account_id == command.actor:
        raise SelfShare
    match mine.state:
        case "active":
            return None
        case "requested":
            if command.invitation_version != mine.invitation_version:
                raise Conflict(
                    "The terms of this invitation have changed. Look at the new ones, then accept those.",
                    terms=mine.terms.model_dump(mode="json"),
                    invitation_version=mine.invitation_version,
                )
            return ShareAccepted(**_common(mine), account_id=command.actor)
        case "rejected" | "revoked" | "left":
            raise _ended(mine)
        case _:
            assert_never(mine.state)


def _reject(share: Share | None, command: RejectShare, subject: Subject) -> AnyShareEvent | None:
    mine = _mine(share, command, subject)
    match mine.state:
        case "active":
            raise Conflict("This share was accepted already. Leave it instead.", state=mine.state)
        case "requested":
            return ShareRejected(**_common(mine), account_id=command.actor)
        case "rejected" | "revoked" | "left":
            raise _ended(mine)
        case _:
            assert_never(mine.state)


def _revoke(share: Share | None, command: RevokeShare, subject: Subject) -> AnyShareEvent | None:
    device = _owned(command, subject)
    if device is None:
        return _leave(share, command, subject)
    if share is None or not share.live:
        return None
    if share.owner_account_id != command.actor:
        return _transferred(share)
    if not subject.named_services:
        return _revoked(share)
    removals = [ServiceChange(service_id=item, action="REMOVE") for item in subject.named_services]
    scope = _apply(share.terms.scope, removals, device)
    if scope is None:
        return _revoked(share)
    terms = Terms(scope=scope, scripting=share.terms.scripting)
    return None if terms == share.terms else _changed(share, terms, notify=True)


def _leave(share: Share | None, command: LeaveShare | RevokeShare, subject: Subject) -> AnyShareEvent | None:
    mine = _mine(share, command, subject)
    if mine.live and subject.named_services:
        scope = mine.terms.scope
        if isinstance(scope, AllServices) or not scope.services.keys() <= set(subject.named_services):
            raise Conflict("A share is given back as a whole: name the device, not one of its services.")
    match mine.state:
        case "active":
            return ShareLeft(**_common(mine), account_id=command.actor)
        case "requested":
            return ShareRejected(**_common(mine), account_id=command.actor)
        case "rejected" | "revoked" | "left":
            return None
        case _:
            assert_never(mine.state)


def _mine(share: Share | None, command: AnyCommand, subject: Subject) -> Share:
    if share is None or not is_recipient(share, command.actor, verified=subject.verified):
        raise DeviceNotFound
    return share


def _ended(share: Share) -> Conflict:
    return Conflict("This invitation has ended. Ask the owner to share again.", state=share.state)


def _revoked(share: Share, reason: RevokeReason = RevokeReason.BY_OWNER) -> ShareRevoked:
    return ShareRevoked(**_common(share), reason=reason, account_id=share.account_id)


def _transferred(share: Share) -> ShareRevoked:
    return _revoked(share, RevokeReason.OWNERSHIP_TRANSFERRED)


def _changed(share: Share, terms: Terms, *, notify: bool) -> ShareChanged:
    state = "active" if share.state == "active" else "requested"
    return ShareChanged(**_common(share), state=state, terms=terms, notify=notify)


def _common(share: Share) -> _Common:
    return {
        "share_id": share.share_id,
        "device_id": share.device_id,
        "contact_id": share.contact_id,
        "owner_account_id": share.owner_account_id,
    }
