"""Reads what a topic holds, for tests that look at it afterwards."""

from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from servicekit.kafka import Record


def read_all(bootstrap: str, topic: str) -> list[Record]:
    """All records so far of a topic, partition by partition; blocks. Fails when the broker is silent."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "unused",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        ended: set[int | None] = set()
        records: list[Record] = []
        while len(ended) < len(partitions):
            message: Any = consumer.poll(10)
            assert message is not None, "the broker does not answer"
            error = message.error()
            if error is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error  # pyright: ignore[reportPrivateUsage] - its public name
                ended.add(message.partition())
                continue
            records.append(
                Record(
                    topic,
                    message.partition(),
                    message.offset(),
                    message.key(),
                    message.value(),
                    tuple(message.headers() or ()),
                    message.timestamp()[1],
                )
            )
        return sorted(records, key=lambda record: (record.partition, record.offset))
    finally:
        consumer.close()
