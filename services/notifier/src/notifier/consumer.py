"""Kafka into the notifier's tables: share.events are planned, of access.events the first use of each share
is, and directories are kept as names and addresses."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from contracts import codec, topics
from contracts.codec import DecodeError, Envelope
from contracts.directory import AccountSnapshot, ContactSnapshot, DeviceSnapshot
from contracts.events import (
    SHARE_EVENT_TYPES,
    AnyAccessEvent,
    ConnectionClosed,
    ConnectionCut,
    ConnectionOpened,
    ConnectionRefused,
    GatewayStarted,
    InvitationResent,
    ShareAccepted,
    ShareChanged,
    ShareRequested,
)
from notifier.errors import UnusableRecordError
from notifier.hints import Readers
from notifier.metrics import Metrics
from notifier.planner import Invitation, Notice, Occurrence, Template, about, fold, plan
from notifier.store.inward import AnySnapshot, Inward, Kind
from notifier.store.outward import Store
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
    topics.ACCESS_EVENTS.name,
)

_ACCESS_EVENT_TYPES: tuple[type[AnyAccessEvent | GatewayStarted], ...] = (
    ConnectionOpened,
    ConnectionRefused,
    ConnectionClosed,
    ConnectionCut,
    GatewayStarted,
)
_KINDS: Final[dict[str, Kind]] = {
    topics.DIRECTORY_DEVICES.name: "device",
    topics.DIRECTORY_ACCOUNTS.name: "account",
    topics.DIRECTORY_CONTACTS.name: "contact",
}
_OLD_NEWS = timedelta(hours=24)
"""A first use that is found later is told nobody: the topic was read from an earlier place."""

_MAX_VERSION = 2**63 - 1
_KEY = re.compile(r"^[A-Za-z0-9:._|-]{1,128}$")


class Consumer:
    """Applies records; `apply` is the inbox's handler."""

    def __init__(
        self, *, store: Store, dead_letters: DeadLetters, metrics: Metrics, topic_prefix: str
    ) -> None:
        self._store, self._dead_letters, self._metrics = store, dead_letters, metrics
        self._prefix = topic_prefix
        self._events_topic = topic_prefix + topics.SHARE_EVENTS.name
        self._access_topic = topic_prefix + topics.ACCESS_EVENTS.name

    async def apply(self, connection: pg.Connection, records: list[Record]) -> None:
        """Apply records in the open transaction; unusable ones become dead letters.

        Raises:
            KafkaError: a dead letter could not be kept; nothing is applied then.
        """
        inward = self._store.inward(connection)
        events = [record for record in records if record.topic == self._events_topic]
        accesses = [record for record in records if record.topic == self._access_topic]
        snapshots = [
            record for record in records if record.topic not in {self._events_topic, self._access_topic}
        ]
        if snapshots:
            await self._apply_snapshots(inward, snapshots)
            await inward.look_again()
        touched = await self._apply_events(inward, events) if events else set[UUID]()
        touched |= await self._apply_accesses(inward, accesses) if accesses else set[UUID]()
        if touched:
            await self._tell_first_uses(inward, touched)

    async def _apply_events(self, inward: Inward, records: list[Record]) -> set[UUID]:
        """Plan and fold what lies above each device's last version, and set that version; the shares that
        were accepted."""
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
        accepted: set[UUID] = set()
        due: list[tuple[Notice, str]] = []
        readers = Readers()
        for envelope, occurrence in read:
            event = occurrence.event
            if occurrence.version <= advanced.get(event.device_id, known.get(event.device_id, 0)):
                continue  # a redelivery or a replay: it was planned then
            advanced[event.device_id] = occurrence.version
            before = invitations.get(event.share_id)
            after = fold(before, occurrence)
            if after is None:
                continue
            invitations[event.share_id] = after
            touched.add(event.share_id)
            readers.add(_readers(before, after))
            due += self._planned(envelope, plan(before, after, occurrence))
            if isinstance(event, ShareAccepted):
                await inward.forget_first_uses([event.share_id], envelope.time)
                accepted.add(event.share_id)
        await inward.save_progress(advanced)
        await inward.save_invitations([invitations[share_id] for share_id in sorted(touched)])
        await inward.add_notices(due)
        await inward.tell(readers)
        return accepted

    def _planned(self, envelope: Envelope, notices: tuple[Notice, ...]) -> list[tuple[Notice, str]]:
        if not notices:
            return []
        with (
            correlated(envelope.correlationid) as correlation_id,
            structlog.contextvars.bound_contextvars(event_id=envelope.id, version=envelope.version),
        ):
            for notice in notices:
                self._metrics.planned.labels(notice.template).inc()
                log.info(
                    "notice_planned",
                    template=notice.template, share_id=str(notice.share_id), device_id=notice.device_id,
                    outside=notice.outside,
                )  # fmt: skip
            return [(notice, correlation_id) for notice in notices]

    async def _apply_accesses(self, inward: Inward, records: list[Record]) -> set[UUID]:
        """Note the first use of each share; the shares that were used."""
        uses: list[tuple[UUID, str, UUID, datetime]] = []
        for record in records:
            try:
                envelope, event = codec.decode_as(record.value, _ACCESS_EVENT_TYPES)
                if isinstance(event, ConnectionOpened) and event.share_id is not None:
                    if datetime.now(UTC) - envelope.time > _OLD_NEWS:
                        continue
                    event_id = _uuid(envelope.id, "INVALID_EVENT_ID", "The event's id is not a UUID.")
                    uses.append((event.share_id, event.account_id, event_id, envelope.time))
            except (DecodeError, UnusableRecordError) as error:
                await self._set_aside(record, error)
        await inward.note_first_uses(uses)
        return {share_id for share_id, _, _, _ in uses}

    async def _tell_first_uses(self, inward: Inward, share_ids: set[UUID]) -> None:
        """Plan what is due because of first uses: whichever of share and connection arrives last does it."""
        told = await inward.tell_first_uses(share_ids)
        invitations = await inward.invitations({share_id for share_id, _, _ in told})
        due: list[tuple[Notice, str]] = []
        for share_id, event_id, time in told:
            notice = about(invitations[share_id], Template.FIRST_USE, event_id, time)
            self._metrics.planned.labels(notice.template).inc()
            log.info("notice_planned", template=notice.template, share_id=str(share_id))
            due.append((notice, str(event_id)))
        await inward.add_notices(due)

    async def _apply_snapshots(self, inward: Inward, records: list[Record]) -> None:
        """Keep what directories say: of each key the last record, after what is kept of it here was forgotten
        if it was gone in between."""
        latest: dict[Kind, dict[str, AnySnapshot]] = {}
        for record in records:
            kind = _KINDS[record.topic.removeprefix(self._prefix)]
            try:
                key, snapshot = _snapshot(kind, record)
            except (DecodeError, UnusableRecordError) as error:
                await self._set_aside(record, error)
                continue
            if snapshot is None:
                latest.get(kind, {}).pop(key, None)
                await inward.delete_snapshot(kind, key)
            else:
                latest.setdefault(kind, {})[key] = snapshot
        for kind, found in latest.items():
            await inward.save_snapshots(kind, found)

    async def _set_aside(self, record: Record, error: DecodeError | UnusableRecordError) -> None:
        await self._dead_letters.put(record, error.code, str(error))
        self._metrics.dead_letters.inc()
        log.warning(
            "record_set_aside",
            code=error.code, reason=str(error),
            topic=record.topic, partition=record.partition, offset=record.offset,
        )  # fmt: skip


