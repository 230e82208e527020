"""What each command does inside one transaction: resolve names, lock, load, decide. Writes no event.

Locks are taken in the same order by all: command id, owner (for limits), accounts (so that none is deleted
meanwhile), contacts (shared; exclusive to delete a recipient), devices by id.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never
from uuid import UUID

from contracts.base import new_id
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
)
from contracts.events import AnyShareEvent, ShareRequested
from contracts.positions import Position
from share_command import domain
from share_command.errors import DeviceNotFound, LimitReached, NotARecipient, Refused
from share_command.handlers import naming
from share_command.store import Named, Store


@dataclass(frozen=True, slots=True)
class Limits:
    """How many open invitations and grants there may be: of one device, and by one owner."""

    shares_per_device: int = 1_000
    shares_per_owner: int = 100_000


@dataclass(frozen=True, slots=True)
class Context:
    """One transaction. ``strict``: the first refusal refuses all; else each share has its own outcome."""

    store: Store
    clock: Callable[[], datetime]
    rules: domain.Rules
    limits: Limits
    strict: bool = True


@dataclass(slots=True)
class Item:
    """One device with one recipient, as written, and what was decided."""

    device_id: str
    recipient: str | None
    before: domain.Share | None = None
    device: domain.Device | None = None
    events: tuple[AnyShareEvent, ...] = ()
    refusal: Refused | None = None


@dataclass(slots=True)
class Work:
    """What a command came to: an item for each share, and the locked streams' versions.

    ``now`` is when it was decided, after the streams were locked: times do not run backwards in a stream.
    """

    now: datetime
    items: list[Item] = field(default_factory=list[Item])
    versions: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def decided(self) -> list[tuple[domain.Share | None, tuple[AnyShareEvent, ...]]]:
        """Shares with the events that follow."""
        return [(item.before, item.events) for item in self.items if item.events]

    @property
    def positions(self) -> tuple[Position, ...]:
        """Of the locked streams, after what was decided."""
        added = Counter(event.device_id for item in self.items for event in item.events)
        return tuple(
            Position(device_id, version + added[device_id]) for device_id, version in self.versions.items()
        )


async def run(command: AnyCommand, context: Context) -> Work:
    """Decide a command on the locked state.

    Raises:
        Refused: decided so; only of the command as a whole when not ``strict``.
    """
    match command:
        case RequestShare():
            return await _request_share(command, context)
        case RevokeShare():
            return await _revoke_share(command, context)
        case LeaveShare():
            return await _leave_share(command, context)
        case RemoveRecipient():
            return await _remove_recipient(command, context)
        case AcceptShare() | RejectShare() | ChangeShare() | ResendInvitation():
            return await _on_one_share(command, context)
        case _:
            assert_never(command)


async def _request_share(command: RequestShare, context: Context) -> Work:
    """Devices with recipients; a device named that is not the actor's is like one that does not exist."""
    store = context.store
    addresses = await naming.addresses(command.recipients, command.actor, store)
    if context.strict:
        _raise_first(addresses.refused)
    named = await naming.named(command.device_ids, command.actor, store)
    foreign = [item for item in named if item.owner_account_id != command.actor]
    if foreign and context.strict:
        raise DeviceNotFound(device_id=foreign[0].written)
    grows = command.adds
    if grows:
        await store.lock_owner(command.actor)
    own, accepting = await store.accounts(command.actor, addresses.usable)
    if grows:
        contacts = await store.book_contacts(
            command.actor, sorted(addresses.usable), context.clock(), causation=command.command_id
        )
    else:  # taking services out makes no contact
        contacts = await store.contacts(addresses.usable)
    by_device = naming.by_device(named)
    work = await _locked(
        (device_id for device_id, items in by_device.items() if items[0] not in foreign), context
    )
    devices = await store.devices(by_device)
    if context.strict:
        domain.require_services(command.services, devices.values())
    shares = await store.shares_of_contacts(by_device, contacts.values())
    for device_id, items in by_device.items():
        for written, refusal in addresses.refused.items():
            work.items.append(Item(items[0].written, written, refusal=refusal))
        for address, written in addresses.usable.items():
            if address not in contacts and address not in own:
                continue
            contact_id = contacts.get(address) or new_id()
            subject = _subject(
                items, contact_id, devices.get(device_id), verified=address in own,
                accepting=accepting.get(address),
            )  # fmt: skip
            before = shares.get((device_id, contact_id))
            _decide(work, before, command, subject, items, written, context)
    if grows:
        await _keep_limits(work, command.actor, context)
    return work


