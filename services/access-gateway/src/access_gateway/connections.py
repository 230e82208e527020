"""One connection through the gateway, whichever way it came in: checked, dialled, relayed, and cut."""

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from access_gateway import metrics
from access_gateway.audit import Audit
from access_gateway.decisions import Decider
from access_gateway.holdings import Holdings
from access_gateway.journal import Forms, Journal, ended_line, opened_event
from access_gateway.policy import AccessRequest, Refusal, Refused, ServiceAccess
from access_gateway.refusals import Refusals, RefusedError
from access_gateway.relay import End, Engine, Limits, Session, adopt, dial, reset
from access_gateway.settings import Settings
from access_gateway.targets import (
    DeviceOfflineError,
    TargetNotAllowedError,
    Targets,
    TargetUnreachableError,
)
from access_gateway.warrants import Warrant
from contracts.base import new_id_text
from contracts.events import ConnectionClosed, ConnectionCut, ConnectionOpened, CutReason
from contracts.permissions import Permission
from servicekit.logging import get_logger
from servicekit.telemetry import correlated

log = get_logger(__name__)

Cut = Callable[[CutReason], None]
"""Ends what a protocol has open, at once and without waiting; called at most once."""

Over = Callable[["Connection", Refusal | None], None]
"""A connection has ended that was served without waiting; with the code if it was refused."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a connection is made with."""

    settings: Settings
    decider: Decider
    holdings: Holdings
    refusals: Refusals
    audit: Audit
    journal: Journal
    targets: Targets
    engine: Engine
    limits: Limits


