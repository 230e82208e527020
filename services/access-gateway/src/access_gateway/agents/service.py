"""Puts together what serves agents."""

import asyncio
from collections.abc import Mapping

from fastapi import APIRouter

from access_gateway.agents.http import router
from access_gateway.agents.hub import Hub
from access_gateway.agents.presence import Presence
from access_gateway.agents.reach import AgentTargets
from access_gateway.agents.store import AgentStore
from access_gateway.agents.watch import Watch
from access_gateway.agents.wire import AgentDoor
from access_gateway.clients import Client, TlsClient
from access_gateway.doors import Crowd, Door
from access_gateway.settings import Settings
from access_gateway.tls import Certificate

_FLUSH_SECONDS = 2.0


class Agents:
    """Devices that dial out to this gateway. ``targets`` reaches their services, and all others as before."""

    def __init__(self, settings: Settings, *, certificate: Certificate, crowd: Crowd) -> None:
        self._settings, self._certificate, self._crowd = settings, certificate, crowd
        dsn = settings.postgres_dsn.get_secret_value()
        self._store = AgentStore(dsn, max_staleness=settings.max_staleness_seconds)
        self._hub = Hub(lambda device_id: self._presence.changed([device_id]))
        self._presence = Presence(
            self._store,
            bootstrap=settings.kafka_bootstrap,
            topic_prefix=settings.topic_prefix,
            gateway_id=settings.gateway_id,
            connected=lambda: self._hub.devices,
        )
        self._watch = Watch(
            self._hub,
            self._store,
            self._presence,
            dsn=dsn,
            gateway_id=settings.gateway_id,
            address=settings.agent_address,
        )
        self._door = AgentDoor(
            self._hub,
            self._store,
            gateway_id=settings.gateway_id,
            gateways=lambda: self._watch.gateways,
            doubt=lambda device_id: self._watch.doubt({device_id: None}),
        )
        self.targets = AgentTargets(settings.networks, self._hub, self._store)

    def router(self) -> APIRouter:
        """The HTTP API of owners."""
        return router(self._store, lambda: self._watch.gateways, self._settings.internal_keys)

    def doubt(self, devices: Mapping[str, str | None] | None) -> None:
        """See `Watch.doubt`."""
        self._watch.doubt(devices)

    async def run(self) -> None:
        """Serve agents until cancelled; then tell that they are not connected here any more."""
        settings = self._settings
        door = Door(
            "agent",
            (settings.access_host, settings.agent_port),
            self._serve,
            crowd=self._crowd,
            hello_seconds=settings.hello_seconds,
            certificate=self._certificate,
        )
        presence = asyncio.create_task(self._presence.run())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch.run())
                group.create_task(self._never_without(presence))
                group.create_task(self._hub.sweep())
        finally:
            self._hub.close()
            await door.close()
            await self._presence.flushed(_FLUSH_SECONDS)
            presence.cancel()
            await asyncio.wait({presence}, timeout=_FLUSH_SECONDS)
            await self._store.close()

    async def _never_without(self, presence: "asyncio.Task[None]") -> None:
        # It goes on after the group has ended, but the group does not go on without it.
        await asyncio.shield(presence)

    async def _serve(self, client: Client) -> None:
        assert isinstance(client, TlsClient), "this door has a certificate"
        await self._door.serve(client)
