"""Topics into Postgres, exactly once: the offset is stored in the transaction that stores what came of it.

The service's schema has the table ``kafka_offset (topic text, partition int, topic_id text, next_offset
bigint, primary key (topic, partition))``. Kafka's own committed offsets are not used.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources

from prometheus_client import Counter, Gauge

from servicekit import pg
from servicekit.kafka import Admin, Consumer, KafkaError, KafkaException, Partition, Record
from servicekit.logging import get_logger

log = get_logger(__name__)

Handle = Callable[[pg.Connection, list[Record]], Awaitable[None]]
"""Applies records of one partition, in order, inside the open transaction. Whatever it raises is retried."""

RECORDS = Counter("inbox_records_total", "Records applied.", ["group", "topic"])
FAILING = Gauge(
    "inbox_partition_failing", "1: this partition is held up and retried.", ["group", "topic", "partition"]
)

_RETRY_FIRST_SECONDS, _RETRY_MOST_SECONDS = 0.2, 10.0
_BATCH = 2_000
_LOOK_SECONDS = 1.0


class TopicReplacedError(RuntimeError):
    """The topic was made anew, so that stored offsets mean nothing: what was read from it must be rebuilt."""


class MissingRecordsError(RuntimeError):
    """Records never read are gone from a topic that must be whole: what is built from it would be wrong."""


class FencedError(RuntimeError):
    """Another worker has stored an offset for this partition meanwhile; this one writes nothing."""


class Inbox:
    """A consumer of ``topics`` whose effects are applied by ``handle`` exactly once.

    A batch that fails is retried with back-off; it holds up its own partition only. Of the topics ``whole``
    no record may be missing: a partition with a gap (deleted below what was read) is held up, not skipped.
    `healthy` tells whether the member is connected and no partition is held up.
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
    ) -> None:
        self._bootstrap, self._group, self._topics = bootstrap, group, tuple(topics)
        self._pool, self._handle, self._admin, self._whole = pool, handle, admin, frozenset(whole)
        self._sql = pg.parse_queries(resources.files("servicekit").joinpath("sql/inbox.sql").read_text())
        self._topic_ids: dict[str, str] = {}
        self._next: dict[Partition, int] = {}
        self._failures: dict[Partition, int] = {}
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
            looked = 0.0
            while True:
                batches = await consumer.getmany(timeout_ms=500, max_records=_BATCH)
                unplaced = consumer.assignment() - self._next.keys()
                for place in unplaced:
                    await self._seek(consumer, place)
                due = time.monotonic() - looked >= _LOOK_SECONDS
                if (
                    due
                ):  # also where nothing came: markers of transactions move a position, and no record does
                    looked = time.monotonic()
                for place in consumer.assignment() if due else batches.keys():
                    if place in self._next and place not in unplaced:  # else fetched before the seek
                        await self._apply(consumer, place, batches.get(place, []))

    async def _on_change(self, places: set[Partition]) -> None:
        self._forget(places)

    def _forget(self, places: set[Partition]) -> None:
        for place in places:
            self._next.pop(place, None)
            if self._failures.pop(place, None):
                FAILING.labels(self._group, place.topic, place.number).set(0)

    async def _seek(self, consumer: Consumer, place: Partition) -> None:
        """Go to the stored offset."""
        rows = await self._pool.fetch(self._sql["stored_offsets"])
        stored = {Partition(row["topic"], row["partition"]): row for row in rows}
        topic_id = self._topic_ids[place.topic]
        row = stored.get(place)
        if row is not None and row["topic_id"] != topic_id:
            raise TopicReplacedError(f"{place.topic} was made anew: rebuild what was read from it")
        self._next[place] = 0 if row is None else row["next_offset"]
        with contextlib.suppress(KafkaError):  # no longer ours: the next assignment seeks again
            consumer.seek(place, self._next[place])

    async def _apply(self, consumer: Consumer, place: Partition, records: list[Record]) -> None:
        expected = self._next[place]
        following = await consumer.position(place)
        if following == expected:
            return
        try:
            if place.topic in self._whole and records and records[0].offset != expected:
                raise MissingRecordsError(f"{place}: {records[0].offset} came where {expected} was expected")
            async with self._pool.acquire() as connection, connection.transaction():
                stored = await connection.fetchval(
                    self._sql["advance_offset"],
                    place.topic, place.number, self._topic_ids[place.topic], expected, following,
                )  # fmt: skip
                if stored is None:
                    raise FencedError(str(place))
                if records:
                    await self._handle(connection, records)
        except FencedError:
            log.warning("inbox_fenced", group=self._group, topic=place.topic, partition=place.number)
            self._forget({place})
        except Exception as error:
            self._hold(consumer, place, expected, error)
        else:
            self._next[place] = following
            RECORDS.labels(self._group, place.topic).inc(len(records))
            if self._failures.pop(place, None):
                FAILING.labels(self._group, place.topic, place.number).set(0)

    def _hold(self, consumer: Consumer, place: Partition, offset: int, error: Exception) -> None:
        attempt = self._failures.get(place, 0)
        self._failures[place] = attempt + 1
        FAILING.labels(self._group, place.topic, place.number).set(1)
        delay = min(_RETRY_FIRST_SECONDS * 2 ** min(attempt, 16), _RETRY_MOST_SECONDS)
        report = log.warning if isinstance(error, pg.TRANSIENT) else log.error
        report(
            "inbox_batch_failed",
            group=self._group, topic=place.topic, partition=place.number, offset=offset,
            retry_in_seconds=delay, error=repr(error), exc_info=not isinstance(error, pg.TRANSIENT),
        )  # fmt: skip
        with contextlib.suppress(KafkaError):  # no longer ours
            consumer.pause(place)
            consumer.seek(place, offset)

        def resume() -> None:
            with contextlib.suppress(Exception):  # revoked or closed since
                consumer.resume(place)

        asyncio.get_running_loop().call_later(delay, resume)
