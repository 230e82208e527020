"""Asks the grant store, applies the policy, and leaves one log line for each decision."""

import time
from collections import OrderedDict
from uuid import UUID

from access_gateway.grants import GrantStore, StoreUnavailableError
from access_gateway.policy import AccessRequest, Allowed, Grant, Refusal, Refused, Verdict, verdict
from contracts.positions import Position
from servicekit.logging import get_logger

log = get_logger(__name__)

POSITION_WAIT_SECONDS = 0.05
_POSITIONS_REMEMBERED = 10_000


class Decider:
    """Decides requests. Every way in asks here, before its first byte."""

    def __init__(self, store: GrantStore, *, max_staleness: float) -> None:
        self._store, self._max_staleness = store, max_staleness
        self._seen: OrderedDict[Position, float] = OrderedDict()

    async def decide(self, request: AccessRequest, connection_id: UUID) -> Verdict:
        """The verdict; a request with positions waits up to 50 ms until they are visible."""
        deadline = time.monotonic() + POSITION_WAIT_SECONDS
        for position in request.positions:
            self._remember(position)
        while True:
            grant = await self._check(request)
            age = None if grant is None else self._store.age(grant.partition)
            answer = verdict(
                request,
                grant,
                freshness_age=age,
                max_staleness=self._max_staleness,
                positions_applied=self._applied(request.positions),
            )
            left = deadline - time.monotonic()
            if answer != Refused(Refusal.NOT_YET_VISIBLE) or left <= 0:
                break
            await self._store.change(left)
        self._log(request, connection_id, grant, age, answer)
        return answer

    async def _check(self, request: AccessRequest) -> Grant | None:
        try:
            return await self._store.check(request.account_id, request.service_id)
        except StoreUnavailableError:
            return None

    def _remember(self, position: Position) -> None:
        self._seen.setdefault(position, time.monotonic())
        if len(self._seen) > _POSITIONS_REMEMBERED:
            self._seen.popitem(last=False)

    def _applied(self, positions: tuple[Position, ...]) -> bool:
        # Whoever names a position got it from a commit that came before. Once every partition is fresh as
        # of a later time, the event is applied, whichever device it was about.
        now = time.monotonic()
        oldest = self._store.freshness.oldest(now)
        return oldest is not None and all(oldest < now - self._seen.get(each, now) for each in positions)

    def _log(
        self,
        request: AccessRequest,
        connection_id: UUID,
        grant: Grant | None,
        age: float | None,
        answer: Verdict,
    ) -> None:
        access = answer if isinstance(answer, Allowed) else None
        log.info(
            "access_decided",
            connection_id=str(connection_id),
            account_id=request.account_id,
            service_id=request.service_id,
            allowed=access is not None,
            code="ALLOWED" if isinstance(answer, Allowed) else answer.code.value,
            grant=None if grant is None else grant.reason,
            permission=access and access.permission.value,
            device_id=access and access.device_id,
            device_version=access and access.device_version,
            share_id=access and access.share_id and str(access.share_id),
            staleness_seconds=None if age is None else round(age, 3),
        )
