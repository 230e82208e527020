"""Records of one key in order, those of many at once; what is committable never passes what is unfinished."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicekit.kafka import Partition, Record
from share_command.lanes import Assigned, Lanes

PLACE = Partition("t", 0)


def record(offset: int, key: bytes | None, *, size: int = 1) -> Record:
    return Record(PLACE.topic, PLACE.number, offset, key, b"x" * size, (), 0)


class Served:
    """Serves nothing until it is told to; what it began, and the futures that finish it."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.acks: dict[int, asyncio.Future[None]] = {}
        self.paused: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.lanes = Lanes(
            self.serve,
            pause=lambda place: self.paused.append("pause"),
            resume=lambda place: self.paused.append("resume"),
        )

    async def serve(self, item: Record, assigned: Assigned) -> "asyncio.Future[None]":
        self.begun.append(item.offset)
        await self.gate.wait()
        ack = self.acks[item.offset] = asyncio.get_running_loop().create_future()
        return ack

    async def until(self, question: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not question():  # noqa: ASYNC110 - what is asked happens in many places
                await asyncio.sleep(0)


async def test_a_key_waits_for_its_own_only() -> None:
    served = Served()
    served.gate.clear()
    for offset, key in enumerate((b"a", b"a", b"b", None, None, b"c")):
        served.lanes.add(record(offset, key))
    await served.until(lambda: len(served.begun) == 4)
    assert sorted(served.begun) == [0, 2, 3, 5]
    served.gate.set()
    await served.until(lambda: len(served.begun) == 6)


async def test_the_next_of_a_key_begins_before_the_answer_is_acknowledged() -> None:
    served = Served()
    for offset in range(3):
        served.lanes.add(record(offset, b"a"))
    await served.until(lambda: len(served.acks) == 3)
    assert served.begun == [0, 1, 2]
    assert served.lanes.committable() == {}


@given(
    st.lists(st.sampled_from([b"a", b"b", None]), min_size=1, max_size=12).flatmap(
        lambda keys: st.tuples(st.just(keys), st.permutations(range(len(keys))))
    )
)
def test_committable_is_before_the_lowest_unfinished(drawn: tuple[list[bytes | None], list[int]]) -> None:
    keys, order = drawn

    async def run() -> None:
        served = Served()
        for offset, key in enumerate(keys):
            served.lanes.add(record(10 + offset, key))
        await served.until(lambda: len(served.acks) == len(keys))
        left = set(range(len(keys)))
        for number in order:
            served.acks[10 + number].set_result(None)
            left.discard(number)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            expected = min(left, default=len(keys))
            assert served.lanes.committable() == ({PLACE: 10 + expected} if expected else {})
        served.lanes.committed({PLACE: 10 + len(keys)})
        assert served.lanes.committable() == {}

    asyncio.run(run())


async def test_what_is_lost_is_neither_begun_nor_committed() -> None:
    served = Served()
    served.gate.clear()
    for offset in range(3):
        served.lanes.add(record(offset, b"a"))
    await served.until(lambda: served.begun == [0])
    served.lanes.lose({PLACE})
    served.gate.set()
    await served.until(lambda: 0 in served.acks)
    served.acks[0].set_result(None)
    await served.lanes.stop(1)
    assert served.begun == [0]
    assert served.lanes.committable() == {}


@pytest.mark.parametrize(("records", "size"), [(150, 1), (3, 900_000)])
async def test_a_partition_with_much_unfinished_is_paused_until_there_is_room(
    records: int, size: int
) -> None:
    served = Served()
    for offset in range(records):
        served.lanes.add(record(offset, str(offset).encode(), size=size))
    assert served.paused == ["pause"]
    await served.until(lambda: len(served.acks) == records)
    for offset in range(1, records):  # the lowest keeps the others remembered, but their bytes are let go
        served.acks[offset].set_result(None)
    await asyncio.sleep(0)
    served.acks[0].set_result(None)
    await served.until(lambda: served.paused == ["pause", "resume"])


async def test_one_that_fails_is_passed_over() -> None:
    async def fail(item: Record, assigned: Assigned) -> None:
        raise ValueError(item.offset)

    lanes = Lanes(fail, pause=lambda place: None, resume=lambda place: None)
    lanes.add(record(0, b"a"))
    await asyncio.wait_for(lanes.news.wait(), 5)
    assert lanes.committable() == {PLACE: 1}
