"""Kafka: the one module that touches raw aiokafka, and the admin client."""

# Neither library ships types: what comes out of them is unknown until it is put into our own classes.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportPrivateImportUsage=false

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiokafka  # noqa: TID251 - this is the module that may
import aiokafka.client  # noqa: TID251 - as above
from aiokafka.abc import ConsumerRebalanceListener  # noqa: TID251 - as above
from aiokafka.client import AIOKafkaClient  # noqa: TID251 - as above
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError  # noqa: TID251 - as above
from aiokafka.partitioner import murmur2  # noqa: TID251 - as above
from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka import TopicPartition as AdminTopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from servicekit.logging import get_logger

__all__ = [
    "Admin",
    "Consumer",
    "DeadLetters",
    "Headers",
    "KafkaError",
    "KafkaException",
    "Membership",
    "Partition",
    "Producer",
    "Reader",
    "RebalanceListener",
    "Record",
    "committed",
    "dead_letter",
    "partition_of",
    "record_of",
]

log = get_logger(__name__)

_ADMIN_SECONDS = 10.0
_START_RETRY_SECONDS = 1.0
_DEAD_LETTER_BYTES = 900_000
_DEAD_LETTER_KEY_BYTES = 10_000
_BATCH_BYTES = 16_384
Headers = Sequence[tuple[str, bytes | None]]

_bootstrap = AIOKafkaClient.bootstrap


async def _bootstrap_to_a_broker(self: AIOKafkaClient) -> None:
    """Bootstrap, or say that it failed when the broker that answered knows of none.

    One that is stopping or only starting answers so; aiokafka takes it for an answer, asks nobody else, and
    hangs for ever once that connection is gone (https://github.com/aio-libs/aiokafka/issues/551). This way
    whoever connects tries again as he does when nobody answers.

    Raises:
        KafkaConnectionError: no broker serves yet.
    """
    await _bootstrap(self)
    if not self.cluster.brokers():
        await self.close()
        raise KafkaConnectionError("the broker that answered serves nobody: it is starting or stopping")


_create_conn = aiokafka.client.create_conn


async def _connection(*place: Any, on_close: Any = None, **options: Any) -> Any:
    """aiokafka's connection to a broker; the one of `bootstrap` ends with whoever gives up while it asks.

    That one is nobody's yet, and stayed open until the garbage collector found it.
    """
    connection: Any = await _create_conn(*place, on_close=on_close, **options)

    async def ask(request: Any) -> Any:
        del connection.send  # from here on it is the class's again
        try:
            return await connection.send(request)
        except asyncio.CancelledError:
            connection.close()
            raise

    if on_close is None:  # of the others, which their client keeps and closes, it is told
        connection.send = ask
    return connection


# Here, as FastStream too makes clients of its own.
AIOKafkaClient.bootstrap = _bootstrap_to_a_broker
aiokafka.client.create_conn = _connection


@lru_cache(maxsize=100_000)
def partition_of(key: bytes, partitions: int) -> int:
    """Where a record with this key belongs: murmur2, as Kafka's own clients do it (librdkafka's differs)."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One partition of one topic."""

    topic: str
    number: int


