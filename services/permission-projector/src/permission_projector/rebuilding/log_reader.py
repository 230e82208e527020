"""Reads spans of partitions as fast as the machine allows, by librdkafka. In no group; stores no offset."""

import time
from collections.abc import Generator, Mapping
from types import TracebackType
from typing import Final, NamedTuple, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from permission_projector.rebuilding.folding import Entry
from servicekit.kafka import Partition

_AT_ONCE: Final = 10_000
_SILENT_SECONDS: Final = 30.0
_ASK_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.5

_Place = tuple[str, int]


class Span(NamedTuple):
    """Offsets of a partition: from ``first`` up to ``until``, which is not part of it."""

    first: int
    until: int


class LogReadError(RuntimeError):
    """The broker does not give what it should have; the message says what."""


class LogReader:
    """Reads committed records of partitions. Blocks its thread. A context manager."""

    def __init__(self, bootstrap: str, group: str) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,  # it must have one, and joins none: it is assigned by hand
                "client.id": group,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "fetch.queue.backoff.ms": 5,
                "fetch.wait.max.ms": 10,  # else the next partition waits for the fetch of the one before
                "queued.max.messages.kbytes": 32_768,
                "log_level": 0,
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def whole(self, place: Partition) -> Span:
        """From the first record that the broker still has to the end of the last committed one.

        Raises:
            LogReadError: the broker does not answer.
        """
        try:
            first, until = self._consumer.get_watermark_offsets(
                TopicPartition(place.topic, place.number), timeout=_ASK_SECONDS
            )
        except KafkaException as error:
            raise LogReadError(f"The broker does not tell the offsets of {place.topic}: {error}") from None
        return Span(first, until)

    def read(self, spans: Mapping[Partition, Span]) -> Generator[tuple[Partition, list[Entry]]]:
        """The records of ``spans``: those of each partition in their order, some thousand at a time.

        Raises:
            LogReadError: the broker does not answer, or a log ends before its span does.
        """
        left = {(place.topic, place.number): span for place, span in spans.items() if span.first < span.until}
        if not left:
            return
        self._consumer.assign([TopicPartition(*place, span.first) for place, span in left.items()])
        heard = time.monotonic()
        try:
            while left:
                found, over = _sorted(self._messages(), left)
                for place, entries in found.items():
                    yield Partition(*place), entries
                for place in over:
                    del left[place]
                if over and left:
                    self._consumer.incremental_unassign([TopicPartition(*place) for place in over])
                if found or over:
                    heard = time.monotonic()
                elif time.monotonic() - heard > _SILENT_SECONDS:
                    raise LogReadError("The broker has given nothing for half a minute.")
        except KafkaException as error:
            raise LogReadError(f"The broker does not give its records: {error}") from None
        finally:
            self._consumer.unassign()

    def _messages(self) -> list[Message]:
        """What has come, and if nothing has, what comes next: to wait for many is to wait for all of them."""
        messages = self._consumer.consume(_AT_ONCE, 0)
        if not messages and (message := self._consumer.poll(_POLL_SECONDS)) is not None:
            return [message]
        return messages


def _sorted(
    messages: list[Message], left: Mapping[_Place, Span]
) -> tuple[dict[_Place, list[Entry]], set[_Place]]:
    """The records that are in their spans, by partition, and the partitions whose span is over.

    Raises:
        LogReadError: an error that does not pass, or the end of too short a log.
    """
    found: dict[_Place, list[Entry]] = {}
    over: set[_Place] = set()
    for message in messages:
        place, offset = (message.topic() or "", message.partition() or 0), message.offset() or 0
        span = left.get(place)
        error = message.error()
        if error is not None:
            if _is_end(error, place, offset, span):
                over.add(place)
        elif span is not None:
            if offset < span.until:
                found.setdefault(place, []).append(Entry(offset, message.key(), message.value()))
            if offset >= span.until - 1:
                over.add(place)
    return found, over


def _is_end(error: KafkaError, place: _Place, offset: int, span: Span | None) -> bool:
    """Whether it is the end of a partition that is read; raises as `_sorted`."""
    if error.code() != KafkaError._PARTITION_EOF:  # pyright: ignore[reportPrivateUsage] - its only name
        if error.fatal() or (span is not None and not error.retriable()):
            raise LogReadError(f"The broker does not give its records: {error.str()}")
        return False
    if span is not None and offset < span.until:
        raise LogReadError(
            f"{place[0]} ends at {offset} in partition {place[1]}, and {span.until} was expected: records "
            "that were applied are gone from the broker."
        )
    return span is not None
