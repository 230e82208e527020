"""The verbs ``replay``, ``verify`` and ``swap``: a generation from the topics, compared, and put in place.

What is read goes exactly as far as the live generation is, so that both can be compared. Where that makes no
sense, because the live one is of another release or was read from former topics, it goes to the end of the
log, and there is nothing to compare with.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from contracts import topics
from permission_projector import generation as tables
from permission_projector.generation import LIVE, SHAPE, schema_of
from permission_projector.rebuilding.building import (
    SQL,
    Generation,
    Installation,
    Log,
    RebuildError,
    Report,
    alone,
    drop,
    ends,
    generation_of,
    is_of,
    live_generation,
    new_unfinished,
    offsets,
    released,
)
from permission_projector.rebuilding.catching_up import CatchUp
from permission_projector.rebuilding.comparing import KEYS, Comparison, Side, compare
from permission_projector.rebuilding.filling import PROCESSES, Source, fill
from permission_projector.rebuilding.log_reader import Span
from permission_projector.rebuilding.swapping import MOST_BETWEEN, TooFarBehindError, swap
from servicekit import pg
from servicekit.kafka import Partition

_SWAP_ATTEMPTS: Final = 20
_LIVE_SECONDS: Final = 30.0
"""How long is waited for a live generation that is behind the one that it is compared with."""

_POLL_SECONDS: Final = 0.2
_OF_FORMER_TOPICS: Final = (
    "was read from topics that are no more. Build a new one: permission-projector replay"
)


@dataclass(frozen=True, slots=True)
class Options:
    """``rate``: at most so many records a second are read. ``most``: so many differences are shown."""

    rate: float | None = None
    processes: int = PROCESSES
    most: int = 20
    force: bool = False
    swap: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it. ``comparison``: None when there was nothing to compare with.

    ``number``: of the generation that was built or asked for. After a swap ``live`` is that of the live one,
    ``former`` of the one before, and ``waited`` the seconds for which writers had to wait for it.
    """

    comparison: Comparison | None
    number: int | None = None
    live: int | None = None
    former: int | None = None
    waited: float | None = None


async def replay(installation: Installation, options: Options, report: Report) -> Result:
    """Build a new generation beside the live one, compare, and swap.

    Raises:
        RebuildError: it could not be done.
    """
    async with alone(installation) as connection:
        topic_ids = await installation.topic_ids()
        comparable = await _is_comparable(connection, topic_ids)
        source = await _source(installation, connection, topic_ids, to_live=comparable)
        schema, number = await _filled(installation, connection, source, options, report)
        report("indexing")
        async with connection.transaction():
            await tables.create_indexes(connection, schema)
        for table in KEYS:
            await connection.execute(SQL["settle"].format(schema=schema, table=table))
        finished = Generation(schema_of(number), number, SHAPE)
        await connection.execute(SQL["rename"].format(former=schema, schema=finished.schema))
        with installation.reader() as reader:
            return await _take_over(Log(installation, reader, topic_ids), finished, options, report)


async def put_in_place(installation: Installation, number: int, options: Options, report: Report) -> Result:
    """Swap a generation in that was built before, or was live before: it catches up first.

    Raises:
        RebuildError: it could not be done.
    """
    async with alone(installation) as connection:
        generation = await generation_of(connection, number)
        if generation.is_live:
            raise RebuildError(f"Generation {number} is the live one.")
        generation.require_shape()
        topic_ids = await installation.topic_ids()
        if not await is_of(connection, generation.schema, topic_ids):
            raise RebuildError(f"Generation {number} {_OF_FORMER_TOPICS}")
        with installation.reader() as reader:
            return await _take_over(Log(installation, reader, topic_ids), generation, options, report)


async def verify(installation: Installation, options: Options, report: Report) -> Result:
    """Compare the live generation with a fold of the topics, exactly as far as it is.

    Raises:
        RebuildError: it could not be done.
    """
    async with alone(installation) as connection:
        snapshot = await installation.connect(LIVE)
        try:
            async with snapshot.transaction(isolation="repeatable_read", readonly=True):
                live = await live_generation(snapshot)
                live.require_shape()
                topic_ids = await installation.topic_ids()
                if not await is_of(snapshot, LIVE, topic_ids):
                    raise RebuildError(f"The live generation {_OF_FORMER_TOPICS}")
                source = await _source(installation, snapshot, topic_ids, to_live=True)
                schema, _ = await _filled(installation, connection, source, options, report)
                try:
                    one, other = Side("live", snapshot, LIVE), Side("log", connection, schema)
                    comparison = await compare(one, other, most=options.most, report=report)
                finally:
                    await asyncio.shield(drop(connection, schema))
                return Result(comparison, live=live.number)
        finally:
            await snapshot.close()