class Record(NamedTuple):
    """A record as the broker keeps it. ``timestamp_ms`` is milliseconds since 1970."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int


class Producer:
    """Idempotent producer, ``acks=all``, partitioned by murmur2 of the key. An async context manager.

    ``batch_bytes`` is what it packs together at most for one partition: more for who sends much at once.
    """

    def __init__(self, bootstrap: str, client_id: str, *, batch_bytes: int = _BATCH_BYTES) -> None:
        self._producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            client_id=client_id,
            enable_idempotence=True,
            acks="all",
            request_timeout_ms=10_000,
            max_batch_size=batch_bytes,
            compression_type=None,
        )
        self._halted: asyncio.Task[Any] | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def lasting(cls, bootstrap: str, client_id: str) -> AsyncGenerator[Self]:
        """One for the life of a process: whoever starts while the broker is away waits until it is there."""
        while True:
            producer = cls(bootstrap, client_id)
            try:
                await producer.__aenter__()
                break
            except (KafkaError, OSError) as error:
                log.warning("broker_not_yet_up", error=type(error).__name__)
                await asyncio.sleep(_START_RETRY_SECONDS)
        try:
            yield producer
        finally:
            await producer.__aexit__()

    async def __aenter__(self) -> Self:
        try:
            await self._producer.start()
        except BaseException:
            await self._producer.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._halted is None:
            await self._producer.stop()
            return
        self._producer._closed = True  # pyright: ignore[reportPrivateUsage] - its stop() would send what was given up
        await asyncio.wait({self._halted})
        await self._producer.client.close()

    def halt(self) -> None:
        """Send nothing more, not even what is enqueued; close it then.

        After a record failed, this keeps later ones of its partition from overtaking it.
        """
        if self._halted is None:
            sender: asyncio.Task[Any] = self._producer._sender.sender_task  # pyright: ignore[reportPrivateUsage, reportAssignmentType] - no public way; set since the start
            sender.cancel()
            self._halted = sender

    async def enqueue(
        self, topic: str, key: str | None, value: bytes | None, headers: Headers = ()
    ) -> asyncio.Future[object]:
        """Hand a record to the sender; await the result for the acknowledgement (raises KafkaError)."""
        return await self._producer.send(
            topic, value, key=None if key is None else key.encode(), headers=list(headers) or None
        )

    async def send(self, topic: str, key: str | None, value: bytes | None, headers: Headers = ()) -> None:
        """Send one record and wait for the acknowledgement.

        Raises:
            KafkaError: the broker did not take it.
        """
        await (await self.enqueue(topic, key, value, headers))

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has; raises KafkaError when the cluster does not know it."""
        return len(await self._producer.partitions_for(topic))

    async def enqueue_packed(
        self, place: Partition, records: Sequence[tuple[str, bytes | None, Headers]]
    ) -> AsyncGenerator[tuple[int, asyncio.Future[object]]]:
        """Hand many records (key, value, headers) of one partition to the sender, in their order.

        Much cheaper than `enqueue` for each. Yields, for each pack that is made of them, the number of its
        records and the future of its acknowledgement (raises KafkaError).
        """
        at = 0
        while at < len(records):
            pack = self._producer.create_batch()
            begin = at
            for key, value, headers in records[begin:]:
                if pack.append(timestamp=None, key=key.encode(), value=value, headers=headers) is None:
                    break  # it is full; a pack takes its first record whatever its size
                at += 1
            pack.close()
            yield at - begin, await self._producer.send_batch(pack, place.topic, partition=place.number)


PartitionsCallback = Callable[[set[Partition]], Awaitable[None]]


class RebalanceListener(ConsumerRebalanceListener):
    """Awaits ``revoked`` with the partitions that go, then ``assigned`` with those that come."""

    def __init__(self, assigned: PartitionsCallback, revoked: PartitionsCallback) -> None:
        self._assigned, self._revoked = assigned, revoked

    async def on_partitions_revoked(  # pyright: ignore[reportIncompatibleMethodOverride] - aiokafka awaits it
        self, revoked: Iterable[Any]
    ) -> None:
        await self._revoked({Partition(item.topic, item.partition) for item in revoked})

    async def on_partitions_assigned(  # pyright: ignore[reportIncompatibleMethodOverride] - as above
        self, assigned: Iterable[Any]
    ) -> None:
        await self._assigned({Partition(item.topic, item.partition) for item in assigned})