async def _keep_limits(work: Work, owner: str, context: Context) -> None:
    """Refuse what would be more than a device, or an owner, may have."""
    new = [item for item in work.items if _is_new(item)]
    if not new:
        return
    of_device, of_owner = await context.store.live_counts(work.versions, owner)
    limits = context.limits
    for item in new:
        device_id = item.events[0].device_id
        count = of_device.get(device_id, 0) + 1
        message = None
        if count > limits.shares_per_device:
            message = (
                f"A device may have {limits.shares_per_device} shares and open invitations. "
                "Revoke some of this one's first."
            )
        elif of_owner + 1 > limits.shares_per_owner:
            message = (
                f"An owner may have {limits.shares_per_owner} shares and open invitations. "
                "Revoke some of yours first."
            )
        if message is None:
            of_device[device_id], of_owner = count, of_owner + 1
            continue
        refusal = LimitReached(message, device_id=item.device_id, recipient=item.recipient)
        if context.strict:
            raise refusal
        item.events, item.refusal = (), refusal


def _is_new(item: Item) -> bool:
    return (item.before is None or not item.before.live) and any(
        isinstance(event, ShareRequested) for event in item.events
    )


async def _revoke_share(command: RevokeShare, context: Context) -> Work:
    """By the owner: ends the shares with all recipients. By the recipient: he leaves."""
    store = context.store
    addresses = await naming.addresses(command.recipients, command.actor, store)
    if context.strict:
        _raise_first(addresses.refused)
    named = await naming.named(command.device_ids, command.actor, store)
    by_device = naming.by_device(named)
    own = await store.verified_addresses(command.actor)
    contacts = await store.contacts(addresses.usable)
    theirs = [
        device_id for device_id, items in by_device.items() if items[0].owner_account_id != command.actor
    ]
    received = await store.shares_of_recipient(
        theirs, command.actor, [contacts[address] for address in own if address in contacts]
    )
    concerned = by_device.keys() - set(theirs) | {share.device_id for share in received}
    work = await _locked(concerned, context)  # nobody holds up devices that are no business of his
    devices = await store.devices(by_device)
    shares = await store.shares_of_contacts(concerned, contacts.values())
    for device_id, items in by_device.items():
        for written, refusal in addresses.refused.items():
            work.items.append(Item(items[0].written, written, refusal=refusal))
        for address, written in addresses.usable.items():
            contact_id = contacts.get(address) or new_id()  # an unknown contact has no share
            subject = _subject(items, contact_id, devices.get(device_id), verified=address in own)
            before = shares.get((device_id, contact_id))
            _decide(work, before, command, subject, items, written, context)
    return work


async def _leave_share(command: LeaveShare, context: Context) -> Work:
    """Give back what the actor has of the devices, by all his addresses or those named."""
    store = context.store
    own = await store.verified_addresses(command.actor)
    asked: set[str] = set()
    for written in command.recipients:
        address = _own_address(written)
        if address not in own:
            raise NotARecipient(recipient=written)
        asked.add(address)
    named = await naming.named(command.device_ids, None, store)
    contacts = await store.contacts(own)
    chosen = {contacts[address] for address in asked if address in contacts}
    by_device = naming.by_device(named)
    received = await store.shares_of_recipient(by_device, command.actor, contacts.values())
    work = await _locked({share.device_id for share in received}, context)
    devices = await store.devices(by_device)
    shares = await store.shares_of_recipient(work.versions, command.actor, contacts.values())
    verified = set(contacts.values())
    for device_id, items in by_device.items():
        mine = [
            share
            for share in shares
            if share.device_id == device_id
            and (not asked or share.contact_id in chosen)
            and domain.is_recipient(share, command.actor, verified=share.contact_id in verified)
        ]
        if not mine:
            refusal = DeviceNotFound(device_id=items[0].written)
            if context.strict:
                raise refusal
            work.items.append(Item(items[0].written, None, refusal=refusal))
        for share in mine:
            subject = _subject(
                items, share.contact_id, devices.get(device_id), verified=share.contact_id in verified
            )
            _decide(work, share, command, subject, items, None, context)
    return work


