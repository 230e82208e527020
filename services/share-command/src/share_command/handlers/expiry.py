"""Ends what time ends: invitations that nobody accepted, and shares whose end has come."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from servicekit import pg
from servicekit.logging import get_logger
from servicekit.telemetry import correlated
from share_command import domain
from share_command.metrics import EXPIRED
from share_command.store import Store

log = get_logger(__name__)

_LOOK_SECONDS = 0.5
_BATCH = 500
_RETRY_SECONDS = 1.0


class Expiry:
    """Looks twice a second for shares that are overdue by ``clock``, and ends each by an event.

    Any number of processes may do this side by side: a device that another one has locked is passed over, and
    what is locked is judged again, so that each end is one event.
    """

    def __init__(self, pool: pg.Pool, committed: Callable[[], None], clock: Callable[[], datetime]) -> None:
        self._pool, self._committed, self._clock = pool, committed, clock
        self._sql = pg.load_queries("share_command")

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                found, ended = await self._look()
                if found < _BATCH or not ended:  # none is ended that others hold: they are left in peace
                    await asyncio.sleep(_LOOK_SECONDS)
            except pg.TRANSIENT as error:
                log.warning("expiry_waits_for_database", error=type(error).__name__)
                await asyncio.sleep(_RETRY_SECONDS)

    async def end_overdue(self) -> int:
        """End what is overdue now, a transaction for each device; returns how many devices had any."""
        found, _ = await self._look()
        return found

    async def _look(self) -> tuple[int, int]:
        """As `end_overdue`; how many devices had any, and of how many some were ended."""
        now = self._clock()
        async with self._pool.acquire() as connection:
            found = await Store(connection, self._sql).overdue(now, _BATCH)
        ended = 0
        for device_id in found:
            with correlated(None):
                ended += await self._end(device_id)
        return len(found), ended

    async def _end(self, device_id: str) -> bool:
        """Whether something was ended."""
        async with self._pool.acquire() as connection, connection.transaction():
            store = Store(connection, self._sql)
            version = await store.lock_stream_if_free(device_id)
            if version is None:
                return False
            now = self._clock()  # after the lock: times do not run backwards in a stream
            decided = [
                (share, (expired,))
                for share in await store.live_shares([device_id])
                if (expired := domain.overdue(share, now)) is not None
            ]
            await store.append(decided, {device_id: version}, now, causation="clock")
        if decided:
            EXPIRED.inc(len(decided))
            log.info("shares_expired", device_id=device_id, shares=len(decided))
            self._committed()
        return bool(decided)
