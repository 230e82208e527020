"""What a refusal costs and leaves: it is counted, told to access.events, slowed down, and limited."""

import asyncio
import time
from collections.abc import Sequence
from uuid import UUID

from access_gateway import metrics
from access_gateway.audit import Audit
from access_gateway.limits import RefusalLimiter
from access_gateway.policy import AccessRequest, Refusal
from contracts.events import ConnectionRefused
from contracts.permissions import Permission

_SOURCE_BURST = 200
"""Many people may come from one address; one of them must not shut the others out soon."""


class RefusedError(Exception):
    """Nothing is opened. ``retry_after`` is in seconds, of ``RATE_LIMITED``."""

    def __init__(self, code: Refusal, retry_after: float = 0.0) -> None:
        super().__init__(code)
        self.code, self.retry_after = code, retry_after


class Refusals:
    """Refuses. An account is known by its own proof only, so that no stranger can use up its share."""

    def __init__(self, audit: Audit, *, gateway_id: str) -> None:
        self._audit, self._gateway_id = audit, gateway_id
        self._accounts = RefusalLimiter()
        self._sources = RefusalLimiter(burst=_SOURCE_BURST, forgive_seconds=0.3)
        self._told = RefusalLimiter()

    def blocked_for(self, account_id: str | None, source: str | None) -> float:
        """Seconds until an account, and a source address, are answered again; 0 when they are."""
        now = time.monotonic()
        return max(
            0.0 if account_id is None else self._accounts.blocked_for(account_id, now),
            0.0 if source is None else self._sources.blocked_for(source, now),
        )

    async def slow_down(self, account_id: str | None, source: str | None, arrived: float) -> None:
        """Count a refusal, and return when it may be answered.

        That is a fixed time after the request has ``arrived`` (our monotonic clock), so that what it took to
        find out tells nothing.
        """
        now = time.monotonic()
        delays = [0.0]
        if account_id is not None:
            delays.append(self._accounts.refused(account_id, now))
        if source is not None:
            delays.append(self._sources.refused(source, now))
        await asyncio.sleep(max(0.0, arrived + max(delays) - now))

    def tell(
        self,
        request: AccessRequest,
        connection_id: UUID,
        code: Refusal,
        *,
        way: str,
        device_id: str | None = None,
        version: int | None = None,
        age: float | None = None,
        flood: Sequence[str] = (),
    ) -> None:
        """Count it and tell it to access.events; of a ``flood``, by these keys, only the first are told.

        ``version`` and ``age`` (seconds) are those of what was found, as in `Refused`.
        """
        metrics.REFUSED.labels(reason=code.value).inc()
        # A flood of refusals must not drive other events out of the queue: those beyond are only counted.
        now = time.monotonic()
        if any(self._told.blocked_for(key, now) for key in flood):
            return
        for key in flood:
            self._told.refused(key, now)
        self._audit.emit(
            ConnectionRefused(
                connection_id=connection_id,
                gateway_id=self._gateway_id,
                account_id=request.account_id,
                service_id=request.service_id,
                device_id=device_id,
                permission=asked_for(request),
                device_version=version,
                age_seconds=None if age is None else round(age, 3),
                reason=code.value,
                way=way,
            )
        )


def asked_for(request: AccessRequest) -> Permission:
    """The function that a refusal names."""
    wanted = request.permission
    if isinstance(wanted, Permission):
        return wanted
    return next((each for each in Permission if wanted and each in wanted), Permission.CONNECT)
