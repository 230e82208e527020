"""Kafka into the notifier's tables: share.events are planned, directories are kept as names and addresses."""

import re
from uuid import UUID

import structlog

from contracts import codec, topics
from contracts.codec import DecodeError, Envelope
from contracts.directory import AccountSnapshot, ContactSnapshot, DeviceSnapshot
from contracts.events import (
    ShareAccepted,
    ShareChanged,
    ShareLeft,
    ShareRejected,
    ShareRequested,
    ShareRevoked,
)
from notifier.errors import UnusableRecordError
from notifier.metrics import Metrics
from notifier.planner import Notice, Occurrence, fold, plan
from notifier.store import Inward, Store
from servicekit import pg
from servicekit.kafka import DeadLetters, Record
from servicekit.logging import get_logger
from servicekit.telemetry import correlated

log = get_logger(__name__)

TOPICS = (
    topics.SHARE_EVENTS.name,
    topics.DIRECTORY_DEVICES.name,
    topics.DIRECTORY_ACCOUNTS.name,
    topics.DIRECTORY_CONTACTS.name,
)

_SHARE_EVENTS = (ShareRequested, ShareAccepted, ShareRejected, ShareChanged, ShareRevoked, ShareLeft)
_MAX_VERSION = 2**63 - 1
_KEY = re.compile(r"^[A-Za-z0-9:._|-]{1,128}$")


class Consumer:
    """Applies records; `apply` is the inbox's handler."""

    def __init__(
        self, *, store: Store, dead_letters: DeadLetters, metrics: Metrics, topic_prefix: str
    ) -> None:
        self._store, self._dead_letters, self._metrics = store, dead_letters, metrics
        self._prefix = topic_prefix

    async def apply(self, connection: pg.Connection, records: list[Record]) -> None:
        """Apply records of one partition in the open transaction; unusable ones become dead letters.

        Raises:
            KafkaError: a dead letter could not be kept; nothing is applied then.
        """
        inward = self._store.inward(connection)
        if records[0].topic.removeprefix(self._prefix) == topics.SHARE_EVENTS.name:
            await self._apply_events(inward, records)
        else:
            for record in records:
                try:
                    await self._apply_snapshot(inward, record)
                except (DecodeError, UnusableRecordError) as error:
                    await self._set_aside(record, error)

    async def _apply_events(self, inward: Inward, records: list[Record]) -> None:
        """Plan and fold what lies above each device's last version, and set that version."""
        read: list[tuple[Envelope, Occurrence]] = []
        for record in records:
            try:
                read.append(_occurrence(record))
            except (DecodeError, UnusableRecordError) as error:
                await self._set_aside(record, error)
        events = [occurrence.event for _, occurrence in read]
        known = await inward.last_versions({event.device_id for event in events})
        invitations = await inward.invitations({event.share_id for event in events})
        advanced: dict[str, int] = {}
        touched: set[UUID] = set()
        due: list[tuple[Notice, str]] = []
        for envelope, occurrence in read:
            event = occurrence.event
            if occurrence.version <= advanced.get(event.device_id, known.get(event.device_id, 0)):
                continue  # a redelivery or a replay: it was planned then
            advanced[event.device_id] = occurrence.version
            folded = fold(invitations.get(event.share_id), occurrence)
            if folded is not None:
                invitations[event.share_id] = folded
                touched.add(event.share_id)
            due += self._planned(envelope, occurrence)
        await inward.save_progress(advanced)
        await inward.save_invitations(invitations[share_id] for share_id in sorted(touched))
        if due:
            await inward.add_deliveries(due)

    def _planned(self, envelope: Envelope, occurrence: Occurrence) -> list[tuple[Notice, str]]:
        notices = plan(occurrence)
        if not notices:
            return []
        with (
            correlated(envelope.correlationid) as correlation_id,
            structlog.contextvars.bound_contextvars(
                event_id=envelope.id, device_id=occurrence.event.device_id, version=occurrence.version
            ),
        ):
            for notice in notices:
                self._metrics.planned.labels(notice.template).inc()
                log.info("notice_planned", template=notice.template, share_id=str(notice.share_id))
            return [(notice, correlation_id) for notice in notices]

    async def _apply_snapshot(self, inward: Inward, record: Record) -> None:
        topic = record.topic.removeprefix(self._prefix)
        key = _key(record)
        if record.value is None:
            if topic == topics.DIRECTORY_DEVICES.name:
                await inward.delete_snapshot("device", key)
            elif topic == topics.DIRECTORY_ACCOUNTS.name:
                await inward.delete_snapshot("account", key)
            else:
                await inward.delete_snapshot(
                    "contact", _uuid(key, "INVALID_KEY", "The key is no contact id.")
                )
            return
        snapshot: DeviceSnapshot | AccountSnapshot | ContactSnapshot
        if topic == topics.DIRECTORY_DEVICES.name:
            _, snapshot = codec.decode_as(record.value, DeviceSnapshot)
            identity = snapshot.device_id
        elif topic == topics.DIRECTORY_ACCOUNTS.name:
            _, snapshot = codec.decode_as(record.value, AccountSnapshot)
            identity = snapshot.account_id
        else:
            _, snapshot = codec.decode_as(record.value, ContactSnapshot)
            identity = str(snapshot.contact_id)
        if identity != key:
            raise UnusableRecordError("INVALID_KEY", "The key is not the id of what the value describes.")
        await inward.save_snapshot(snapshot)

    async def _set_aside(self, record: Record, error: DecodeError | UnusableRecordError) -> None:
        await self._dead_letters.put(record, error.code, str(error))
        self._metrics.dead_letters.inc()
        log.warning(
            "record_set_aside",
            code=error.code, reason=str(error),
            topic=record.topic, partition=record.partition, offset=record.offset,
        )  # fmt: skip


def _occurrence(record: Record) -> tuple[Envelope, Occurrence]:
    envelope, event = codec.decode_as(record.value, _SHARE_EVENTS)
    version = envelope.version
    if version is None or version > _MAX_VERSION:
        raise UnusableRecordError("INVALID_VERSION", "The event has no version, or one beyond 64 bits.")
    event_id = _uuid(envelope.id, "INVALID_EVENT_ID", "The event's id is not a UUID.")
    return envelope, Occurrence(event_id=event_id, version=version, time=envelope.time, event=event)


def _key(record: Record) -> str:
    text = (record.key or b"").decode("utf-8", "replace")
    if not _KEY.match(text):
        raise UnusableRecordError("INVALID_KEY", "The record has no key that is an id.")
    return text


def _uuid(text: str, code: str, message: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise UnusableRecordError(code, message) from None
