"""Commands from Kafka (``share.commands``): same handlers as over HTTP, an answer for each.

At least once: an offset is committed after the answer was published, and a command id makes a repeat
harmless. Records of a partition are served in order; while the database or the broker is away, the one at
hand is tried again and none behind it is begun.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, cast

import structlog
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.annotations import KafkaMessage
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from contracts import codec, topics
from contracts.base import CommandId
from contracts.commands import (
    AcceptShare,
    AnyCommand,
    AnyCommandResult,
    CommandRefused,
    LeaveShare,
    RejectShare,
    RequestShare,
    RevokeShare,
)
from servicekit.kafka import DeadLetters, KafkaError, Producer, Record
from servicekit.logging import get_logger
from servicekit.telemetry import correlated
from share_command.errors import IdempotencyConflict, Refused, TimedOut, Unavailable
from share_command.handlers import Handlers
from share_command.metrics import DEAD_LETTERS
from share_command.store import SOURCE

log = get_logger(__name__)

_COMMANDS = (RequestShare, AcceptShare, RejectShare, RevokeShare, LeaveShare)
_COMMAND_ID: TypeAdapter[str] = TypeAdapter(CommandId)
_NEVER_TAKEN = frozenset({10, 18, 87})
"""Kafka's error codes MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE, INVALID_RECORD: no later attempt differs."""

_RETRY_FIRST_SECONDS, _RETRY_MOST_SECONDS = 0.2, 5.0


