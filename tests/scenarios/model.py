"""The deciding side without any input or output: `share_command.domain` and a memory of its own.

What the handlers find in the database, `Model` finds in dictionaries: which names stand for what, whose an
address is, what was answered to a command id. All that is decided is decided by `domain.decide`,
`follow_device`, `follow_account_deletion` and `overdue`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, assert_never
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
from contracts.contacts import InvalidAddressError, canonical_address
from contracts.events import AnyShareEvent, ShareRequested
from contracts.links import ContactCode, InvalidLinkError, read_code, sign_code
from contracts.outcomes import BulkShare
from contracts.permissions import Permission
from share_command import domain
from share_command.errors import (
    ContactNotFound,
    DeviceNotFound,
    IdempotencyConflict,
    InvalidContactCode,
    InvalidEmail,
    InvalidPhone,
    LimitReached,
    NotARecipient,
    RateLimited,
    Refused,
    SelfShare,
)

_CONTACT = "contact:"
_CODE_LIFE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Entry:
    """An event at its place in its device's stream."""

    version: int
    event: AnyShareEvent
    time: datetime
    event_id: UUID = field(default_factory=new_id)


@dataclass(slots=True)
class Item:
    """One device with one recipient as written, and what was decided."""

    device_id: str
    recipient: str | None
    before: domain.Share | None = None
    device: domain.Device | None = None
    events: tuple[AnyShareEvent, ...] = ()
    refusal: Refused | None = None

    @property
    def outcome(self) -> str:
        """What became of it in one word, or the code of the refusal."""
        if self.refusal is not None:
            return self.refusal.code
        return _OUTCOMES[type(self.events[-1]).__name__] if self.events else "unchanged"

    def after(self, now: datetime) -> domain.Share | None:
        """The share once its events have happened."""
        share = self.before
        for event in self.events:
            share = domain.evolve(share, event, 1 if share is None else share.version + 1, now)
        return share


_OUTCOMES = {
    "ShareRequested": "requested",
    "ShareAccepted": "accepted",
    "ShareRejected": "rejected",
    "ShareChanged": "changed",
    "InvitationResent": "resent",
    "ShareRevoked": "revoked",
    "ShareLeft": "left",
    "ShareExpired": "expired",
}


@dataclass(slots=True)
class _Work:
    items: list[Item] = field(default_factory=list[Item])
    devices: list[str] = field(default_factory=list[str])
    contacts: dict[str, UUID] = field(default_factory=dict[str, UUID])
    book: set[UUID] = field(default_factory=set[UUID])
    forgotten: UUID | None = None


@dataclass(frozen=True, slots=True)
class _Named:
    written: str
    device_id: str
    service_id: str | None
    owner: str


