"""The projected grants: a part of them in memory, read when asked for, forgotten when they change; and how
fresh all that is."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from access_gateway import metrics
from access_gateway.pinned import (
    FAILURES,
    RETRY_SECONDS,
    STATEMENT_SECONDS,
    Connect,
    Connection,
    Pinned,
    StoreUnavailableError,
    connect,
)
from access_gateway.policy import DeviceGrants, Found, Freshness
from access_gateway.replica import Replica
from access_gateway.rows import device_grants
from servicekit import pg
from servicekit.logging import get_logger

log = get_logger(__name__)

Changed = Callable[[Mapping[str, str | None] | None], Awaitable[None]]
"""Is told the devices whose grants may have changed, each with the correlation id of what changed them; None:
all devices. If it raises, it is told again."""

_POLL_SECONDS = 1.0
_CHANNEL = "permissions_changed"
_CHANGES_AT_ONCE = 1000
_SERVICES_AT_ONCE = 100
_READ_SECONDS = 5.0
"""How long reading one service may take, whatever changes meanwhile."""


class _Reading:
    """One statement under way, and the devices that changed since it began: what it says of them is old."""

    def __init__(self) -> None:
        self.changed: set[str] = set()
        self.all_changed = False

    def outdated(self, devices: Iterable[DeviceGrants]) -> bool:
        return self.all_changed or any(device.device_id in self.changed for device in devices)


class GrantStore:
    """Knows what is granted, and how old that knowledge may be.

    Reading, the feed of changes and freshness are of one server, so that what the feed has told is seen by
    every statement that begins afterwards.
    """

    def __init__(self, dsn: str, *, capacity: int, connect: Connect = connect) -> None:
        self._dsn, self._connect = dsn, connect
        self._queries = pg.load_queries("access_gateway")
        self._checks = Pinned(dsn, connect)
        self._replica = Replica(capacity)
        self._cursor: tuple[int, int] = (0, 0)  # generation and id of the last change that was handled
        self._news = asyncio.Event()
        self._asked: dict[str, asyncio.Future[None]] = {}
        self.followed = False
        """Whether we are told of what changes: else memory counts for nobody."""
        self._reading: _Reading | None = None
        self._reader: asyncio.Task[None] | None = None
        self.freshness = Freshness()

    def find(self, account_id: str, service_id: str) -> Found | None:
        """What an account may do with a service now, from memory; None: `read` first."""
        return self._replica.find(account_id, service_id, time.monotonic())

    @property
    def grants_in_memory(self) -> int:
        """How many are in memory."""
        return len(self._replica)

    def read_since(self, service_id: str, moment: float) -> bool:
        """Whether what memory says of a service was read after that moment of our monotonic clock."""
        return self._replica.began(service_id) >= moment

    async def read(self, service_ids: Iterable[str]) -> None:
        """Bring the devices of these services into memory, as they are now.

        Raises:
            StoreUnavailableError: the database does not answer, or they change faster than they can be read.
        """
        futures = [self._ask_for(service_id) for service_id in service_ids]
        if self._reader is None:
            self._reader = asyncio.create_task(self._read_all())
        try:
            async with asyncio.timeout(_READ_SECONDS):
                for future in futures:
                    await asyncio.shield(future)
        except TimeoutError as error:
            raise StoreUnavailableError from error

    def devices(self, service_id: str) -> tuple[DeviceGrants, ...]:
        """The devices that have a service, from memory; `read` first."""
        return self._replica.devices(service_id)

    async def services_of(
        self, account_id: str, *, owned: bool, place: tuple[str, str], most: int
    ) -> list[tuple[str, str, list[str]]]:
        """Devices that an account owns, or has shares of, from a place on, with all of their services.

        A place is a name and a device's id, and so is what begins each answer; shares have no name.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        name, device_id = place
        if owned:
            query = self._queries["owned_services"]
            rows = await self._checks.fetch(query, account_id, name, device_id, most)
        else:
            rows = await self._checks.fetch(self._queries["shared_services"], account_id, device_id, most)
        return [(row["name"], row["device_id"], list(row["services"])) for row in rows]

    def _ask_for(self, service_id: str) -> asyncio.Future[None]:
        future = self._asked.get(service_id)
        if future is None:
            future = self._asked[service_id] = asyncio.get_running_loop().create_future()
        return future

    async def ask(self) -> None:
        """Return when the database answers; raises StoreUnavailableError."""
        await self._checks.fetch(self._queries["device_grants"], [])

    async def _read_all(self) -> None:
        """Read what is asked for, with one statement for all that waits, until nothing does."""
        try:
            while self._asked:
                await self._read_some(list(islice(self._asked, _SERVICES_AT_ONCE)))
        finally:
            self._reader = None

    async def _read_some(self, service_ids: Sequence[str]) -> None:
        reading = self._reading = _Reading()
        began = time.monotonic()
        try:
            rows = await self._checks.fetch(self._queries["device_grants"], service_ids)
        except StoreUnavailableError as error:
            for service_id in service_ids:
                _answer(self._asked.pop(service_id), error)
            return
        finally:
            self._reading = None
        answered = time.monotonic()
        metrics.CHECK_SECONDS.observe(answered - began)
        found: dict[str, list[DeviceGrants]] = {service_id: [] for service_id in service_ids}
        for row in rows:
            found[row["service_id"]].append(device_grants(row, began=began, answered=answered))
        for service_id, devices in found.items():
            if not reading.outdated(devices):  # else it is still asked for, and read again
                self._replica.put(service_id, devices, began=began)
                _answer(self._asked.pop(service_id), None)
        metrics.GRANTS_IN_MEMORY.set(self.grants_in_memory)

    def _drop(self, devices: Iterable[str] | None) -> None:
        self._replica.drop(devices)
        if self._reading is not None:
            self._reading.changed.update(devices or ())
            self._reading.all_changed |= devices is None

    def age(self, partition: int | None) -> float | None:
        """Seconds since it was proved that everything of a device partition had been applied."""
        return self.freshness.age(partition, time.monotonic())

    async def change(self, seconds: float) -> None:
        """Return when something has changed, or after ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    async def watch(self, changed: Changed) -> None:
        """Follow freshness and changes for ever; ``changed`` is told of every change, and of every gap."""
        while True:
            try:
                async with self._watching() as (connection, wake):
                    self._drop(None)
                    self.followed = True
                    await changed(None)
                    await self._follow(connection, wake, changed)
            except (*FAILURES, StoreUnavailableError) as error:
                self.followed = False
                metrics.WATCH_FAILURES.inc()
                log.warning("grant_watch_interrupted", error=type(error).__name__)
                await asyncio.sleep(RETRY_SECONDS)

    def close(self) -> None:
        """Let the connection of the checks go."""
        if self._reader is not None:
            self._reader.cancel()
        self._checks.drop()

    @contextlib.asynccontextmanager
    async def _watching(self) -> AsyncGenerator[tuple[Connection, asyncio.Event]]:
        connection = await self._connect(self._dsn, "access-gateway changes")
        wake = asyncio.Event()

        def hint(*_: object) -> None:
            wake.set()

        try:
            connection.add_termination_listener(hint)
            async with asyncio.timeout(STATEMENT_SECONDS):
                await connection.add_listener(_CHANNEL, hint)
            yield connection, wake
        finally:
            connection.terminate()

    async def _follow(self, connection: Connection, wake: asyncio.Event, changed: Changed) -> None:
        next_poll = -math.inf
        proved: Freshness | None = None
        while True:
            wake.clear()
            if time.monotonic() >= next_poll:
                next_poll = time.monotonic() + _POLL_SECONDS
                proved = await self._poll(connection)
            async with asyncio.timeout(STATEMENT_SECONDS):
                rows: Sequence[Any] = await connection.fetch(
                    self._queries["changes"], *self._cursor, _CHANGES_AT_ONCE
                )
            await self._tell(rows, changed)
            if len(rows) >= _CHANGES_AT_ONCE:
                continue
            if proved is not None:
                # Only now: every change that those proofs count in was read after them, and is handled.
                self.freshness, proved = proved, None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, next_poll - time.monotonic())):
                    await wake.wait()

    async def _tell(self, rows: Sequence[Any], changed: Changed) -> None:
        if not rows:
            return
        last: tuple[int, int] = (rows[-1]["generation"], rows[-1]["id"])
        devices: dict[str | None, str | None] = {row["device_id"]: row["correlation_id"] for row in rows}
        if None in devices and last == self._cursor:
            return  # the feed is empty and says so again
        known = {device: cause for device, cause in devices.items() if device is not None}
        self._drop(None if None in devices else known)
        await changed(None if None in devices else known)
        # Only now: if the connections could not be checked, the same changes are read again.
        self._cursor = last
        self._news.set()
        self._news = asyncio.Event()

    async def _poll(self, connection: Connection) -> Freshness:
        began = time.monotonic()
        async with asyncio.timeout(STATEMENT_SECONDS):
            rows: Sequence[Any] = await connection.fetch(self._queries["freshness"])
        ages: dict[int, float | None] = {
            row["partition"]: row["age"] if row["age"] is not None and row["age"] >= 0 else None
            for row in rows
        }
        return Freshness(began, ages)


def _answer(future: asyncio.Future[None], error: StoreUnavailableError | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
        future.exception()  # whoever asked may have gone: then nobody else looks at it
