"""Waiting for "at least this position": woken by the projector's notifications, with a poll as backstop."""

import asyncio
from collections.abc import Sequence
from typing import Final

import asyncpg

from contracts.positions import Position
from permission_projector.errors import NotYetVisibleError
from servicekit import pg
from servicekit.logging import get_logger

log = get_logger(__name__)

_CHANNEL: Final = "permissions_changed"
_POLL_SECONDS: Final = 0.25
_RECONNECT_SECONDS: Final = 1.0
_KEEPALIVE_SECONDS: Final = 10.0


class Positions:
    """Knows how far the read models are, as far as an account may know it."""

    def __init__(self, pool: pg.Pool, dsn: str, known_positions: str) -> None:
        self._pool, self._dsn, self._sql = pool, dsn, known_positions
        self._changed = asyncio.Event()

    async def listen(self) -> None:
        """Take notifications until cancelled; a lost connection is made anew, and the poll bridges it."""
        while True:
            try:
                connection = await asyncpg.connect(
                    self._dsn, server_settings={"application_name": "permission-projector-listen"}
                )
                try:
                    await connection.add_listener(_CHANNEL, self._on_notify)
                    while not connection.is_closed():
                        await asyncio.sleep(_KEEPALIVE_SECONDS)
                        await connection.execute("select 1")
                finally:
                    connection.terminate()
            except pg.TRANSIENT as error:
                log.warning("listen_reconnects", error=repr(error))
            await asyncio.sleep(_RECONNECT_SECONDS)

    def _on_notify(self, *_: object) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for(self, account_id: str, wanted: Sequence[Position], seconds: float) -> None:
        """Return once everything in ``wanted`` is applied.

        A device that the account has nothing to do with stays at version 0, as one that does not exist.

        Raises:
            NotYetVisibleError: ``seconds`` have passed.
        """
        asked = {position.device_id: 0 for position in wanted}
        for position in wanted:
            asked[position.device_id] = max(asked[position.device_id], position.version)
        deadline = asyncio.get_running_loop().time() + seconds
        while asked:
            changed = self._changed
            rows = await self._pool.fetch(self._sql, account_id, list(asked))
            known = [Position(row["device_id"], row["version"]) for row in rows]
            behind = [position for position in known if position.version < asked[position.device_id]]
            if not behind:
                return
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise NotYetVisibleError(behind)
            try:
                async with asyncio.timeout(min(left, _POLL_SECONDS)):
                    await changed.wait()
            except TimeoutError:
                continue