async def _remove_recipient(command: RemoveRecipient, context: Context) -> Work:
    """Delete a contact of the actor's book with all sharing: one transaction over all devices."""
    store = context.store
    addresses = await naming.addresses([command.recipient], command.actor, store)
    _raise_first(addresses.refused)
    contact_id = await store.lock_contact_alone(command.actor, next(iter(addresses.usable)))
    if contact_id is None:  # nor does he learn whether others share with that address
        return Work(context.clock())
    with_shares = await store.devices_shared(command.actor, contact_id)
    work = await _locked(with_shares, context)
    devices = await store.devices(with_shares)
    shares = await store.shares_of_contacts(with_shares, [contact_id])
    for device_id in with_shares:
        item = Named(device_id, device_id, None, command.actor)
        subject = _subject([item], contact_id, devices.get(device_id), verified=False)
        before = shares.get((device_id, contact_id))
        _decide(work, before, command, subject, [item], command.recipient, context)
    await store.forget_contact(command.actor, contact_id)
    return work


async def _on_one_share(
    command: AcceptShare | RejectShare | ChangeShare | ResendInvitation, context: Context
) -> Work:
    """What names one share: its invitation is answered, its terms are set, it is sent again."""
    store = context.store
    found = await store.share(command.share_id, command.device_id)
    if found is None:  # makes no stream for what is not
        raise DeviceNotFound(device_id=command.device_id)
    _, address = found
    own, accepting = await store.accounts(
        command.actor, [address] if isinstance(command, ChangeShare) else []
    )
    work = await _locked([command.device_id], context)
    found = await store.share(command.share_id, command.device_id)
    assert found is not None, "shares are never deleted"
    share, _ = found
    devices = await store.devices([command.device_id])
    item = Named(command.device_id, command.device_id, None, share.owner_account_id)
    subject = _subject(
        [item], share.contact_id, devices.get(command.device_id), verified=address in own,
        accepting=accepting.get(address),
    )  # fmt: skip
    _decide(work, share, command, subject, [item], None, context)
    return work


def _own_address(written: str) -> str:
    try:
        return naming.read_address(written)
    except Refused as refusal:
        raise refusal.about(recipient=written) from None


def _raise_first(refused: Mapping[str, Refused]) -> None:
    for written, refusal in refused.items():
        raise refusal.about(recipient=written)


async def _locked(device_ids: Iterable[str], context: Context) -> Work:
    """Lock the devices' streams, then look at the clock."""
    versions = await context.store.lock_streams(device_ids)
    return Work(context.clock(), versions=versions)


def _decide(  # noqa: PLR0917 - as many as name one decision
    work: Work,
    share: domain.Share | None,
    command: AnyCommand,
    subject: domain.Subject,
    items: list[Named],
    recipient: str | None,
    context: Context,
) -> None:
    """Decide one share, and name what was refused as the caller wrote it."""
    item = Item(items[0].written, recipient, share, subject.device)
    try:
        item.events = domain.decide(share, command, subject, now=work.now, rules=context.rules)
    except Refused as refusal:
        named = refusal.about(device_id=items[0].written, recipient=recipient)
        if context.strict:
            raise named from None
        item.refusal = named
        if isinstance(refusal, DeviceNotFound):  # nor does he learn what there is
            item.before = item.device = None
    work.items.append(item)


def _subject(
    items: Iterable[Named],
    contact_id: UUID,
    device: domain.Device | None,
    *,
    verified: bool,
    accepting: str | None = None,
) -> domain.Subject:
    items = list(items)
    services = [item.service_id for item in items]
    return domain.Subject(
        device_id=items[0].device_id,
        contact_id=contact_id,
        share_id=new_id(),
        device=device,
        verified=verified,
        named_services=() if None in services else tuple(item for item in services if item is not None),
        accepting=accepting,
    )
