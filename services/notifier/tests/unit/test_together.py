"""Questions that come at one time are asked at once, and each gets its own answer."""

import asyncio
from collections.abc import Sequence

import pytest

from notifier.together import Together


async def test_what_comes_while_an_answer_is_on_its_way_shares_the_next() -> None:
    asked: list[list[int]] = []
    going = asyncio.Event()

    async def ask(numbers: Sequence[int]) -> Sequence[int]:
        asked.append(list(numbers))
        await going.wait()
        return [2 * number for number in numbers]

    together = Together(ask)
    tasks = [asyncio.create_task(together(1))]
    while not asked:  # noqa: ASYNC110 - until the first one is asked
        await asyncio.sleep(0)
    tasks += [asyncio.create_task(together(number)) for number in (2, 3, 4)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    going.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert asked == [[1], [2, 3, 4]]
    assert [done[0], done[1], done[3]] == [2, 4, 8]
    assert isinstance(done[2], asyncio.CancelledError)
    assert await together(5) == 10


async def test_what_went_wrong_is_told_to_all_who_asked_and_to_nobody_else() -> None:
    async def ask(numbers: Sequence[int]) -> Sequence[int]:
        if 0 in numbers:
            raise OSError
        return numbers

    together = Together(ask)
    for number in (0, 1):
        done = await asyncio.gather(together(number), together(2), return_exceptions=True)
        assert [isinstance(item, OSError) for item in done] == [number == 0] * 2
    with pytest.raises(OSError):
        await together(0)
