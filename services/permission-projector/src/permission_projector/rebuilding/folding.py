"""What a whole partition leaves behind, folded in memory. Pure.

The rows are those that `consumer` and `store` would have written record by record, in the columns' order of
sql/generation/tables.sql. Nothing is put aside: the live projector has done so.

A device whose history was released (`releasing`) counts by its versions up to there, see `refold`; from there
on, and all others from the start, in the order of the log.
"""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar
from uuid import UUID

from contracts.directory import ContactSnapshot
from contracts.events import AnyShareEvent, ShareChanged, ShareRequested, ShareRevoked
from contracts.topics import DEVICE_PARTITIONS
from permission_projector.projection import Applied, Quarantine, Share, Stream, Unreadable, project
from permission_projector.records import (
    Account,
    ReadEvent,
    UnreadableError,
    UnreadableKeyError,
    read_account,
    read_contact,
    read_device,
    read_device_key,
    read_share_event,
)
from servicekit.kafka import partition_of

Row = tuple[object, ...]
_K = TypeVar("_K", str, UUID)
_V = TypeVar("_V", Account, ContactSnapshot)

_WITH_TERMS: Final = frozenset({ShareRequested, ShareChanged})
_WRONG: Final = UnreadableError("WRONG_PARTITION", "The record is not in the partition that is its key's.")


class Entry(NamedTuple):
    """What a fold needs of a record."""

    offset: int
    key: bytes | None
    value: bytes | None


class Fault(NamedTuple):
    """Why a device is in quarantine, and since which offset."""

    code: str
    offset: int


class Stopped(Exception):
    """A key cannot be read: what follows it in its partition is not applied. ``offset`` is the record's.

    ``rows`` are what `fold` would have answered for what stands before it.
    """

    def __init__(self, offset: int, rows: Sequence[Row] = ()) -> None:
        super().__init__(offset)
        self.offset, self.rows = offset, rows


@dataclass(slots=True)
class Part:
    """Which devices of a partition: those whose key's hash is ``number`` modulo ``of``."""

    number: int = 0
    of: int = 1

    def has(self, key: bytes) -> bool:
        """Whether this part folds the device."""
        return self.of == 1 or zlib.crc32(key) % self.of == self.number


@dataclass(slots=True)
class Whole:
    """A history in which no version is missing: its stream, its rows of share_event."""

    stream: Stream
    events: list[Row]


class _Device:
    """A device of the partition, while it is folded."""

    __slots__ = ("device_id", "kept", "own", "released", "stream")

    def __init__(self, device_id: str, *, own: bool, released: int) -> None:
        self.device_id, self.own, self.released = device_id, own, released
        self.stream = Stream()
        self.kept: list[Entry] = []


