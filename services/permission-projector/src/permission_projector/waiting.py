"""Waiting for "at least this position": woken by the projector's notifications, with a poll as backstop."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import asyncpg

from contracts.positions import Position
from permission_projector import activity_hints
from permission_projector.errors import NotYetVisibleError
from servicekit import pg
from servicekit.logging import get_logger

log = get_logger(__name__)

_CHANNEL: Final = "permissions_changed"
_POLL_SECONDS: Final = 0.25
_RECONNECT_SECONDS: Final = 1.0
_KEEPALIVE_SECONDS: Final = 10.0


class Notifications:
    """One connection that listens, for everybody in this process who waits for a change."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._changed = asyncio.Event()
        self.hear_activity: Callable[[str | None], None] = lambda _payload: None
        """Called with each hint of `activity_hints`; with None whenever some may have been missed."""
        self.listening = asyncio.Event()
        """Set from the first time on that it listens."""

    async def listen(self) -> None:
        """Take notifications until cancelled; a lost connection is made anew, and those who wait poll."""
        while True:
            try:
                connection = await asyncpg.connect(
                    self._dsn, server_settings={"application_name": "permission-projector-listen"}
                )
                try:
                    await connection.add_listener(_CHANNEL, self._on_notify)
                    await connection.add_listener(activity_hints.CHANNEL, self._on_activity)
                    if self.listening.is_set():
                        self.hear_activity(None)
                    self.listening.set()
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

    def _on_activity(self, _connection: object, _process: int, _channel: str, payload: object) -> None:
        self.hear_activity(str(payload))

    def next(self) -> asyncio.Event:
        """Set at the next notification: take it before you look, so that none comes in between unseen."""
        return self._changed


async def set_within(event: asyncio.Event, seconds: float) -> None:
    """Return when ``event`` is set, or when the time is over."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


class Positions:
    """Knows how far the read models are, as far as an account may know it."""

    def __init__(self, pool: pg.Pool, notifications: Notifications, known_positions: str) -> None:
        self._pool, self._notifications, self._sql = pool, notifications, known_positions

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
            changed = self._notifications.next()
            rows = await self._pool.fetch(self._sql, account_id, list(asked))
            known = [Position(row["device_id"], row["version"]) for row in rows]
            behind = [position for position in known if position.version < asked[position.device_id]]
            if not behind:
                return
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise NotYetVisibleError(behind)
            await set_within(changed, min(left, _POLL_SECONDS))
