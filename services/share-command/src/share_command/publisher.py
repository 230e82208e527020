"""Sends answers and dead letters until the broker has taken them, in the order in which they were given."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from functools import partial

from contracts import codec, topics
from servicekit.kafka import Headers, KafkaError, Producer, Record, dead_letter
from servicekit.logging import get_logger
from share_command.store import SOURCE

log = get_logger(__name__)

_NEVER_TAKEN = frozenset({10, 18, 87})
"""Kafka's error codes MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE, INVALID_RECORD: no later attempt differs."""

_RETRY_FIRST_SECONDS, _RETRY_MOST_SECONDS = 0.2, 5.0


@dataclass(slots=True, eq=False)
class _Message:
    topic: str
    key: str | None
    value: bytes | None
    headers: Headers = ()
    taken: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Publisher:
    """A producer that is replaced when it fails. Nothing waits for the acknowledgement of what is before it.

    After a failure, all that is not acknowledged is sent again, one after the other: so that a message which
    the broker refuses for good is told from those that were packed with it.
    """

    def __init__(self, bootstrap: str, topic_prefix: str) -> None:
        self._bootstrap, self._prefix = bootstrap, topic_prefix
        self._producer: Producer | None = None
        self._waiting: deque[_Message] = deque()
        self._sent: deque[_Message] = deque()  # handed to the producer; what is acknowledged leaves in order
        self._news = asyncio.Event()
        self._failed = False
        self._running: asyncio.Task[None] | None = None

    def answer(self, key: str | None, result: codec.Envelope) -> "asyncio.Future[None]":
        """Publish the answer to a command; done once the broker has it (raises KafkaError if it never will).

        Answers go out in the order of the calls, each key's partition for itself.
        """
        return self._give(_Message(self._prefix + topics.COMMAND_RESULTS.name, key, codec.encode(result)))

    async def put_aside(self, record: Record, code: str, message: str) -> None:
        """Keep an unreadable record in the dead-letter topic; one refused there for good is only logged."""
        topic = self._prefix + topics.dead_letters(SOURCE).name
        try:
            await self._give(_Message(topic, *dead_letter(record, code, message)))
        except KafkaError as error:
            log.error("dead_letter_lost", topic=record.topic, partition=record.partition,
                      offset=record.offset, code=code, error=type(error).__name__)  # fmt: skip

    async def close(self) -> None:
        """Let go of the broker; what it has not acknowledged is given up."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
            self._running = None
        await self._let_go()
        for message in (*self._sent, *self._waiting):
            message.taken.cancel()
        self._sent.clear()
        self._waiting.clear()

    def _give(self, message: _Message) -> "asyncio.Future[None]":
        self._waiting.append(message)
        self._news.set()
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return message.taken

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            if self._failed:
                await self._start_over()
            while self._waiting and not self._failed:
                message = self._waiting[0]
                try:
                    producer = await self._connected()
                    ack = await producer.enqueue(message.topic, message.key, message.value, message.headers)
                except KafkaError as error:
                    self._fail(error)
                else:
                    self._waiting.popleft()
                    self._sent.append(message)
                    ack.add_done_callback(partial(self._on_ack, message))

    def _on_ack(self, message: _Message, ack: "asyncio.Future[object]") -> None:
        if ack.cancelled():
            return
        error = ack.exception()
        if error is not None:
            self._fail(error)
            return
        _settle(message)
        while self._sent and self._sent[0].taken.done():
            self._sent.popleft()

    def _fail(self, error: BaseException) -> None:
        if self._producer is not None:
            self._producer.halt()  # at once: what is behind must not overtake what failed
        if not self._failed:
            log.warning("publish_failed", error=type(error).__name__)
        self._failed = True
        self._news.set()

    async def _start_over(self) -> None:
        await self._let_go()
        again = [message for message in self._sent if not message.taken.done()]
        self._sent.clear()
        if self._waiting:
            again.append(self._waiting.popleft())
        self._waiting.extendleft(reversed(again))
        for _ in again:
            await self._send_alone(self._waiting[0])
            self._waiting.popleft()
        self._failed = False
        self._news.set()

    async def _send_alone(self, message: _Message) -> None:
        delay = _RETRY_FIRST_SECONDS
        while not message.taken.done():
            try:
                producer = await self._connected()
                await producer.send(message.topic, message.key, message.value, message.headers)
                _settle(message)
            except KafkaError as error:
                await self._let_go()
                if getattr(error, "errno", None) in _NEVER_TAKEN:
                    _settle(message, error)
                    return
                log.warning("publish_failed", error=type(error).__name__, retry_in_seconds=delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, _RETRY_MOST_SECONDS)

    async def _connected(self) -> Producer:
        if self._producer is None:
            self._producer = await Producer(self._bootstrap, SOURCE).__aenter__()
        return self._producer

    async def _let_go(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.halt()  # what it still had is sent again, or given up
            await producer.__aexit__()
            await asyncio.sleep(0)  # the acknowledgements that came meanwhile are heard


def _settle(message: _Message, error: Exception | None = None) -> None:
    if message.taken.done():  # given up by who waited
        return
    if error is None:
        message.taken.set_result(None)
    else:
        message.taken.set_exception(error)
