"""Waiting for "at least this position": woken by the projector's notifications, with a poll as backstop."""

import asyncio
from collections.abc import Sequence
from typing import Final

from contracts.positions import Position
from permission_projector import activity_hints
from permission_projector.errors import NotYetVisibleError
from servicekit import pg
from servicekit.listening import Hear, Listener, set_within

_CHANNEL: Final = "permissions_changed"
_POLL_SECONDS: Final = 0.25


class Notifications:
    """Hears of changes, for everybody in this process who waits for one."""

    def __init__(self, dsn: str) -> None:
        self._listener = Listener(dsn, "permission-projector-listen")
        self._listener.on(_CHANNEL, self._on_notify)
        self._listener.on(activity_hints.CHANNEL, self._on_activity)
        self._changed = asyncio.Event()
        self.hear_activity: Hear = lambda _payload: None
        """Called with each hint of `activity_hints`; with None whenever some may have been missed."""

    @property
    def listening(self) -> asyncio.Event:
        """Set from the first time on that it listens."""
        return self._listener.listening

    async def listen(self) -> None:
        """Take notifications until cancelled; while the connection is lost, those who wait poll."""
        await self._listener.run()

    def _on_notify(self, _payload: str | None) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _on_activity(self, payload: str | None) -> None:
        if payload is not None or self.listening.is_set():  # before the first time nobody was told anything
            self.hear_activity(payload)

    def next(self) -> asyncio.Event:
        """Set at the next notification: take it before you look, so that none comes in between unseen."""
        return self._changed


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
