"""How often an account may ask; https://datatracker.ietf.org/doc/html/rfc6585 section 4."""

import time
from collections.abc import Callable
from math import ceil

from fastapi import Request
from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from share_command.errors import RateLimited


class Limited:
    """Knows the acting account of a request, and counts what it asks in a sliding minute, in this process.

    `spend` raises RateLimited with the seconds to wait; what is refused is not counted.
    """

    def __init__(self, caller: Callable[[Request], str], per_minute: int) -> None:
        self._caller = caller
        self._limit = RateLimitItemPerMinute(per_minute)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def __call__(self, request: Request) -> str:
        """The acting account, once it has paid for one command."""
        actor = self._caller(request)
        await self.spend(actor)
        return actor

    def caller(self, request: Request) -> str:
        """The acting account, for who counts for himself."""
        return self._caller(request)

    async def spend(self, actor: str, commands: int = 1) -> None:
        """Count commands of the account; more than a whole minute's count as a whole minute's."""
        cost = min(commands, self._limit.amount)
        if await self._limiter.hit(self._limit, actor, cost=cost):
            return
        stats = await self._limiter.get_window_stats(self._limit, actor)
        raise RateLimited(retry_after_seconds=max(1, ceil(stats.reset_time - time.time())))
