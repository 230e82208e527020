"""Kafka: the one module that touches raw aiokafka, and the admin client."""

# Neither library ships types: what comes out of them is unknown until it is put into our own classes.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportPrivateImportUsage=false

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiokafka  # noqa: TID251 - this is the module that may
from aiokafka.abc import ConsumerRebalanceListener  # noqa: TID251 - as above
from aiokafka.errors import KafkaError  # noqa: TID251 - as above
from aiokafka.partitioner import murmur2  # noqa: TID251 - as above
from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka import TopicPartition as AdminTopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

__all__ = [
    "Admin",
    "Consumer",
    "DeadLetters",
    "KafkaError",
    "KafkaException",
    "Partition",
    "Producer",
    "Record",
    "partition_of",
]

_ADMIN_SECONDS = 10.0
_DEAD_LETTER_BYTES = 900_000
_DEAD_LETTER_KEY_BYTES = 10_000
Headers = Sequence[tuple[str, bytes | None]]


def partition_of(key: bytes, partitions: int) -> int:
    """Where a record with this key belongs: murmur2, as Kafka's own clients do it (librdkafka's differs)."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One partition of one topic."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Record:
    """A record as the broker keeps it. ``timestamp_ms`` is milliseconds since 1970."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int


class Producer:
    """Idempotent producer, ``acks=all``, partitioned by murmur2 of the key. An async context manager."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self._producer = aiokafka.AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            client_id=client_id,
            enable_idempotence=True,
            acks="all",
            request_timeout_ms=10_000,
            compression_type=None,
        )
        self._halted: asyncio.Task[Any] | None = None

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


PartitionsCallback = Callable[[set[Partition]], Awaitable[None]]


class _Listener(ConsumerRebalanceListener):
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


class Consumer:
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
        self._consumer = aiokafka.AIOKafkaConsumer(
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
        self._topics = list(topics)
        self._listener = _Listener(assigned, revoked)

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

    async def getmany(self, *, timeout_ms: int, max_records: int) -> Mapping[Partition, list[Record]]:
        """What arrived, at most ``max_records``; empty after ``timeout_ms``."""
        batches = await self._consumer.getmany(timeout_ms=timeout_ms, max_records=max_records)
        return {
            Partition(place.topic, place.partition): [
                Record(
                    item.topic,
                    item.partition,
                    item.offset,
                    item.key,
                    item.value,
                    tuple(item.headers),
                    item.timestamp,
                )
                for item in items
            ]
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


def _raw(place: Partition) -> Any:
    return aiokafka.TopicPartition(place.topic, place.number)


class DeadLetters:
    """Puts messages that cannot be read aside: original bytes and headers, and why.

    What is too large to be sent again is kept in part, with its size and SHA-256; where it came from leads to
    the rest.
    """

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer, self._topic = producer, topic

    async def put(self, record: Record, code: str, message: str) -> None:
        """Keep ``record``; raises KafkaError when it could not be kept (do not go on then)."""
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
        await self._producer.send(self._topic, text_key, kept, headers)


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
        there = await self._existing()
        wanted = [
            NewTopic(name, num_partitions=partitions, replication_factor=replication, config=dict(config))
            for name, partitions, config in topics
            if name not in there
        ]
        if wanted:
            futures = self._client.create_topics(wanted, operation_timeout=_ADMIN_SECONDS)
            await asyncio.gather(*(asyncio.wrap_future(future) for future in futures.values()))
        return [topic.topic for topic in wanted]

    async def _existing(self) -> set[str]:
        metadata = await asyncio.to_thread(self._client.list_topics, timeout=_ADMIN_SECONDS)
        return set(metadata.topics)

    async def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """The id that the cluster gave each topic: a topic deleted and made anew has another."""
        futures = self._client.describe_topics(TopicCollection(list(topics)), request_timeout=_ADMIN_SECONDS)
        described = await asyncio.gather(*(asyncio.wrap_future(future) for future in futures.values()))
        return {item.name: str(item.topic_id) for item in described}

    async def end_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The offset that the next record of each partition will get."""
        asked: dict[Any, Any] = {
            AdminTopicPartition(place.topic, place.number): OffsetSpec.latest() for place in partitions
        }
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
