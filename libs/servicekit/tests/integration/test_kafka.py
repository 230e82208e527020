"""What a client does of a broker that answers, and serves nobody."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from servicekit.kafka import Consumer, KafkaError, Partition, Producer, Reader

API_VERSIONS, METADATA = 18, 3


@asynccontextmanager
async def stopping_broker() -> AsyncGenerator[str]:
    """One that has left its cluster and not closed its port yet: asked for the brokers, it knows of none."""
    answers = {
        API_VERSIONS: struct.pack(">hi3h3h", 0, 2, METADATA, 0, 1, API_VERSIONS, 0, 0),
        METADATA: struct.pack(">iii", 0, -1, 0),
    }

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                kind, _, correlation = struct.unpack_from(">hhi", await reader.readexactly(size))
                answer = struct.pack(">i", correlation) + answers[kind]
                writer.write(struct.pack(">i", len(answer)) + answer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_a_producer_is_told_and_does_not_wait_for_ever() -> None:
    async with stopping_broker() as bootstrap:
        with pytest.raises(KafkaError, match="starting or stopping"):
            async with asyncio.timeout(10), Producer(bootstrap, "test"):
                raise AssertionError("there is nobody to send to")


async def test_a_consumer_is_told_and_does_not_wait_for_ever() -> None:
    async def ignore(_places: set[Partition]) -> None: ...

    async with stopping_broker() as bootstrap:
        consumer = Consumer(bootstrap, group="test", topics=["t"], assigned=ignore, revoked=ignore)
        with pytest.raises(KafkaError, match="starting or stopping"):
            async with asyncio.timeout(10), consumer:
                raise AssertionError("there is nobody to read from")


def producer(bootstrap: str) -> Producer:
    return Producer(bootstrap, "test")


def reader(bootstrap: str) -> Reader:
    return Reader(bootstrap, [])


@pytest.mark.parametrize("made", [producer, reader])
async def test_who_gives_up_while_connecting_leaves_no_connection(
    made: Callable[[str], Producer | Reader],
) -> None:
    """With a broker that is slow to say which brokers there are: `stop` of a service that just starts."""
    asked, left = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while size := await reader.read(4):
            kind, _, correlation = struct.unpack_from(">hhi", await reader.readexactly(int.from_bytes(size)))
            if kind == METADATA:
                asked.set()
                continue
            answer = struct.pack(">ihi3h3h", correlation, 0, 2, METADATA, 0, 1, API_VERSIONS, 0, 0)
            writer.write(struct.pack(">i", len(answer)) + answer)
        left.set()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        client = made(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        starting = asyncio.create_task(client.__aenter__())
        async with asyncio.timeout(10):
            await asked.wait()
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            await left.wait()
