"""What is open because of a grant, and its end when the grant ends or can no longer be proved."""

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from access_gateway import metrics
from access_gateway.grants import GrantStore
from access_gateway.pinned import StoreUnavailableError
from access_gateway.policy import AccessRequest, Found, ServiceAccess, carried_by, is_fresh
from access_gateway.replica import TRUSTED_SECONDS
from contracts.events import CutReason
from servicekit.logging import get_logger

log = get_logger(__name__)

_WATCHDOG_SECONDS = 0.1
_LAST_WORD_SECONDS = 0.25
"""How long a check at the end of a grant may take before it counts as a no."""
_READ_TOGETHER = (100, 10, 1, 1)
"""How many services are read at once; fewer when memory cannot hold so many."""


class Held(Protocol):
    """Something that lives as long as its grant."""

    @property
    def request(self) -> AccessRequest:
        """What was asked for."""
        ...

    @property
    def device_id(self) -> str:
        """The device of the service."""
        ...

    @property
    def partition(self) -> int:
        """The device's partition, whose age counts."""
        ...

    def judged(self, access: ServiceAccess) -> None:
        """It goes on; ``access`` is what is granted from now on."""
        ...

    def end(self, reason: CutReason, cause: str | None = None) -> None:
        """End it, at once. ``cause`` is the correlation id of what ended its grant, if known."""
        ...


class Holdings:
    """All that is held, by device. Register first, then check: whatever ends the grant meanwhile is seen."""

    def __init__(self, store: GrantStore, *, max_staleness: float) -> None:
        self._store, self._max_staleness = store, max_staleness
        self._held: defaultdict[str, set[Held]] = defaultdict(set)
        self._ends: dict[Held, tuple[float, asyncio.TimerHandle]] = {}
        self._due: set[Held] = set()
        self._something_due = asyncio.Event()

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
        self.lasts(item, None)

    def all(self) -> list[Held]:
        """Everything that is registered."""
        return [item for items in self._held.values() for item in items]

    def lasts(self, item: Held, until: float | None) -> None:
        """Check a registered item again at ``until`` (our monotonic clock); None: its grant has no end."""
        if item in self._ends:
            self._ends.pop(item)[1].cancel()
        if until is not None and item in self._held.get(item.device_id, ()):
            seconds = min(max(0.0, until - time.monotonic()), TRUSTED_SECONDS)
            timer = asyncio.get_running_loop().call_later(seconds, self._is_due, item)
            self._ends[item] = until, timer

    def _is_due(self, item: Held) -> None:
        if not self._judge(item, None):
            self._due.add(item)
            self._something_due.set()

    async def recheck(self, devices: Mapping[str, str | None] | None) -> None:
        """Check again what is held of these devices (None: all), and end what is no longer granted.

        The values are correlation ids of what changed the devices, as far as they are known.

        Raises:
            StoreUnavailableError: it could not be checked; ask again.
        """
        names = self._held.keys() if devices is None else devices.keys() & self._held.keys()
        await self._check([item for name in names for item in self._held[name]], devices or {})

    async def end_on_time(self) -> None:
        """End, for ever, what nothing grants any more when its time has come and its device is not in memory.

        A check that fails, or takes too long, is a no: of such a grant it was known that it ends.
        """
        while True:
            await self._something_due.wait()
            self._something_due.clear()
            due, self._due = list(self._due & self._ends.keys()), set()
            try:
                async with asyncio.timeout(_LAST_WORD_SECONDS):
                    await self._check(due, {})
            except (StoreUnavailableError, TimeoutError):
                for item in due:
                    self._end_or_wait(item)

    def _end_or_wait(self, item: Held) -> None:
        end = self._ends.get(item)
        if end is not None and end[0] <= time.monotonic():
            item.end(CutReason.GRANT_ENDED)
        elif end is not None:
            self.lasts(item, end[0])

    async def _check(self, held: Iterable[Held], causes: Mapping[str, str | None]) -> None:
        began = time.perf_counter()
        waiting = list(held)
        for together in _READ_TOGETHER:
            missing: defaultdict[str, list[Held]] = defaultdict(list)
            for item in waiting:
                if not self._judge(item, causes.get(item.device_id), began):
                    missing[item.request.service_id].append(item)
            waiting = list[Held]()
            services = list(missing)
            for start in range(0, len(services), together):
                part = services[start : start + together]
                await self._store.read(part)
                # At once: what is read next may put this out of memory again.
                waiting += [
                    item
                    for service_id in part
                    for item in missing[service_id]
                    if not self._judge(item, causes.get(item.device_id), began)
                ]
            if not waiting:
                return
        raise StoreUnavailableError

    def _judge(self, item: Held, cause: str | None, began: float | None = None) -> bool:
        """End it or let it go on, as memory says; False: its device is not in memory."""
        found = self._store.find(item.request.account_id, item.request.service_id)
        if found is None:
            return False
        access = _carrying(item, found)
        if access is None:
            item.end(CutReason.GRANT_ENDED, cause)
            if began is not None:
                metrics.CUT_SECONDS.observe(time.perf_counter() - began)
        else:
            self.lasts(item, access.until)
            item.judged(access)
        return True

    async def watchdog(self) -> None:
        """End, for ever, what hangs on a partition that is not fresh any more. Needs no answer of anyone."""
        while True:
            now = time.monotonic()
            freshness = self._store.freshness
            oldest = freshness.oldest(now)
            metrics.STALENESS.set(math.inf if oldest is None else oldest)
            fresh = {
                partition
                for partition in freshness.ages
                if is_fresh(freshness.age(partition, now), self._max_staleness)
            }
            if not freshness.ages or len(fresh) < len(freshness.ages):
                self._end_stale(fresh)
            await asyncio.sleep(_WATCHDOG_SECONDS)

    def _end_stale(self, fresh: Collection[int]) -> None:
        for item in self.all():
            if item.partition not in fresh:
                item.end(CutReason.STALE)


def _carrying(item: Held, found: Found) -> ServiceAccess | None:
    for access in found.accesses:
        # A service that has moved to another device is not what was opened.
        if access.device_id == item.device_id and carried_by(item.request, access) is not None:
            return access
    return None
