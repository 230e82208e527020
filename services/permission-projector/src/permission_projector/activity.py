"""Connections and presence: access.events and directory.presence into tables that belong to no generation.

Each row is made of what came, in whatever order and however often it came: an opening and an end are kept
side by side, of two ends the first holds, of two presences the one with the latest ``since``.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg
from pydantic import TypeAdapter

from contracts import topics
from contracts.base import Id
from contracts.codec import DecodeError, decode_as
from contracts.directory import PresenceSnapshot
from contracts.events import (
    AnyAccessEvent,
    ConnectionClosed,
    ConnectionCut,
    ConnectionOpened,
    ConnectionRefused,
    GatewayStarted,
)
from permission_projector import metrics
from permission_projector.activity_hints import payloads
from permission_projector.records import UnreadableError
from permission_projector.settings import NAME, ProjectSettings
from servicekit import pg
from servicekit.inbox import Inbox, TopicReplacedError
from servicekit.kafka import Admin, DeadLetters, KafkaException, Record
from servicekit.logging import get_logger

log = get_logger(__name__)

SCHEMA: Final = "permission_projector"
"""The search_path of who reads or writes these tables."""

TOPICS: Final = (topics.ACCESS_EVENTS, topics.DIRECTORY_PRESENCE)
KEPT_DAYS: Final = 90
"""As long as access.events keeps them."""

_EVENTS: Final = (ConnectionOpened, ConnectionRefused, ConnectionClosed, ConnectionCut, GatewayStarted)
_DEVICE_KEY: Final = TypeAdapter[str](Id)
_MOST_BIGINT: Final = 2**63 - 1
_MOST_TEXT: Final = 200
_FORGET_SECONDS, _PAUSE_SECONDS, _RETRY_SECONDS = 3600.0, 0.1, 5.0
_PORTION: Final = 1_000


class Identity(NamedTuple):
    """Who used what: alike in every event of a connection."""

    connection_id: UUID
    device_id: str | None
    service_id: str
    account_id: str
    share_id: UUID | None
    permission: str
    gateway_id: str


class Ending(NamedTuple):
    """How a connection ended. The order of the fields decides which of two ends holds: the lesser."""

    ended_at: datetime
    outcome: str
    reason: str | None = None
    bytes_to_device: int | None = None
    bytes_from_device: int | None = None
    seconds: float | None = None

    def rank(self) -> tuple[datetime, str, str, int, int, float]:
        """To compare by, as the statement ``save_ended`` does."""
        return (
            self.ended_at, self.outcome, self.reason or "",
            -1 if self.bytes_to_device is None else self.bytes_to_device,
            -1 if self.bytes_from_device is None else self.bytes_from_device,
            -1 if self.seconds is None else self.seconds,
        )  # fmt: skip


@dataclass(slots=True)
class Activity:
    """What a batch says, folded: a row for each connection, device and gateway."""

    identities: dict[UUID, Identity] = field(default_factory=dict[UUID, Identity])
    opened: dict[UUID, datetime] = field(default_factory=dict[UUID, datetime])
    ended: dict[UUID, Ending] = field(default_factory=dict[UUID, Ending])
    gone: set[str] = field(default_factory=set[str])
    """Devices whose presence was deleted; what came after that is in `presence`."""
    presence: dict[str, PresenceSnapshot] = field(default_factory=dict[str, PresenceSnapshot])
    heard: dict[str, datetime] = field(default_factory=dict[str, datetime])
    started: dict[str, datetime] = field(default_factory=dict[str, datetime])

    def add_event(self, event: AnyAccessEvent | GatewayStarted, time: datetime) -> None:
        """An access event and when it happened."""
        if isinstance(event, GatewayStarted):
            self._add_heard(event.gateway_id, time)
            self.started[event.gateway_id] = max(time, self.started.get(event.gateway_id, time))
            return
        connection_id = event.connection_id
        self.identities.setdefault(
            connection_id,
            Identity(
                connection_id, event.device_id, event.service_id, event.account_id, event.share_id,
                event.permission.value, event.gateway_id,
            ),
        )  # fmt: skip
        self._add_heard(event.gateway_id, time)
        ending = _ending(event, time)
        if ending is None:
            self.opened[connection_id] = min(time, self.opened.get(connection_id, time))
        else:
            self.ended[connection_id] = min(ending, self.ended.get(connection_id, ending), key=Ending.rank)

    def add_presence(self, device_id: str, snapshot: PresenceSnapshot | None, time: datetime | None) -> None:
        """A device's presence and when it was told; None deletes."""
        if snapshot is None or time is None:
            self.gone.add(device_id)
            self.presence.pop(device_id, None)
            return
        before = self.presence.get(device_id)
        if before is None or snapshot.since >= before.since:
            self.presence[device_id] = snapshot
        self._add_heard(snapshot.gateway_id, time)

    def _add_heard(self, gateway_id: str, time: datetime) -> None:
        self.heard[gateway_id] = max(time, self.heard.get(gateway_id, time))


