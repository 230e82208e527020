"""Asks the grant store, applies the policy, and leaves one log line for each decision."""

import math
import time
from collections import OrderedDict
from uuid import UUID

from access_gateway import metrics
from access_gateway.grants import GrantStore
from access_gateway.pinned import StoreUnavailableError
from access_gateway.policy import AccessRequest, Allowed, Found, Refusal, Verdict, is_fresh, verdict
from contracts.positions import Position
from servicekit.logging import get_logger

log = get_logger(__name__)

POSITION_WAIT_SECONDS = 0.05
_POSITIONS_REMEMBERED = 10_000
_DECIDED_SECONDS = 5.0
_COUNTED = {"ALLOWED": metrics.ALLOWED, **{code: metrics.VERDICTS.labels(code=code) for code in Refusal}}


class Decider:
    """Decides requests. Every way in asks here, before its first byte."""

    def __init__(self, store: GrantStore, *, max_staleness: float) -> None:
        self._store, self._max_staleness = store, max_staleness
        self._seen: OrderedDict[Position, float] = OrderedDict()

    def check_now(self, request: AccessRequest, *, asked: float = math.inf) -> Verdict | None:
        """The verdict from memory, without waiting; None: it must be read first, see `decide`.

        Memory may say yes: it would have been told otherwise. Whatever else it says must have been read since
        the request was ``asked`` (our monotonic clock), and so must everything while nobody tells us what
        changes.
        """
        found = self._store.find(request.account_id, request.service_id)
        if found is None:
            return None
        answer = self._judge(request, found)
        if self._store.followed and isinstance(answer, Allowed):
            return answer
        return answer if self._store.read_since(request.service_id, asked) else None

    def known(self, request: AccessRequest) -> Found | None:
        """What memory says, if we are told what changes: as long as it is the same, so is the answer but for
        its age, when the request names no positions."""
        return self._store.find(request.account_id, request.service_id) if self._store.followed else None

    def age(self, partition: int) -> float | None:
        """The age of what is known of the devices of this partition; None: never proved."""
        return self._store.age(partition)

    def fresh_age(self, partition: int) -> float | None:
        """The age of what is granted by a device of this partition; None: too old to be proof."""
        age = self._store.age(partition)
        return age if is_fresh(age, self._max_staleness) else None

    async def decide(self, request: AccessRequest, connection_id: UUID) -> Verdict:
        """The verdict; a request with positions waits up to 50 ms until they are visible.

        It is judged in the same step in which this returns: whoever registers at once misses no change.
        """
        arrived = asked = time.monotonic()
        for position in request.positions:
            self._remember(position, arrived)
        while True:
            answer = self.check_now(request, asked=asked) or await self._read(request, arrived)
            if answer is None:
                continue
            left = arrived + POSITION_WAIT_SECONDS - time.monotonic()
            if isinstance(answer, Allowed) or answer.code is not Refusal.NOT_YET_VISIBLE or left <= 0:
                break
            await self._store.change(left)
            asked = time.monotonic()  # what was read before is no answer any more
        self.tell(request, connection_id, answer)
        return answer

    async def _read(self, request: AccessRequest, arrived: float) -> Verdict | None:
        """Read what is not in memory; a verdict only if that cannot be done."""
        try:
            if time.monotonic() - arrived > _DECIDED_SECONDS:
                raise StoreUnavailableError
            await self._store.read([request.service_id])
        except StoreUnavailableError:
            return self._judge(request, None)
        return None

    def _judge(self, request: AccessRequest, found: Found | None) -> Verdict:
        return verdict(
            request,
            found,
            freshness=self._store.freshness,
            now=time.monotonic(),
            max_staleness=self._max_staleness,
            positions_applied=bool(request.positions) and self._applied(request.positions),
        )

    async def visible(self, positions: tuple[Position, ...]) -> bool:
        """Whether everything that the positions name is proved to be applied, after 50 ms at most."""
        deadline = time.monotonic() + POSITION_WAIT_SECONDS
        for position in positions:
            self._remember(position, time.monotonic())
        while not self._applied(positions) and positions:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            await self._store.change(left)
        return True

    def _remember(self, position: Position, now: float) -> None:
        self._seen.setdefault(position, now)
        if len(self._seen) > _POSITIONS_REMEMBERED:
            self._seen.popitem(last=False)

    def _applied(self, positions: tuple[Position, ...]) -> bool:
        # Whoever names a position got it from a commit that came before. Once every partition is fresh as
        # of a later time, the event is applied, whichever device it was about.
        now = time.monotonic()
        oldest = self._store.freshness.oldest(now)
        return oldest is not None and all(oldest < now - self._seen.get(each, now) for each in positions)

    @staticmethod
    def tell(request: AccessRequest, connection_id: UUID, answer: Verdict) -> None:
        """Count a verdict and log it; `decide` has done so."""
        _COUNTED["ALLOWED" if isinstance(answer, Allowed) else answer.code].inc()
        log.info(
            "access_decided",
            connection_id=str(connection_id),
            **decided_line(request, answer),
            staleness_seconds=None if answer.age is None else round(answer.age, 3),
        )


def decided_line(request: AccessRequest, answer: Verdict) -> dict[str, object]:
    """The fields of the line about a decision, but for the connection's id and the age of the grant."""
    allowed = answer if isinstance(answer, Allowed) else None
    return {
        "account_id": request.account_id,
        "service_id": request.service_id,
        "allowed": allowed is not None,
        "code": "ALLOWED" if isinstance(answer, Allowed) else answer.code.value,
        "grant": answer.reason.value,
        "permission": allowed and allowed.permission.value,
        "device_id": allowed and allowed.access.device_id,
        "device_version": answer.version,
        "share_id": allowed and allowed.share_id and str(allowed.share_id),
    }
