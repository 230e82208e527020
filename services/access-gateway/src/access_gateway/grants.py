"""The projected grants: checks on a pinned connection, how fresh they are, and what changes."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import asyncpg

from access_gateway import metrics
from access_gateway.policy import RELAYED_PERMISSIONS, Freshness, Grant, applicable
from contracts.permissions import Permission
from servicekit import pg
from servicekit.logging import get_logger

log = get_logger(__name__)

Changed = Callable[[Mapping[str, str | None] | None], Awaitable[None]]
"""Is told the devices whose grants may have changed, each with the correlation id of what changed them; None:
all devices. If it raises, it is told again."""

_STATEMENT_SECONDS = 2.0
_POLL_SECONDS = 1.0
_RETRY_SECONDS = 0.25
_CHANNEL = "permissions_changed"
_CHANGES_AT_ONCE = 1000
_PAIRS_AT_ONCE = 500
_PERMISSIONS = [str(permission) for permission in RELAYED_PERMISSIONS]

_FAILURES = (*pg.TRANSIENT, asyncpg.PostgresError)


class StoreUnavailableError(Exception):
    """The grant store did not answer: nothing can be said, so nothing is allowed."""


class _Pinned:
    """One connection that is kept, made again when it is lost, and used by one statement at a time."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._lock = asyncio.Lock()
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._not_before = -math.inf

    async def fetch(self, query: str, *arguments: object) -> Sequence[Any]:
        """Rows of a statement, which stays prepared; raises StoreUnavailableError within a few seconds."""
        async with self._lock:
            for last_try in (False, True):
                try:
                    async with asyncio.timeout(_STATEMENT_SECONDS):
                        connection = await self._open()
                        return await connection.fetch(query, *arguments)
                except _FAILURES as error:
                    # A connection that the server ended while it was idle is noticed only now: once more.
                    used = self._connection is not None
                    self.drop()
                    if last_try or not used or isinstance(error, TimeoutError):
                        self._not_before = time.monotonic() + _RETRY_SECONDS
                        log.warning("grant_store_unavailable", error=type(error).__name__)
                        raise StoreUnavailableError from error
        raise AssertionError("unreachable")

    async def _open(self) -> "asyncpg.Connection[asyncpg.Record]":
        if self._connection is None:
            if time.monotonic() < self._not_before:
                raise OSError("the server did not answer a moment ago")
            self._connection = await connect(self._dsn, "access-gateway checks")
        return self._connection

    def drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


async def connect(dsn: str, application: str) -> "asyncpg.Connection[asyncpg.Record]":
    """One connection of the gateway's role; raises what asyncpg raises."""
    return await asyncpg.connect(
        dsn, timeout=_STATEMENT_SECONDS, server_settings={"application_name": application, "jit": "off"}
    )


class GrantStore:
    """Reads grants, and knows how old what it reads may be."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._queries = pg.load_queries("access_gateway")
        self._checks = _Pinned(dsn)
        self._cursor: tuple[int, int] = (0, 0)  # generation and id of the last change that was handled
        self._news = asyncio.Event()
        self.freshness = Freshness()

    async def check(self, account_id: str, service_id: str) -> Grant:
        """What the account may do with the service now; raises StoreUnavailableError."""
        return (await self.check_many([(account_id, service_id)]))[account_id, service_id]

    async def check_many(self, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Grant]:
        """The same for many pairs of account and service; raises StoreUnavailableError."""
        wanted = list(pairs)
        answers: dict[tuple[str, str], list[Grant]] = {pair: [] for pair in wanted}
        for start in range(0, len(wanted), _PAIRS_AT_ONCE):
            part = wanted[start : start + _PAIRS_AT_ONCE]
            began = time.perf_counter()
            rows = await self._checks.fetch(
                self._queries["check_grants"],
                [account_id for account_id, _ in part],
                [service_id for _, service_id in part],
                _PERMISSIONS,
            )
            metrics.CHECK_SECONDS.observe(time.perf_counter() - began)
            for row in rows:
                answers[row["account_id"], row["service_id"]].append(_grant(row))
        return {pair: applicable(grants) for pair, grants in answers.items()}

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
                    await changed(None)
                    await self._follow(connection, wake, changed)
            except (*_FAILURES, StoreUnavailableError) as error:
                metrics.WATCH_FAILURES.inc()
                log.warning("grant_watch_interrupted", error=type(error).__name__)
                await asyncio.sleep(_RETRY_SECONDS)

    def close(self) -> None:
        """Let the connection of the checks go."""
        self._checks.drop()

    @contextlib.asynccontextmanager
    async def _watching(
        self,
    ) -> "AsyncGenerator[tuple[asyncpg.Connection[asyncpg.Record], asyncio.Event]]":
        connection = await connect(self._dsn, "access-gateway changes")
        wake = asyncio.Event()

        def hint(*_: object) -> None:
            wake.set()

        try:
            connection.add_termination_listener(hint)
            async with asyncio.timeout(_STATEMENT_SECONDS):
                await connection.add_listener(_CHANNEL, hint)
            yield connection, wake
        finally:
            connection.terminate()

    async def _follow(
        self, connection: "asyncpg.Connection[asyncpg.Record]", wake: asyncio.Event, changed: Changed
    ) -> None:
        next_poll = -math.inf
        while True:
            wake.clear()
            # Changes first: a notification is about them, and a cut must not wait for the poll.
            async with asyncio.timeout(_STATEMENT_SECONDS):
                rows = await self._changes(connection)
            await self._tell(rows, changed)
            if time.monotonic() >= next_poll:
                next_poll = time.monotonic() + _POLL_SECONDS
                await self._poll(connection)
            if len(rows) < _CHANGES_AT_ONCE:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, next_poll - time.monotonic())):
                        await wake.wait()

    async def _changes(self, connection: "asyncpg.Connection[asyncpg.Record]") -> Sequence[Any]:
        return await connection.fetch(self._queries["changes"], *self._cursor, _CHANGES_AT_ONCE)

    async def _tell(self, rows: Sequence[Any], changed: Changed) -> None:
        if not rows:
            return
        last: tuple[int, int] = (rows[-1]["generation"], rows[-1]["id"])
        devices: dict[str | None, str | None] = {row["device_id"]: row["correlation_id"] for row in rows}
        if None in devices and last == self._cursor:
            return  # the feed is empty and says so again
        known = {device: cause for device, cause in devices.items() if device is not None}
        await changed(None if None in devices else known)
        # Only now: if the connections could not be checked, the same changes are read again.
        self._cursor = last
        self._news.set()
        self._news = asyncio.Event()

    async def _poll(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        began = time.monotonic()
        async with asyncio.timeout(_STATEMENT_SECONDS):
            rows: Sequence[Any] = await connection.fetch(self._queries["freshness"])
        ages: dict[int, float | None] = {
            row["partition"]: row["age"] if row["age"] is not None and row["age"] >= 0 else None
            for row in rows
        }
        self.freshness = Freshness(began, ages)


def _grant(row: Any) -> Grant:
    return Grant(
        permission=Permission(row["permission"]),
        allowed=row["allowed"],
        reason=row["reason"],
        device_id=row["device_id"],
        device_version=row["device_version"],
        share_id=row["share_id"],
        partition=row["partition"],
        target_host=row["target_host"],
        target_port=row["target_port"],
        protocol=row["protocol"],
        lacking=None if row["lacking"] is None else frozenset(row["lacking"]),
    )
