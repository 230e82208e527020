"""How often somebody may ask; https://datatracker.ietf.org/doc/html/rfc6585 section 4, and ADR 0011."""

import time
from math import ceil

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter


class Frequency:
    """Counts in a sliding minute, in this process, what each account asks."""

    def __init__(self, per_minute: int) -> None:
        self._limit = RateLimitItemPerMinute(per_minute)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def spend(self, account_id: str, cost: int = 1) -> int:
        """Count ``cost`` and return 0; or, when that is too much, count nothing: the seconds to wait.

        More than a whole minute's count as a whole minute's.
        """
        cost = min(cost, self._limit.amount)
        if await self._limiter.hit(self._limit, account_id, cost=cost):
            return 0
        stats = await self._limiter.get_window_stats(self._limit, account_id)
        return max(1, ceil(stats.reset_time - time.time()))