class Membership:
    """A consumer that is a member of a group, whoever made it (`Consumer`, or FastStream)."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    async def getmany(
        self, places: Iterable[Partition] = (), *, timeout_ms: int, max_records: int
    ) -> Mapping[Partition, list[Record]]:
        """What arrived (of ``places``, if given), at most ``max_records``; empty after ``timeout_ms``."""
        batches = await self._consumer.getmany(
            *map(_raw, places), timeout_ms=timeout_ms, max_records=max_records
        )
        return {
            Partition(place.topic, place.partition): [record_of(item) for item in items]
            for place, items in batches.items()
        }

    async def position(self, place: Partition) -> int:
        """The offset that `getmany` gives next: beyond what it gave, and what nobody is given."""
        return await self._consumer.position(_raw(place))

    def assignment(self) -> set[Partition]:
        """The partitions that are this member's now."""
        return {Partition(place.topic, place.partition) for place in self._consumer.assignment()}

    def seek(self, place: Partition, offset: int) -> None:
        """Read ``place`` from ``offset`` on."""
        self._consumer.seek(_raw(place), offset)

    def pause(self, place: Partition) -> None:
        """Fetch nothing of ``place`` until `resume`."""
        self._consumer.pause(_raw(place))

    def resume(self, place: Partition) -> None:
        """Fetch ``place`` again."""
        self._consumer.resume(_raw(place))

    async def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Store where the group goes on: the offset of the first record not yet finished.

        Raises:
            KafkaError: not stored; a partition is another member's by now, or the broker is away.
        """
        await self._consumer.commit({_raw(place): offset for place, offset in offsets.items()})


class Consumer(Membership):
    """A member of a consumer group that keeps its offsets elsewhere. An async context manager."""

    def __init__(
        self,
        bootstrap: str,
        *,
        group: str,
        topics: Sequence[str],
        assigned: PartitionsCallback,
        revoked: PartitionsCallback,
    ) -> None:
        super().__init__(
            aiokafka.AIOKafkaConsumer(
                bootstrap_servers=bootstrap,
                group_id=group,
                client_id=group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
                fetch_max_wait_ms=500,
                session_timeout_ms=10_000,
                heartbeat_interval_ms=1_000,
                metadata_max_age_ms=30_000,
            )
        )
        self._topics = list(topics)
        self._listener = RebalanceListener(assigned, revoked)

    async def __aenter__(self) -> Self:
        self._consumer.subscribe(self._topics, listener=self._listener)
        try:
            await self._consumer.start()
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()


class Reader(Membership):
    """Reads partitions from their first record on, or from where it is told to `seek`, and is in no group.

    An async context manager.
    """

    def __init__(self, bootstrap: str, places: Iterable[Partition]) -> None:
        super().__init__(
            aiokafka.AIOKafkaConsumer(
                bootstrap_servers=bootstrap,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
            )
        )
        self._places = [_raw(place) for place in places]

    async def __aenter__(self) -> Self:
        self._consumer.assign(self._places)
        try:
            await self._consumer.start()
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()


async def committed(bootstrap: str, group: str, places: Iterable[Partition]) -> dict[Partition, int]:
    """Where a consumer group goes on, for each partition of which it has stored that with the broker.

    Raises:
        KafkaError: the broker does not answer, or not within 10 s.
    """
    # The admin client can ask this too, but has crashed the process where a coordinator had just been made.
    consumer = aiokafka.AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False
    )
    wanted = [_raw(place) for place in places]
    consumer.assign(wanted)  # without joining the group
    try:
        async with asyncio.timeout(_ADMIN_SECONDS):
            await consumer.start()
            found = {place: await consumer.committed(place) for place in wanted}
    except TimeoutError:
        raise KafkaTimeoutError(f"the coordinator of the group {group} does not answer") from None
    finally:
        await consumer.stop()
    return {
        Partition(place.topic, place.partition): offset
        for place, offset in found.items()
        if offset is not None
    }


def record_of(item: Any) -> Record:
    """aiokafka's record as ours."""
    return Record(
        item.topic, item.partition, item.offset, item.key, item.value, tuple(item.headers), item.timestamp
    )


def _raw(place: Partition) -> Any:
    return aiokafka.TopicPartition(place.topic, place.number)


