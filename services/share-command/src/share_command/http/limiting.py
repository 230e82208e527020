"""How often an account may command."""

from collections.abc import Callable

from fastapi import Request

from servicekit.limiting import Frequency
from share_command.errors import RateLimited


class Limited:
    """Knows the acting account of a request, and counts what it asks."""

    def __init__(self, caller: Callable[[Request], str], per_minute: int) -> None:
        self._caller = caller
        self._frequency = Frequency(per_minute)

    async def __call__(self, request: Request) -> str:
        """The acting account, once it has paid for one command; raises as `spend`."""
        actor = self._caller(request)
        await self.spend(actor)
        return actor

    def caller(self, request: Request) -> str:
        """The acting account, for who counts for himself."""
        return self._caller(request)

    async def spend(self, actor: str, commands: int = 1) -> None:
        """Count commands of the account.

        Raises:
            RateLimited: these are too many, and none is counted; it tells the seconds to wait.
        """
        seconds = await self._frequency.spend(actor, commands)
        if seconds:
            raise RateLimited(retry_after_seconds=seconds)