class StreamFold:
    """A partition of share.events, or a part of it.

    ``released`` has for each released device the offsets of all partitions up to which it was; unreadable
    keys below ``skipped`` were passed over by a person's hand, and are here too.
    """

    def __init__(
        self,
        partition: int,
        released: Mapping[str, Sequence[int]],
        *,
        skipped: int = 0,
        part: Part | None = None,
    ) -> None:
        self._partition, self._released, self._skipped = partition, released, skipped
        self._part = part or Part()
        self._devices: dict[bytes, _Device | None] = {}
        self.faults: dict[str, Fault] = {}
        """Of devices of this partition."""
        self.strayed: dict[str, Fault] = {}
        """Of devices of other partitions, whose key stands in this one."""

    def fold(self, entries: Iterable[Entry]) -> list[Row]:
        """Take the next entries; answers rows of share_event.

        Raises:
            Stopped: see there; everything before was taken.
        """
        rows: list[Row] = []
        devices = self._devices
        for entry in entries:
            offset, key, value = entry
            try:
                device = devices[key]  # pyright: ignore[reportArgumentType] - None is never in it
            except KeyError:
                try:
                    device = self._device(key)
                except UnreadableKeyError:
                    if offset < self._skipped:
                        continue
                    raise Stopped(offset, rows) from None
            if device is None:
                continue
            if not device.own:
                if offset >= device.released:
                    self.strayed.setdefault(device.device_id, Fault(_WRONG.code, offset))
            elif offset < device.released:
                device.kept.append(entry)
            else:
                if device.kept:
                    rows += self._refold(device)
                self._apply(device, offset, value, rows)
        return rows

    def end(self) -> tuple[list[Row], list[Row], list[Row]]:
        """After the last entry: more rows of share_event, those of share, those of stream_quarantine."""
        events: list[Row] = []
        shares: list[Row] = []
        for device in self._devices.values():
            if device is not None:
                if device.kept:
                    events += self._refold(device)
                shares.extend(map(share_row, device.stream.shares.values()))
        return events, shares, [(device_id, *fault) for device_id, fault in self.faults.items()]

    def _device(self, key: bytes | None) -> _Device | None:
        device_id = read_device_key(key)
        assert key is not None
        if not self._part.has(key):
            device = None
        else:
            offsets = self._released.get(device_id)
            device = _Device(
                device_id,
                own=partition_of(key, DEVICE_PARTITIONS) == self._partition,
                released=0 if offsets is None else offsets[self._partition],
            )
        self._devices[key] = device
        return device

    def _apply(self, device: _Device, offset: int, value: bytes | None, rows: list[Row]) -> None:
        stream = device.stream
        if stream.quarantine is not None:
            return
        try:
            entry = read_share_event(device.device_id, value)
        except UnreadableError as error:
            outcome = project(Unreadable(error.code, str(error)), stream)
        else:
            outcome = project(entry.event, stream)
            if type(outcome) is Applied:
                rows.append(event_row(entry, outcome.share))
        stream.advance(outcome)
        if type(outcome) is Quarantine:
            self.faults[device.device_id] = Fault(outcome.code, offset)

    def _refold(self, device: _Device) -> list[Row]:
        kept, device.kept = device.kept, []
        found = refold(device.device_id, kept)
        if isinstance(found, Fault):  # this release reads less than the one that released it
            device.stream.quarantine = found.code
            self.faults[device.device_id] = found
            return []
        device.stream = found.stream
        return found.events


def refold(device_id: str, entries: Iterable[Entry]) -> Whole | Fault:
    """All of a device's records, in the order of the log, folded in the order of their versions.

    Whole is a history in which each version is one event and none is missing. A record that cannot be read
    may have been an event that nobody has: it must have been told again by later ones, so that at least as
    many versions are known after it as there could have been.
    """
    events: dict[int, tuple[int, ReadEvent]] = {}
    unread: Fault | None = None
    head = needed = 0
    for offset, _, value in entries:
        try:
            found = read_share_event(device_id, value)
        except UnreadableError as error:
            needed = max(head, needed) + 1
            unread = Fault(error.code, offset)
            continue
        version = found.event.version
        head = max(head, version)
        first = events.setdefault(version, (offset, found))
        if first[1].event.event_id != found.event.event_id:
            return Fault("VERSION_CONFLICT", offset)
    stream, rows = Stream(), list[Row]()
    for version in sorted(events):
        offset, found = events[version]
        outcome = project(found.event, stream)
        if isinstance(outcome, Quarantine):
            return Fault(outcome.code, offset)
        stream.advance(outcome)
        if isinstance(outcome, Applied):
            rows.append(event_row(found, outcome.share))
    if unread is not None and head < needed:
        return unread
    return Whole(stream, rows)


def event_row(entry: ReadEvent, share: Share) -> Row:
    """A row of share_event; ``share`` is as the event left it."""
    event = entry.event
    data = event.data
    kind = type(data)
    return (
        share.device_id, event.version, event.event_id, share.share_id, kind.__name__, event.time,
        share.state.value, share.account_id, share.owner_account_id, share.contact_id,
        share.terms if kind in _WITH_TERMS else None,
        _reason(data),
        entry.correlation_id,
    )  # fmt: skip


