"""Marks deliveries as sent: at once; those that come while a mark is being written share the next.

A mark is what keeps a message from going out twice, so that it is tried until it is written.
"""

import asyncio
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from notifier.store.outward import Store
from servicekit import pg
from servicekit.logging import get_logger

log = get_logger(__name__)

_RETRY_SECONDS: Final = 0.1


class Marker:
    """One for a process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[tuple[Sequence[UUID], asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def mark(self, delivery_ids: Sequence[UUID]) -> None:
        """Mark them; returns when it is durable."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery_ids, done))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        await done

    async def _write(self) -> None:
        while self._waiting:
            taken, self._waiting = self._waiting, []
            ids = [delivery_id for delivery_ids, _ in taken for delivery_id in delivery_ids]
            while True:
                try:
                    await self._store.mark_sent(ids)
                except pg.TRANSIENT as error:
                    log.warning("mark_delayed", error=repr(error))
                    await asyncio.sleep(_RETRY_SECONDS)
                else:
                    break
            for _, done in taken:
                if not done.done():
                    done.set_result(None)