class Model:
    """See the module. Methods take the time; events are appended to ``log``, device by device without gap."""

    def __init__(
        self,
        *,
        rules: domain.Rules | None = None,
        shares_per_device: int = 1_000,
        shares_per_owner: int = 100_000,
        secret: str = "s" * 32,
    ) -> None:
        self._rules, self._secret = rules or domain.Rules(), secret
        self._per_device, self._per_owner = shares_per_device, shares_per_owner
        self.accounts: dict[str, frozenset[str]] = {}
        self._deleted: set[str] = set()
        self.devices: dict[str, domain.Device] = {}
        self.contacts: dict[str, UUID] = {}
        self.books: dict[str, dict[UUID, str | None]] = {}
        self.shares: dict[tuple[str, UUID], domain.Share] = {}
        self.versions: dict[str, int] = {}
        self.words: dict[UUID, str] = {}
        self.log: list[Entry] = []
        self._always: set[tuple[str, str]] = set()
        self._answers: dict[str, tuple[object, Refused | dict[str, int]]] = {}
        self._bulks: dict[str, object] = {}
        self._bulk_items: dict[str, list[Item]] = {}

    # commands --------------------------------------------------------------------------------------------

    def handle(self, command: AnyCommand, now: datetime) -> dict[str, int]:
        """Run a command once; where its devices stand then. Raises ShareCommandError as `Handlers.handle`."""
        body = (type(command), command.model_dump(exclude={"command_id"}))
        if command.command_id in self._answers:
            known, answer = self._answers[command.command_id]
            if known != body:
                raise IdempotencyConflict
        else:
            try:
                answer = self._done(command, self._run(command, now, strict=True), now)
            except RateLimited:
                raise
            except Refused as refusal:
                answer = refusal
            self._answers[command.command_id] = (body, answer)
        if isinstance(answer, Refused):
            raise answer
        return answer

    def bulk(self, order: BulkShare, now: datetime) -> list[Item]:
        """Each device with each recipient, each by itself."""
        body = order.model_dump(exclude={"operation_id"})
        if order.operation_id not in self._bulks:
            own = [item for item in self._named(order.device_ids) if item.owner == order.actor]
            if own:
                domain.require_services(order.services, [self.devices[item.device_id] for item in own])
        if self._bulks.setdefault(order.operation_id, body) != body:
            raise IdempotencyConflict
        items: list[Item] = []
        for device_id in dict.fromkeys(order.device_ids):
            command_id = f"{order.operation_id}/{device_id}"
            if command_id not in self._bulk_items:
                command = RequestShare.model_validate(
                    {
                        **order.model_dump(exclude={"operation_id", "device_ids"}),
                        "command_id": command_id,
                        "device_ids": (device_id,),
                    }
                )
                work = self._run(command, now, strict=False)
                if any(item.refusal is None for item in work.items):  # else nothing is changed
                    self._done(command, work, now)
                self._bulk_items[command_id] = work.items
            items += self._bulk_items[command_id]
        return items

    def explain(self, command: AnyCommand, now: datetime) -> tuple[list[Item], str | None]:
        """What would become of each share, and the code of the refusal if it would be refused."""
        try:
            items = self._run(command, now, strict=False).items
        except (Refused, RateLimited) as refusal:
            return [], refusal.code
        return items, next((item.refusal.code for item in items if item.refusal is not None), None)

    def _done(self, command: AnyCommand, work: _Work, now: datetime) -> dict[str, int]:
        self.contacts.update(work.contacts)
        book = self.books.setdefault(command.actor, {})
        for contact_id in work.book:
            book.setdefault(contact_id, None)
        if work.forgotten is not None:
            book.pop(work.forgotten, None)
        for item in work.items:
            self._append(item.before, item.events, now)
        if isinstance(command, RequestShare | ChangeShare) and command.message is not None:
            for item in work.items:
                share = item.after(now)
                if item.refusal is None and share is not None and share.live:
                    self.words[share.share_id] = command.message
        return {device_id: self.versions.setdefault(device_id, 0) for device_id in work.devices}

    def _append(self, share: domain.Share | None, events: Iterable[AnyShareEvent], now: datetime) -> None:
        for event in events:
            version = self.versions[event.device_id] = self.versions.get(event.device_id, 0) + 1
            share = domain.evolve(share, event, version, now)
            self.shares[event.device_id, event.contact_id] = share
            self.log.append(Entry(version, event, now))
            if not share.live:
                self.words.pop(share.share_id, None)

    def _run(self, command: AnyCommand, now: datetime, *, strict: bool) -> _Work:
        match command:
            case RequestShare():
                return self._request(command, now, strict=strict)
            case RevokeShare():
                return self._revoke(command, now, strict=strict)
            case LeaveShare():
                return self._leave(command, now, strict=strict)
            case RemoveRecipient():
                return self._remove(command, now)
            case AcceptShare() | RejectShare() | ChangeShare() | ResendInvitation():
                return self._one_share(command, now, strict=strict)
            case _:
                assert_never(command)

    def _request(self, command: RequestShare, now: datetime, *, strict: bool) -> _Work:
        usable, refused = self._addresses(command.recipients, command.actor, strict=strict)
        named = self._named(command.device_ids)
        foreign = [item for item in named if item.owner != command.actor]
        if foreign and strict:
            raise DeviceNotFound(device_id=foreign[0].written)
        by_device = _by_device(named)
        if strict:
            domain.require_services(
                command.services, [self.devices[name] for name in by_device if name in self.devices]
            )
        grows = not command.services or any(change.action == "ADD" for change in command.services)
        own = self._own(command.actor)
        work = _Work(devices=list(by_device))
        if grows:
            work.contacts = {address: self.contacts.get(address) or new_id() for address in usable}
            work.book = set(work.contacts.values())
        contacts = {**self.contacts, **work.contacts}
        for device_id, items in by_device.items():
            work.items += [Item(items[0].written, text, refusal=why) for text, why in refused.items()]
            for address, written in usable.items():
                if address not in contacts and address not in own:
                    continue
                work.items.append(
                    self._decide(
                        command, device_id, items, contacts.get(address) or new_id(), written, now,
                        verified=address in own, accepting=self._accepting(command.actor, address),
                        strict=strict,
                    )
                )  # fmt: skip
        if grows:
            self._keep_limits(work, command.actor, strict=strict)
        return work

    def _keep_limits(self, work: _Work, owner: str, *, strict: bool) -> None:
        live = [share for share in self.shares.values() if share.live]
        of_owner = sum(share.owner_account_id == owner for share in live)
        of_device = {name: sum(share.device_id == name for share in live) for name in work.devices}
        for item in work.items:
            new = any(isinstance(event, ShareRequested) for event in item.events)
            if not new or (item.before is not None and item.before.live):
                continue
            device_id = item.events[0].device_id
            if of_device[device_id] < self._per_device and of_owner < self._per_owner:
                of_device[device_id], of_owner = of_device[device_id] + 1, of_owner + 1
                continue
            item.events, item.refusal = (), LimitReached()
            if strict:
                raise item.refusal

    def _revoke(self, command: RevokeShare, now: datetime, *, strict: bool) -> _Work:
        usable, refused = self._addresses(command.recipients, command.actor, strict=strict)
        by_device = _by_device(self._named(command.device_ids))
        own = self._own(command.actor)
        work = _Work(devices=list(by_device))
        for device_id, items in by_device.items():
            work.items += [Item(items[0].written, text, refusal=why) for text, why in refused.items()]
            for address, written in usable.items():
                contact_id = self.contacts.get(address) or new_id()
                work.items.append(
                    self._decide(
                        command, device_id, items, contact_id, written, now,
                        verified=address in own, strict=strict,
                    )
                )  # fmt: skip
        return work

    def _leave(self, command: LeaveShare, now: datetime, *, strict: bool) -> _Work:
        own = self._own(command.actor)
        asked: set[str] = set()
        for written in command.recipients:
            address = _canonical(written)
            if address not in own:
                raise NotARecipient(recipient=written)
            asked.add(address)
        chosen = {self.contacts[address] for address in asked if address in self.contacts}
        verified = {self.contacts[address] for address in own if address in self.contacts}
        by_device = _by_device(self._named(command.device_ids))
        work = _Work(devices=list(by_device))
        for device_id, items in by_device.items():
            mine = [
                share
                for share in self._in_order(share for share in self.shares.values())
                if share.device_id == device_id
                and (not asked or share.contact_id in chosen)
                and domain.is_recipient(share, command.actor, verified=share.contact_id in verified)
            ]
            if not mine:
                refusal = DeviceNotFound(device_id=items[0].written)
                if strict:
                    raise refusal
                work.items.append(Item(items[0].written, None, refusal=refusal))
            for share in mine:
                work.items.append(
                    self._decide(
                        command, device_id, items, share.contact_id, None, now,
                        verified=share.contact_id in verified, strict=strict,
                    )
                )  # fmt: skip
        return work

    def _remove(self, command: RemoveRecipient, now: datetime) -> _Work:
        usable, _ = self._addresses([command.recipient], command.actor, strict=True)
        contact_id = self.contacts.get(next(iter(usable)))
        if contact_id is None:
            return _Work()
        given = sorted(
            share.device_id
            for share in self.shares.values()
            if share.live and share.owner_account_id == command.actor and share.contact_id == contact_id
        )
        work = _Work(devices=given, forgotten=contact_id)
        for device_id in given:
            items = [_Named(device_id, device_id, None, command.actor)]
            work.items.append(
                self._decide(
                    command, device_id, items, contact_id, command.recipient, now, verified=False, strict=True
                )
            )
        return work

    def _one_share(
        self,
        command: AcceptShare | RejectShare | ChangeShare | ResendInvitation,
        now: datetime,
        *,
        strict: bool,
    ) -> _Work:
        share = next(
            (
                share
                for share in self.shares.values()
                if (share.share_id, share.device_id) == (command.share_id, command.device_id)
            ),
            None,
        )
        if share is None:
            raise DeviceNotFound(device_id=command.device_id)
        address = next(text for text, known in self.contacts.items() if known == share.contact_id)
        items = [_Named(command.device_id, command.device_id, None, share.owner_account_id)]
        accepting = self._accepting(command.actor, address) if isinstance(command, ChangeShare) else None
        item = self._decide(
            command, command.device_id, items, share.contact_id, None, now,
            verified=address in self._own(command.actor), accepting=accepting, strict=strict,
        )  # fmt: skip
        return _Work([item], [command.device_id])

    def _decide(  # noqa: PLR0917 - as many as name one decision
        self, command: AnyCommand, device_id: str, items: list[_Named], contact_id: UUID,
        recipient: str | None, now: datetime, *, verified: bool, strict: bool, accepting: str | None = None,
    ) -> Item:  # fmt: skip
        services = [item.service_id for item in items]
        device = self.devices.get(device_id)
        subject = domain.Subject(
            device_id=device_id, contact_id=contact_id, share_id=new_id(), device=device, verified=verified,
            named_services=() if None in services else tuple(name for name in services if name is not None),
            accepting=accepting,
        )  # fmt: skip
        before = self.shares.get((device_id, contact_id))
        item = Item(items[0].written, recipient, before, device)
        try:
            item.events = domain.decide(before, command, subject, now=now, rules=self._rules)
        except Refused as refusal:
            if strict:
                raise
            item.refusal = refusal
            if isinstance(refusal, DeviceNotFound):  # what there is, is no business of his
                item.before = item.device = None
        return item

    def _own(self, account_id: str) -> frozenset[str]:
        """The account's addresses; nothing is done in the name of a deleted one."""
        if account_id in self._deleted:
            raise DeviceNotFound
        return self.accounts.get(account_id, frozenset())

    # names -----------------------------------------------------------------------------------------------

    def _addresses(
        self, recipients: Iterable[str], actor: str, *, strict: bool
    ) -> tuple[dict[str, str], dict[str, Refused]]:
        usable: dict[str, str] = {}
        refused: dict[str, Refused] = {}
        for written in recipients:
            try:
                usable.setdefault(self._address(written, actor), written)
            except Refused as refusal:
                if strict:
                    raise
                refused[written] = refusal
        return usable, refused

    def _address(self, written: str, actor: str) -> str:
        if not written.startswith(_CONTACT):
            return _canonical(written)
        for address, contact_id in self.contacts.items():
            if f"{_CONTACT}{contact_id}" == written and contact_id in self.books.get(actor, {}):
                return address
        raise ContactNotFound

    def _named(self, names: Iterable[str]) -> list[_Named]:
        found: list[_Named] = []
        for name in dict.fromkeys(names):
            device = self.devices.get(name)
            if device is not None:
                found.append(_Named(name, name, None, device.owner_account_id))
                continue
            holder = next((item for item in self.devices.values() if name in item.services), None)
            found.append(
                _Named(name, name, None, "")
                if holder is None
                else _Named(name, holder.device_id, name, holder.owner_account_id)
            )
        return found

    def _accepting(self, owner: str, address: str) -> str | None:
        willing = [
            account_id
            for account_id, addresses in self.accounts.items()
            if address in addresses and (owner, account_id) in self._always
        ]
        return min(willing, default=None)

    # what is not a command -------------------------------------------------------------------------------

    def set_device(self, device_id: str, now_is: domain.Device | None, now: datetime) -> None:
        """The directory has this of the device now."""
        known = device_id in self.devices
        if now_is is None:
            self.devices.pop(device_id, None)
        else:
            self.devices[device_id] = now_is
        if known:
            for share in self._live(lambda share: share.device_id == device_id):
                event = domain.follow_device(share, now_is, now)
                self._append(share, () if event is None else (event,), now)

    def set_account(self, account_id: str, addresses: Iterable[str] | None, now: datetime) -> None:
        """The directory has these verified addresses of the account now; None: it is deleted."""
        if addresses is not None:
            self.accounts[account_id] = frozenset(addresses)
            self._deleted.discard(account_id)
            return
        self._deleted.add(account_id)
        self.accounts.pop(account_id, None)
        self.books.pop(account_id, None)
        self._always = {rule for rule in self._always if account_id not in rule}
        for share in self._live(lambda share: account_id in (share.owner_account_id, share.account_id)):
            event = domain.follow_account_deletion(share, now)
            self._append(share, () if event is None else (event,), now)

    def end_overdue(self, now: datetime) -> None:
        """Time passes."""
        for share in self._live(lambda share: domain.overdue(share, now) is not None):
            event = domain.overdue(share, now)
            self._append(share, () if event is None else (event,), now)

    def _live(self, wanted: Callable[[domain.Share], bool]) -> list[domain.Share]:
        return [share for share in self._in_order(self.shares.values()) if share.live and wanted(share)]

    @staticmethod
    def _in_order(shares: Iterable[domain.Share]) -> list[domain.Share]:
        return sorted(shares, key=lambda share: (share.device_id, share.share_id))

    def always_accept(self, account_id: str, owner: str, *, always: bool) -> None:
        """A recipient's rule."""
        if always and account_id in self.accounts:
            self._always.add((owner, account_id))
        else:
            self._always.discard((owner, account_id))

    def note(self, owner: str, written: str, remark: str) -> None:
        """A contact in the owner's book, with his remark."""
        address = _canonical(written)
        if address in self.accounts.get(owner, ()):
            raise SelfShare
        contact_id = self.contacts.setdefault(address, new_id())
        self.books.setdefault(owner, {})[contact_id] = remark or None

    def show_code(self, account_id: str, now: datetime) -> str:
        """The account's contact code."""
        return sign_code(ContactCode(account_id=account_id, ends_at=now + _CODE_LIFE), self._secret)

    def scan(self, owner: str, text: str, now: datetime) -> str:
        """The address of whoever showed the code, which is in the owner's book then."""
        try:
            shown = read_code(text, self._secret, now)
        except InvalidLinkError:
            raise InvalidContactCode from None
        if shown.account_id == owner:
            raise SelfShare
        addresses = self.accounts.get(shown.account_id)
        if not addresses:
            raise InvalidContactCode
        address = min(addresses)
        self.books.setdefault(owner, {}).setdefault(self.contacts.setdefault(address, new_id()), None)
        return address

    def granted_terms(self, item: Item, now: datetime) -> Mapping[str, Any]:
        """What the terms of an item give once it has happened."""
        share = item.after(now)
        return domain.effective(share.terms if share is not None and share.live else None, item.device)


def _by_device(items: Iterable[_Named]) -> dict[str, list[_Named]]:
    grouped: dict[str, list[_Named]] = {}
    for item in items:
        grouped.setdefault(item.device_id, []).append(item)
    return grouped


def _canonical(written: str) -> str:
    try:
        return canonical_address(written)
    except InvalidAddressError as error:
        kind = InvalidPhone if error.code == "INVALID_PHONE" else InvalidEmail
        raise kind(str(error)) from None


def device_of(device_id: str, owner: str, services: Mapping[str, Iterable[Permission]]) -> domain.Device:
    """A device as the directory has it."""
    return domain.Device(device_id, owner, {name: frozenset(what) for name, what in services.items()})