def _reason(data: AnyShareEvent) -> str | None:
    return data.reason.value if isinstance(data, ShareChanged | ShareRevoked) else None


def share_row(share: Share) -> Row:
    """A row of share."""
    return (
        share.device_id, share.share_id, share.contact_id, share.owner_account_id, share.state.value,
        share.account_id, share.terms, share.invitation_version, share.requested_at, share.since,
        share.expires_at, share.version,
    )  # fmt: skip


class _Described(NamedTuple):
    """What a snapshot of a device leaves: its row and those of its services."""

    row: Row
    services: list[Row]


class DeviceFold:
    """A partition of directory.devices; see `StreamFold`."""

    def __init__(self, partition: int, *, skipped: int = 0) -> None:
        self._partition, self._skipped = partition, skipped
        self._devices: dict[str, _Described] = {}
        self.faults: dict[str, Fault] = {}
        self.strayed: dict[str, Fault] = {}

    def fold(self, entries: Iterable[Entry]) -> None:
        """Take the next entries.

        Raises:
            Stopped: see there; everything before was taken.
        """
        for offset, key, value in entries:
            try:
                device_id = read_device_key(key)
            except UnreadableKeyError:
                if offset < self._skipped:
                    continue
                raise Stopped(offset) from None
            if partition_of(key or b"", DEVICE_PARTITIONS) != self._partition:
                self.strayed[device_id] = Fault(_WRONG.code, offset)
                continue
            try:
                described = None if value is None else _described(device_id, self._partition, value)
            except UnreadableError as error:
                self.faults[device_id] = Fault(error.code, offset)
                continue
            self.faults.pop(device_id, None)
            if described is None:
                self._devices.pop(device_id, None)
            else:
                self._devices[device_id] = described

    def end(self) -> tuple[list[Row], list[Row], list[Row]]:
        """Rows of device, of service, of device_quarantine."""
        found = self._devices.values()
        return (
            [item.row for item in found],
            [row for item in found for row in item.services],
            [(device_id, *fault) for device_id, fault in self.faults.items()],
        )


def _described(device_id: str, partition: int, value: bytes) -> _Described:
    device = read_device(device_id, value)
    return _Described(
        (device_id, partition, device.owner_account_id, device.name, device.kind, device.created_at),
        [
            (
                device_id, service.service_id, ordinal, service.name, service.protocol, service.channel,
                service.target.host, service.target.port, sorted(service.permissions),
                service.stream and service.stream.live, service.stream and service.stream.recording,
            )
            for ordinal, service in enumerate(device.services)
        ],
    )  # fmt: skip


class SnapshotFold(Generic[_K, _V]):
    """A partition of directory.accounts or directory.contacts: the last readable snapshot of each key."""

    def __init__(self, read: Callable[[bytes | None, bytes | None], tuple[_K, _V | None]]) -> None:
        self._read = read
        self.last: dict[_K, _V] = {}

    def fold(self, entries: Iterable[Entry]) -> None:
        """Take the next entries; those that cannot be read change nothing."""
        for _, key, value in entries:
            try:
                name, snapshot = self._read(key, value)
            except UnreadableError:
                continue
            if snapshot is None:
                self.last.pop(name, None)
            else:
                self.last[name] = snapshot


def account_fold() -> SnapshotFold[str, Account]:
    """For directory.accounts."""
    return SnapshotFold(read_account)


def contact_fold() -> SnapshotFold[UUID, ContactSnapshot]:
    """For directory.contacts."""
    return SnapshotFold(read_contact)


def account_rows(accounts: Iterable[Account]) -> tuple[list[Row], list[Row]]:
    """Rows of account and of account_address."""
    found = list(accounts)
    return (
        [(item.account_id, item.name) for item in found],
        [
            (item.account_id, address, ordinal)
            for item in found
            for ordinal, address in enumerate(item.addresses)
        ],
    )


def contact_rows(contacts: Iterable[ContactSnapshot]) -> list[Row]:
    """Rows of contact."""
    return [(item.contact_id, item.address) for item in contacts]
