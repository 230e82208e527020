"""The verb ``project``: five topics into the read models, each batch in the transaction of its offset."""

import asyncio
import math
from collections.abc import Sequence
from uuid import UUID

from contracts import topics
from contracts.directory import ContactSnapshot
from permission_projector import metrics
from permission_projector.projection import Applied, Duplicate, Ignored, Quarantine, Unreadable, project
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
from permission_projector.store import DeviceChanges, Store, StreamChanges, Touch
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


class Projector:
    """Applies records. ``prefix`` stands before every topic name."""

    def __init__(self, store: Store, dead_letters: DeadLetters, prefix: str = "") -> None:
        self._store, self._dead_letters, self._prefix = store, dead_letters, prefix
        self._handlers = {
            prefix + topics.SHARE_EVENTS.name: self._share_events,
            prefix + topics.DIRECTORY_DEVICES.name: self._devices,
            prefix + topics.DIRECTORY_ACCOUNTS.name: self._accounts,
            prefix + topics.DIRECTORY_CONTACTS.name: self._contacts,
            prefix + topics.WATERMARKS.name: self._watermarks,
        }

    async def handle(self, connection: pg.Connection, records: list[Record]) -> None:
        """Apply records of one partition, in order, in the open transaction (a `servicekit.inbox.Handle`).

        Raises:
            UnreadableKeyError: a record of a device topic names no device: the partition waits, and with it
                its freshness.
        """
        first = records[0]
        touched = await self._handlers[first.topic](connection, records)
        await self._store.announce(connection, first.topic, first.partition, touched)

    async def _share_events(self, connection: pg.Connection, records: Sequence[Record]) -> dict[str, Touch]:
        entries: list[tuple[Record, str, ReadEvent | Unreadable]] = []
        for record in records:
            device_id = read_device_key(record.key)
            try:
                _require_own_partition(record)
                entries.append((record, device_id, read_share_event(device_id, record.value)))
            except UnreadableError as error:
                await self._put_aside(record, error, device_id)
                entries.append((record, device_id, Unreadable(error.code, str(error))))
        asked = [
            (device_id, entry.event.version, entry.event.data.share_id)
            for _, device_id, entry in entries
            if isinstance(entry, ReadEvent)
        ]
        devices = {device_id for _, device_id, _ in entries}
        streams = await self._store.streams(connection, devices, asked)
        changes = StreamChanges()
        touched: dict[str, Touch] = {}
        for record, device_id, entry in entries:
            stream = streams[device_id]
            outcome = project(entry.event if isinstance(entry, ReadEvent) else entry, stream)
            stream.advance(outcome)
            match outcome:
                case Applied(event=event, share=share):
                    changes.events.append((device_id, event.version, event.event_id))
                    changes.shares[device_id, share.share_id] = share
                case Quarantine():
                    changes.quarantine_offsets[device_id] = record.offset
                case Duplicate() | Ignored():
                    pass
            if isinstance(outcome, Applied | Quarantine):
                changes.streams[device_id] = stream
                correlation = entry.correlation_id if isinstance(entry, ReadEvent) else None
                touched[device_id] = Touch(record.offset, correlation)
            _report(record, device_id, entry, outcome)
        await self._store.save_streams(connection, changes)
        return touched

    async def _devices(self, connection: pg.Connection, records: Sequence[Record]) -> dict[str, Touch]:
        changes = DeviceChanges()
        touched: dict[str, Touch] = {}
        for record in records:
            device_id = read_device_key(record.key)
            touched[device_id] = Touch(record.offset, None)
            try:
                _require_own_partition(record)
                snapshot = None if record.value is None else read_device(device_id, record.value)
            except UnreadableError as error:
                await self._put_aside(record, error, device_id)
                changes.unreadable[device_id] = (error.code, record.offset)
            else:
                changes.snapshots[device_id] = snapshot
                changes.unreadable.pop(device_id, None)
        await self._store.save_devices(connection, records[0].partition, changes)
        return touched

    async def _accounts(self, connection: pg.Connection, records: Sequence[Record]) -> dict[str, Touch]:
        accounts: dict[str, Account | None] = {}
        for record in records:
            try:
                account_id, account = read_account(record.key, record.value)
            except UnreadableError as error:
                await self._put_aside(record, error)
            else:
                accounts[account_id] = account
        await self._store.save_accounts(connection, accounts)
        return {}

    async def _contacts(self, connection: pg.Connection, records: Sequence[Record]) -> dict[str, Touch]:
        contacts: dict[UUID, ContactSnapshot | None] = {}
        for record in records:
            try:
                contact_id, contact = read_contact(record.key, record.value)
            except UnreadableError as error:
                await self._put_aside(record, error)
            else:
                contacts[contact_id] = contact
        await self._store.save_contacts(connection, contacts)
        return {}

    async def _watermarks(self, connection: pg.Connection, records: Sequence[Record]) -> dict[str, Touch]:
        watermarks: list[tuple[int, DeviceWatermark]] = []
        for record in records:
            try:
                watermark = read_watermark(record.value, self._prefix)
            except UnreadableError as error:
                await self._put_aside(record, error)
            else:
                watermarks.append((record.offset, watermark))
        await self._store.save_watermarks(connection, watermarks)
        return {}

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


def _report(
    record: Record,
    device_id: str,
    entry: ReadEvent | Unreadable,
    outcome: Applied | Duplicate | Quarantine | Ignored,
) -> None:
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
            metrics.SHARE_EVENTS.labels("applied").inc()
            log.info("share_event_applied", **where)
        case Duplicate():
            metrics.SHARE_EVENTS.labels("duplicate").inc()
            log.info("share_event_again", **where)
        case Ignored():
            metrics.SHARE_EVENTS.labels("ignored").inc()
            log.warning("share_event_ignored", **where)
        case Quarantine(code=code, message=message):
            metrics.SHARE_EVENTS.labels("quarantined").inc()
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