def _ending(event: AnyAccessEvent, time: datetime) -> Ending | None:
    match event:
        case ConnectionOpened():
            return None
        case ConnectionRefused(reason=reason):
            return Ending(time, "refused", reason)
        case ConnectionClosed():
            return Ending(time, "closed", None, event.bytes_to_device, event.bytes_from_device, event.seconds)
        case ConnectionCut(reason=reason):
            return Ending(
                time, "cut", reason.value, event.bytes_to_device, event.bytes_from_device, event.seconds
            )


def read_access_event(
    key: bytes | None, value: bytes | None
) -> tuple[AnyAccessEvent | GatewayStarted, datetime]:
    """A record of access.events, and when it happened, in UTC.

    Raises:
        UnreadableError: it is none of ours, or the database cannot hold it.
    """
    try:
        message, event = decode_as(value, _EVENTS)
    except DecodeError as error:
        raise UnreadableError(error.code, str(error)) from None
    if isinstance(event, GatewayStarted):
        _require_short(event.gateway_id)
        return event, _in_utc(message.time)
    if key != (None if event.device_id is None else event.device_id.encode()):
        raise UnreadableError("KEY_MISMATCH", "The value is about something else than its key says.")
    if isinstance(event, ConnectionClosed | ConnectionCut):
        figures = (event.bytes_to_device, event.bytes_from_device, event.seconds)
        if not all(0 <= figure <= _MOST_BIGINT for figure in figures):  # which NaN is not, either
            raise UnreadableError("NOT_STORABLE", "Bytes or seconds are no number that can be stored.")
    _require_short(event.gateway_id, event.reason if isinstance(event, ConnectionRefused) else "")
    return event, _in_utc(message.time)


def read_presence(
    key: bytes | None, value: bytes | None
) -> tuple[str, PresenceSnapshot | None, datetime | None]:
    """A record of directory.presence: the device, and what it says and when; None: it was deleted.

    Raises:
        UnreadableError: as `read_access_event`.
    """
    try:
        device_id = _DEVICE_KEY.validate_python((key or b"").decode())
    except ValueError:
        raise UnreadableError("UNREADABLE_KEY", "The key is no device's id.") from None
    if value is None:
        return device_id, None, None
    try:
        message, snapshot = decode_as(value, PresenceSnapshot)
    except DecodeError as error:
        raise UnreadableError(error.code, str(error)) from None
    if snapshot.device_id != device_id:
        raise UnreadableError("KEY_MISMATCH", "The value is about something else than its key says.")
    _require_short(snapshot.gateway_id)
    return (
        device_id,
        snapshot.model_copy(update={"since": _in_utc(snapshot.since)}),
        _in_utc(message.time),
    )


def _require_short(*texts: str) -> None:
    if any(len(text) > _MOST_TEXT for text in texts):
        raise UnreadableError("NOT_STORABLE", f"A name or reason is longer than {_MOST_TEXT} characters.")


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise UnreadableError("NOT_STORABLE", "A time is outside the years 1 to 9999.") from None