def _readers(before: Invitation | None, after: Invitation) -> Readers:
    """In whose inboxes an invitation is shown. Whoever has verified the invited address sees it until it is
    answered, and he alone who has accepted it from then on."""
    readers = Readers(accounts={after.owner_account_id})
    for invitation in (before, after):
        if invitation is not None and invitation.account_id is not None:
            readers.accounts.add(invitation.account_id)
        if invitation is not None and invitation.state == "requested":
            readers.contacts.add(invitation.contact_id)
    return readers


def _occurrence(record: Record) -> tuple[Envelope, Occurrence]:
    envelope, event = codec.decode_as(record.value, SHARE_EVENT_TYPES)
    version = envelope.version
    if version is None or version > _MAX_VERSION:
        raise UnusableRecordError("INVALID_VERSION", "The event has no version, or one beyond 64 bits.")
    event_id = _uuid(envelope.id, "INVALID_EVENT_ID", "The event's id is not a UUID.")
    _require_storable(envelope.time)
    if isinstance(event, ShareRequested | ShareChanged | InvitationResent):
        _require_storable(event.expires_at)
    if isinstance(event, ShareRequested | ShareChanged):
        _require_storable(event.terms.starts_at)
        _require_storable(event.terms.ends_at)
    # A bulk share runs one command a device, which is named after the operation and the device.
    operation, _, device_id = (envelope.causationid or "").rpartition("/")
    return envelope, Occurrence(
        event_id=event_id,
        version=version,
        time=envelope.time,
        event=event,
        operation=operation if operation and device_id == event.device_id else None,
    )


def _snapshot(kind: Kind, record: Record) -> tuple[str, AnySnapshot | None]:
    """The id of what a record describes, and what it says."""
    key = _key(record)
    if kind == "contact":
        key = str(_uuid(key, "INVALID_KEY", "The key is no contact id."))
    if record.value is None:
        return key, None
    snapshot: AnySnapshot
    match kind:
        case "device":
            _, snapshot = codec.decode_as(record.value, DeviceSnapshot)
            identity = snapshot.device_id
        case "account":
            _, snapshot = codec.decode_as(record.value, AccountSnapshot)
            identity = snapshot.account_id
        case "contact":
            _, snapshot = codec.decode_as(record.value, ContactSnapshot)
            identity = str(snapshot.contact_id)
    if identity != _key(record):
        raise UnusableRecordError("INVALID_KEY", "The key is not the id of what the value describes.")
    return key, snapshot


def _require_storable(time: datetime | None) -> None:
    try:
        if time is not None:
            time.astimezone(UTC)
    except OverflowError:
        raise UnusableRecordError("INVALID_DATA", "A time is outside the years 1 to 9999.") from None


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
