"""The relay: sends the outbox to Kafka, in order, at least once; and proves each second how far it is.

One relay is active (advisory lock); others stand by. It sends the lowest rows together and deletes those
acknowledged. While a full batch is on its way it reads and sends the next one: in a transaction that has
deleted the first, so that the lowest rows left are those not on their way, and that commits once the first is
acknowledged. It remembers no "last id", because a transaction may commit a lower id after a higher one.
After the first failure nothing more is sent by that producer, since a later record would overtake the failed
one: the transaction is undone, and a new producer begins again at the lowest id.

A row that no broker would ever take, because it is too large, is held: an alarm, and with it only the later
rows of its key. All others go on; the proof stands still until somebody has mended or removed that row.

A relay that hangs must not keep the lock: its session ends on the server after 5 s of silence. So the relay
says something each second, also while it waits for the broker.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

import asyncpg
import asyncpg.transaction

from contracts import codec, topics
from contracts.watermarks import TopicEnds, Watermark
from servicekit import pg
from servicekit.kafka import Admin, Headers, KafkaError, KafkaException, Partition, Producer, partition_of
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
_BATCH = 1_000
_PACK_BYTES = 131_072
_POLL_SECONDS = 0.5
_STANDBY_SECONDS = 1.0
_KEEP_ALIVE_SECONDS = 1.0
_WATERMARK_SECONDS = 1.0
_AGE_SECONDS = 1.0
_IDLE_LIMIT = "5s"
_RETRY_FIRST_SECONDS, _RETRY_MOST_SECONDS = 0.2, 5.0


class SendError(RuntimeError):
    """The broker did not take a message."""


@dataclass(frozen=True, slots=True)
class _Row:
    id: int
    topic: str
    key: str
    value: bytes | None
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
                "synchronous_commit": "off",  # it only deletes: what comes back is sent again
            },
        )
        try:
            self._connected = True
            while not await connection.fetchval(self._sql["become_the_relay"], _LOCK):  # noqa: ASYNC110 - the lock is held by another process
                await asyncio.sleep(_STANDBY_SECONDS)
            async with Producer(self._bootstrap, "share-command-relay", batch_bytes=_PACK_BYTES) as producer:
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
        next_mark = next_age = time.monotonic()
        publishing: asyncio.Task[None] | None = None
        held: _Held = {}
        sender = _Sender(producer, self._prefix)
        on_its_way: _Batch | None = None
        try:
            while True:
                if on_its_way is not None and len(on_its_way.ids) < _BATCH:  # nothing waits behind it
                    await self._move(connection, None, sender, on_its_way, None)
                    on_its_way = None
                news.clear()
                if mark is None and time.monotonic() >= next_mark:
                    mark = await self._mark(connection)  # before the transaction: it must see all rows
                    next_mark = time.monotonic() + _WATERMARK_SECONDS
                if publishing is not None and publishing.done():
                    publishing.result()
                    publishing = None
                transaction = None
                if on_its_way is not None:
                    transaction = connection.transaction()
                    await transaction.start()
                    await connection.execute(self._sql["drop_outbox_rows"], on_its_way.ids)
                rows = await self._lowest(connection, held)
                lowest = min((batch.ids[0] for batch in (on_its_way, rows) if batch), default=None)
                if mark is not None and not held and publishing is None and _is_sent(mark, lowest):
                    publishing = asyncio.create_task(self._publish(mark, producer))
                    mark = None
                if rows or on_its_way:
                    await self._move(connection, transaction, sender, on_its_way, rows)
                    on_its_way = rows
                    continue
                if time.monotonic() >= next_age:
                    OUTBOX_OLDEST.set(await connection.fetchval(self._sql["oldest_outbox_age"]) or 0)
                    next_age = time.monotonic() + _AGE_SECONDS
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_SECONDS):
                        await news.wait()
        finally:
            if publishing is not None:
                publishing.cancel()

    async def _lowest(self, connection: pg.Connection, held: _Held) -> "_Batch | None":
        """The lowest rows that can be sent, if there are any; brings ``held`` up to date."""
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
            if place not in held and len(row.value or b"") > codec.MAX_BYTES:
                held[place] = row.id
                log.error("outbox_row_unsendable", row=row.id, topic=row.topic, bytes=len(row.value or b""))
            if place not in held:
                rows.append(row)
        OUTBOX_HELD.set(len(held))
        return _Batch(rows) if rows else None

    async def _move(
        self,
        connection: pg.Connection,
        transaction: asyncpg.transaction.Transaction | None,
        sender: "_Sender",
        before: "_Batch | None",
        rows: "_Batch | None",
    ) -> None:
        """Send ``rows`` behind the batch ``before``, and have that one deleted once it is acknowledged.

        ``transaction`` has deleted it. It is taken back when the broker is slow, so that it keeps nothing
        from being vacuumed.

        Raises:
            SendError, KafkaError: at the first failure; what was acknowledged of both is deleted.
        """
        work = asyncio.create_task(sender.move(before, rows))
        try:
            if not (await asyncio.wait({work}, timeout=_KEEP_ALIVE_SECONDS))[0] and transaction is not None:
                await transaction.rollback()
                transaction = None
            while not (await asyncio.wait({work}, timeout=_KEEP_ALIVE_SECONDS))[0]:
                OUTBOX_OLDEST.set(await connection.fetchval(self._sql["oldest_outbox_age"]) or 0)
        finally:
            work.cancel()
        if work.exception() is None and transaction is not None:
            await transaction.commit()
        else:
            if transaction is not None:
                await transaction.rollback()
            done = [row_id for batch in (before, rows) if batch for row_id in batch.acknowledged()]
            await connection.execute(self._sql["drop_outbox_rows"], done)
        work.result()
        if before is not None:
            OUTBOX_SENT.inc(len(before.ids))

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
    """Rows that are sent together; at least one."""

    def __init__(self, rows: Sequence[_Row]) -> None:
        self.rows = rows
        self.ids = [row.id for row in rows]
        self.packs: list[_Pack] = []

    def acknowledged(self) -> list[int]:
        """Ids of the rows of each partition before the first that was not acknowledged."""
        ids: list[int] = []
        stopped: set[Partition] = set()
        for pack in self.packs:
            if not pack.ack.done() or pack.ack.cancelled() or pack.ack.exception() is not None:
                stopped.add(pack.place)
            elif pack.place not in stopped:
                ids += pack.ids
        return ids


class _Sender:
    """Sends batches one behind the other by one producer, up to the first failure."""

    def __init__(self, producer: Producer, prefix: str) -> None:
        self._producer, self._prefix = producer, prefix
        self._partitions: dict[str, int] = {}
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def move(self, before: _Batch | None, rows: _Batch | None) -> None:
        """Enqueue ``rows``; then wait until all of ``before`` is acknowledged.

        Raises:
            SendError, KafkaError: at the first failure of any.
        """
        if rows is not None:
            await self._enqueue(rows)
        if before is not None:
            await self._wait_for(before)
        self._raise_failure()

    async def _enqueue(self, batch: _Batch) -> None:
        places: dict[Partition, list[_Row]] = {}
        unknown: KafkaError | None = None
        for row in batch.rows:
            try:
                partitions = await self._count(row.topic)
            except KafkaError as error:
                unknown = error  # what stands before it is sent all the same
                break
            place = _place(self._prefix + row.topic, row.key, partitions)
            places.setdefault(place, []).append(row)
        for place, rows in places.items():
            at = 0
            records = [(row.key, row.value, _headers(row)) for row in rows]
            async for count, ack in self._producer.enqueue_packed(place, records):
                ack.add_done_callback(self._watch)
                batch.packs.append(_Pack(place, [row.id for row in rows[at : at + count]], ack))
                at += count
                self._raise_failure()
        if unknown is not None:
            await self._wait_for(batch)
            raise unknown

    async def _count(self, topic: str) -> int:
        if topic not in self._partitions:
            self._partitions[topic] = await self._producer.partitions(self._prefix + topic)
        return self._partitions[topic]

    async def _wait_for(self, batch: _Batch) -> None:
        for pack in batch.packs:
            if not pack.ack.done():  # a failure of any other ends the waiting too
                await asyncio.wait({pack.ack, self._failure}, return_when=asyncio.FIRST_COMPLETED)
            self._raise_failure()

    def _watch(self, ack: "asyncio.Future[object]") -> None:
        if not ack.cancelled() and ack.exception() is not None and not self._failure.done():
            self._producer.halt()  # at once: a record behind this one must not overtake it
            failure = SendError(repr(ack.exception()))
            failure.__cause__ = ack.exception()
            self._failure.set_exception(failure)
            self._failure.exception()  # seen, also when nobody waits for it any more

    def _raise_failure(self) -> None:
        if self._failure.done():
            self._failure.result()


@dataclass(frozen=True, slots=True)
class _Pack:
    """Rows of one partition that are acknowledged together."""

    place: Partition
    ids: Sequence[int]
    ack: "asyncio.Future[object]"


@functools.lru_cache(65_536)
def _place(topic: str, key: str, partitions: int) -> Partition:
    return Partition(topic, partition_of(key.encode(), partitions))


def _headers(row: _Row) -> Headers:
    return [("correlation_id", row.correlation_id.encode())] if row.correlation_id else []


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


def _is_sent(mark: _Mark, lowest: int | None) -> bool:
    """Whether no row up to the mark's is left, nor on its way; ``lowest`` was read after the mark."""
    return mark.highest_id is None or lowest is None or lowest > mark.highest_id
