"""Who used what (topic ``access.events``): published in the background, never in the way of the relay."""

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Collection, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from access_gateway import metrics
from contracts import codec, topics
from contracts.events import AnyAccessEvent, GatewayStarted
from servicekit.kafka import Headers, KafkaError, Partition, Producer, partition_of
from servicekit.logging import get_logger
from servicekit.telemetry import correlation_id

log = get_logger(__name__)

_BATCH = 2_000
_LINGER_SECONDS = 0.05
"""For more to come: a request for each event would take the processor that the relay needs."""
_RETRY_SECONDS = 1.0
_SEND_SECONDS = 15.0
_FLUSH_SECONDS = 2.0


class _Item(NamedTuple):
    key: str | None
    value: bytes


class Audit:
    """A bounded queue of events and the task that publishes them, each at least once.

    While the broker is away, ``backlog`` events are kept; then the oldest are dropped and counted. Access
    itself does not depend on it.
    """

    def __init__(self, *, bootstrap: str, topic_prefix: str, gateway_id: str, backlog: int) -> None:
        self._bootstrap, self._source = bootstrap, f"access-gateway/{gateway_id}"
        self._gateway_id = gateway_id
        self._client_id = f"access-gateway-{gateway_id}"
        self._topic = topic_prefix + topics.ACCESS_EVENTS.name
        self._queue: deque[_Item] = deque()
        self._backlog = backlog
        self._in_flight = 0
        self._news = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def waiting(self) -> int:
        """Events that the broker has not taken yet."""
        return len(self._queue) + self._in_flight

    def emit(self, event: AnyAccessEvent) -> None:
        """Publish an event, later; its time is now and its correlation id that of the work at hand."""
        value = codec.encoded(
            event,
            source=self._source,
            time=datetime.now(UTC),
            subject=event.device_id,
            correlationid=correlation_id(),
        )
        self._put(event.device_id, value)

    def mold(self, event: AnyAccessEvent, *, texts: Collection[str], numbers: Collection[str] = ()) -> str:
        """The text of such events as a format, for `put`: see `codec.mold`."""
        return codec.mold(
            event,
            source=self._source,
            subject=event.device_id,
            correlationid=correlation_id(),
            texts=texts,
            numbers=numbers,
        )

    def put(self, device_id: str | None, text: str) -> None:
        """Publish an event, later, whose text was made of a `mold`."""
        self._put(device_id, text.encode())

    def _put(self, key: str | None, value: bytes) -> None:
        if self.waiting >= self._backlog:
            if not self._queue:
                metrics.AUDIT_DROPPED.inc()
                return
            self._queue.popleft()
            metrics.AUDIT_DROPPED.inc()
        self._queue.append(_Item(key, value))
        if len(self._queue) == 1:
            self._empty.clear()
            self._news.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Tell that the gateway has started, and publish while the block runs; afterwards up to two seconds
        more for what is left.
        """
        self._put(
            None,
            codec.encoded(
                GatewayStarted(gateway_id=self._gateway_id),
                source=self._source,
                time=datetime.now(UTC),
                subject=None,
                correlationid=correlation_id(),
            ),
        )
        metrics.AUDIT_BACKLOG.set_function(lambda: self.waiting)
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_SECONDS):
                    await self._empty.wait()
            if self.waiting:
                log.warning("access_events_left_unsent", count=self.waiting)
            task.cancel()
            # Bounded: a producer whose broker is away takes its time to stop.
            await asyncio.wait({task}, timeout=_FLUSH_SECONDS)

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            try:
                async with Producer(self._bootstrap, self._client_id) as producer:
                    await self._publish(producer)
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning("access_events_not_sent", error=type(error).__name__, waiting=len(self._queue))
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception:  # a fault of our own: told, and no reason to record nothing from then on
                log.exception("access_events_failed", waiting=len(self._queue))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _publish(self, producer: Producer) -> None:
        partitions = await producer.partitions(self._topic)
        while True:
            await self._news.wait()
            await asyncio.sleep(_LINGER_SECONDS)
            batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
            self._in_flight = len(batch)
            try:
                async with asyncio.timeout(_SEND_SECONDS):
                    await asyncio.gather(*await self._enqueue(producer, partitions, batch))
            except BaseException:
                # All of the batch again: some may go out twice, with the same event id.
                self._queue.extendleft(reversed(batch))
                raise
            finally:
                self._in_flight = 0
            if not self._queue:
                self._news.clear()
                self._empty.set()

    async def _enqueue(
        self, producer: Producer, partitions: int, batch: Sequence[_Item]
    ) -> list[asyncio.Future[object]]:
        """Hand them over, packed where they have a key, which costs a tenth of handing over each."""
        sent: list[asyncio.Future[object]] = []
        packs: defaultdict[int, list[tuple[str, bytes, Headers]]] = defaultdict(list)
        for item in batch:
            if item.key is None:
                sent.append(await producer.enqueue(self._topic, None, item.value))
            else:
                packs[partition_of(item.key.encode(), partitions)].append((item.key, item.value, []))
        for number, records in packs.items():
            place = Partition(self._topic, number)
            sent += [future async for _, future in producer.enqueue_packed(place, records)]
        return sent
