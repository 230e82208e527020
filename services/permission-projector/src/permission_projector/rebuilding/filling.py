"""Fills the empty tables of a generation from the topics, with several processes, each a partition at a time.

What one process holds in memory is what one partition leaves behind; a partition with many events is read
several times, each time for a part of its devices.
"""

import asyncio
import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from contracts import topics
from permission_projector.rebuilding.building import (
    SQL,
    Installation,
    RebuildError,
    Report,
    save_offsets,
)
from permission_projector.rebuilding.folding import (
    DeviceFold,
    Entry,
    Fault,
    Part,
    Row,
    SnapshotFold,
    Stopped,
    StreamFold,
    account_fold,
    account_rows,
    contact_fold,
    contact_rows,
)
from permission_projector.rebuilding.log_reader import LogReader, LogReadError, Span
from permission_projector.records import DeviceWatermark, UnreadableError, read_watermark
from permission_projector.store import KEPT_WATERMARKS, Store
from servicekit import pg
from servicekit.kafka import Partition

PROCESSES: Final = 2
PART_EVENTS: Final = 500_000
"""A partition with more events than these is folded in parts of at most so many."""

_COPY_ROWS: Final = 20_000
_LOOK_SECONDS: Final = 0.1
_NICENESS: Final = 19
"""Whoever answers on the same machine goes first."""

_WATERMARKS_READ: Final = 10 * KEPT_WATERMARKS


@dataclass(frozen=True, slots=True)
class Job:
    """One partition, or a part of one; see `folding.StreamFold`."""

    topic: topics.Topic
    place: Partition
    span: Span
    skipped: int
    part: Part


@dataclass(slots=True)
class Done:
    """What a job leaves to the one who gave it. ``stopped``: at an unreadable key."""

    place: Partition
    stopped: int | None = None
    strayed: dict[str, Fault] = field(default_factory=dict[str, Fault])


@dataclass(frozen=True, slots=True)
class Source:
    """What is read: ``spans`` of the partitions. ``skipped``, ``released``: see `folding.StreamFold`."""

    topic_ids: Mapping[str, str]
    spans: Mapping[Partition, Span]
    skipped: Mapping[Partition, int]
    released: Mapping[str, Sequence[int]]


@dataclass(frozen=True, slots=True)
class _Setup:
    installation: Installation
    schema: str
    jobs: Sequence[Job]
    released: Mapping[str, Sequence[int]]
    rate: float | None
    """Records a second, of one process."""


