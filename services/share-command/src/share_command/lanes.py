"""Serves the records of many keys at once, those of one key in order, and knows what may be committed."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from servicekit.kafka import Partition, Record
from servicekit.logging import get_logger

log = get_logger(__name__)

_MOST_OPEN, _OPEN_AGAIN = 100, 50
_MOST_BYTES = 2_000_000


@dataclass(slots=True, eq=False)
class _Entry:
    record: Record
    finished: bool = False


@dataclass(slots=True, eq=False)
class Assigned:
    """A partition while it is this member's. ``lost``: it is no more, begin nothing for it."""

    lost: bool = False
    entries: deque[_Entry] = field(default_factory=deque[_Entry])
    lanes: dict[bytes | None, deque[_Entry]] = field(default_factory=dict[bytes | None, deque[_Entry]])
    waiting_bytes: int = 0
    paused: bool = False
    next_offset: int | None = None
    committed: int | None = None


Serve: TypeAlias = Callable[[Record, Assigned], Awaitable["asyncio.Future[None] | None"]]
"""Serves a record; what it returns is done when the record is finished. The next of its key begins before."""


class Lanes:
    """A lane for each key of each partition; records without a key share one lane of their partition.

    A partition in which much is open (one key is slow, or cannot be finished at all) is paused, so that what
    is remembered of it stays bounded and the others go on. ``news`` is set when `committable` has changed.
    """

    def __init__(
        self, serve: Serve, *, pause: Callable[[Partition], None], resume: Callable[[Partition], None]
    ) -> None:
        self._serve, self._pause, self._resume = serve, pause, resume
        self._partitions: dict[Partition, Assigned] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unfinished: set[asyncio.Future[None]] = set()
        self._stopping = False
        self.news = asyncio.Event()

    def add(self, record: Record) -> None:
        """Serve a record after those of its key; those of a partition come in order of their offsets."""
        place = Partition(record.topic, record.partition)
        assigned = self._partitions.setdefault(place, Assigned())
        entry = _Entry(record)
        assigned.entries.append(entry)
        assigned.waiting_bytes += len(record.value or b"")
        lane = assigned.lanes.get(record.key)
        if lane is not None:
            lane.append(entry)
        else:
            assigned.lanes[record.key] = deque([entry])
            task = asyncio.create_task(self._run(place, assigned, record.key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if not assigned.paused and (
            len(assigned.entries) >= _MOST_OPEN or assigned.waiting_bytes >= _MOST_BYTES
        ):
            assigned.paused = True
            self._pause(place)

    def committable(self) -> dict[Partition, int]:
        """The offset after the last record before which all are finished, where it is not committed yet."""
        return {
            place: assigned.next_offset
            for place, assigned in self._partitions.items()
            if assigned.next_offset is not None and assigned.next_offset != assigned.committed
        }

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """These are stored."""
        for place, offset in offsets.items():
            if place in self._partitions:
                self._partitions[place].committed = offset

    def lose(self, places: Iterable[Partition]) -> None:
        """These are another member's from now on: what is not begun is dropped, nothing is committable."""
        for place in places:
            assigned = self._partitions.pop(place, None)
            if assigned is not None:
                assigned.lost = True

    async def stop(self, seconds: float) -> None:
        """Begin nothing more, and give what has begun so long to finish."""
        self._stopping = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        if self._unfinished:
            await asyncio.wait(self._unfinished, timeout=seconds)

    async def _run(self, place: Partition, assigned: Assigned, key: bytes | None) -> None:
        lane = assigned.lanes[key]
        while lane and not assigned.lost and not self._stopping:
            entry = lane[0]
            try:
                unfinished = await self._serve(entry.record, assigned)
            except Exception:  # it is passed over, else it would hold up its partition for ever
                log.exception("record_passed_over", topic=place.topic, partition=place.number,
                              offset=entry.record.offset)  # fmt: skip
                unfinished = None
            lane.popleft()
            if unfinished is None:
                self._finish(place, assigned, entry)
            else:
                self._unfinished.add(unfinished)
                unfinished.add_done_callback(partial(self._on_done, place, assigned, entry))
        if not lane:
            del assigned.lanes[key]

    def _on_done(
        self, place: Partition, assigned: Assigned, entry: _Entry, unfinished: "asyncio.Future[None]"
    ) -> None:
        self._unfinished.discard(unfinished)
        if unfinished.cancelled():
            return
        error = unfinished.exception()
        if error is not None:
            log.error("answer_lost", topic=place.topic, partition=place.number, offset=entry.record.offset,
                      error=type(error).__name__)  # fmt: skip
        self._finish(place, assigned, entry)

    def _finish(self, place: Partition, assigned: Assigned, entry: _Entry) -> None:
        entry.finished = True
        assigned.waiting_bytes -= len(entry.record.value or b"")
        while assigned.entries and assigned.entries[0].finished:
            assigned.next_offset = assigned.entries.popleft().record.offset + 1
            self.news.set()
        if (
            assigned.paused
            and not assigned.lost
            and len(assigned.entries) <= _OPEN_AGAIN
            and assigned.waiting_bytes < _MOST_BYTES
        ):
            assigned.paused = False
            self._resume(place)
