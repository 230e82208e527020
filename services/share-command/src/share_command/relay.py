"""The relay: sends the outbox to Kafka, in order, at least once; and proves each second how far it is.

One relay is active (advisory lock); others stand by. It sends the lowest rows together and deletes those
acknowledged. After the first failure nothing more is sent by that producer, since a later record would
overtake the failed one: a new producer begins again at the lowest id. It remembers no "last id", because a
transaction may commit a lower id after a higher one.

A row that no broker would ever take, because it is too large, is held: an alarm, and with it only the later
rows of its key. All others go on; the proof stands still until somebody has mended or removed that row.

A relay that hangs must not keep the lock: its session ends on the server after 5 s of silence. So the relay
says something each second, also while it waits for the broker.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

import asyncpg

from contracts import codec, topics
from contracts.watermarks import TopicEnds, Watermark
from servicekit import pg
from servicekit.kafka import Admin, KafkaError, KafkaException, Partition, Producer
from servicekit.logging import get_logger
from share_command.metrics import (
    OUTBOX_HELD,
    OUTBOX_OLDEST,
    OUTBOX_SENT,
    RELAY_ACTIVE,
    RELAY_RESTARTS,
    WATERMARKS,
)
from share_command.outbox import CHANNEL
from share_command.store import SOURCE

log = get_logger(__name__)

PROVED = (
    topics.SHARE_EVENTS.name,
    topics.DIRECTORY_DEVICES.name,
    topics.DIRECTORY_ACCOUNTS.name,
    topics.DIRECTORY_CONTACTS.name,
)
"""The topics whose ends a watermark states."""

_LOCK = 0x1A7C_0B0C
_BATCH = 500
_POLL_SECONDS = 0.5
_STANDBY_SECONDS = 1.0
_KEEP_ALIVE_SECONDS = 1.0
_WATERMARK_SECONDS = 1.0
_IDLE_LIMIT = "5s"
_RETRY_FIRST_SECONDS, _RETRY_MOST_SECONDS = 0.2, 5.0


class SendError(RuntimeError):
    """The broker did not take a message."""


@dataclass(frozen=True, slots=True)
class _Row:
    id: int
    topic: str
    key: str
    value: bytes
    correlation_id: str | None


_Held: TypeAlias = dict[tuple[str, str], int]
"""Topic and key of which nothing is sent, because of the row with this id."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """Time by the database's clock, and the highest row that a later statement saw."""

    as_of: datetime
    highest_id: int | None


class Relay:
    """See the module. `healthy` is a `servicekit.http.ReadyCheck`: connected, active or standing by."""

    def __init__(self, *, dsn: str, bootstrap: str, topic_prefix: str, admin: Admin) -> None:
        self._dsn, self._bootstrap, self._prefix, self._admin = dsn, bootstrap, topic_prefix, admin
        self._sql = pg.load_queries("share_command")
        self._ends = _TopicEnds(admin, topic_prefix)
        self._connected = False

    async def run(self) -> None:
        """Relay until cancelled; begins again after every failure."""
        delay = _RETRY_FIRST_SECONDS
        while True:
            began = time.monotonic()
            try:
                await self._session()
            except (KafkaError, KafkaException, SendError, *pg.TRANSIENT) as error:
                RELAY_RESTARTS.inc()
                log.warning("relay_restarts", error=repr(error), retry_in_seconds=delay)
            finally:
                self._connected = False
                RELAY_ACTIVE.set(0)
            if time.monotonic() - began > _RETRY_MOST_SECONDS:
                delay = _RETRY_FIRST_SECONDS
            await asyncio.sleep(delay)
            delay = min(delay * 2, _RETRY_MOST_SECONDS)

    async def healthy(self) -> None:
        """Raises RuntimeError while there is no session with the database."""
        if not self._connected:
            raise RuntimeError("the relay has no connection to the database")

    async def _session(self) -> None:
        connection = await asyncpg.connect(
            self._dsn,
            timeout=5,
            server_settings={
                "application_name": "share-command relay",
                "idle_session_timeout": _IDLE_LIMIT,
                "idle_in_transaction_session_timeout": _IDLE_LIMIT,
                "statement_timeout": "30s",
            },
        )
        try:
            self._connected = True
            while not await connection.fetchval(self._sql["become_the_relay"], _LOCK):  # noqa: ASYNC110 - the lock is held by another process
                await asyncio.sleep(_STANDBY_SECONDS)
            async with Producer(self._bootstrap, "share-command-relay") as producer:
                try:
                    log.info("relay_active")
                    RELAY_ACTIVE.set(1)
                    await self._active(connection, producer)
                finally:
                    producer.halt()
        finally:
            connection.terminate()

    async def _active(self, connection: pg.Connection, producer: Producer) -> None:
        news = asyncio.Event()

        def wake(*_notification: object) -> None:
            news.set()

        await connection.add_listener(CHANNEL, wake)
        mark: _Mark | None = None
        next_mark = time.monotonic()
        publishing: asyncio.Task[None] | None = None
        held: _Held = {}
        try:
            while True:
                news.clear()
                if mark is None and time.monotonic() >= next_mark:
                    mark = await self._mark(connection)
                    next_mark = time.monotonic() + _WATERMARK_SECONDS
                if publishing is not None and publishing.done():
                    publishing.result()
                    publishing = None
                rows = await self._lowest(connection, held)
                if mark is not None and not held and _is_sent(mark, rows) and publishing is None:
                    publishing = asyncio.create_task(self._publish(mark, producer))
                    mark = None
                if rows:
                    await self._send(connection, producer, rows)
                    continue
                OUTBOX_OLDEST.set(await connection.fetchval(self._sql["oldest_outbox_age"]) or 0)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_SECONDS):
                        await news.wait()
        finally:
            if publishing is not None:
                publishing.cancel()

    async def _lowest(self, connection: pg.Connection, held: _Held) -> list[_Row]:
        """The lowest rows that can be sent; brings ``held`` up to date."""
        if held:
            ids = await connection.fetch(self._sql["held_outbox_rows"], list(held.values()), codec.MAX_BYTES)
            still = {row["id"] for row in ids}
            for place in [place for place, row_id in held.items() if row_id not in still]:
                del held[place]
        found = await connection.fetch(
            self._sql["lowest_outbox_rows"], _BATCH, [topic for topic, _ in held], [key for _, key in held]
        )
        rows: list[_Row] = []
        for item in found:
            row = _Row(item["id"], item["topic"], item["key"], item["value"], item["correlation_id"])
            place = row.topic, row.key
            if place not in held and len(row.value) > codec.MAX_BYTES:
                held[place] = row.id
                log.error("outbox_row_unsendable", row=row.id, topic=row.topic, bytes=len(row.value))
            if place not in held:
                rows.append(row)
        OUTBOX_HELD.set(len(held))
        return rows

    async def _send(self, connection: pg.Connection, producer: Producer, rows: Sequence[_Row]) -> None:
        """Send the rows and delete those acknowledged, up to the first that was not; then raise."""
        batch = _Batch(producer, rows, self._prefix)
        sending = asyncio.create_task(batch.send())
        try:
            while not (await asyncio.wait({sending}, timeout=_KEEP_ALIVE_SECONDS))[0]:
                age = await connection.fetchval(self._sql["oldest_outbox_age"])
                OUTBOX_OLDEST.set(age or 0)
        finally:
            sending.cancel()
        sent = batch.acknowledged()
        if sent:
            await connection.execute(self._sql["drop_outbox_rows"], sent)
            OUTBOX_SENT.inc(len(sent))
        sending.result()

    async def _mark(self, connection: pg.Connection) -> _Mark:
        as_of = await connection.fetchval(self._sql["database_clock"])
        return _Mark(as_of, await connection.fetchval(self._sql["highest_outbox_id"]))

    async def _publish(self, mark: _Mark, producer: Producer) -> None:
        """Publish a watermark; one that fails is left out, and time stands still for the readers."""
        try:
            watermark = Watermark(as_of=mark.as_of, topics=await self._ends.now())
            message = codec.envelope(watermark, source=SOURCE, time=mark.as_of)
            await producer.send(self._prefix + topics.WATERMARKS.name, None, codec.encode(message))
            WATERMARKS.inc()
        except (KafkaError, KafkaException) as error:
            log.warning("watermark_failed", error=repr(error))


