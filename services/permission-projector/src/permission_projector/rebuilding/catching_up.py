"""Brings a generation that is not live further, by the ordinary way of the projector."""

import asyncio
import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from contracts import topics
from permission_projector.consumer import Projector
from permission_projector.rebuilding.building import SQL, Generation, Log, Report, offsets, save_offsets
from permission_projector.rebuilding.folding import Entry
from permission_projector.rebuilding.log_reader import Span
from permission_projector.rebuilding.releasing import fold_again, replace
from permission_projector.records import UnreadableKeyError, read_device_key
from permission_projector.store import Store, Touched
from servicekit import pg
from servicekit.kafka import DeadLetters, Partition, Record

_BATCH: Final = 4_000


class _QuietStore(Store):
    """Wakes nobody: who follows the feed follows that of the live generation. That is further, and so are the
    deletions of accounts that were noted with it."""

    async def note_deletions(
        self, connection: pg.Connection, gone: Sequence[str], there: Sequence[str]
    ) -> list[str]:
        return []

    async def announce(self, connection: pg.Connection, touched: Touched) -> None:
        if touched != Touched():
            await connection.execute(
                SQL["append_change"],
                list(touched.devices), list(touched.devices.values()),
                sorted(touched.accounts | touched.lists), sorted(touched.contacts),
            )  # fmt: skip


class _NothingAside(DeadLetters):
    """Puts nothing aside: the live projector did."""

    def __init__(self) -> None:
        pass

    async def put(self, record: Record, code: str, message: str) -> None:
        pass


class CatchUp:
    """Applies records to ``generation``, the session's, each batch in a transaction with its offset."""

    def __init__(self, log: Log, connection: pg.Connection, generation: Generation, report: Report) -> None:
        self._log, self._connection, self._schema, self._report = log, connection, generation.schema, report
        self._projector = Projector(_QuietStore(), _NothingAside(), log.installation.prefix)
        self._keyed = {log.events, log.installation.name(topics.DIRECTORY_DEVICES)}

    async def reach(self, targets: Mapping[Partition, int], *, deadline: float = math.inf) -> int:
        """Apply what is between; how many offsets that was.

        The live generation has reached ``targets``: a key that cannot be read was passed by a person's hand.

        Raises:
            TimeoutError: ``deadline``, by the monotonic clock, has come; what was applied stays.
        """
        stored = await offsets(self._connection, self._schema)
        spans = {
            place: Span(stored.get(place, 0), until)
            for place, until in targets.items()
            if stored.get(place, 0) < until
        }
        total = sum(span.until - span.first for span in spans.values())
        if not spans:
            return 0
        applied = 0
        self._report("catching_up", records=applied, of=total)
        with contextlib.closing(self._log.reader.read(spans)) as batches:
            while (batch := await asyncio.to_thread(_next, batches)) is not None:
                place, entries = batch
                good = self._readable(place, entries)
                for begin in range(0, len(good), _BATCH):
                    await self._apply(place, good[begin : begin + _BATCH])
                applied += len(entries)
                self._report("catching_up", records=applied, of=total)
                if time.monotonic() > deadline:
                    raise TimeoutError
        await save_offsets(self._connection, {place: targets[place] for place in spans}, self._log.topic_ids)
        return total

    def _readable(self, place: Partition, entries: Sequence[Entry]) -> Sequence[Entry]:
        if place.topic not in self._keyed:
            return entries
        good: list[Entry] = []
        for entry in entries:
            with contextlib.suppress(UnreadableKeyError):
                read_device_key(entry.key)
                good.append(entry)
        return good

    async def _apply(self, place: Partition, entries: Sequence[Entry]) -> None:
        records = [
            Record(place.topic, place.number, offset, key, value, (), 0) for offset, key, value in entries
        ]
        async with self._connection.transaction():
            await save_offsets(self._connection, {place: entries[-1].offset + 1}, self._log.topic_ids)
            await self._projector.handle(self._connection, records)

    async def mend(self) -> int:
        """Fold released devices again that this generation still has in quarantine; how many."""
        rows = await self._connection.fetch(SQL["still_quarantined"], self._log.topic_ids[self._log.events])
        reached = await offsets(self._connection, self._schema)
        for row in rows:
            again = await fold_again(self._log, self._connection, row["device_id"], reached)
            async with self._connection.transaction():
                touched = await replace(self._connection, row["device_id"], again)
                await _QuietStore().announce(self._connection, touched)
        return len(rows)


def _next(batches: Iterator[tuple[Partition, list[Entry]]]) -> tuple[Partition, list[Entry]] | None:
    return next(batches, None)
