"""The verb ``project``: five topics into the read models, in the transaction of their offsets."""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from typing import Final, cast
from uuid import UUID

from contracts import topics
from contracts.directory import ContactSnapshot
from contracts.events import ShareChanged, ShareRequested, ShareRevoked
from permission_projector import metrics
from permission_projector.generation import forget_elsewhere
from permission_projector.projection import (
    Applied,
    Duplicate,
    Ignored,
    Outcome,
    Quarantine,
    Stream,
    Unreadable,
    project,
)
from permission_projector.records import (
    Account,
    DeviceWatermark,
    ReadEvent,
    UnreadableError,
    read_account,
    read_contact,
    read_device,
    read_device_key,
    read_share_event,
    read_watermark,
)
from permission_projector.store import AppliedEvent, DeviceChanges, Store, StreamChanges, Touched
from servicekit import pg
from servicekit.kafka import DeadLetters, Record, partition_of
from servicekit.logging import get_logger

log = get_logger(__name__)

TOPICS = (
    topics.SHARE_EVENTS,
    topics.DIRECTORY_DEVICES,
    topics.DIRECTORY_ACCOUNTS,
    topics.DIRECTORY_CONTACTS,
    topics.WATERMARKS,
)
_OBSERVE_SECONDS = 5.0
_FORGET_SECONDS = 60.0
_LOGGED_SINGLY = 100
"""With more events than these in one transaction there is a backlog, and a line for each would be most of the
work: then one line tells of all that went well."""


class Projector:
    """Applies records. ``prefix`` stands before every topic name."""

    def __init__(self, store: Store, dead_letters: DeadLetters, prefix: str = "") -> None:
        self._store, self._dead_letters, self._prefix = store, dead_letters, prefix
        self._forgotten = asyncio.Event()
        self._forgotten.set()  # what was forgotten while nobody ran
        self._handlers = {
            prefix + topics.SHARE_EVENTS.name: self._share_events,
            prefix + topics.DIRECTORY_DEVICES.name: self._devices,
            prefix + topics.DIRECTORY_ACCOUNTS.name: self._accounts,
            prefix + topics.DIRECTORY_CONTACTS.name: self._contacts,
            prefix + topics.WATERMARKS.name: self._watermarks,
        }

    async def forget(self, pool: pg.Pool) -> None:
        """Let generations that are kept beside the live one forget what it has forgotten of people, until
        cancelled: within a minute, as it takes a look at all that they have."""
        topics_of_people = [
            self._prefix + topic.name for topic in (topics.DIRECTORY_ACCOUNTS, topics.DIRECTORY_CONTACTS)
        ]
        while True:
            await self._forgotten.wait()
            self._forgotten.clear()
            try:
                gone = await forget_elsewhere(pool, topics_of_people)
            except pg.TRANSIENT:
                self._forgotten.set()
            else:
                if gone:
                    log.info("forgotten_elsewhere", rows=gone)
            await asyncio.sleep(_FORGET_SECONDS)

    async def handle(self, connection: pg.Connection, records: Sequence[Record]) -> None:
        """Apply records in the open transaction (a `servicekit.inbox.Handle`).

        Raises:
            UnreadableKeyError: a record of a device topic names no device: the partition waits, and with it
                its freshness.
        """
        by_topic: dict[str, list[Record]] = {}
        for record in records:
            by_topic.setdefault(record.topic, []).append(record)
        touched = Touched()
        for topic, apply in self._handlers.items():
            if topic in by_topic:
                await apply(connection, by_topic[topic], touched)
        await self._store.announce(connection, touched)

    async def _share_events(
        self, connection: pg.Connection, records: Sequence[Record], touched: Touched
    ) -> None:
        entries = [await self._entry(record) for record in records]
        streams = await self._streams(connection, entries)
        changes = StreamChanges()
        outcomes: Counter[str] = Counter()
        singly = len(entries) <= _LOGGED_SINGLY
        for record, device_id, entry in entries:
            stream = streams[device_id]
            outcome = project(entry.event if isinstance(entry, ReadEvent) else entry, stream)
            stream.advance(outcome)
            outcomes[_OUTCOMES[type(outcome)]] += 1
            if isinstance(outcome, Applied):
                share = outcome.share
                changes.events.append(_applied_event(outcome, entry))
                touched.devices[device_id] = _correlation_id(entry)
                touched.accounts.add(share.owner_account_id)
                if share.account_id is None:
                    touched.contacts.add(share.contact_id)
                else:
                    touched.accounts.add(share.account_id)
            elif isinstance(outcome, Quarantine):
                changes.quarantines[device_id] = (outcome.code, record.offset)
                touched.devices[device_id] = _correlation_id(entry)
            if singly or isinstance(outcome, Quarantine):
                _report(record, device_id, entry, outcome)
        await self._store.save_streams(connection, changes)
        for name, count in outcomes.items():
            metrics.SHARE_EVENTS.labels(name).inc(count)
        if not singly:
            log.info("share_events_applied", **outcomes)

    async def _entry(self, record: Record) -> tuple[Record, str, ReadEvent | Unreadable]:
        device_id = read_device_key(record.key)
        try:
            _require_own_partition(record)
            return record, device_id, read_share_event(device_id, record.value)
        except UnreadableError as error:
            await self._put_aside(record, error, device_id)
            return record, device_id, Unreadable(error.code, str(error))

    async def _streams(
        self, connection: pg.Connection, entries: Sequence[tuple[Record, str, ReadEvent | Unreadable]]
    ) -> dict[str, Stream]:
        """What is known of the devices and shares that the entries are about, and of versions they repeat."""
        streams = await self._store.streams(
            connection,
            {
                (device_id, entry.event.data.share_id if isinstance(entry, ReadEvent) else None)
                for _, device_id, entry in entries
            },
        )
        again = [
            (device_id, entry.event.version)
            for _, device_id, entry in entries
            if isinstance(entry, ReadEvent) and entry.event.version <= streams[device_id].version
        ]
        if again:
            for device_id, version, event_id in await self._store.recorded(connection, again):
                streams[device_id].event_ids[version] = event_id
        return streams

    async def _devices(self, connection: pg.Connection, records: Sequence[Record], touched: Touched) -> None:
        changes = DeviceChanges()
        for record in records:
            device_id = read_device_key(record.key)
            touched.devices.setdefault(device_id, None)
            try:
                _require_own_partition(record)
                snapshot = None if record.value is None else read_device(device_id, record.value)
            except UnreadableError as error:
                await self._put_aside(record, error, device_id)
                changes.unreadable[device_id] = (error.code, record.offset)
            else:
                changes.partitions[device_id] = record.partition
                changes.snapshots[device_id] = snapshot
                changes.unreadable.pop(device_id, None)
        touched.lists |= await self._store.save_devices(connection, changes)

    async def _accounts(self, connection: pg.Connection, records: Sequence[Record], touched: Touched) -> None:
        accounts: dict[str, Account | None] = {}
        for record in records:
            try:
                account_id, account = read_account(record.key, record.value)
            except UnreadableError as error:
                await self._put_aside(record, error)
            else:
                accounts[account_id] = account
        for device_id in await self._store.save_accounts(connection, accounts):
            touched.devices.setdefault(device_id, None)
        touched.lists |= accounts.keys()
        self._forgotten.set()

    async def _contacts(self, connection: pg.Connection, records: Sequence[Record], touched: Touched) -> None:
        contacts: dict[UUID, ContactSnapshot | None] = {}
        for record in records:
            try:
                contact_id, contact = read_contact(record.key, record.value)
            except UnreadableError as error:
                await self._put_aside(record, error)
            else:
                contacts[contact_id] = contact
        for device_id in await self._store.save_contacts(connection, contacts):
            touched.devices.setdefault(device_id, None)
        touched.contacts |= contacts.keys()
        if None in contacts.values():
            self._forgotten.set()

    async def _watermarks(self, connection: pg.Connection, records: Sequence[Record], _: Touched) -> None:
        watermarks: list[tuple[int, DeviceWatermark]] = []
        for record in records:
            try:
                watermark = read_watermark(record.value, self._prefix)
            except UnreadableError as error:
                await self._put_aside(record, error)
            else:
                watermarks.append((record.offset, watermark))
        await self._store.save_watermarks(connection, watermarks)

    async def _put_aside(self, record: Record, error: UnreadableError, device_id: str | None = None) -> None:
        await self._dead_letters.put(record, error.code, str(error))
        metrics.DEAD_LETTERS.labels(error.code).inc()
        log.error(
            "record_unreadable",
            topic=record.topic, partition=record.partition, offset=record.offset,
            code=error.code, error=str(error), device_id=device_id,
        )  # fmt: skip


