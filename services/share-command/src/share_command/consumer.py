"""Commands from Kafka (``share.commands``): same handlers as over HTTP, an answer for each.

Commands of many keys are served at once, those of one key in order, and so are their answers. At least once:
an offset is committed after the answers to all before it were acknowledged, and a command id makes a repeat
harmless. While the database or the broker is away, the commands at hand are tried again and none behind them
of their keys is begun.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from contracts import codec, topics
from contracts.base import CommandId
from contracts.commands import COMMAND_TYPES, AnyCommand, AnyCommandResult, CommandRefused
from servicekit.kafka import KafkaError, Membership, Partition, RebalanceListener, Record, record_of
from servicekit.logging import get_logger
from servicekit.telemetry import correlated
from share_command.errors import IdempotencyConflict, RateLimited, Refused, TimedOut, Unavailable
from share_command.handlers import Handlers
from share_command.lanes import Assigned, Lanes
from share_command.metrics import DEAD_LETTERS
from share_command.publisher import Publisher
from share_command.store import SOURCE

log = get_logger(__name__)

_COMMAND_ID: TypeAdapter[str] = TypeAdapter(CommandId)

_AT_ONCE = 32
_TAKEN_TOGETHER = 64
_COMMIT_SECONDS = 0.5
"""What a crash leaves uncommitted is answered again, from what is stored: a commit costs the broker too."""

_REVOKE_SECONDS = 2.0
_STOP_SECONDS = 2.0
_RETRY_FIRST_SECONDS, _RETRY_MOST_SECONDS = 0.2, 5.0


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
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._committing = asyncio.Lock()
        self._lanes = Lanes(
            self._serve,
            pause=lambda place: self._membership().pause(place),
            resume=lambda place: self._membership().resume(place),
        )
        self._subscriber = broker.subscriber(
            topic_prefix + topics.SHARE_COMMANDS.name,
            group_id=f"{topic_prefix}{SOURCE}",
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.MANUAL,  # the default commits before the handler has run
            heartbeat_interval_ms=1_000,
            listener=RebalanceListener(_nothing, self._revoked),
            parser=_parse,
            decoder=_whole,
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
        committer = asyncio.create_task(self._commit_for_ever())
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
            await asyncio.wait({*self._subscriber.tasks, committer}, return_when=asyncio.FIRST_COMPLETED)
            raise RuntimeError("the consuming task has died")
        finally:
            committer.cancel()
            await self._lanes.stop(_STOP_SECONDS)
            if self._started:
                await self._commit(_STOP_SECONDS)
            self._started = False
            await self._broker.stop()
            await self._answers.close()
            await self._dead_letters.close()

    async def healthy(self) -> None:
        """A `servicekit.http.ReadyCheck`: raises RuntimeError before the consumer has joined."""
        if not self._started:
            raise RuntimeError("the command consumer is not connected to the broker")

    async def _on_message(self, record: Any) -> None:
        """Take a record, and with it what has arrived behind it: it is served beside the consuming.

        It asks FastStream for nothing but the decoded body: each further argument is looked up in a thread.
        """
        self._lanes.add(record)
        try:
            arrived = await self._membership().getmany(timeout_ms=0, max_records=_TAKEN_TOGETHER)
        except KafkaError as error:  # the next message meets it again
            log.warning("nothing_fetched", error=type(error).__name__)
            return
        for records in arrived.values():
            for other in records:
                self._lanes.add(other)

    def _membership(self) -> Membership:
        return Membership(self._subscriber.consumer)

    async def _commit_for_ever(self) -> None:
        while True:
            await self._lanes.news.wait()
            self._lanes.news.clear()
            if not await self._commit():
                self._lanes.news.set()
            await asyncio.sleep(_COMMIT_SECONDS)

    async def _commit(self, seconds: float | None = None) -> bool:
        """Whether all that is finished is committed, within so many seconds."""
        try:
            async with asyncio.timeout(seconds), self._committing:
                offsets = self._lanes.committable()
                if offsets:
                    await self._membership().commit(offsets)
                    self._lanes.committed(offsets)
        except (KafkaError, TimeoutError) as error:  # it is served again, by us or by who has it then
            log.warning("offset_not_committed", error=type(error).__name__)
            return False
        return True

    async def _revoked(self, places: set[Partition]) -> None:
        await self._commit(_REVOKE_SECONDS)
        self._lanes.lose(places)

    async def _serve(self, record: Record, assigned: Assigned) -> "asyncio.Future[None] | None":
        """Serve one record; the answer's acknowledgement, if it has one."""
        place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        key = None if record.key is None else record.key.decode("utf-8", "backslashreplace")
        try:
            message, command = codec.decode_as(record.value, COMMAND_TYPES)
        except codec.DecodeError as error:
            with correlated(None, **place) as correlation:
                message_id, command_id = _ids_of(record.value)
                await self._put_aside(record, error.code, str(error))
                if command_id is None:
                    return None
                refused = CommandRefused(command_id=command_id, code=error.code, message=str(error))
                return self._answers.answer(key, _envelope(refused, correlation, message_id))
        with correlated(message.correlationid, event_id=message.id, **place):
            result = await self._result(record, command, assigned)
            if result is None or assigned.lost:  # whoever has the partition now answers
                return None
            return self._answers.answer(key, _envelope(result, message.correlationid, message.id))

    async def _result(
        self, record: Record, command: AnyCommand, assigned: Assigned
    ) -> AnyCommandResult | None:
        """The answer to a command; none when the partition was lost before there was one."""
        delay = _RETRY_FIRST_SECONDS
        while not assigned.lost:
            try:
                async with self._slots:
                    return await self._handlers.handle(command)
            except (Refused, IdempotencyConflict, RateLimited) as error:
                return _refused(command, error)
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
        return None

    async def _put_aside(self, record: Record, code: str, message: str) -> None:
        log.warning("command_put_aside", code=code)
        DEAD_LETTERS.labels(code).inc()
        await self._dead_letters.put_aside(record, code, message)


async def _nothing(_assigned: set[Partition]) -> None: ...


def _refused(command: AnyCommand, error: Refused | IdempotencyConflict | RateLimited) -> CommandRefused:
    fields = {"command_id": command.command_id, "code": error.code, "message": error.message}
    return CommandRefused.model_validate({**error.details, **fields})


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


async def _whole(message: Any) -> Record:
    """A record is decoded where a bad one can be put aside, with its key and its headers."""
    return record_of(message.raw_message)
