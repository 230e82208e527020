"""Limits on refusals: whoever is refused again and again is answered slower, then not at all for a while."""

from collections import OrderedDict
from dataclasses import dataclass

_FIRST_DELAY = 0.05
_MOST_DELAY = 1.0


@dataclass(slots=True)
class _Bucket:
    refusals: float
    updated: float


class RefusalLimiter:
    """Counts refusals by key (an account, or a source address), each of which is forgotten with time.

    ``burst`` refusals may come at once; one is forgiven every ``forgive_seconds``. At most ``capacity`` keys
    are remembered; the one that was refused longest ago goes first. Times are a monotonic clock's seconds.
    """

    def __init__(self, *, burst: int = 20, forgive_seconds: float = 3.0, capacity: int = 10_000) -> None:
        self._burst, self._forgive_seconds, self._capacity = burst, forgive_seconds, capacity
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def blocked_for(self, key: str, now: float) -> float:
        """Seconds until ``key`` is answered again; 0 when it is."""
        excess = self._count(key, now) + 1 - self._burst
        return max(0.0, excess * self._forgive_seconds)

    def refused(self, key: str, now: float) -> float:
        """Count a refusal; returns the seconds by which its answer is to be held back."""
        count = self._count(key, now)
        self._buckets[key] = _Bucket(count + 1, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._capacity:
            self._buckets.popitem(last=False)
        return min(_MOST_DELAY, _FIRST_DELAY * 2 ** min(count, 10))

    def _count(self, key: str, now: float) -> float:
        bucket = self._buckets.get(key)
        if bucket is None:
            return 0.0
        return max(0.0, bucket.refusals - (now - bucket.updated) / self._forgive_seconds)
