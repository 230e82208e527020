"""Connects to a service: through the agent of its device if it has one, else directly."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

from access_gateway.agents.bridge import join
from access_gateway.agents.hub import Agent, Hub, OfflineError
from access_gateway.agents.store import AgentStore, Standing, StoreUnavailableError
from access_gateway.policy import ServiceAccess
from access_gateway.settings import Network
from access_gateway.targets import DeviceOfflineError, Targets, TargetUnreachableError


class AgentTargets(Targets):
    """Targets of which some are behind an agent. The addresses of those mean something on their own network
    only, so they are never dialled from here.
    """

    def __init__(self, networks: Sequence[Network], hub: Hub, store: AgentStore) -> None:
        super().__init__(networks)
        self._hub, self._store = hub, store

    def direct(self, access: ServiceAccess) -> tuple[int, tuple[Any, ...]] | None:
        """See `Targets.direct`."""
        return None if self._store.may_be_enrolled(access.device_id) else super().direct(access)

    async def reach(self, access: ServiceAccess, seconds: float) -> socket.socket:
        """See `Targets.reach`.

        Raises:
            DeviceOfflineError: see there; also when it cannot be known whether the device has an agent.
        """
        try:
            if not await self._store.enrolled(access.device_id):
                return await super().reach(access, seconds)
            agent = await self._agent(access.device_id)
        except StoreUnavailableError:
            raise DeviceOfflineError from None
        try:
            async with asyncio.timeout(seconds):
                peer = await self._hub.take(agent)
        except (OfflineError, TimeoutError):
            raise DeviceOfflineError from None
        try:
            async with asyncio.timeout(seconds):
                await peer.dial(access.target_host, access.target_port)
                return await join(peer)
        except (OSError, TimeoutError):
            raise TargetUnreachableError from None
        finally:
            peer.leave()

    async def _agent(self, device_id: str) -> Agent:
        # Asked each time: a key that is void must not let the device's former owner answer for it.
        found = (await self._store.judge([device_id])).get(device_id)
        agent = self._hub.of(device_id)
        if agent is None or found is None or found[1] is not Standing.GOOD or found[0] != agent.enrolment:
            raise DeviceOfflineError
        return agent
