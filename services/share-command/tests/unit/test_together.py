"""Commands that wait go together, those with a key in common in order, and none is left behind."""

import asyncio
from collections.abc import Sequence

import pytest

from contracts.commands import CommandAccepted, RequestShare, ResendInvitation
from share_command.handlers.together import Entry, Together


def request(command_id: str, device: str, actor: str) -> RequestShare:
    return RequestShare(command_id=command_id, actor=actor, device_ids=(device,), recipients=("ann@x.test",))


def done(entries: Sequence[Entry]) -> None:
    for entry in entries:
        entry.answer.set_result(CommandAccepted(command_id=entry.command.command_id))


@pytest.mark.parametrize("steps", range(8))
async def test_nobody_is_left_waiting(steps: int) -> None:
    """Commands that come so many turns of the loop after two workers have had their answers."""
    release = asyncio.Event()

    async def run(entries: Sequence[Entry]) -> None:
        await release.wait()
        done(entries)

    together = Together(run)

    def ask(number: int) -> asyncio.Task[CommandAccepted]:
        return asyncio.create_task(together.answer(request(f"{number}", "d", "o")))

    asked = [ask(number) for number in range(2)]  # one key: a worker for each
    for _ in range(5):
        await asyncio.sleep(0)
    release.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    asked += [ask(number) for number in range(2, 4)]
    async with asyncio.timeout(5):
        await asyncio.gather(*asked)


async def test_those_with_a_key_in_common_keep_their_order() -> None:
    batches: list[list[str]] = []
    release = asyncio.Event()

    async def run(entries: Sequence[Entry]) -> None:
        batches.append([entry.command.command_id for entry in entries])
        await release.wait()
        done(entries)

    together = Together(run)
    tasks = [
        asyncio.create_task(together.answer(request(name, device, actor)))
        for name, device, actor in [
            ("a", "d1", "o1"), ("b", "d2", "o2"), ("c", "d1", "o3"), ("d", "d1", "o1"), ("e", "d3", "o3"),
        ]
    ]  # fmt: skip
    tasks.append(
        asyncio.create_task(
            together.answer(
                ResendInvitation.model_validate(
                    {"command_id": "f", "actor": "o9", "device_id": "d9",
                     "share_id": "0199a000-0000-7000-8000-000000000001"}
                )
            )
        )
    )  # fmt: skip
    await asyncio.sleep(0)
    release.set()
    async with asyncio.timeout(20):
        await asyncio.gather(*tasks)
    place = {name: number for number, batch in enumerate(batches) for name in batch}
    assert place["a"] < place["c"] < place["d"], "one device"
    assert place["c"] < place["e"], "one actor"
    assert [batch for batch in batches if "f" in batch] == [["f"]], "what cannot be shared goes alone"


async def test_one_that_waits_long_holds_up_no_other() -> None:
    stuck, begun = asyncio.Event(), 0

    async def run(entries: Sequence[Entry]) -> None:
        nonlocal begun
        begun += len(entries)
        if any(entry.command.command_id.startswith("stuck") for entry in entries):
            await stuck.wait()
        done(entries)

    together = Together(run)
    waiting: list[asyncio.Task[CommandAccepted]] = []
    async with asyncio.timeout(20):
        for number in range(5):
            command = request(f"stuck{number}", f"s{number}", f"s{number}")
            waiting.append(asyncio.create_task(together.answer(command)))
        while begun < 5:  # noqa: ASYNC110 - begun by other tasks
            await asyncio.sleep(0.01)
        await together.answer(request("free", "d", "o"))
    assert not any(task.done() for task in waiting)
    stuck.set()
    await asyncio.gather(*waiting)