async def _filled(
    installation: Installation, connection: pg.Connection, source: Source, options: Options, report: Report
) -> tuple[str, int]:
    """Schema and number of a new generation that has its rows, and no index."""
    schema, number = await new_unfinished(connection)
    async with connection.transaction():
        await tables.create_tables(connection, schema, number)
    try:
        await fill(
            installation, connection, schema, source,
            report=report, rate=options.rate, processes=options.processes,
        )  # fmt: skip
    except BaseException:
        report("dropping")
        await asyncio.shield(drop(connection, schema))
        raise
    return schema, number


async def _is_comparable(connection: pg.Connection, topic_ids: Mapping[str, str]) -> bool:
    live = await live_generation(connection)
    return live.shape == SHAPE and await is_of(connection, LIVE, topic_ids)


async def _source(
    installation: Installation, connection: pg.Connection, topic_ids: Mapping[str, str], *, to_live: bool
) -> Source:
    """What is to be read; ``connection`` sees the live generation."""
    places = await installation.partitions()
    live = await offsets(connection, LIVE, topic_ids)
    there = await ends(installation, places)
    spans = {
        place: Span(min(span.first, live.get(place, 0)), live.get(place, 0)) if to_live else span
        for place, span in there.items()
    }
    let_go = await released(connection, topic_ids[installation.name(topics.SHARE_EVENTS)])
    return Source(topic_ids, spans, live, let_go)


async def _take_over(log: Log, generation: Generation, options: Options, report: Report) -> Result:
    """Catch up, compare unless there is nothing to compare with, swap."""
    connection = await log.installation.connect(generation.schema)
    try:
        take_over = _TakeOver(log, connection, generation, report)
        await take_over.catch_up()
        comparison = await take_over.compared(options.most)
        different = comparison is not None and not comparison.is_equal
        if not options.swap or (different and not options.force):
            return Result(comparison, number=generation.number)
        former, waited = await take_over.swapped()
        return Result(comparison, generation.number, generation.number, former, waited)
    finally:
        await connection.close()


class _TakeOver:
    def __init__(self, log: Log, connection: pg.Connection, generation: Generation, report: Report) -> None:
        self._log, self._connection, self._generation, self._report = log, connection, generation, report
        self._catching_up = CatchUp(log, connection, generation, report)

    async def catch_up(self) -> None:
        """Apply what the live generation is ahead, until that is little."""
        while await self._catching_up.reach(await self._live_offsets()) > MOST_BETWEEN // 2:
            pass
        await self._catching_up.mend()

    async def _live_offsets(self) -> dict[Partition, int]:
        return await offsets(self._connection, LIVE, self._log.topic_ids)

    async def compared(self, most: int) -> Comparison | None:
        """Compare with the live one as it is at one moment, and this one brought exactly there."""
        if not await _is_comparable(self._connection, self._log.topic_ids):
            return None
        schema = self._generation.schema
        snapshot = await self._log.installation.connect(LIVE)
        try:
            deadline = time.monotonic() + _LIVE_SECONDS
            while True:
                async with snapshot.transaction(isolation="repeatable_read", readonly=True):
                    targets = await offsets(snapshot, LIVE)
                    reached = await offsets(self._connection, schema)
                    if all(targets.get(place, 0) >= offset for place, offset in reached.items()):
                        await self._catching_up.reach(targets)
                        await self._catching_up.mend()
                        one = Side("live", snapshot, LIVE)
                        other = Side("new", self._connection, schema)
                        return await compare(one, other, most=most, report=self._report)
                if time.monotonic() > deadline:
                    raise RebuildError(
                        f"The live generation is behind generation {self._generation.number} and does not "
                        "move, so that they cannot be compared. Start the projector, then: "
                        f"permission-projector swap {self._generation.number}"
                    )
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            await snapshot.close()

    async def swapped(self) -> tuple[int, float]:
        """Swap, as soon as that takes nobody long."""
        for _ in range(_SWAP_ATTEMPTS):
            self._report("swapping")
            try:
                return await swap(self._log, self._catching_up, self._connection, self._generation)
            except TooFarBehindError as error:
                self._report("swap_put_off", reason=str(error))
                await self.catch_up()
        raise RebuildError(
            f"More arrives than can be applied. Generation {self._generation.number} is kept; later: "
            f"permission-projector swap {self._generation.number}"
        )
