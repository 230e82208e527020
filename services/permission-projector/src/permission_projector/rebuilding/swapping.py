"""Puts another generation in the place of the live one, in an instant that readers do not notice.

Whoever writes waits meanwhile. What the live one is ahead is applied to the other one and committed; then the
swap waits for the statements that began before that, so that none of them, finding the other tables, sees
them without it; then both schemas are renamed.
"""

import asyncio
import time
from typing import Final

import asyncpg

from permission_projector.generation import LIVE, TURN_ALONE, schema_of
from permission_projector.rebuilding.building import SQL, Generation, Log, live_generation, offsets
from permission_projector.rebuilding.catching_up import CatchUp
from servicekit import pg

MOST_BETWEEN: Final = 2_000
"""Records that may be left to apply while the writers wait."""

_MOST_SECONDS: Final = 1.0
_READERS_SECONDS: Final = 0.3
"""Statements of a gateway and of the read API take less; who reads longer reads a past of his own anyway."""


class TooFarBehindError(RuntimeError):
    """The other generation is too far behind to keep the writers waiting for it: it goes on catching up."""


async def swap(
    log: Log, catching_up: CatchUp, other: pg.Connection, generation: Generation
) -> tuple[int, float]:
    """Make ``generation``, whose session is ``other``, the live one.

    Answers the number of the former live one and for how many seconds writers have waited.

    Raises:
        TooFarBehindError: see there. Nothing has changed.
    """
    turn = await log.installation.connect(LIVE, durable=True)
    try:
        async with turn.transaction():
            await turn.execute(SQL["bound_turn"])
            try:
                await turn.execute(TURN_ALONE)
            except asyncpg.LockNotAvailableError:
                raise TooFarBehindError("somebody has been writing for a second") from None
            begun = time.monotonic()
            live = await live_generation(turn)
            targets = await offsets(turn, LIVE, log.topic_ids)
            reached = await offsets(other, generation.schema)
            between = sum(max(until - reached.get(place, 0), 0) for place, until in targets.items())
            if between > MOST_BETWEEN:
                raise TooFarBehindError(f"{between} records are still to be applied")
            try:
                await catching_up.reach(targets, deadline=begun + _MOST_SECONDS)
            except TimeoutError:
                raise TooFarBehindError("the rest took longer than a second to apply") from None
            if await catching_up.mend():
                raise TooFarBehindError("a device was released meanwhile")
            await _readers_gone(turn, other)
            reached = await offsets(other, generation.schema)
            behind = [place for place, until in targets.items() if reached.get(place, 0) < until]
            if behind:
                raise TooFarBehindError(f"{len(behind)} partitions are behind those of the live generation")
            await turn.execute(SQL["rename"].format(former=LIVE, schema=schema_of(live.number)))
            await turn.execute(SQL["rename"].format(former=generation.schema, schema=LIVE))
            await turn.execute(SQL["notify"])
        return live.number, time.monotonic() - begun
    finally:
        await turn.close()


async def _readers_gone(turn: pg.Connection, other: pg.Connection) -> None:
    """Wait until the transactions that are under way now have ended, but not for long ones."""
    own = [await session.fetchval(SQL["pid"]) for session in (turn, other)]
    deadline = time.monotonic() + _READERS_SECONDS
    left = {row["virtualxid"] for row in await turn.fetch(SQL["readers"], own)}
    while left and time.monotonic() < deadline:
        await asyncio.sleep(0.002)
        left &= {row["virtualxid"] for row in await turn.fetch(SQL["readers"], own)}