def _require_own_partition(record: Record) -> None:
    """A device has one partition number in both device topics; its freshness is told for that one alone."""
    if record.partition != partition_of(record.key or b"", topics.DEVICE_PARTITIONS):
        raise UnreadableError("WRONG_PARTITION", "The record is not in the partition that is its key's.")


_OUTCOMES: Final[dict[type[Outcome], str]] = {
    Applied: "applied",
    Duplicate: "duplicate",
    Ignored: "ignored",
    Quarantine: "quarantined",
}


_WITH_TERMS: Final = frozenset({ShareRequested, ShareChanged})
_WITH_REASON: Final = frozenset({ShareChanged, ShareRevoked})


def _correlation_id(entry: ReadEvent | Unreadable) -> str | None:
    return entry.correlation_id if isinstance(entry, ReadEvent) else None


def _applied_event(applied: Applied, entry: ReadEvent | Unreadable) -> AppliedEvent:
    event, share = applied
    kind = type(event.data)
    return AppliedEvent(
        event,
        share,
        kind in _WITH_TERMS,
        cast("ShareChanged | ShareRevoked", event.data).reason if kind in _WITH_REASON else None,
        _correlation_id(entry),
    )


def _report(record: Record, device_id: str, entry: ReadEvent | Unreadable, outcome: Outcome) -> None:
    where = {"device_id": device_id, "partition": record.partition, "offset": record.offset}
    if isinstance(entry, ReadEvent):
        where |= {
            "event_id": str(entry.event.event_id),
            "version": entry.event.version,
            "share_id": str(entry.event.data.share_id),
            "correlation_id": entry.correlation_id,
        }
    match outcome:
        case Applied():
            log.info("share_event_applied", **where)
        case Duplicate():
            log.info("share_event_again", **where)
        case Ignored():
            log.warning("share_event_ignored", **where)
        case Quarantine(code=code, message=message):
            log.error("device_quarantined", code=code, error=message, **where)


async def observe(store: Store, pool: pg.Pool) -> None:
    """Keep the gauges current until cancelled; while the database is away they show the worst."""
    while True:
        try:
            quarantined, age = await store.observe(pool)
        except pg.TRANSIENT:
            metrics.FRESHNESS_AGE.set(math.inf)
        else:
            metrics.QUARANTINED.set(quarantined)
            metrics.FRESHNESS_AGE.set(math.inf if age is None else age)
        await asyncio.sleep(_OBSERVE_SECONDS)