class Connection:
    """One connection, from its request to its end. Every way in uses it like this:

        async with gateway.connection(request, way="connect", source=address, cut=hang_up) as connection:
            await connection.check()
            device = await connection.dial()
            await connection.relay(client, device)

    A protocol that reads the stream itself calls `opened` and `count` in place of `relay`, and sets
    ``on_change`` to be told when other functions are granted than before. When nothing is granted any more
    that carries the request, ``cut`` is called, unless `relay` has begun, which ends its sockets by itself.
    Leaving the block tells access.events how it ended.
    """

    # As most connections keep them, which are over within moments.
    on_change: Callable[[ServiceAccess], None] | None = None
    ended: CutReason | None = None
    bytes_to_device = 0
    bytes_from_device = 0
    _access: ServiceAccess | None = None
    _permission: Permission | None = None
    _session: Session | None = None
    _opened: ConnectionOpened | None = None
    _opened_at = 0.0
    _cause: str | None = None
    _hung_up = False
    _end: End | None = None
    _warrant: Warrant | None = None
    _forms: Forms | None = None
    _over: Over | None = None

    def __init__(
        self, means: Means, request: AccessRequest, *, way: str, source: str | None, cut: Cut | None
    ) -> None:
        self.text_id = new_id_text()
        self.request, self.way, self.source = request, way, source
        self._means, self._cut = means, cut

    @property
    def connection_id(self) -> UUID:
        """Its id; ``text_id`` is the same as text."""
        return UUID(self.text_id)

    @property
    def access(self) -> ServiceAccess:
        """What is granted now; there is such a thing once `check` has returned."""
        assert self._access is not None, "check() comes first"
        return self._access

    @property
    def device_id(self) -> str:
        """See `Held`."""
        return self.access.device_id

    @property
    def partition(self) -> int:
        """See `Held`."""
        return self.access.partition

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._access is not None:
            self._means.holdings.remove(self)
        if self._opened is not None:
            if self._cause is None:
                self._tell_end(self._opened)
            else:
                with correlated(self._cause):  # a cut belongs to what took the grant away
                    self._tell_end(self._opened)

    async def check(self) -> ServiceAccess:
        """Decide, and register what is allowed, so that it ends with its grant.

        Raises:
            RefusedError: with a verdict's code, or ``RATE_LIMITED``; counted and told already.
        """
        arrived, means = time.monotonic(), self._means
        account_id = self.request.account_id
        if wait := means.refusals.blocked_for(account_id, self.source):
            metrics.REFUSED.labels(reason=Refusal.RATE_LIMITED.value).inc()
            raise RefusedError(Refusal.RATE_LIMITED, wait)
        answer = await means.decider.decide(self.request, self.connection_id)
        if isinstance(answer, Refused):
            refused = self._refused(answer)
            if answer.code is Refusal.ACCESS_DENIED:
                await means.refusals.slow_down(account_id, self.source, arrived)
            raise refused
        self._register(answer.access, answer.permission)
        return answer.access

    def serve_now(self, client: socket.socket, warrant: Warrant, over: Over) -> bool:
        """All of it, in place of the block, if nothing has to be waited for: grant and target are known.

        False: nothing has been done or told; the block can say what is wrong, if anything is. ``over`` is
        called at the end, with the code if it was refused, but not before this has returned.
        """
        means = self._means
        age = warrant.age()
        if age is None or means.refusals.blocked_for(self.request.account_id, self.source):
            return False
        target = warrant.target()
        if target is None:
            return False
        try:
            self._session = dial(
                means.engine, client, target, means.limits, seconds=means.settings.connect_seconds, owner=self
            )
        except OSError:  # no more files
            return False
        means.journal.decided(warrant.forms, self.text_id, age)
        self._warrant, self._forms, self._over = warrant, warrant.forms, over
        self._register(warrant.access, warrant.permission)
        return True

    def on_connected(self) -> None:
        """See `Owner`."""
        assert self._forms is not None, "serve_now() comes first"
        self._opened, self._opened_at = self._forms.event, time.monotonic()
        self._means.journal.opened(self._forms, self.text_id)

    def on_end(self, session: Session) -> None:
        """See `Owner`."""
        assert self._over is not None, "serve_now() comes first"
        assert self._warrant is not None, "serve_now() comes first"
        self._end = session.end
        if self._opened is not None and self.ended is None:
            self._leave()
            self._over(self, None)
            return
        refused: Refusal | None = None
        with correlated(self._warrant.cause):
            if self._opened is None:
                code = Refusal.TARGET_UNREACHABLE if session.end is End.UNREACHABLE else self._why_ended()
                refused = self.refused(code).code
            self._leave()
            self._over(self, refused)

    def _register(self, access: ServiceAccess, permission: Permission) -> None:
        # In the step in which it was judged, so that no change comes between.
        self._access, self._permission = access, permission
        self._means.holdings.add(self)
        if access.until is not None:
            self._means.holdings.lasts(self, access.until)

    def refused(self, code: Refusal) -> RefusedError:
        """Count and tell that it is refused; what to raise. For a protocol that refuses what is granted."""
        known = self._access
        if known is None:
            return self._refused(Refused(code))
        age = self._means.decider.age(known.partition)
        return self._refused(Refused(code, version=known.device_version, age=age))

    def _refused(self, answer: Refused) -> RefusedError:
        known = self._access
        self._means.refusals.tell(
            self.request,
            self.connection_id,
            answer.code,
            way=self.way,
            device_id=known and known.device_id,
            version=answer.version,
            age=answer.age,
            flood=(f"{self.request.account_id} {self.request.service_id}",),
        )
        return RefusedError(answer.code)

    async def dial(self) -> socket.socket:
        """A connected, non-blocking socket to the service; whoever gets it closes it.

        Raises:
            RefusedError: ``TARGET_NOT_ALLOWED``, ``TARGET_UNREACHABLE``, ``DEVICE_OFFLINE``; or the
                grant ended meanwhile.
        """
        access = self.access
        try:
            device = await self._means.targets.reach(access, self._means.settings.connect_seconds)
        except TargetNotAllowedError:
            log.warning("target_not_allowed", service_id=access.service_id, device_id=access.device_id)
            raise self.refused(Refusal.TARGET_NOT_ALLOWED) from None
        except TargetUnreachableError:
            raise self.refused(Refusal.TARGET_UNREACHABLE) from None
        except DeviceOfflineError:
            raise self.refused(Refusal.DEVICE_OFFLINE) from None
        if self.ended is not None or self._hung_up:
            reset(device)
            raise self.refused(self._why_ended())
        return device

    def _why_ended(self) -> Refusal:
        return Refusal.STALE if self.ended is CutReason.STALE else Refusal.ACCESS_DENIED

    async def relay(
        self, client: socket.socket | asyncio.Transport, device: socket.socket, early: bytes = b""
    ) -> End:
        """Relay between two connections, which are closed when it returns; `adopt` says what they may be."""
        assert self._permission is not None, "check() comes first"
        self.opened(self._permission)
        self._session = session = adopt(self._means.engine, client, device, self._means.limits, early=early)
        if self.ended is not None or self._hung_up:
            session.cut()
        try:
            self._end = await session.wait()
        except BaseException:
            session.cut()
            raise
        return self._end

    def opened(self, permission: Permission) -> None:
        """The first byte may flow, for this function; only the first call counts."""
        if self._opened is not None:
            return
        self._opened_at = time.monotonic()
        self._opened = opened_event(
            self.connection_id,
            self.request,
            self.access,
            permission,
            way=self.way,
            gateway_id=self._means.settings.gateway_id,
        )
        self._means.audit.emit(self._opened)
        metrics.OPENED.inc()
        metrics.OPEN_CONNECTIONS.inc()

    def count(self, *, to_device: int = 0, from_device: int = 0) -> None:
        """Payload bytes that a protocol has relayed by itself."""
        self.bytes_to_device += to_device
        self.bytes_from_device += from_device

    def judged(self, access: ServiceAccess) -> None:
        """See `Held`."""
        before, self._access = self.access, access
        if (
            self.ended is None
            and self.on_change is not None
            and access.functions.keys() != before.functions.keys()
        ):
            self.on_change(access)

    def end(self, reason: CutReason, cause: str | None = None) -> None:
        """See `Held`."""
        if self.ended is not None:
            return
        self.ended, self._cause = reason, cause
        if self._session is not None:
            self._session.cut()
        elif self._cut is not None:
            self._cut(reason)

    def hang_up(self) -> None:
        """Reset what is relayed, now or when it would begin, because the account itself wants it so."""
        self._hung_up = True
        if self._session is not None:
            self._session.cut()

    def _tell_end(self, opened: ConnectionOpened) -> None:
        if self._session is not None:
            self.count(to_device=self._session.bytes_to_device, from_device=self._session.bytes_from_device)
        seconds = time.monotonic() - self._opened_at
        if self._forms is not None and self.ended is None:
            self._means.journal.closed(
                self._forms,
                self.text_id,
                to_device=self.bytes_to_device,
                from_device=self.bytes_from_device,
                seconds=seconds,
            )
            return
        metrics.OPEN_CONNECTIONS.dec()
        metrics.BYTES_TO_DEVICE.inc(self.bytes_to_device)
        metrics.BYTES_FROM_DEVICE.inc(self.bytes_from_device)
        figures: dict[str, Any] = {
            **opened.model_dump(),
            "connection_id": self.connection_id,
            "bytes_to_device": self.bytes_to_device,
            "bytes_from_device": self.bytes_from_device,
            "seconds": round(seconds, 6),
        }
        if self.ended is not None and self._end in {None, End.CUT}:
            metrics.CUT.labels(reason=self.ended.value).inc()
            self._means.audit.emit(ConnectionCut(**figures, reason=self.ended))
        else:
            self._means.audit.emit(ConnectionClosed(**figures))
        log.info(
            "connection_ended",
            connection_id=self.text_id,
            **ended_line(opened, self.ended and self.ended.value),
            seconds=round(seconds, 3),
        )
