"""What all relayed connections have in common: their limits, their end, and who is told of it."""

import asyncio
import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum


class End(StrEnum):
    """How a session ended."""

    CLOSED = "closed"
    BROKEN = "broken"
    IDLE = "idle"
    OVERTIME = "overtime"
    UNREACHABLE = "unreachable"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Limits:
    """``idle_seconds`` without a byte end a session, and so do ``total_seconds``. ``bytes_per_second`` holds
    for both directions together. 0 means no limit for the last two.

    A byte that an end takes of what the kernel still has for it counts too, so that whoever reads slowly
    loses nothing.
    """

    idle_seconds: float
    total_seconds: float = 0.0
    bytes_per_second: int = 0


class Throttle:
    """Spreads a session's bytes over time: what was moved is paid for before more is read."""

    __slots__ = ("_free_at", "_rate", "piece")

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._free_at = 0.0
        self.piece = max(1024, rate // 10)
        """Bytes to read at most in one go."""

    def spend(self, count: int) -> None:
        """These bytes were moved."""
        self._free_at = max(self._free_at, time.monotonic()) + count / self._rate

    def wait(self) -> float:
        """Seconds until more may be read."""
        return max(0.0, self._free_at - time.monotonic())


class Session(ABC):
    """One relayed connection. Made by `adopt`; nothing moves before the turn of the loop in which it was."""

    __slots__ = ("_future", "_taken", "began", "end", "limits", "looked_at", "moved_at", "throttle", "young")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.end: End | None = None
        self.began = self.moved_at = time.monotonic()
        self.throttle = Throttle(limits.bytes_per_second) if limits.bytes_per_second else None
        self.young = True
        self.looked_at = 0.0
        """What `moved_at` was when `look` was last called."""
        self._taken = 0
        self._future: asyncio.Future[None] | None = None

    @property
    @abstractmethod
    def bytes_to_device(self) -> int:
        """Payload bytes that were read from the client."""

    @property
    @abstractmethod
    def bytes_from_device(self) -> int:
        """Payload bytes that were read from the target."""

    @property
    def ended(self) -> bool:
        """Whether nothing is relayed any more; both ends are closed then, or being flushed."""
        return self.end is not None

    def cut(self) -> None:
        """Reset both ends now; what is buffered is dropped. May be called at any time, and again."""
        self.finish(End.CUT)

    @abstractmethod
    def finish(self, end: End) -> None:
        """End it: in peace when it is CLOSED, else by a reset of both ends. Only the first call counts."""

    @abstractmethod
    def taken(self) -> int:
        """Bytes that both ends have taken of all that was sent to them, as far as their kernels know."""

    @abstractmethod
    def keep_alive(self) -> None:
        """Ask the kernel to notice when an end has vanished."""

    async def wait(self) -> End:
        """How it ended, once it has."""
        if self.end is None:
            if self._future is None:
                self._future = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._future)
        assert self.end is not None
        return self.end

    def tell(self) -> None:
        """For subclasses, when it has ended."""
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def deadline(self) -> float:
        """When (monotonic) one of its times is over, if nothing moves until then."""
        idle = self.moved_at + self.limits.idle_seconds
        return min(idle, self._latest())

    def overdue(self) -> End | None:
        """Which of its times it is that is over; None when an end has gone on taking what was sent to it."""
        if self._latest() <= time.monotonic():
            return End.OVERTIME
        if self.looked_at == self.moved_at and self._taken < self.taken():
            self.moved_at = time.monotonic()
            self.look()
            return None
        return End.IDLE

    def look(self) -> None:
        """Nothing moves here: note what the ends have taken by now, for `overdue` to compare."""
        self.looked_at, self._taken = self.moved_at, self.taken()

    def _latest(self) -> float:
        return self.began + self.limits.total_seconds if self.limits.total_seconds else math.inf
