"""Puts the gateway together: the only place that knows which classes there are."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import FastAPI

from access_gateway.agents.service import Agents
from access_gateway.audit import Audit
from access_gateway.authzen import http as authzen
from access_gateway.authzen.answers import Answers
from access_gateway.doors import Crowd
from access_gateway.entrance import Entrance
from access_gateway.grants import GrantStore
from access_gateway.holdings import Holdings
from access_gateway.http import router, streams
from access_gateway.policy import is_fresh
from access_gateway.ports import Ports
from access_gateway.protocols.rtsp.passwords import StreamPasswords
from access_gateway.server import Gateway
from access_gateway.settings import Settings
from access_gateway.targets import Targets
from access_gateway.tls import Certificate
from servicekit.http import create_app


@dataclass(frozen=True, slots=True)
class App:
    """The gateway, ready to be served: ``http`` answers callers while `run` goes on."""

    http: FastAPI
    store: GrantStore
    holdings: Holdings
    gateway: Gateway
    ports: Ports
    entrance: Entrance
    audit: Audit
    certificate: Certificate | None
    agents: Agents | None

    async def run(self) -> None:
        """Follow the grants, cut and publish until cancelled; then close everything that is open."""
        async with self.audit.running():
            with self.gateway.engine.running():
                await self._serve()

    async def _serve(self) -> None:
        try:
            async with self.entrance.open(), asyncio.TaskGroup() as group:
                group.create_task(self.store.watch(self._changed))
                if self.certificate is not None:
                    group.create_task(self.certificate.watch())
                if self.agents is not None:
                    group.create_task(self.agents.run())
                group.create_task(self.holdings.watchdog())
                group.create_task(self.holdings.end_on_time())
        finally:
            await self.ports.shut_down()
            self.store.close()

    async def _changed(self, devices: Mapping[str, str | None] | None) -> None:
        await self.holdings.recheck(devices)
        if self.agents is not None:
            self.agents.doubt(devices)


def build(settings: Settings) -> App:
    """The gateway of these settings. Nothing is connected until `App.run`.

    Ready means: grants can be checked and some device partition is fresh. The broker is not asked:
    access, and above all the end of access, must not depend on the topic that only records it.
    """
    store = GrantStore(settings.postgres_dsn.get_secret_value(), capacity=settings.grants_in_memory)
    holdings = Holdings(store, max_staleness=settings.max_staleness_seconds)
    audit = Audit(
        bootstrap=settings.kafka_bootstrap,
        topic_prefix=settings.topic_prefix,
        gateway_id=settings.gateway_id,
        backlog=settings.audit_backlog,
    )
    certificate = None
    if settings.tls_cert_file is not None and settings.tls_key_file is not None:
        certificate = Certificate(settings.tls_cert_file, settings.tls_key_file)
    crowd = Crowd(most=settings.clients, strangers_per_source=settings.strangers_per_source)
    agents = None
    if settings.agent_port and certificate is not None:
        agents = Agents(settings, certificate=certificate, crowd=crowd)
    targets = Targets(settings.networks) if agents is None else agents.targets
    gateway = Gateway(settings, store=store, holdings=holdings, audit=audit, targets=targets)
    ports = Ports(settings, gateway=gateway, holdings=holdings)

    async def database() -> None:
        await store.ask()

    async def freshness() -> None:
        # One partition that stands still is its devices' trouble; the gateway still serves all others.
        if not is_fresh(store.freshness.newest(time.monotonic()), settings.max_staleness_seconds):
            raise TimeoutError("no device partition is fresh")

    http = create_app("Latchkey access gateway", {"database": database, "freshness": freshness})
    http.include_router(router(ports, gateway, settings))
    http.include_router(authzen.router(Answers(gateway.decider, store), settings.internal_keys))
    passwords = StreamPasswords()
    http.include_router(streams(passwords, settings))
    if agents is not None:
        http.include_router(agents.router())
    entrance = Entrance(settings, gateway, passwords=passwords, crowd=crowd, certificate=certificate)
    return App(http, store, holdings, gateway, ports, entrance, audit, certificate, agents)