def dead_letter(record: Record, code: str, message: str) -> tuple[str | None, bytes | None, Headers]:
    """Key, value and headers of the dead letter of ``record``: original bytes and headers, and why.

    What is too large to be sent again is kept in part, with its size and SHA-256; where it came from leads to
    the rest.
    """
    value, key = record.value or b"", (record.key or b"")[:_DEAD_LETTER_KEY_BYTES]
    given = sum(len(name.encode()) + len(text or b"") for name, text in record.headers)
    whole = len(value) + len(record.key or b"") + given <= _DEAD_LETTER_BYTES
    cut = [
        ("latchkey-original-bytes", str(len(value)).encode()),
        ("latchkey-original-sha256", hashlib.sha256(value).hexdigest().encode()),
    ]
    headers = [
        *(record.headers if whole else cut),
        ("latchkey-error-code", code.encode()),
        ("latchkey-error", message.encode()[:2000]),
        ("latchkey-source-topic", record.topic.encode()),
        ("latchkey-source-partition", str(record.partition).encode()),
        ("latchkey-source-offset", str(record.offset).encode()),
    ]
    text_key = None if record.key is None else key.decode("utf-8", "backslashreplace")
    kept = record.value if whole else value[: _DEAD_LETTER_BYTES // 2]
    if text_key is None and kept is None:
        kept = b""  # a record has a key or a value
    return text_key, kept, headers


class DeadLetters:
    """Puts messages that cannot be read aside, as `dead_letter` says."""

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer, self._topic = producer, topic

    async def put(self, record: Record, code: str, message: str) -> None:
        """Keep ``record``; raises KafkaError when it could not be kept (do not go on then)."""
        await self._producer.send(self._topic, *dead_letter(record, code, message))


class Admin:
    """Asks and provisions a cluster. Each call raises KafkaException when the cluster does not answer."""

    def __init__(self, bootstrap: str) -> None:
        self._client = AdminClient(
            {"bootstrap.servers": bootstrap, "log_level": 0, "socket.timeout.ms": 5000}
        )

    async def provision(
        self, topics: Iterable[tuple[str, int, Mapping[str, str]]], *, replication: int = 1
    ) -> list[str]:
        """Create the topics (name, partitions, settings) that do not exist; returns the new ones' names."""
        there = await self.names()
        wanted = [
            NewTopic(name, num_partitions=partitions, replication_factor=replication, config=dict(config))
            for name, partitions, config in topics
            if name not in there
        ]
        if wanted:
            futures = self._client.create_topics(wanted, operation_timeout=_ADMIN_SECONDS)
            await asyncio.gather(*(asyncio.wrap_future(future) for future in futures.values()))
        return [topic.topic for topic in wanted]

    async def names(self) -> set[str]:
        """All topics of the cluster."""
        metadata = await asyncio.to_thread(self._client.list_topics, timeout=_ADMIN_SECONDS)
        return set(metadata.topics)

    async def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """The id that the cluster gave each topic: a topic deleted and made anew has another."""
        futures = self._client.describe_topics(TopicCollection(list(topics)), request_timeout=_ADMIN_SECONDS)
        described = await asyncio.gather(*(asyncio.wrap_future(future) for future in futures.values()))
        return {item.name: str(item.topic_id) for item in described}

    async def end_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The offset that the next record of each partition will get."""
        return await self._offsets(partitions, OffsetSpec.latest())

    async def first_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The lowest offset that each partition still has, or the next when it has none."""
        return await self._offsets(partitions, OffsetSpec.earliest())

    async def _offsets(self, partitions: Iterable[Partition], spec: Any) -> dict[Partition, int]:
        asked: dict[Any, Any] = {AdminTopicPartition(place.topic, place.number): spec for place in partitions}
        futures = self._client.list_offsets(asked, request_timeout=_ADMIN_SECONDS)
        results = await asyncio.gather(*(asyncio.wrap_future(future) for future in futures.values()))
        return {
            Partition(place.topic, place.partition): result.offset
            for place, result in zip(futures, results, strict=True)
        }

    async def partitions(self, topics: Iterable[str]) -> list[Partition]:
        """All partitions of the topics."""
        metadata = await asyncio.to_thread(self._client.list_topics, timeout=_ADMIN_SECONDS)
        return [
            Partition(name, number) for name in topics for number in sorted(metadata.topics[name].partitions)
        ]