class _Batch:
    """Rows on their way to the broker."""

    def __init__(self, producer: Producer, rows: Sequence[_Row], prefix: str) -> None:
        self._producer, self._rows, self._prefix = producer, rows, prefix
        self._acks: list[asyncio.Future[object]] = []
        self._failure: BaseException | None = None

    async def send(self) -> None:
        """Enqueue all, then wait for the acknowledgements.

        Raises:
            SendError, KafkaError: at the first failure.
        """
        for row in self._rows:
            headers = [("correlation_id", row.correlation_id.encode())] if row.correlation_id else []
            ack = await self._producer.enqueue(self._prefix + row.topic, row.key, row.value, headers)
            ack.add_done_callback(self._watch)
            self._acks.append(ack)
            self._raise_failure()
        await asyncio.wait(self._acks, return_when=asyncio.FIRST_EXCEPTION)
        self._raise_failure()

    def _watch(self, ack: "asyncio.Future[object]") -> None:
        if not ack.cancelled() and ack.exception() is not None and self._failure is None:
            self._producer.halt()  # at once: a record behind this one must not overtake it
            self._failure = ack.exception()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise SendError(repr(self._failure)) from self._failure

    def acknowledged(self) -> list[int]:
        """Ids of the rows before the first that was not acknowledged."""
        ids: list[int] = []
        for row, ack in zip(self._rows, self._acks, strict=False):  # not all may have been enqueued
            if not ack.done() or ack.cancelled() or ack.exception() is not None:
                break
            ids.append(row.id)
        return ids


class _TopicEnds:
    """Asks the brokers where topics end; partitions are looked up again when a topic is made anew."""

    def __init__(self, admin: Admin, prefix: str) -> None:
        self._admin, self._names = admin, {prefix + name: name for name in PROVED}
        self._topic_ids: dict[str, str] = {}
        self._partitions: Iterable[Partition] = ()

    async def now(self) -> dict[str, TopicEnds]:
        topic_ids = await self._admin.topic_ids(self._names)
        if topic_ids != self._topic_ids:
            self._partitions = await self._admin.partitions(self._names)
            self._topic_ids = topic_ids
        ends = await self._admin.end_offsets(self._partitions)
        return {
            name: TopicEnds(
                topic_id=topic_ids[full],
                end_offsets={place.number: offset for place, offset in ends.items() if place.topic == full},
            )
            for full, name in self._names.items()
        }


def _is_sent(mark: _Mark, lowest: Sequence[_Row]) -> bool:
    """Whether no row up to the mark's is left, by a statement later than the mark's."""
    return mark.highest_id is None or not lowest or lowest[0].id > mark.highest_id