class ActivityStore:
    """Applies records of both topics. ``prefix`` stands before every topic name."""

    def __init__(self, dead_letters: DeadLetters, prefix: str) -> None:
        self._dead_letters = dead_letters
        self._events, self._presence = (prefix + topic.name for topic in TOPICS)
        self._sql = pg.load_queries("permission_projector", "activity.sql")

    async def handle(self, connection: pg.Connection, records: Sequence[Record]) -> None:
        """Apply records in the open transaction (a `servicekit.inbox.Handle`).

        Raises:
            KafkaError: a dead letter could not be kept; nothing is applied then.
        """
        activity = Activity()
        for record in records:
            try:
                if record.topic == self._events:
                    activity.add_event(*read_access_event(record.key, record.value))
                elif record.topic == self._presence:
                    activity.add_presence(*read_presence(record.key, record.value))
            except UnreadableError as error:
                await self._dead_letters.put(record, error.code, str(error))
                metrics.DEAD_LETTERS.labels(error.code).inc()
                log.error(
                    "record_unreadable",
                    topic=record.topic, partition=record.partition, offset=record.offset,
                    code=error.code, error=str(error),
                )  # fmt: skip
        await self._save(connection, activity)

    async def _save(self, connection: pg.Connection, activity: Activity) -> None:
        identities = activity.identities
        used, moved = list[asyncpg.Record](), list[asyncpg.Record]()
        if activity.opened:
            opened = [(*identities[key], time) for key, time in activity.opened.items()]
            used += await connection.fetch(self._sql["save_opened"], *_columns(opened))
        if activity.ended:
            ended = [(*identities[key], *ending) for key, ending in activity.ended.items()]
            used += await connection.fetch(self._sql["save_ended"], *_columns(ended))
        if activity.gone:
            moved += await connection.fetch(self._sql["delete_presence"], sorted(activity.gone))
        if activity.presence:
            presence = [
                (item.device_id, item.online, item.since, item.gateway_id)
                for item in activity.presence.values()
            ]
            moved += await connection.fetch(self._sql["save_presence"], *_columns(presence))
        if activity.heard:
            await connection.execute(self._sql["save_heard"], *_columns(activity.heard.items()))
        if activity.started:
            used += await connection.fetch(self._sql["save_started"], *_columns(activity.started.items()))
        connections = {(row["device_id"], row["account_id"]) for row in used if row["device_id"] is not None}
        hints = list(payloads({row["device_id"] for row in moved}, connections))
        if hints:
            await connection.execute(self._sql["hint"], hints)


def _columns(rows: Collection[tuple[object, ...]]) -> list[tuple[object, ...]]:
    return list(zip(*rows, strict=True))


class ActivityInbox(Inbox):
    """Reads both topics, and deletes what is older than `KEPT_DAYS`.

    Nothing here can be built from anything else, so a topic that was made anew is read from its beginning.
    """

    def __init__(self, settings: ProjectSettings, pool: pg.Pool, store: ActivityStore, admin: Admin) -> None:
        self._names = [settings.topic_prefix + topic.name for topic in TOPICS]
        super().__init__(
            bootstrap=settings.kafka_bootstrap,
            group=f"{settings.topic_prefix}{NAME}-activity",
            topics=self._names,
            pool=pool,
            handle=store.handle,
            admin=admin,
        )
        self._statements = pg.load_queries("permission_projector", "activity.sql")

    async def run(self) -> None:
        """Consume and forget until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._consume_for_ever())
            group.create_task(self._forget_for_ever())

    async def _consume_for_ever(self) -> None:
        while True:
            try:
                await super().run()
            except TopicReplacedError:
                try:
                    await self._begin_anew()
                except (KafkaException, *pg.TRANSIENT) as error:
                    log.warning("activity_not_begun_anew", error=repr(error))
                    await asyncio.sleep(_RETRY_SECONDS)

    async def _begin_anew(self) -> None:
        now = await self._admin.topic_ids(self._names)
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(self._statements["forget_offsets"], list(now), list(now.values()))
            replaced = {row["topic"] for row in rows}
            if self._names[1] in replaced:
                await connection.execute(self._statements["forget_presence"])
        log.warning("activity_begins_anew", topics=sorted(replaced))

    async def _forget_for_ever(self) -> None:
        while True:
            deleted = 0
            try:
                deleted = await self.forget()
            except pg.TRANSIENT as error:
                log.warning("connections_not_forgotten", error=repr(error))
            await asyncio.sleep(_PAUSE_SECONDS if deleted == _PORTION else _FORGET_SECONDS)

    async def forget(self) -> int:
        """Delete one portion of what is too old; how many rows it was."""
        return await self._pool.fetchval(self._statements["forget_connections"], KEPT_DAYS, _PORTION)


def build_inbox(
    settings: ProjectSettings, pool: pg.Pool, dead_letters: DeadLetters, admin: Admin
) -> ActivityInbox:
    """The inbox of both topics, to `run` beside that of the read models.

    The sessions of ``pool`` have the search_path `SCHEMA`.
    """
    return ActivityInbox(settings, pool, ActivityStore(dead_letters, settings.topic_prefix), admin)
