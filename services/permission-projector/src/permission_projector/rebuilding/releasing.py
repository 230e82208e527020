"""The verb ``release``: a device in quarantine is folded again from the log, and released when it is whole.

A release is remembered outside the generations, so that each of them, now and later, has the device as the
live one has it: up to there its history counts by its versions, and from there on in the order of the log.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import asyncpg

from contracts import topics
from permission_projector.generation import LIVE, TURN_ALONE
from permission_projector.rebuilding.building import (
    SQL,
    Installation,
    Log,
    RebuildError,
    live_generation,
    offsets,
    released,
)
from permission_projector.rebuilding.folding import Entry, Fault, Row, StreamFold, Whole, refold, share_row
from permission_projector.rebuilding.log_reader import LogReader, Span
from permission_projector.records import UnreadableError, read_device
from permission_projector.store import DeviceChanges, Store, Touched
from servicekit import pg
from servicekit.kafka import Partition, partition_of

_MOST_MEANWHILE: Final = 10_000
"""With more records since the log was read, it is read once more before anybody is kept waiting."""

_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class FoldedAgain:
    """What a device's history leaves: rows of share_event, of share, and why it is in quarantine, if so."""

    events: list[Row]
    shares: list[Row]
    fault: Fault | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of it. ``code`` and ``offset``, in ``topic``: why it stays in quarantine."""

    device_id: str
    outcome: Literal["released", "kept", "not_quarantined"]
    message: str
    topic: str | None = None
    code: str | None = None
    offset: int | None = None


async def fold_again(
    log: Log, connection: pg.Connection, device_id: str, reached: Mapping[Partition, int]
) -> FoldedAgain:
    """A device as a rebuild that reads as far as ``reached`` would have it."""
    place = Partition(log.events, partition_of(device_id.encode(), topics.DEVICE_PARTITIONS))
    known = await released(connection, log.topic_ids[log.events])
    fold = StreamFold(place.number, {device_id: known[device_id]} if device_id in known else {})
    entries = await asyncio.to_thread(_entries, log.reader, place, Span(0, reached.get(place, 0)), device_id)
    rows = fold.fold(entries)
    events, shares, _ = fold.end()
    return FoldedAgain(rows + events, shares, fold.faults.get(device_id))


async def replace(connection: pg.Connection, device_id: str, again: FoldedAgain) -> Touched:
    """Write what a device is now in the place of what it was, in the session's generation.

    Answers whose lists may be others for it.
    """
    touched = Touched(devices={device_id: None})
    await connection.execute(SQL["forget_events"], device_id)
    for row in await connection.fetch(SQL["forget_shares"], device_id):
        _touch(touched, row["owner_account_id"], row["account_id"], row["contact_id"])
    await connection.execute(SQL["forget_quarantine"], device_id)
    await connection.copy_records_to_table("share_event", records=again.events)
    await connection.copy_records_to_table("share", records=again.shares)
    for _, _, contact_id, owner, _, account_id, *_ in again.shares:
        _touch(touched, owner, account_id, contact_id)
    if again.fault is not None:
        await connection.execute(SQL["add_quarantine"], device_id, *again.fault)
    return touched


def _touch(touched: Touched, owner: object, account_id: object, contact_id: object) -> None:
    touched.accounts.add(str(owner))
    if account_id is not None:
        touched.accounts.add(str(account_id))
    touched.contacts.add(contact_id)  # pyright: ignore[reportArgumentType] - a column of UUIDs


def _entries(reader: LogReader, place: Partition, span: Span, device_id: str) -> list[Entry]:
    key = device_id.encode()
    return [entry for _, entries in reader.read({place: span}) for entry in entries if entry.key == key]


async def release(installation: Installation, device_id: str) -> Answer:
    """Release a device, or say why it stays in quarantine.

    Raises:
        RebuildError: it cannot be found out now.
    """
    connection = await installation.connect(LIVE, durable=True)
    try:
        (await live_generation(connection)).require_shape()
        topic_ids = await installation.topic_ids()
        with installation.reader() as reader:
            return await _Release(Log(installation, reader, topic_ids), connection, device_id).run()
    finally:
        await connection.close()


class _Release:
    def __init__(self, log: Log, connection: pg.Connection, device_id: str) -> None:
        self._log, self._connection, self._device_id = log, connection, device_id
        number = partition_of(device_id.encode(), topics.DEVICE_PARTITIONS)
        self._events = Partition(log.events, number)
        self._devices = Partition(log.installation.name(topics.DIRECTORY_DEVICES), number)
        self._kept: dict[Partition, list[Entry]] = {self._events: [], self._devices: []}
        self._read: dict[Partition, int] = {self._events: 0, self._devices: 0}
        self._store = Store()

    async def run(self) -> Answer:
        quarantined = await self._quarantined()
        if not any(quarantined):
            return Answer(self._device_id, "not_quarantined", f"{self._device_id} is not in quarantine.")
        for _ in range(_ATTEMPTS):
            await self._read_on(await self._stored())
            with contextlib.suppress(asyncpg.LockNotAvailableError):
                async with self._connection.transaction():
                    await self._connection.execute(SQL["bound_turn"])
                    await self._connection.execute(TURN_ALONE)
                    stored = await self._stored()
                    meanwhile = sum(stored[place] - read for place, read in self._read.items())
                    if meanwhile <= _MOST_MEANWHILE:
                        await self._read_on(stored)
                        return await self._decide()
        raise RebuildError("More arrives in this device's partition than can be read. Try again later.")

    async def _quarantined(self) -> tuple[Fault | None, Fault | None]:
        faults: list[Fault | None] = []
        for name in ("quarantine", "device_quarantine"):
            row = await self._connection.fetchrow(SQL[name].format(schema=LIVE), self._device_id)
            faults.append(None if row is None else Fault(row["code"], row["quarantine_offset"]))
        return faults[0], faults[1]

    async def _stored(self) -> dict[Partition, int]:
        return {**dict.fromkeys(self._read, 0), **await offsets(self._connection, LIVE, self._log.topic_ids)}

    async def _read_on(self, stored: Mapping[Partition, int]) -> None:
        for place, kept in self._kept.items():
            span = Span(self._read[place], stored[place])
            kept.extend(await asyncio.to_thread(_entries, self._log.reader, place, span, self._device_id))
            self._read[place] = span.until

    async def _decide(self) -> Answer:
        """Release it or not; nobody else writes meanwhile."""
        stream, device = await self._quarantined()
        touched = Touched()
        kept: Answer | None = None
        if device is not None:
            fault = await self._release_device(touched)
            if fault is not None:
                advice = "Have the registry publish the device again; that ends it by itself."
                kept = self._kept_back(self._devices, fault, advice)
        if stream is not None:
            again = refold(self._device_id, self._kept[self._events])
            if isinstance(again, Fault):
                advice = "Mend what wrote it, have what is missing sent again, then release it."
                kept = self._kept_back(self._events, again, advice)
            else:
                for_stream = await self._release_stream(again)
                touched.devices |= for_stream.devices
                touched.accounts |= for_stream.accounts
                touched.contacts |= for_stream.contacts
        if touched.devices:
            await self._store.announce(self._connection, touched)
        return kept or Answer(
            self._device_id, "released", f"{self._device_id} is whole, and its shares give access again."
        )

    async def _release_stream(self, again: Whole) -> Touched:
        shares = list(map(share_row, again.stream.shares.values()))
        touched = await replace(self._connection, self._device_id, FoldedAgain(again.events, shares, None))
        stored = await offsets(self._connection, LIVE, self._log.topic_ids)
        topic = self._events.topic
        await self._connection.execute(
            SQL["save_release"],
            self._device_id,
            self._log.topic_ids[topic],
            [stored.get(Partition(topic, number), 0) for number in range(topics.DEVICE_PARTITIONS)],
        )
        return touched

    async def _release_device(self, touched: Touched) -> Fault | None:
        """Take over the newest snapshot, if it can be read now; else why not."""
        entries = self._kept[self._devices]
        if not entries:
            return Fault("GONE", 0)
        newest = entries[-1]
        try:
            snapshot = None if newest.value is None else read_device(self._device_id, newest.value)
        except UnreadableError as error:
            return Fault(error.code, newest.offset)
        changes = DeviceChanges({self._device_id: self._devices.number}, {self._device_id: snapshot})
        touched.devices[self._device_id] = None
        touched.lists |= await self._store.save_devices(self._connection, changes)
        return None

    def _kept_back(self, place: Partition, fault: Fault, advice: str) -> Answer:
        return Answer(
            self._device_id,
            "kept",
            f"{self._device_id} stays in quarantine: {fault.code} at {place.topic}, partition "
            f"{place.number}, offset {fault.offset}. {advice}",
            place.topic,
            fault.code,
            fault.offset,
        )