def jobs_of(installation: Installation, source: Source) -> list[Job]:
    """What is to be done, the largest first."""
    known = {
        installation.name(topic): topic
        for topic in (
            topics.SHARE_EVENTS,
            topics.DIRECTORY_DEVICES,
            topics.DIRECTORY_ACCOUNTS,
            topics.DIRECTORY_CONTACTS,
        )
    }
    jobs: list[Job] = []
    for place, span in source.spans.items():
        topic = known.get(place.topic)
        if topic is not None and span.first < span.until:
            parts = -(-(span.until - span.first) // PART_EVENTS) if topic is topics.SHARE_EVENTS else 1
            jobs += [
                Job(topic, place, span, source.skipped.get(place, 0), Part(number, parts))
                for number in range(parts)
            ]
    return sorted(jobs, key=lambda job: job.span.first - job.span.until)


async def fill(
    installation: Installation,
    connection: pg.Connection,
    schema: str,
    source: Source,
    *,
    report: Report,
    rate: float | None = None,
    processes: int = PROCESSES,
) -> None:
    """Write what the topics leave, and the offsets of all partitions at the very end.

    Raises:
        RebuildError: a process failed; the generation is of no use.
    """
    events = installation.name(topics.SHARE_EVENTS)
    for place, span in source.spans.items():
        if place.topic == events and span.first > 0:
            raise RebuildError(
                f"{events} begins at {span.first} in partition {place.number}: records are gone from the "
                "broker, and without them no history is whole. Restore the topic first."
            )
    jobs = jobs_of(installation, source)
    share = None if rate is None else rate / processes
    setup = _Setup(installation, schema, jobs, source.released, share)
    done = await _Processes(setup, processes).run(report)
    report("watermarks")
    reached = {place: span.until for place, span in source.spans.items() if span.until}
    for item in done:
        if item.stopped is not None:
            reached[item.place] = item.stopped
    watermarks = await asyncio.to_thread(_watermarks, installation, source)
    async with connection.transaction():
        await connection.execute(SQL["search"].format(schema=schema))
        await Store().save_watermarks(connection, watermarks)
        for item in done:
            if item.strayed:
                name = "stray_streams" if item.place.topic == events else "stray_devices"
                rows = [(device_id, *fault) for device_id, fault in item.strayed.items()]
                await connection.execute(SQL[name], *map(list, zip(*rows, strict=True)))
        await save_offsets(connection, reached, source.topic_ids)


def _watermarks(installation: Installation, source: Source) -> list[tuple[int, DeviceWatermark]]:
    place = Partition(installation.name(topics.WATERMARKS), 0)
    span = source.spans.get(place)
    if span is None:
        return []
    found: list[tuple[int, DeviceWatermark]] = []
    first = max(span.first, span.until - _WATERMARKS_READ)
    with installation.reader() as reader:
        for _, entries in reader.read({place: Span(first, span.until)}):
            for offset, _, value in entries:
                try:
                    found.append((offset, read_watermark(value, installation.prefix)))
                except UnreadableError:
                    continue
    return found[-KEPT_WATERMARKS:]


class _Processes:
    """Those that do the jobs: each takes the next one when it is through."""

    def __init__(self, setup: _Setup, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._setup = setup
        self._total = sum(job.span.until - job.span.first for job in setup.jobs)
        self._read = context.Value("q", 0)
        self._claimed = context.Value("q", 0)
        self._answers = context.SimpleQueue()
        self._running = [
            context.Process(target=_work, args=(setup, self._claimed, self._read, self._answers), daemon=True)
            for _ in range(min(count, len(setup.jobs)))
        ]

    async def run(self, report: Report) -> list[Done]:
        done: list[Done] = []
        for process in self._running:
            process.start()
        begun = time.monotonic()
        try:
            while len(done) < len(self._setup.jobs):
                alive = any(process.is_alive() for process in self._running)
                while not self._answers.empty():
                    answer = self._answers.get()
                    if isinstance(answer, str):
                        raise RebuildError(answer)
                    done.append(answer)
                self._tell(report, begun)
                if not alive and len(done) < len(self._setup.jobs):
                    raise RebuildError("A process of the rebuild was ended from outside. Start it again.")
                await asyncio.sleep(_LOOK_SECONDS)
            return done
        finally:
            for process in self._running:
                process.terminate()
            for process in self._running:
                await asyncio.to_thread(process.join)

    def _tell(self, report: Report, begun: float) -> None:
        read: int = self._read.value
        seconds = time.monotonic() - begun
        rate = read / seconds if seconds > 0 else 0.0
        left = (self._total - read) / rate if rate else None
        report("reading", records=read, of=self._total, rate=round(rate), seconds_left=left)


def _work(setup: _Setup, claimed: Any, read: Any, answers: Any) -> None:
    """A process's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the first one ends us
    os.nice(_NICENESS)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)  # nobody is left to tell

    threading.Thread(target=watch, daemon=True).start()
    gc.disable()  # nothing here is in a cycle, and there is much of it
    try:
        with setup.installation.reader() as reader:
            asyncio.run(_do_jobs(setup, reader, claimed, read, answers))
    except (LogReadError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        answers.put(f"The rebuild failed: {error}")


async def _do_jobs(setup: _Setup, reader: LogReader, claimed: Any, read: Any, answers: Any) -> None:
    connection = await setup.installation.connect(setup.schema)
    filler = _Filler(setup, reader, connection, read)
    try:
        while True:
            with claimed.get_lock():
                number = int(claimed.value)
                claimed.value += 1
            if number >= len(setup.jobs):
                return
            answers.put(await filler.do(setup.jobs[number]))
    finally:
        await connection.close()


_SHARE_EVENT: Final = "share_event"


class _Filler:
    """Does one job after the other."""

    def __init__(self, setup: _Setup, reader: LogReader, connection: pg.Connection, read: Any) -> None:
        self._setup, self._reader, self._connection, self._read = setup, reader, connection, read

    async def do(self, job: Job) -> Done:
        done = Done(job.place)
        if job.topic.name == topics.SHARE_EVENTS.name:
            await self._streams(job, done)
        elif job.topic.name == topics.DIRECTORY_DEVICES.name:
            fold = DeviceFold(job.place.number, skipped=job.skipped)
            try:
                for entries in self._entries(job):
                    fold.fold(entries)
            except Stopped as stop:
                done.stopped = stop.offset
            done.strayed = fold.strayed
            for table, rows in zip(("device", "service", "device_quarantine"), fold.end(), strict=True):
                await self._copy(table, rows)
        elif job.topic.name == topics.DIRECTORY_ACCOUNTS.name:
            last = self._last(job, account_fold()).values()
            for table, rows in zip(("account", "account_address"), account_rows(last), strict=True):
                await self._copy(table, rows)
        else:
            await self._copy("contact", contact_rows(self._last(job, contact_fold()).values()))
        return done

    async def _streams(self, job: Job, done: Done) -> None:
        fold = StreamFold(job.place.number, self._setup.released, skipped=job.skipped, part=job.part)
        waiting: list[Row] = []
        try:
            for entries in self._entries(job):
                waiting += fold.fold(entries)
                if len(waiting) >= _COPY_ROWS:
                    await self._copy(_SHARE_EVENT, waiting)
                    waiting = []
        except Stopped as stop:
            waiting += stop.rows
            done.stopped = stop.offset
        events, shares, quarantines = fold.end()
        await self._copy(_SHARE_EVENT, waiting + events)
        await self._copy("share", shares)
        await self._copy("stream_quarantine", quarantines)
        done.strayed = fold.strayed

    def _last(self, job: Job, fold: SnapshotFold[Any, Any]) -> Mapping[Any, Any]:
        for entries in self._entries(job):
            fold.fold(entries)
        return fold.last

    def _entries(self, job: Job) -> Iterator[Iterable[Entry]]:
        """The job's records, no faster than they may come."""
        begun, count = time.monotonic(), 0
        for _, entries in self._reader.read({job.place: job.span}):
            yield entries
            count += len(entries)
            with self._read.get_lock():
                self._read.value += len(entries)
            if self._setup.rate is not None:
                ahead = count / self._setup.rate - (time.monotonic() - begun)
                if ahead > 0:
                    time.sleep(ahead)

    async def _copy(self, table: str, rows: Sequence[Row]) -> None:
        if rows:
            await self._connection.copy_records_to_table(table, records=rows)
