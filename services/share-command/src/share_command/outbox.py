"""The sending side of the outbox: tells the relay, once a batch, that there is something to send."""

import asyncio

from servicekit import pg
from servicekit.logging import get_logger

log = get_logger(__name__)

CHANNEL = "share_command_outbox"
"""The NOTIFY channel; `sql/queries.sql` names it too (NOTIFY takes no parameter)."""

_COALESCE_SECONDS = 0.002
_RETRY_SECONDS = 1.0


class Waker:
    """Wakes the relay after commits, at most once every 2 ms, on a connection of its own.

    A NOTIFY inside each command's transaction would take a lock that all commits share. A wake-up that is
    lost costs no more than the relay's next poll.
    """

    def __init__(self, pool: pg.Pool) -> None:
        self._pool, self._news = pool, asyncio.Event()
        self._sql = pg.load_queries("share_command")

    def wake(self) -> None:
        """Something was committed."""
        self._news.set()

    async def run(self) -> None:
        """Wake the relay until cancelled."""
        while True:
            try:
                async with self._pool.acquire() as connection:
                    while True:
                        await self._news.wait()
                        self._news.clear()
                        await connection.execute(self._sql["wake_relay"])
                        await asyncio.sleep(_COALESCE_SECONDS)
            except pg.TRANSIENT as error:
                log.warning("waker_reconnects", error=type(error).__name__)
                await asyncio.sleep(_RETRY_SECONDS)
