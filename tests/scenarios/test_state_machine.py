"""Random histories of all commands by several people, on the pure core and on the real service at once.

`Machine` gives every act to `model.Model` and to `Handlers`, `Directory` and `Expiry` on a real database, and
compares outcomes, states, versions and events after each; every third command comes over Kafka, through the
consumer that serves them. What must hold of any history is checked beside that, by what the events say and by
nothing of the deciding side's own. Each history has devices, accounts and addresses of its own, so that all
of a run share one database; in the end the relay's output is read from the broker.

The histories are the same in every run. With ``LATCHKEY_HISTORIES`` there are as many as it says, and
they are random; ``LATCHKEY_HISTORY_STEPS`` is how long each may be.
"""

import asyncio
import itertools
import json
import os
import threading
import time
from collections.abc import Coroutine, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest
from acting import START
from by_kafka import ByKafka, by_kafka
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from model import Entry, Model, device_of
from processes import Processes, until_ready
from projected import Access, Projected, wider

from contracts import codec, topics
from contracts.base import new_id
from contracts.commands import (
    AcceptShare,
    AnyCommand,
    ChangeShare,
    CommandRefused,
    LeaveShare,
    RejectShare,
    RemoveRecipient,
    RequestShare,
    ResendInvitation,
    RevokeShare,
    ServiceChange,
)
from contracts.contacts import canonical_address
from contracts.directory import AccountSnapshot, ContactSnapshot, DeviceSnapshot, Service, Target
from contracts.events import (
    SHARE_EVENT_TYPES,
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
from contracts.outcomes import BulkShare
from contracts.permissions import Permission, Terms, TermsOrder
from devstack.pytest_plugin import Database
from devstack.records import read_all
from servicekit import pg
from servicekit.kafka import Admin, Record
from share_command import domain
from share_command.directory import Directory
from share_command.errors import ShareCommandError
from share_command.handlers import Expiry, Handlers, Limits

HISTORIES = int(os.environ.get("LATCHKEY_HISTORIES", "0"))
STEPS = int(os.environ.get("LATCHKEY_HISTORY_STEPS", "30"))
LIMITS = Limits(shares_per_device=3, shares_per_owner=5)

_T = TypeVar("_T")

SERVICES = {
    "cam": {"stream": {Permission.LIVE_VIEW, Permission.PTZ}, "shell": {Permission.CONNECT}},
    "door": {"lock": {Permission.CONNECT, Permission.ARM}, "bell": {Permission.TWO_WAY_AUDIO}},
}
PEOPLE: dict[str, tuple[str, ...]] = {
    "olga": ("mailto:olga{n}@x.test",),
    "nils": ("mailto:nils{n}@x.test",),
    "ravi": ("mailto:ravi{n}@x.test", "tel:+4915100{n:06}"),
    "tess": ("mailto:tess{n}@x.test",),
    "eve": ("mailto:eve{n}@x.test",),
}
"""Owner, the owner after him, two recipients, one of them with a telephone, and a stranger."""

_ALL = {name for services in SERVICES.values() for name in services}

WIDENING = (RequestShare, ChangeShare, AcceptShare)
"""What may give somebody more than he had; nothing else may."""


class Loop:
    """An event loop on a thread of its own, for histories that are not asynchronous themselves."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Wait for a coroutine."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@dataclass
class RealService:
    """The real one, for all histories."""

    loop: Loop
    pool: pg.Pool
    kafka: ByKafka | None = None
    now: datetime = START
    histories: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    acts: int = 0

    def __post_init__(self) -> None:
        self.handlers = Handlers(self.pool, _nothing, clock=self.clock, limits=LIMITS)
        self.expiry = [Expiry(self.pool, _nothing, self.clock) for _ in range(2)]
        self.directory = Directory("", _refuse, committed=_nothing, clock=self.clock)

    def clock(self) -> datetime:
        """The time by which it decides."""
        return self.now

    async def follow(self, topic: str, key: str, value: bytes | None) -> None:
        """A record of a directory."""
        record = Record(topic, 0, 0, key.encode(), value, (), 0)
        async with self.pool.acquire() as connection, connection.transaction():
            await self.directory.apply(connection, [record])

    async def end_overdue(self) -> None:
        """Two processes look at once."""
        await asyncio.gather(*(expiry.end_overdue() for expiry in self.expiry))


def _nothing() -> None: ...


async def _refuse(_record: Record, code: str, message: str) -> None:
    raise AssertionError(f"{code}: {message}")


Answer = tuple[str, object]
"""``("accepted", positions)``, or ``("refused", code)``."""


class Machine(RuleBasedStateMachine):
    """One history. ``service`` is set by the test."""

    service: RealService

    def __init__(self) -> None:
        super().__init__()
        self.number = next(self.service.histories)
        self.service.now = START
        self.model = Model(
            shares_per_device=LIMITS.shares_per_device, shares_per_owner=LIMITS.shares_per_owner
        )
        self.projected = Projected()
        self.seen: dict[str, int] = {}
        self.entries: list[Entry] = []
        self.sent: list[AnyCommand] = []
        self.shares: dict[tuple[str, UUID], domain.Share] = {}
        self.texts: dict[UUID, str] = {}
        self.addresses: dict[str, frozenset[str]] = {}
        for person, addresses in PEOPLE.items():
            self._set_account(person, [text.format(n=self.number) for text in addresses])
        for device, services in SERVICES.items():
            self._set_device(device, "olga", services)
        self.before = self._access()
        self.promised = self.projected.promised(self.model.devices)

    # acts ------------------------------------------------------------------------------------------------

    devices = st.lists(st.sampled_from([*SERVICES, "stream", "lock", "ghost"]), min_size=1, max_size=2)
    actors = st.sampled_from([*["olga"] * 4, "nils", "nils", "ravi", "tess", "eve"])
    receivers = st.sampled_from([*["ravi"] * 3, "tess", "tess", "olga", "nils", "eve"])
    recipients = st.lists(
        st.sampled_from(["ravi@", "ravi@", "ravi+", "tess@", "tess@", "nils@", "nobody@", "olga@", "none"]),
        min_size=1,
        max_size=2,
    )
    chosen = st.sampled_from(["all", "all", ("connect",), ("live_view", "ptz"), ("arm", "connect")])
    entries_of = st.lists(
        st.tuples(
            st.sampled_from(["stream", "shell", "lock", "bell"]), st.sampled_from(["ADD", "REMOVE"]), chosen
        ),
        max_size=2,
    )
    offsets = st.sampled_from(
        [None, None, None, None, timedelta(hours=1), timedelta(days=2), timedelta(days=-1)]
    )

    @rule(
        actor=actors, devices=devices, recipients=recipients, entries=entries_of, chosen=chosen,
        scripting=st.sampled_from([None, None, True, False]), starts=offsets, ends=offsets, expires=offsets,
        notify=st.booleans(),
    )  # fmt: skip
    def request(  # noqa: PLR0917 - what a request says
        self, actor: str, devices: list[str], recipients: list[str], entries: list[tuple[str, str, Any]],
        chosen: Any, scripting: bool | None, starts: timedelta | None, ends: timedelta | None,
        expires: timedelta | None, notify: bool,
    ) -> None:  # fmt: skip
        self._send(
            RequestShare.model_validate(
                {
                    **self._common(actor),
                    "device_ids": [self._id(name) for name in devices],
                    "recipients": [self._address(name) for name in recipients],
                    "services": self._entries(entries),
                    "permissions": chosen,
                    "scripting": scripting,
                    "starts_at": self._time(starts),
                    "ends_at": self._time(ends),
                    "expires_at": self._time(expires),
                    "notify": notify,
                }
            )
        )

    @initialize(
        given=st.lists(
            st.tuples(
                st.sampled_from(list(SERVICES)), st.sampled_from(["ravi@", "ravi+", "tess@"]), st.booleans()
            ),
            max_size=4,
            unique_by=lambda item: item[:2],
        )
    )
    def some_shares_before(self, given: list[tuple[str, str, bool]]) -> None:
        for device, recipient, accepted in given:
            self.share(device=device, recipient=recipient, accepted=accepted, chosen="all")

    @rule(
        device=st.sampled_from(list(SERVICES)), recipient=st.sampled_from(["ravi@", "tess@", "ravi+"]),
        accepted=st.booleans(), chosen=st.sampled_from(["all", "one", ("connect", "live_view", "arm")]),
    )  # fmt: skip
    def share(self, device: str, recipient: str, accepted: bool, chosen: Any) -> None:
        owner = self._id(self._owner(device))
        self._send(
            RequestShare(
                command_id=new_id().hex,
                actor=owner,
                device_ids=(self._id(device if chosen != "one" else next(iter(SERVICES[device]))),),
                recipients=(self._address(recipient),),
                permissions="all" if chosen == "one" else chosen,
            )
        )
        share = next((item for item in self.shares.values() if self._is(item, device, recipient)), None)
        if accepted and share is not None:
            self._send(
                AcceptShare(
                    **self._common(recipient[:-1]),
                    **_named(share),
                    invitation_version=share.invitation_version,
                )
            )

    @rule(
        device=st.sampled_from(list(SERVICES)), first=st.booleans(), by_name=st.booleans(),
        recipient=st.sampled_from(["ravi@", "tess@", "ravi+"]),
    )  # fmt: skip
    def take_out(self, device: str, first: bool, by_name: bool, recipient: str) -> None:
        """One service of a share that may have both: by its name, or by an entry."""
        service = self._id(list(SERVICES[device])[0 if first else 1])
        common: dict[str, Any] = {
            **self._common(self._owner(device)), "recipients": (self._address(recipient),)
        }  # fmt: skip
        if by_name:
            self._send(RevokeShare(**common, device_ids=(service,)))
        else:
            entry = ServiceChange(service_id=service, action="REMOVE")
            self._send(RequestShare(**common, device_ids=(self._id(device),), services=(entry,)))

    def _is(self, share: domain.Share, device: str, recipient: str) -> bool:
        return share.device_id == self._id(device) and self._text(share) == self._address(recipient)

    @rule(actor=actors, devices=devices, recipients=recipients)
    def revoke(self, actor: str, devices: list[str], recipients: list[str]) -> None:
        self._send(
            RevokeShare(
                **self._common(actor),
                device_ids=tuple(self._id(name) for name in devices),
                recipients=tuple(self._address(name) for name in recipients),
            )
        )

    @rule(
        actor=receivers,
        device=st.sampled_from([*SERVICES, "ghost", "stream"]),
        address=st.sampled_from([None, None, "ravi@", "ravi+", "tess@"]),
    )
    def leave(self, actor: str, device: str, address: str | None) -> None:
        recipients = () if address is None else (self._address(address),)
        self._send(LeaveShare(**self._common(actor), device_ids=(self._id(device),), recipients=recipients))

    @rule(actor=actors, recipient=st.sampled_from(["ravi@", "ravi+", "tess@", "nobody@"]))
    def remove(self, actor: str, recipient: str) -> None:
        self._send(RemoveRecipient(**self._common(actor), recipient=self._address(recipient)))

    @precondition(lambda self: self.shares)
    @rule(data=st.data(), stale=st.booleans())
    def accept_by_whose_it_is(self, data: st.DataObject, stale: bool) -> None:
        share = self._pick(data, open_only=True)
        actor = next((name for name, mine in self.addresses.items() if self._text(share) in mine), "eve")
        version = max(1, share.invitation_version - stale)
        self._send(AcceptShare(**self._common(actor), **_named(share), invitation_version=version))

    @precondition(lambda self: self.shares)
    @rule(data=st.data(), actor=receivers, reject=st.booleans())
    def answer(self, data: st.DataObject, actor: str, reject: bool) -> None:
        share = self._pick(data)
        if reject:
            self._send(RejectShare(**self._common(actor), **_named(share)))
        else:
            version = share.invitation_version
            self._send(AcceptShare(**self._common(actor), **_named(share), invitation_version=version))

    @precondition(lambda self: self.shares)
    @rule(
        data=st.data(), behind=st.sampled_from([0, 0, 0, 1]), by_owner=st.sampled_from([True, True, False]),
        actor=actors,
        services=st.lists(st.sampled_from(["stream", "shell", "lock"]), max_size=2, unique=True),
        everything=st.booleans(), chosen=chosen, scripting=st.booleans(), starts=offsets, ends=offsets,
    )  # fmt: skip
    def change(  # noqa: PLR0917 - what a change says
        self, data: st.DataObject, behind: int, by_owner: bool, actor: str, services: list[str],
        everything: bool, chosen: Any, scripting: bool, starts: timedelta | None, ends: timedelta | None,
    ) -> None:  # fmt: skip
        share = self._pick(data)
        if by_owner:
            actor = self._owner(self._name(share.device_id))
        scope: dict[str, Any] = {"kind": "all", "permissions": chosen}
        if not everything:
            scope = {"kind": "some", "services": {self._id(name): chosen for name in services}}
        terms = TermsOrder.model_validate(
            {
                "scope": scope,
                "scripting": scripting,
                "starts_at": self._time(starts),
                "ends_at": self._time(ends),
            }
        )
        version = max(1, share.version - behind)
        self._send(ChangeShare(**self._common(actor), **_named(share), expected_version=version, terms=terms))

    @precondition(lambda self: self.shares)
    @rule(data=st.data(), by_owner=st.booleans(), actor=actors)
    def resend(self, data: st.DataObject, by_owner: bool, actor: str) -> None:
        share = self._pick(data, open_only=True)
        if by_owner:
            actor = self._owner(self._name(share.device_id))
        self._send(ResendInvitation(**self._common(actor), **_named(share)))

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), other_body=st.booleans())
    def send_again(self, data: st.DataObject, other_body: bool) -> None:
        command = self._one(data, self.sent)
        if other_body:
            command = command.model_copy(update={"actor": f"other{self.number}"})
        self._send(command)

    @rule(actor=actors, devices=devices, recipients=recipients, entries=entries_of)
    def bulk(
        self, actor: str, devices: list[str], recipients: list[str], entries: list[tuple[str, str, Any]]
    ) -> None:
        order = BulkShare.model_validate(
            {
                "operation_id": new_id().hex,
                "actor": self._id(actor),
                "device_ids": [self._id(name) for name in devices],
                "recipients": [self._address(name) for name in recipients],
                "services": self._entries(entries),
            }
        )
        for _ in range(2):  # the second time does nothing more
            assert self._real(self._bulk_of_service(order)) == self._bulk_of_model(order)
        self._check(may_widen=True)

    @rule(person=receivers, owner=st.sampled_from(["olga", "nils"]), always=st.booleans())
    def always_accept(self, person: str, owner: str, always: bool) -> None:
        one, other = self._id(person), self._id(owner)
        self.model.always_accept(one, other, always=always)
        if always:
            self._real(self.service.handlers.outside(lambda book: book.always_accept(one, other)))
        else:
            self._real(self.service.handlers.outside(lambda book: book.never_accept(one, other)))
        self._check(may_widen=False)

    @rule(
        device=st.sampled_from(list(SERVICES)), gone=st.sampled_from([False] * 5 + [True]),
        owner=st.sampled_from(["olga"] * 5 + ["nils"]),
        keep=st.sampled_from([_ALL, _ALL, _ALL, {"stream", "lock"}, {"shell", "bell"}, set[str]()]),
    )  # fmt: skip
    def registry_changes(self, device: str, gone: bool, owner: str, keep: set[str]) -> None:
        known = self.model.devices.get(self._id(device))
        services = {name: what for name, what in SERVICES[device].items() if name in keep}
        self._set_device(device, owner, None if gone else services)
        there = set[str]() if known is None else set(known.services)
        self._check(may_widen=bool({self._id(name) for name in services} - there))

    @rule(person=st.sampled_from(["ravi", "tess", "eve"]), moved=st.booleans())
    def addresses_move(self, person: str, moved: bool) -> None:
        own = [text.format(n=self.number) for text in PEOPLE[person]]
        if moved and person == "tess":  # a recycled telephone number
            own.append(PEOPLE["ravi"][1].format(n=self.number))
        self._set_account(person, own[:1] if moved and person == "ravi" else own)
        self._check(may_widen=False)

    @rule(person=st.sampled_from(["eve", "tess", "nils"]), back=st.sampled_from([True, True, False]))
    def account_is_deleted(self, person: str, back: bool) -> None:
        self._set_account(person, None)
        self._check(may_widen=False)
        if back:
            self._set_account(person, [text.format(n=self.number) for text in PEOPLE[person]])
            self._check(may_widen=False)

    @rule(seconds=st.sampled_from([30, 61, 61, 3600, 3600, 2 * 86400, 30 * 86400]))
    def wait(self, seconds: int) -> None:
        self.service.now += timedelta(seconds=seconds)
        self.model.end_overdue(self._now)
        self._real(self.service.end_overdue())
        self._check(may_widen=True)  # what starts later has started

    # how -------------------------------------------------------------------------------------------------

    @property
    def _now(self) -> datetime:
        return self.service.now

    def _id(self, name: str) -> str:
        return f"{name}.{self.number}"

    def _name(self, own: str) -> str:
        return own.removesuffix(f".{self.number}")

    def _address(self, name: str) -> str:
        if name == "none":
            return "no address"
        person, kind = name[:-1], name[-1]
        known = PEOPLE.get(person, (f"mailto:{person}{{n}}@x.test",))
        return known[1 if kind == "+" else 0].format(n=self.number)

    def _text(self, share: domain.Share) -> str:
        return self.texts[share.contact_id]

    def _model_text(self, contact_id: UUID) -> str:
        return next(text for text, known in self.model.contacts.items() if known == contact_id)

    def _entries(self, entries: Iterable[tuple[str, str, Any]]) -> list[ServiceChange]:
        return [
            ServiceChange.model_validate(
                {"service_id": self._id(name), "action": action, "permissions": chosen}
            )
            for name, action, chosen in entries
        ]

    def _time(self, offset: timedelta | None) -> datetime | None:
        return None if offset is None else self._now + offset

    def _common(self, actor: str) -> dict[str, Any]:
        return {"command_id": new_id().hex, "actor": self._id(actor)}

    def _owner(self, device: str) -> str:
        known = self.model.devices.get(self._id(device))
        return "olga" if known is None else self._name(known.owner_account_id)

    def _pick(self, data: st.DataObject, *, open_only: bool = False) -> domain.Share:
        shares = sorted(self.shares.values(), key=lambda share: (share.device_id, self._text(share)))
        waiting = [share for share in shares if share.state == "requested"]
        return self._one(data, waiting if open_only and waiting else shares)

    @staticmethod
    def _one(data: st.DataObject, items: Sequence[_T]) -> _T:
        """One of them, chosen by its place: their ids differ from run to run."""
        return items[data.draw(st.integers(0, 99)) % len(items)]

    def _real(self, work: Coroutine[Any, Any, _T]) -> _T:
        self.service.acts += 1
        return self.service.loop.run(work)

    def _set_device(self, device: str, owner: str, services: dict[str, set[Permission]] | None) -> None:
        own = self._id(device)
        now_is, value = None, None
        if services is not None:
            now_is = device_of(
                own, self._id(owner), {self._id(name): what for name, what in services.items()}
            )
            snapshot = DeviceSnapshot(
                device_id=own, owner_account_id=self._id(owner), name=device, kind="camera",
                services=tuple(
                    Service(
                        service_id=self._id(name), name=name, protocol="tcp",
                        target=Target(host="127.0.0.1", port=9), permissions=frozenset(what),
                    )
                    for name, what in services.items()
                ),
            )  # fmt: skip
            value = codec.encode(codec.envelope(snapshot, source="registry", time=self._now))
        self.model.set_device(own, now_is, self._now)
        self._real(self.service.follow(topics.DIRECTORY_DEVICES.name, own, value))

    def _set_account(self, person: str, addresses: list[str] | None) -> None:
        own, value = self._id(person), None
        self.addresses[person] = frozenset(addresses or ())
        if addresses is not None:
            plain = [text.removeprefix("mailto:").removeprefix("tel:") for text in addresses]
            snapshot = AccountSnapshot(
                account_id=own, name=person,
                verified_emails=tuple(text for text in plain if "@" in text),
                verified_phones=tuple(text for text in plain if "@" not in text),
            )  # fmt: skip
            value = codec.encode(codec.envelope(snapshot, source="registry", time=self._now))
        self.model.set_account(own, addresses, self._now)
        self._real(self.service.follow(topics.DIRECTORY_ACCOUNTS.name, own, value))

    def _send(self, command: AnyCommand) -> None:
        twin = next((item for item in self.sent if item.command_id == command.command_id), None)
        pure = self._answer_of_model(self._for_model(command))
        found = self._real(self._answer_of_service(command))
        assert found == pure, command
        if twin is None and found != ("refused", "RATE_LIMITED"):  # that is not kept: its id may come again
            self.sent.append(command)
        widens = isinstance(command, WIDENING)
        if isinstance(command, RequestShare) and command.services:
            times = command.starts_at or command.ends_at
            adds = any(change.action == "ADD" for change in command.services)
            widens = adds or bool(command.scripting) or times is not None
        events = self._check(may_widen=widens)
        assert twin is None or not events, "a command id ran twice"
        assert found[0] == "accepted" or not events, "a refusal with events"
        if isinstance(command, ChangeShare) and events:
            seen = self._saw_before(events[0])
            expired = isinstance(events[0].event, ShareExpired)
            assert expired or command.expected_version == seen, "an edit of what its author did not see"
        self._require_right(command, events)

    def _bulk_of_model(self, order: BulkShare) -> object:
        try:
            items = self.model.bulk(order, self._now)
        except ShareCommandError as error:
            return error.code
        return [(item.device_id, item.recipient, item.outcome) for item in items]

    async def _bulk_of_service(self, order: BulkShare) -> object:
        try:
            done = await self.service.handlers.bulk(order)
        except ShareCommandError as error:
            return error.code
        return [(item.device_id, item.recipient, item.code or item.outcome) for item in done.items]

    def _for_model(self, command: AnyCommand) -> AnyCommand:
        """The same share, by the id that it has in the model."""
        if not isinstance(command, AcceptShare | RejectShare | ChangeShare | ResendInvitation):
            return command
        real = next(share for share in self.shares.values() if share.share_id == command.share_id)
        address = self.texts[real.contact_id]
        mine = self.model.shares[real.device_id, self.model.contacts[address]]
        return command.model_copy(update={"share_id": mine.share_id})

    def _answer_of_model(self, command: AnyCommand) -> Answer:
        try:
            return "accepted", self.model.handle(command, self._now)
        except ShareCommandError as error:
            return "refused", error.code

    async def _answer_of_service(self, command: AnyCommand) -> Answer:
        if self.service.acts % 3 == 0:
            assert self.service.kafka is not None
            result = await self.service.kafka.ask(command)
            if isinstance(result, CommandRefused):
                return "refused", result.code
            return "accepted", {position.device_id: position.version for position in result.positions}
        try:
            accepted = await self.service.handlers.handle(command)
        except ShareCommandError as error:
            return "refused", error.code
        return "accepted", {position.device_id: position.version for position in accepted.positions}

    # what must hold --------------------------------------------------------------------------------------

    def _check(self, *, may_widen: bool) -> list[Entry]:
        """After each act: both alike, and what must hold of any history. The act's events, of the service."""
        events, shares, versions, texts = self._real(self._read())
        self.texts = texts
        mine = {contact_id: address for address, contact_id in self.model.contacts.items()}
        # both alike: one event after the other, and what they led to
        pure = sorted(
            (entry.event.device_id, entry.version, *self._said(entry, mine))
            for entry in self.model.log[len(self.entries) :]
        )
        real = [(entry.event.device_id, entry.version, *self._said(entry, texts)) for entry in events]
        if _several_of_one(events):  # which of a person's own shares of one device goes first is not said
            assert sorted(item[2:] for item in real) == sorted(item[2:] for item in pure)
        else:
            assert real == pure
        states = {(key[0], texts[key[1]]): _comparable(share) for key, share in shares.items()}
        expected = {
            (key[0], self._model_text(key[1])): _comparable(share) for key, share in self.model.shares.items()
        }
        assert states == expected
        assert versions == {name: self.model.versions.get(name, 0) for name in versions}
        assert not {name for name, version in self.model.versions.items() if version} - versions.keys()
        # no event without its state, no state without its event, no version double or left out
        folded = dict(self.shares)
        for entry in events:
            at = entry.event.device_id
            assert entry.version == self.seen.get(at, 0) + 1, "a version is double or missing"
            self.seen[at] = entry.version
            key = at, entry.event.contact_id
            folded[key] = domain.evolve(folded.get(key), entry.event, entry.version, entry.time)
        assert folded == shares, "the states are not what the events say"
        assert all(self.seen.get(name, 0) == version for name, version in versions.items())
        self.projected.apply(events)  # raises for what the reading side would not believe
        self.entries += events
        self.shares = shares
        # a revoke widens nothing, and what has ended gives nothing
        access = self._access()
        promised = self.projected.promised(self.model.devices)
        assert may_widen or not wider(self.before, access), wider(self.before, access)
        assert may_widen or not wider(self.promised, promised), wider(self.promised, promised)
        self.before, self.promised = access, promised
        for share in shares.values():
            ends_at = share.terms.ends_at
            assert not share.live or ends_at is None or ends_at > self._now or not self._looked(share)
        return events

    def _looked(self, share: domain.Share) -> bool:
        """Whether time was let pass since the share was last changed; then what is over has ended."""
        last = max(entry.time for entry in self.entries if entry.event.share_id == share.share_id)
        return last < self._now

    def _access(self) -> Access:
        return self.projected.access(self.model.devices, self._now)

    def _said(self, entry: Entry, texts: dict[UUID, str]) -> tuple[str, str, str, datetime]:
        said = entry.event.model_dump(mode="json", exclude={"share_id", "contact_id", "device_id"})
        return texts[entry.event.contact_id], type(entry.event).__name__, _sorted(said), entry.time

    def _saw_before(self, entry: Entry) -> int:
        """The version of the share before an event."""
        earlier = [
            item.version
            for item in self.entries
            if item.event.share_id == entry.event.share_id and item.version < entry.version
        ]
        return max(earlier)

    def _require_right(self, command: AnyCommand, events: list[Entry]) -> None:
        """Only the owner gives, changes and takes back; only whose address it is answers and leaves."""
        person = self._name(command.actor)
        for entry in events:
            event = entry.event
            owner = self.model.devices.get(event.device_id)
            owns = owner is not None and owner.owner_account_id == command.actor
            match event:
                case ShareRequested() | ShareChanged() | InvitationResent():
                    assert owns, f"{person} is not the owner"
                    assert event.owner_account_id == command.actor
                case ShareRevoked(reason=reason):
                    gave = event.owner_account_id == command.actor
                    assert owns or gave, f"{person} took back what he has not given"
                    assert gave or reason is RevokeReason.OWNERSHIP_TRANSFERRED
                case ShareAccepted(automatic=True):
                    address = self.texts[event.contact_id]
                    assert address in self.addresses[self._name(event.account_id)]
                case ShareAccepted():
                    assert event.account_id == command.actor
                    assert self.texts[event.contact_id] in self.addresses[person]
                    assert not owns
                case ShareRejected():
                    assert event.account_id == command.actor
                    assert self.texts[event.contact_id] in self.addresses[person]
                case ShareLeft():
                    accepted = [
                        item.event.account_id
                        for item in self.entries
                        if isinstance(item.event, ShareAccepted)
                        and item.event.share_id == event.share_id
                        and item.version < entry.version
                    ]
                    assert accepted[-1] == event.account_id == command.actor
                case ShareExpired():
                    pass

    async def _read(
        self,
    ) -> tuple[list[Entry], dict[tuple[str, UUID], domain.Share], dict[str, int], dict[UUID, str]]:
        """New events, all shares, versions and contacts of this history, as the tables have them."""
        ids = [self._id(name) for name in (*SERVICES, "ghost", *SERVICES["cam"], *SERVICES["door"])]
        async with self.service.pool.acquire() as connection:
            rows = await connection.fetch(
                "select envelope from event where device_id = any($1) and version >"
                " coalesce((select seen.version from unnest($2::text[], $3::bigint[])"
                " as seen (device_id, version) where seen.device_id = event.device_id), 0)"
                " order by device_id, version",
                ids, list(self.seen), list(self.seen.values()),
            )  # fmt: skip
            shares = await connection.fetch("select * from share where device_id = any($1)", ids)
            streams = await connection.fetch(
                "select device_id, version from device_stream where device_id = any($1)", ids
            )
            contacts = await connection.fetch(
                "select contact_id, address from contact where address = any($1)",
                [canonical_address(self._address(name)) for name in _EVERYBODY],
            )
        events: list[Entry] = []
        for row in rows:
            message, event = codec.decode_as(row["envelope"].encode(), SHARE_EVENT_TYPES)
            assert message.version is not None
            events.append(Entry(message.version, event, message.time, UUID(message.id)))
        return (
            events,
            {(row["device_id"], row["contact_id"]): _share(row) for row in shares},
            {row["device_id"]: row["version"] for row in streams},
            {row["contact_id"]: row["address"] for row in contacts},
        )


_EVERYBODY = ("ravi@", "ravi+", "tess@", "nils@", "nobody@", "olga@", "eve@")


def _share(row: Any) -> domain.Share:
    fields: dict[str, Any] = {name: row[name] for name in domain.Share.__dataclass_fields__}
    fields["terms"] = Terms.model_validate_json(row["terms"])
    return domain.Share(**fields)


def _named(share: domain.Share) -> dict[str, Any]:
    return {"device_id": share.device_id, "share_id": share.share_id}


def _comparable(share: domain.Share) -> tuple[object, ...]:
    """What both sides must agree on; of what has ended, not which of several ended first."""
    common = (share.owner_account_id, share.state, share.terms, share.invitation_version, share.account_id)
    return (*common, share.expires_at, share.told_at, share.version if share.live else None)


def _several_of_one(events: list[Entry]) -> bool:
    left = [entry.event.device_id for entry in events if isinstance(entry.event, ShareLeft | ShareRejected)]
    return len(set(left)) < len(left)


def _sorted(said: dict[str, Any]) -> str:
    return json.dumps(said, sort_keys=True)


@pytest.fixture
def service(database: Database) -> Generator[RealService]:
    """The real service on a migrated database."""
    loop = Loop()
    dsn = database.dsn("share_command")
    loop.run(pg.migrate(dsn, "share_command"))
    pool = loop.run(pg.open_pool(dsn, application="histories"))
    yield RealService(loop, pool)
    loop.run(pool.close())
    loop.close()


@pytest.fixture
def relay(
    service: RealService, database: Database, kafka_bootstrap: str, topic_prefix: str, tmp_path: Path
) -> Generator[None]:
    """A real relay beside it, and the way in over Kafka."""
    service.loop.run(
        Admin(kafka_bootstrap).provision(
            [(topic_prefix + topic.name, topic.partitions, topic.config) for topic in topics.TOPICS]
        )
    )
    environment = {"LATCHKEY_KAFKA_BOOTSTRAP": kafka_bootstrap, "LATCHKEY_TOPIC_PREFIX": topic_prefix}
    processes = Processes(tmp_path, environment)
    process, url, log = processes.start(
        "share_command", "relay", {"postgres_dsn": database.dsn("share_command")}
    )
    service.loop.run(until_ready(process, url, log))
    serving = by_kafka(kafka_bootstrap, topic_prefix, service.handlers)
    service.kafka = service.loop.run(serving.__aenter__())
    yield
    service.loop.run(serving.__aexit__(None, None, None))
    processes.stop()


@pytest.mark.slow
@pytest.mark.timeout(900 if HISTORIES else 400)
# Hypothesis takes what aiokafka draws in the service's thread for a strategy's; none of ours does.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
def test_random_histories(service: RealService, relay: None, kafka_bootstrap: str, topic_prefix: str) -> None:
    Machine.service = service
    began = time.monotonic()
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=HISTORIES or 120,
            stateful_step_count=STEPS,
            derandomize=not HISTORIES,
            database=None,
            deadline=None,
            suppress_health_check=[
                HealthCheck.too_slow,
                HealthCheck.data_too_large,
                HealthCheck.filter_too_much,
            ],
            print_blob=False,
            phases=[Phase.generate, Phase.shrink],
            report_multiple_bugs=False,
        ),
    )
    events = service.loop.run(_published(service))
    print(f"{next(service.histories) - 1} histories, {service.acts} acts, {len(events)} events "  # noqa: T201
          f"in {time.monotonic() - began:.0f} s")  # fmt: skip
    assert len(events) > 5 * (HISTORIES or 120), "hardly anything happens in these histories"
    _check_broker(events, kafka_bootstrap, topic_prefix)


