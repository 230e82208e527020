"""Commands over Kafka, served by share-command's own consumer in this process, whose clock is an argument."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from faststream.kafka import KafkaBroker

from contracts import codec, topics
from contracts.commands import AnyCommand, AnyCommandResult, CommandAccepted, CommandRefused
from servicekit.kafka import Admin, Producer, Reader
from share_command.consumer import CommandConsumer
from share_command.handlers import Handlers
from share_command.publisher import Publisher

_ANSWER_SECONDS = 25.0


class ByKafka:
    """Sends a command to ``share.commands`` and waits for its answer on ``share.command-results``."""

    def __init__(self, producer: Producer, prefix: str) -> None:
        self._producer, self._prefix = producer, prefix
        self._asked: dict[str, asyncio.Future[AnyCommandResult]] = {}

    async def ask(self, command: AnyCommand) -> AnyCommandResult:
        """The answer; raises TimeoutError when there is none."""
        message = codec.envelope(command, source="histories", time=datetime.now(UTC))
        answer: asyncio.Future[AnyCommandResult] = asyncio.get_running_loop().create_future()
        self._asked[message.id] = answer
        topic = self._prefix + topics.SHARE_COMMANDS.name
        await self._producer.send(topic, command.actor, codec.encode(message))
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await answer

    async def listen(self, reader: Reader) -> None:
        """Give each answer to who asked, until cancelled."""
        while True:
            for records in (await reader.getmany(timeout_ms=500, max_records=100)).values():
                for record in records:
                    message, result = codec.decode_as(record.value, (CommandAccepted, CommandRefused))
                    answer = self._asked.pop(message.causationid or "", None)
                    assert answer is not None, "an answer that nobody waits for, or a second one"
                    answer.set_result(result)


@asynccontextmanager
async def by_kafka(bootstrap: str, prefix: str, handlers: Handlers) -> AsyncGenerator[ByKafka]:
    """The way in, served; the topics are there."""
    consumer = CommandConsumer(
        broker=KafkaBroker(
            bootstrap, client_id="histories", consumer_only=True, allow_auto_create_topics=False, logger=None
        ),
        topic_prefix=prefix,
        handlers=handlers,
        answers=Publisher(bootstrap, prefix),
        dead_letters=Publisher(bootstrap, prefix),
    )
    places = await Admin(bootstrap).partitions([prefix + topics.COMMAND_RESULTS.name])
    async with Producer(bootstrap, "histories") as producer, Reader(bootstrap, places) as reader:
        way = ByKafka(producer, prefix)
        tasks = [asyncio.create_task(consumer.run()), asyncio.create_task(way.listen(reader))]
        try:
            yield way
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
