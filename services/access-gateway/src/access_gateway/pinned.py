"""One connection to the grant store that is kept, made again when it is lost, and used by one at a time."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg

from servicekit import pg
from servicekit.logging import get_logger

if TYPE_CHECKING:  # the stubs make it generic; at run time it is not
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

log = get_logger(__name__)

STATEMENT_SECONDS = 2.0
RETRY_SECONDS = 0.25
FAILURES = (*pg.TRANSIENT, asyncpg.PostgresError)


Connect = Callable[[str, str], Awaitable[Connection]]
"""Makes a connection to a database, under a name by which its operator knows it."""


class StoreUnavailableError(Exception):
    """The grant store did not answer: nothing can be said, so nothing is allowed."""


class Pinned:
    """The connection on which devices are read. Its statements stay prepared."""

    def __init__(self, dsn: str, connect: Connect) -> None:
        self._dsn, self._connect = dsn, connect
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None
        self._not_before = -math.inf

    async def fetch(self, query: str, *arguments: object) -> Sequence[Any]:
        """Rows of a statement; raises StoreUnavailableError within a few seconds."""
        async with self._lock:
            for last_try in (False, True):
                try:
                    async with asyncio.timeout(STATEMENT_SECONDS):
                        connection = await self._open()
                        return await connection.fetch(query, *arguments)
                except FAILURES as error:
                    # A connection that the server ended while it was idle is noticed only now: once more.
                    used = self._connection is not None
                    self.drop()
                    if last_try or not used or isinstance(error, TimeoutError):
                        self._not_before = time.monotonic() + RETRY_SECONDS
                        log.warning("grant_store_unavailable", error=type(error).__name__)
                        raise StoreUnavailableError from error
        raise AssertionError("unreachable")

    async def _open(self) -> Connection:
        if self._connection is None:
            if time.monotonic() < self._not_before:
                raise OSError("the server did not answer a moment ago")
            self._connection = await self._connect(self._dsn, "access-gateway checks")
        return self._connection

    def drop(self) -> None:
        """Let the connection go."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


async def connect(dsn: str, application: str) -> Connection:
    """One connection of the gateway's role; raises what asyncpg raises."""
    return await asyncpg.connect(
        dsn, timeout=STATEMENT_SECONDS, server_settings={"application_name": application, "jit": "off"}
    )
