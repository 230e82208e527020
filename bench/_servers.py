"""A broker and a database server for one benchmark, and what processes take while they work on them."""

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import asyncpg
import psutil
from _topic import TABLES, Totals

from devstack import kafka, postgres
from devstack.process import Process, free_port, listens, spawn, stop, wait_until

SECONDS = 1_800
"""Nothing that is measured takes longer."""

# Who watches a table from its first row on must not go on with the plan that was right for a small one.
_BY_INDEX = {"plan_cache_mode": "force_custom_plan", "enable_seqscan": "off", "enable_hashjoin": "off"}

# A field of the terms that is absent means what null means.
_SHARE_COLUMNS = (
    "device_id, share_id, contact_id, owner_account_id, state, coalesce(account_id, ''),"
    " jsonb_strip_nulls(terms), invitation_version, requested_at, since, coalesce(expires_at::text, ''),"
    " version"
)
_EVENT_COLUMNS = (
    "device_id, version, event_id, share_id, kind, at, state, coalesce(account_id, ''), owner_account_id,"
    " contact_id, coalesce(jsonb_strip_nulls(terms)::text, ''), coalesce(reason, ''),"
    " coalesce(correlation_id, '')"
)

Ask = Callable[[asyncpg.Connection], Awaitable[int]]
"""Asks the database for a number."""


@dataclass
class Span:
    """One measurement: events a second, and what the processes and the database took for it."""

    rate: float
    cpu: float
    """Processor seconds of the measured processes, for a million events."""
    database_cpu: float
    """Those of the database server."""
    peak_mb: float

    @staticmethod
    def median(spans: Sequence["Span"]) -> "Span":
        """Field by field."""
        names = ("rate", "cpu", "database_cpu", "peak_mb")
        return Span(*(statistics.median(getattr(span, name) for span in spans) for name in names))


class Servers:
    """The broker and the database server of this run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._passwords = postgres.new_passwords()
        self._running: list[tuple[Process, Popen[bytes]]] = []
        self._number = itertools.count(1)
        self._prints: dict[tuple[str, int], str] = {}
        self.cluster = postgres.Cluster(free_port(), self._passwords)
        self.bootstrap = f"127.0.0.1:{free_port()}"

    def start(self) -> None:
        """Start both, the database server as durable as the embedded stack's."""
        port = int(self.bootstrap.rpartition(":")[2])
        kafka.prepare(self.directory / "kafka", port=port, controller_port=free_port())
        broker = kafka.process(self.directory / "kafka", self.directory / "kafka.log")
        self.broker = (
            broker,
            self.run(broker, lambda pid: listens(pid, port) and kafka.is_ready(self.bootstrap)),
        )
        data = self.directory / "postgres"
        postgres.prepare(data, self._passwords[postgres.SUPERUSER])
        server = postgres.process(data, port=self.cluster.port, log=self.directory / "postgres.log")
        self.run(server, lambda pid: listens(pid, self.cluster.port) and self.cluster.is_ready())

    def run(self, process: Process, ready: Callable[[int], bool] = lambda _pid: True) -> Popen[bytes]:
        """Start a process that ends with this run at the latest."""
        child = spawn(process)
        self._running.append((process, child))
        wait_until(lambda: ready(child.pid), child, process, 60)
        return child

    def end(self, *children: Popen[bytes]) -> None:
        """Stop these processes, or all, the last one first."""
        for process, child in reversed(self._running):
            if not children or child in children:
                stop(child, process)
        self._running = [item for item in self._running if children and item[1] not in children]

    def new_directory(self, name: str) -> Path:
        """A directory that no measurement had before."""
        return self.directory / f"{name}-{next(self._number)}"

    def database_cpu(self) -> float:
        """Processor seconds of the database server since its start, of its ended backends too."""
        server = psutil.Process(self._running[1][1].pid)
        own = server.cpu_times()
        return own.children_user + own.children_system + sum(map(cpu_of, [server, *server.children()]))

    @asynccontextmanager
    async def database(self, *, tables: bool) -> AsyncGenerator[tuple[str, asyncpg.Connection]]:
        """A fresh database: its name, and a superuser's connection to it."""
        name = f"bench_{next(self._number)}"
        self.cluster.create(name)
        connection = await asyncpg.connect(self.cluster.dsn(name), server_settings=_BY_INDEX)
        try:
            if tables:
                await connection.execute(TABLES)
            await connection.execute("checkpoint")
            yield name, connection
        finally:
            await connection.close()
            self.cluster.drop(name)

    async def check(
        self, connection: asyncpg.Connection, totals: Totals, schema: str, *, history: bool
    ) -> None:
        """Compare what is there with what must be, and row by row with what those before have written.

        Raises:
            RuntimeError: it is something else.
        """
        for table, columns in (("share", _SHARE_COLUMNS), ("share_event", _EVENT_COLUMNS))[: 1 + history]:
            row = await connection.fetchrow(
                f"select count(*), sum(version)::bigint,"
                f" sum(hashtextextended(concat_ws('|', {columns}), 0)::numeric)::text from {schema}.{table}"
            )
            assert row is not None
            wanted = (totals.shares, totals.share_versions)
            if (row[0], row[1]) != wanted if table == "share" else row[0] != totals.events:
                raise RuntimeError(f"{table} has {row[0]} rows, versions in all {row[1]}: not as it must be.")
            if self._prints.setdefault((table, totals.events), row[2]) != row[2]:
                raise RuntimeError(f"{table} has other rows than those measured before have written.")

    async def watch(
        self,
        connection: asyncpg.Connection,
        total: int,
        children: Sequence[Popen[bytes]],
        *,
        seen: Ask,
        left: Ask,
    ) -> Span:
        """Measure what ``children`` do from the first of ``total`` events that is seen until none is left.

        Raises:
            RuntimeError: a process ended, or it takes too long.
        """
        processes = [psutil.Process(child.pid) for child in children]
        deadline = time.monotonic() + SECONDS
        begun = before = before_cpu = before_database = 0.0
        while True:
            if not begun and (count := await seen(connection)):
                begun, before = time.perf_counter(), float(count)
                before_cpu, before_database = sum(map(cpu_of, processes)), self.database_cpu()
            if begun and not await left(connection):
                break
            if any(child.poll() is not None for child in children) or time.monotonic() > deadline:
                raise RuntimeError(f"A process has ended, or is too slow: look into {self.directory}.")
            await asyncio.sleep(0.05)
        counted = total - before
        return Span(
            counted / (time.perf_counter() - begun),
            (sum(map(cpu_of, processes)) - before_cpu) / counted * 1e6,
            (self.database_cpu() - before_database) / counted * 1e6,
            sum(peak_mb(child.pid) for child in children),
        )


def cpu_of(process: psutil.Process) -> float:
    """Processor seconds since its start; 0 when it has ended."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


def peak_mb(pid: int) -> float:
    """The most memory that a process has had resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


async def number(connection: asyncpg.Connection, query: str, *values: object) -> int:
    """The one number that a query answers."""
    return int(await connection.fetchval(query, *values))
