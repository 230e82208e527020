"""What is open because of a grant, and its end when the grant ends or can no longer be proved."""

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Protocol

from access_gateway import metrics
from access_gateway.grants import GrantStore
from access_gateway.policy import granted, is_fresh
from contracts.events import CutReason
from servicekit.logging import get_logger

log = get_logger(__name__)

_WATCHDOG_SECONDS = 0.1


class Held(Protocol):
    """Something that lives as long as its grant."""

    @property
    def account_id(self) -> str:
        """Whose it is."""
        ...

    @property
    def service_id(self) -> str:
        """What it leads to."""
        ...

    @property
    def device_id(self) -> str:
        """The device of the service."""
        ...

    @property
    def partition(self) -> int:
        """The device's partition, whose age counts."""
        ...

    def end(self, reason: CutReason, cause: str | None = None) -> None:
        """End it, at once. ``cause`` is the correlation id of what ended its grant, if known."""
        ...


class Holdings:
    """All that is held, by device. Register first, then check: whatever ends the grant meanwhile is seen."""

    def __init__(self, store: GrantStore, *, max_staleness: float) -> None:
        self._store, self._max_staleness = store, max_staleness
        self._held: defaultdict[str, set[Held]] = defaultdict(set)

    def add(self, item: Held) -> None:
        """Register."""
        self._held[item.device_id].add(item)

    def remove(self, item: Held) -> None:
        """Forget; does nothing when it is not registered."""
        items = self._held.get(item.device_id)
        if items is not None:
            items.discard(item)
            if not items:
                del self._held[item.device_id]

    async def recheck(self, devices: Mapping[str, str | None] | None) -> None:
        """Check again what is held of these devices (None: all), and end what is no longer granted.

        The values are correlation ids of what changed the devices, as far as they are known.

        Raises:
            StoreUnavailableError: it could not be checked; ask again.
        """
        began = time.perf_counter()
        names = self._held.keys() if devices is None else devices.keys() & self._held.keys()
        held = [item for name in names for item in self._held[name]]
        if not held:
            return
        grants = await self._store.check_many({(item.account_id, item.service_id) for item in held})
        for item in held:
            access = granted(grants[item.account_id, item.service_id])
            if access is None or access.device_id != item.device_id:
                item.end(CutReason.GRANT_ENDED, (devices or {}).get(item.device_id))
                metrics.CUT_SECONDS.observe(time.perf_counter() - began)

    async def watchdog(self) -> None:
        """End, for ever, what hangs on a partition that is not fresh any more. Needs no answer of anyone."""
        while True:
            now = time.monotonic()
            freshness = self._store.freshness
            oldest = freshness.oldest(now)
            metrics.STALENESS.set(math.inf if oldest is None else oldest)
            stale = [
                item
                for items in self._held.values()
                for item in items
                if not is_fresh(freshness.age(item.partition, now), self._max_staleness)
            ]
            for item in stale:
                item.end(CutReason.STALE)
            await asyncio.sleep(_WATCHDOG_SECONDS)
