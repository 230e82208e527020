"""Follows the database: whose keys are void, where the other gateways are, and which of them have died."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Final

import asyncpg

from access_gateway.agents.hub import Agent, Hub
from access_gateway.agents.presence import Presence
from access_gateway.agents.protocol import Refused
from access_gateway.agents.store import FAILURES, AgentStore, Enrolment, Standing, StoreUnavailableError
from servicekit.logging import get_logger

log = get_logger(__name__)

BEAT_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 1.0
_STATEMENT_SECONDS: Final = 5.0
_AT_ONCE: Final = 500
_CHANNEL: Final = "agents_changed"


class Watch:
    """Keeps the hub true to the database. ``address`` is where agents find this gateway (``host:port``)."""

    def __init__(
        self, hub: Hub, store: AgentStore, presence: Presence, *, dsn: str, gateway_id: str, address: str
    ) -> None:
        self._hub, self._store, self._presence = hub, store, presence
        self._dsn, self._gateway_id, self._address = dsn, gateway_id, address
        self._gateways: Sequence[str] = (address,)
        self._doubtful: set[str] = set()
        self._wake = asyncio.Event()

    @property
    def gateways(self) -> Sequence[str]:
        """Where agents can log in now."""
        return self._gateways

    def doubt(self, devices: Mapping[str, str | None] | None) -> None:
        """Grants or owners of these devices (None: of all) may have changed: judge their agents again."""
        if devices is None:
            self._doubtful.update(self._hub.devices)
        else:
            self._doubtful.update(each for each in devices if self._store.may_be_enrolled(each))
        if self._doubtful:
            self._wake.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        try:
            while True:
                try:
                    await self._follow()
                except (*FAILURES, StoreUnavailableError) as error:
                    log.warning("agents_not_followed", error=type(error).__name__)
                finally:
                    self._store.remember(False)
                await asyncio.sleep(_RETRY_SECONDS)
        finally:
            with contextlib.suppress(StoreUnavailableError, TimeoutError):
                await self._store.farewell(self._gateway_id)

    def _told(self, _connection: object, _pid: int, _channel: str, device_id: object) -> None:
        self._store.forget(str(device_id))
        self._doubtful.add(str(device_id))
        self._presence.changed([str(device_id)])
        self._wake.set()

    async def _follow(self) -> None:
        await self._store.open()
        connection = await asyncpg.connect(
            self._dsn,
            timeout=_STATEMENT_SECONDS,
            server_settings={"application_name": "access-gateway agents changed"},
        )
        try:
            connection.add_termination_listener(lambda _: self._wake.set())
            async with asyncio.timeout(_STATEMENT_SECONDS):
                await connection.add_listener(_CHANNEL, self._told)
            self._store.remember(True)
            self._doubtful.update(self._hub.devices)
            await self._beat_for_ever(connection)
        finally:
            connection.terminate()

    async def _beat_for_ever(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        last = 0.0
        started = True
        while not connection.is_closed():
            if time.monotonic() - last > 2 * BEAT_SECONDS:
                # Just started, or out of sight for so long that others may have taken us for dead.
                self._presence.changed(self._hub.devices)
            if time.monotonic() - last >= BEAT_SECONDS:
                await self._beat(started=started)
                last, started = time.monotonic(), False
            await self._judge_doubtful()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, last + BEAT_SECONDS - time.monotonic())):
                    await self._wake.wait()
            self._wake.clear()

    async def _beat(self, *, started: bool) -> None:
        gateways = await self._store.beat(self._gateway_id, self._address)
        if gateways != self._gateways:
            self._gateways = gateways
            self._hub.tell_gateways(gateways)
        self._presence.changed(await self._store.left_behind(self._gateway_id if started else ""))

    async def _judge_doubtful(self) -> None:
        while self._doubtful:
            devices = list(self._doubtful)[:_AT_ONCE]
            # Before they are asked about: what changes while the answer is on its way is a new doubt.
            self._doubtful.difference_update(devices)
            try:
                standings = await self._store.judge(devices)
            except BaseException:
                self._doubtful.update(devices)
                raise
            for device_id in devices:
                agent, judged = self._hub.of(device_id), standings.get(device_id)
                if agent is None or (judged is not None and _is_still(agent, *judged)):
                    continue
                self._hub.drop(agent, Refused.REFUSED)


def _is_still(agent: Agent, enrolment: Enrolment, standing: Standing) -> bool:
    """Whether the agent's key is the device's, and not known to be void."""
    return enrolment == agent.enrolment and standing is not Standing.VOID