class Publisher:
    """Sends until the broker has taken it; a producer that failed is replaced. One sender at a time."""

    def __init__(self, bootstrap: str, topic_prefix: str) -> None:
        self._bootstrap, self._prefix = bootstrap, topic_prefix
        self._producer: Producer | None = None
        self._lock = asyncio.Lock()

    async def answer(self, key: str | None, result: codec.Envelope) -> None:
        """Publish the answer to a command."""
        topic = self._prefix + topics.COMMAND_RESULTS.name
        await self._until_sent(lambda producer: producer.send(topic, key, codec.encode(result)))

    async def put_aside(self, record: Record, code: str, message: str) -> None:
        """Keep an unreadable record in the dead-letter topic; one refused there for good is only logged."""
        topic = self._prefix + topics.dead_letters(SOURCE).name
        try:
            await self._until_sent(lambda producer: DeadLetters(producer, topic).put(record, code, message))
        except KafkaError as error:
            log.error("dead_letter_lost", topic=record.topic, partition=record.partition,
                      offset=record.offset, code=code, error=type(error).__name__)  # fmt: skip

    async def close(self) -> None:
        """Let go of the broker."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.halt()  # whatever it still had was not waited for by anyone
            await producer.__aexit__()

    async def _until_sent(self, send: Callable[[Producer], Awaitable[None]]) -> None:
        delay = _RETRY_FIRST_SECONDS
        async with self._lock:
            while True:
                try:
                    if self._producer is None:
                        self._producer = await Producer(self._bootstrap, SOURCE).__aenter__()
                    await send(self._producer)
                except KafkaError as error:
                    if getattr(error, "errno", None) in _NEVER_TAKEN:
                        await self.close()
                        raise
                    log.warning("publish_failed", error=type(error).__name__, retry_in_seconds=delay)
                    await self.close()
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, _RETRY_MOST_SECONDS)
                else:
                    return


class CommandConsumer:
    """A member of the group that serves ``share.commands``; registers itself with the broker given."""

    def __init__(
        self,
        *,
        broker: KafkaBroker,
        topic_prefix: str,
        handlers: Handlers,
        answers: Publisher,
        dead_letters: Publisher,
    ) -> None:
        self._broker, self._handlers = broker, handlers
        self._answers, self._dead_letters = answers, dead_letters  # neither waits for the other
        self._subscriber = broker.subscriber(
            topic_prefix + topics.SHARE_COMMANDS.name,
            group_id=f"{topic_prefix}{SOURCE}",
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.MANUAL,  # the default commits before the handler has run
            heartbeat_interval_ms=1_000,
            parser=_parse,
            decoder=_undecoded,
            no_reply=True,
        )
        self._subscriber(self._on_message)
        self._started = False

    async def run(self) -> None:
        """Serve until cancelled; a broker that is away at the start is waited for.

        Raises:
            RuntimeError: the consuming task has died.
        """
        delay = _RETRY_FIRST_SECONDS
        try:
            while not self._started:
                try:
                    await self._broker.start()
                    self._started = True
                except KafkaError as error:
                    log.warning("consumer_reconnects", error=type(error).__name__, retry_in_seconds=delay)
                    await self._broker.stop()
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, _RETRY_MOST_SECONDS)
            await asyncio.wait(self._subscriber.tasks, return_when=asyncio.FIRST_COMPLETED)
            raise RuntimeError("the consuming task has died")
        finally:
            self._started = False
            await self._broker.stop()
            await self._answers.close()
            await self._dead_letters.close()

    async def healthy(self) -> None:
        """A `servicekit.http.ReadyCheck`: raises RuntimeError before the consumer has joined."""
        if not self._started:
            raise RuntimeError("the command consumer is not connected to the broker")

    async def _on_message(self, message: KafkaMessage) -> None:
        record = _record(message)
        fields = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        with structlog.contextvars.bound_contextvars(**fields):
            await self._serve(record)
            try:
                await message.ack()
            except KafkaError as error:  # the partition went to another member, who serves it again
                log.warning("offset_not_committed", error=type(error).__name__)

    async def _serve(self, record: Record) -> None:
        key = None if record.key is None else record.key.decode("utf-8", "backslashreplace")
        try:
            message, command = codec.decode_as(record.value, _COMMANDS)
        except codec.DecodeError as error:
            message_id, command_id = _ids_of(record.value)
            await self._put_aside(record, error.code, str(error))
            if command_id is not None:
                with correlated(None) as correlation:
                    refused = CommandRefused(command_id=command_id, code=error.code, message=str(error))
                    await self._answers.answer(key, _envelope(refused, correlation, message_id))
            return
        with correlated(message.correlationid), structlog.contextvars.bound_contextvars(event_id=message.id):
            result = await self._result(record, command)
            await self._answers.answer(key, _envelope(result, message.correlationid, message.id))

    async def _result(self, record: Record, command: AnyCommand) -> AnyCommandResult:
        delay = _RETRY_FIRST_SECONDS
        while True:
            try:
                return await self._handlers.handle(command)
            except (Refused, IdempotencyConflict) as error:
                fields = {"command_id": command.command_id, "code": error.code, "message": error.message}
                return CommandRefused.model_validate({**error.details, **fields})
            except TimedOut as error:  # it would be ended again and hold up all behind it
                await self._put_aside(record, error.code, error.message)
                return CommandRefused(command_id=command.command_id, code=error.code, message=error.message)
            except Unavailable:
                log.warning("command_waits_for_database", retry_in_seconds=delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, _RETRY_MOST_SECONDS)
            except Exception:  # a fault of ours: trying again would hold up all behind it
                log.exception("command_failed", command_id=command.command_id)
                text = "Something failed here. It is logged, and the message is kept."
                await self._put_aside(record, "INTERNAL", text)
                return CommandRefused(command_id=command.command_id, code="INTERNAL", message=text)

    async def _put_aside(self, record: Record, code: str, message: str) -> None:
        log.warning("command_put_aside", code=code)
        DEAD_LETTERS.labels(code).inc()
        await self._dead_letters.put_aside(record, code, message)


def _envelope(result: AnyCommandResult, correlation: str | None, causation: str | None) -> codec.Envelope:
    return codec.envelope(
        result, source=SOURCE, time=datetime.now(UTC), correlationid=correlation, causationid=causation
    )


def _ids_of(value: bytes | None) -> tuple[str | None, str | None]:
    """The ids of the message and of the command in bytes that are no valid command, as far as they go."""
    if value is None or len(value) > codec.MAX_BYTES:
        return None, None
    try:
        document: Any = from_json(value)
        message_id, command_id = document["id"], document["data"]["command_id"]
        return str(message_id)[:128], _COMMAND_ID.validate_python(command_id)
    except (ValueError, TypeError, LookupError, ValidationError):
        return None, None


async def _parse(raw: Any, original: Callable[[Any], Awaitable[Any]]) -> Any:
    """FastStream's parser skips a record with a header that is not text, in silence: show it no headers."""
    message = await original(dataclasses.replace(raw, headers=()))
    message.raw_message = raw
    return message


async def _undecoded(message: Any) -> bytes:
    return cast("bytes", message.body)


def _record(message: KafkaMessage) -> Record:
    raw = cast("Any", message.raw_message)  # aiokafka ships no types
    return Record(
        topic=raw.topic,
        partition=raw.partition,
        offset=raw.offset,
        key=raw.key,
        value=raw.value,
        headers=tuple(raw.headers),
        timestamp_ms=raw.timestamp,
    )
