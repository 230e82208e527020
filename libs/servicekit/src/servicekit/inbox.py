"""Topics into Postgres, exactly once: the offset is stored in the transaction that stores what came of it.

What arrived of several partitions goes into one transaction: at a modest rate nearly everything that a
transaction costs is its round trips and its commit.

The service's schema has the table ``kafka_offset (topic text, partition int, topic_id text, next_offset
bigint, primary key (topic, partition))``. Kafka's own committed offsets are not used.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources

from prometheus_client import Counter, Gauge

from servicekit import pg
from servicekit.kafka import Admin, Consumer, KafkaError, KafkaException, Partition, Record
from servicekit.logging import get_logger

log = get_logger(__name__)

Handle = Callable[[pg.Connection, list[Record]], Awaitable[None]]
"""Applies records inside the open transaction: of several topics and partitions, each partition's in order.

Whatever it raises is retried: first each partition by itself, then in halves, so that only the partition with
the fault is held up, and that at the record that cannot be applied.
"""

RECORDS = Counter("inbox_records_total", "Records applied.", ["group", "topic"])
FAILING = Gauge(
    "inbox_partition_failing", "1: this partition is held up and retried.", ["group", "topic", "partition"]
)

_RETRY_FIRST_SECONDS, _RETRY_MOST_SECONDS = 0.2, 10.0
_BATCH = 4_000
_BACKLOG = 1_000
"""With so many records in one transaction there is a backlog: the next ones are not waited for, but begun."""

_LOOK_SECONDS = 1.0


class TopicReplacedError(RuntimeError):
    """The topic was made anew, so that stored offsets mean nothing: what was read from it must be rebuilt."""


class MissingRecordsError(RuntimeError):
    """Records never read are gone from a topic that must be whole: what is built from it would be wrong."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """What came of one partition, and the offset before and after it. ``epoch``: of which assignment."""

    place: Partition
    expected: int
    following: int
    records: list[Record]
    epoch: int


class Inbox:
    """A consumer of ``topics`` whose effects are applied by ``handle`` exactly once.

    A batch that fails is retried with back-off; it holds up its own partition only. Of the topics ``whole``
    no record may be missing: a partition with a gap (deleted below what was read) is held up, not skipped.
    `healthy` tells whether the member is connected and no partition is held up.

    ``first`` is a statement that each transaction begins with. While there is a backlog, up to ``at_once``
    transactions are under way, of different partitions. While there is none, transactions begin ``apart``
    seconds after each other or later: what comes meanwhile is fetched and applied together.
    """

    def __init__(
        self,
        *,
        bootstrap: str,
        group: str,
        topics: Sequence[str],
        pool: pg.Pool,
        handle: Handle,
        admin: Admin,
        whole: Sequence[str] = (),
        first: str | None = None,
        at_once: int = 1,
        apart: float = 0,
    ) -> None:
        self._bootstrap, self._group, self._topics = bootstrap, group, tuple(topics)
        self._pool, self._handle, self._admin, self._whole = pool, handle, admin, frozenset(whole)
        self._first, self._at_once, self._apart = first, at_once, apart
        self._sql = pg.parse_queries(resources.files("servicekit").joinpath("sql/inbox.sql").read_text())
        self._topic_ids: dict[str, str] = {}
        self._next: dict[Partition, int] = {}
        self._failures: dict[Partition, int] = {}
        self._under_way: dict[asyncio.Task[None], frozenset[Partition]] = {}
        self._epoch = 0
        self._connected = False

    async def run(self) -> None:
        """Consume until cancelled; reconnects for ever.

        Raises:
            TopicReplacedError: see there.
        """
        delay = _RETRY_FIRST_SECONDS
        while True:
            try:
                await self._consume()
            except (KafkaError, KafkaException, *pg.TRANSIENT) as error:
                log.warning("inbox_reconnects", group=self._group, error=repr(error))
                await asyncio.sleep(delay)
                delay = min(delay * 2, _RETRY_MOST_SECONDS)
            finally:
                self._connected = False

    async def healthy(self) -> None:
        """A `servicekit.http.ReadyCheck`: raises RuntimeError while something is held up."""
        if not self._connected:
            raise RuntimeError("not connected to the broker")
        if self._failures:
            raise RuntimeError(f"held up: {sorted(self._failures)}")

    async def _consume(self) -> None:
        self._topic_ids = await self._admin.topic_ids(self._topics)
        self._forget(set(self._next) | set(self._failures))
        async with Consumer(
            self._bootstrap,
            group=self._group,
            topics=self._topics,
            assigned=self._on_change,
            revoked=self._on_change,
        ) as consumer:
            self._connected = True
            try:
                await self._follow(consumer)
            finally:
                for task in self._under_way:
                    task.cancel()
                await asyncio.gather(*self._under_way, return_exceptions=True)
                self._under_way.clear()

    async def _follow(self, consumer: Consumer) -> None:
        looked = 0.0
        while True:
            free = consumer.assignment().difference(*self._under_way.values())
            batches: Mapping[Partition, list[Record]] = {}
            if free or not self._under_way:  # without partitions, wait for some
                if self._under_way:
                    batches = await consumer.getmany(free, timeout_ms=0, max_records=_BATCH)
                else:
                    batches = await consumer.getmany(timeout_ms=500, max_records=_BATCH)
            free &= consumer.assignment()
            unplaced = free - self._next.keys()
            if unplaced:
                await self._seek(consumer, unplaced)
            due = time.monotonic() - looked >= _LOOK_SECONDS
            if due:  # also where nothing came: markers of transactions move a position, and no record does
                looked = time.monotonic()
            ready = {
                place: batches.get(place, [])
                for place in (free if due else batches)
                if place in self._next and place not in unplaced  # else fetched before the seek
            }
            began = time.monotonic()
            if ready:
                task = asyncio.create_task(self._apply(consumer, ready))
                self._under_way[task] = frozenset(ready)
            backlog = sum(map(len, ready.values())) >= _BACKLOG
            if self._under_way and not (backlog and len(self._under_way) < self._at_once):
                done, _ = await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del self._under_way[task]
                    task.result()
            if batches and not backlog and self._apart:
                await asyncio.sleep(began + self._apart - time.monotonic())

    async def _on_change(self, places: set[Partition]) -> None:
        self._epoch += 1
        self._forget(places)

    def _forget(self, places: set[Partition]) -> None:
        for place in places:
            self._next.pop(place, None)
            if self._failures.pop(place, None):
                FAILING.labels(self._group, place.topic, place.number).set(0)

    async def _seek(self, consumer: Consumer, places: set[Partition]) -> None:
        """Go to the stored offsets."""
        rows = await self._pool.fetch(self._sql["stored_offsets"])
        stored = {Partition(row["topic"], row["partition"]): row for row in rows}
        for place in places:
            row = stored.get(place)
            if row is not None and row["topic_id"] != self._topic_ids[place.topic]:
                raise TopicReplacedError(f"{place.topic} was made anew: rebuild what was read from it")
            self._next[place] = 0 if row is None else row["next_offset"]
            with contextlib.suppress(KafkaError):  # no longer ours: the next assignment seeks again
                consumer.seek(place, self._next[place])

    async def _apply(self, consumer: Consumer, arrived: Mapping[Partition, list[Record]]) -> None:
        batches: list[_Batch] = []
        epoch = self._epoch
        for place, records in arrived.items():
            try:
                following = await consumer.position(place)
            except KafkaError:  # no longer ours
                continue
            expected = self._next.get(place)
            if expected is not None and following != expected:
                batches.append(_Batch(place, expected, following, records, epoch))
        if len(batches) > 1:
            try:
                await self._write(batches)
            except pg.TRANSIENT as error:
                for batch in batches:
                    self._hold(consumer, batch, error)
                return
            except Exception as error:
                log.info("inbox_partitions_apart", group=self._group, error=repr(error))
            else:
                return
        for batch in batches:
            await self._write_before_the_fault(consumer, batch)

    async def _write_before_the_fault(self, consumer: Consumer, batch: _Batch) -> None:
        """Write one partition's batch; if it cannot be, the good records before the one at fault are."""
        try:
            await self._write([batch])
        except pg.TRANSIENT as error:
            self._hold(consumer, batch, error)
        except Exception as error:
            middle = len(batch.records) // 2
            if not middle:
                self._hold(consumer, batch, error)
                return
            begin = batch.records[middle].offset
            await self._write_before_the_fault(
                consumer, replace(batch, following=begin, records=batch.records[:middle])
            )
            if self._next.get(batch.place) == begin and batch.place not in self._failures:
                await self._write_before_the_fault(
                    consumer, replace(batch, expected=begin, records=batch.records[middle:])
                )

    async def _write(self, batches: Sequence[_Batch]) -> None:
        """One transaction; a partition whose offset another worker has moved is left out, and sought anew."""
        for batch in batches:
            if batch.place.topic in self._whole and batch.records:
                first = batch.records[0].offset
                if first != batch.expected:
                    raise MissingRecordsError(
                        f"{batch.place}: {first} came where {batch.expected} was expected"
                    )
        async with self._pool.acquire() as connection, connection.transaction():
            if self._first is not None:
                await connection.execute(self._first)
            rows = await connection.fetch(
                self._sql["advance_offsets"],
                [batch.place.topic for batch in batches],
                [batch.place.number for batch in batches],
                [self._topic_ids[batch.place.topic] for batch in batches],
                [batch.expected for batch in batches],
                [batch.following for batch in batches],
            )
            moved = {Partition(row["topic"], row["partition"]) for row in rows}
            records = [record for batch in batches if batch.place in moved for record in batch.records]
            if records:
                await self._handle(connection, records)
        for batch in batches:
            place = batch.place
            if place not in moved:
                log.warning("inbox_fenced", group=self._group, topic=place.topic, partition=place.number)
                self._forget({place})
                continue
            RECORDS.labels(self._group, place.topic).inc(len(batch.records))
            if batch.epoch == self._epoch:  # else it was assigned anew, and will be sought
                self._next[place] = batch.following
            if self._failures.pop(place, None):
                FAILING.labels(self._group, place.topic, place.number).set(0)

    def _hold(self, consumer: Consumer, batch: _Batch, error: Exception) -> None:
        place = batch.place
        attempt = self._failures.get(place, 0)
        self._failures[place] = attempt + 1
        FAILING.labels(self._group, place.topic, place.number).set(1)
        delay = min(_RETRY_FIRST_SECONDS * 2 ** min(attempt, 16), _RETRY_MOST_SECONDS)
        report = log.warning if isinstance(error, pg.TRANSIENT) else log.error
        report(
            "inbox_batch_failed",
            group=self._group, topic=place.topic, partition=place.number, offset=batch.expected,
            retry_in_seconds=delay, error=repr(error), exc_info=not isinstance(error, pg.TRANSIENT),
        )  # fmt: skip
        with contextlib.suppress(KafkaError):  # no longer ours
            consumer.pause(place)
            consumer.seek(place, batch.expected)

        def resume() -> None:
            with contextlib.suppress(Exception):  # revoked or closed since
                consumer.resume(place)

        asyncio.get_running_loop().call_later(delay, resume)