async def _published(service: RealService) -> dict[tuple[str, int], tuple[str, UUID]]:
    """Every event of the database once the outbox is empty: (device, version) → (its id, its contact)."""
    async with asyncio.timeout(30), service.pool.acquire() as connection:
        while await connection.fetchval("select count(*) from outbox"):  # noqa: ASYNC110 - another process sends
            await asyncio.sleep(0.05)
        rows = await connection.fetch(
            "select device_id, event.version, event_id, contact_id"
            " from event join share using (device_id, share_id)"
        )
    return {(row["device_id"], row["version"]): (str(row["event_id"]), row["contact_id"]) for row in rows}


def _check_broker(events: dict[tuple[str, int], tuple[str, UUID]], bootstrap: str, prefix: str) -> None:
    """Every event once, in order per device, and none that is not in the database; its contact is known."""
    contacts = {
        codec.decode_as(record.value, ContactSnapshot)[1].contact_id
        for record in read_all(bootstrap, prefix + topics.DIRECTORY_CONTACTS.name)
    }
    at: dict[str, int] = {}
    found: dict[tuple[str, int], str] = {}
    for record in read_all(bootstrap, prefix + topics.SHARE_EVENTS.name):
        message, event = codec.decode_as(record.value, SHARE_EVENT_TYPES)
        assert message.version is not None
        assert message.version == at.get(event.device_id, 0) + 1, "not in order, double or missing"
        assert (record.key or b"").decode() == event.device_id
        assert event.contact_id in contacts
        at[event.device_id] = message.version
        found[event.device_id, message.version] = message.id
    assert found == {place: event_id for place, (event_id, _) in events.items()}
