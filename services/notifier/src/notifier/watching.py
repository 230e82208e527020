"""Hears what any instance has planned, and wakes who has to do with it; keeps the backlog's metrics fresh."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import timedelta

from notifier.delivery import Deliveries
from notifier.metrics import Metrics
from notifier.router import Router
from notifier.settings import Settings
from notifier.store.inward import DUE_CHANNEL, ROUTES
from notifier.store.outward import Store
from servicekit import pg
from servicekit.listening import Listener


class Watch:
    """Hears through ``listener``; a background task, see `observe`."""

    def __init__(
        self,
        *,
        store: Store,
        router: Router,
        deliveries: Sequence[Deliveries],
        metrics: Metrics,
        settings: Settings,
        listener: Listener,
    ) -> None:
        self._store, self._router, self._deliveries = store, router, deliveries
        self._metrics, self._settings = metrics, settings
        listener.on(DUE_CHANNEL, self._wake)

    async def observe(self) -> None:
        """Keep the backlog's metrics fresh; until cancelled."""
        patience = timedelta(seconds=self._settings.facts_alarm_seconds)
        while True:
            with contextlib.suppress(*pg.TRANSIENT):  # the next look corrects them
                oldest, without_facts = await self._store.backlog(patience)
                self._metrics.oldest_due_seconds.set(oldest)
                self._metrics.long_without_facts.set(without_facts)
            await asyncio.sleep(self._settings.delivery_poll_seconds)

    def _wake(self, about: str | None) -> None:
        if about in {None, ROUTES}:
            self._router.wake()
        for sending in self._deliveries:
            if about in {None, sending.channel}:
                sending.wake()
