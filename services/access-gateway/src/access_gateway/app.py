"""Puts the gateway together: the only place that knows which classes there are."""

import asyncio
import time
from dataclasses import dataclass

from fastapi import FastAPI

from access_gateway.audit import Audit
from access_gateway.grants import GrantStore
from access_gateway.holdings import Holdings
from access_gateway.http import router
from access_gateway.policy import is_fresh
from access_gateway.server import Gateway
from access_gateway.settings import Settings
from servicekit.http import create_app

_NOBODY = "readiness-probe"


@dataclass(frozen=True, slots=True)
class App:
    """The gateway, ready to be served: ``http`` answers callers while `run` goes on."""

    http: FastAPI
    store: GrantStore
    holdings: Holdings
    gateway: Gateway
    audit: Audit

    async def run(self) -> None:
        """Follow the grants, cut and publish until cancelled; then close everything that is open."""
        async with self.audit.running():
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.store.watch(self.holdings.recheck))
                    group.create_task(self.holdings.watchdog())
            finally:
                await self.gateway.shut_down()
                self.store.close()


def build(settings: Settings) -> App:
    """The gateway of these settings. Nothing is connected until `App.run`.

    Ready means: grants can be checked and some device partition is fresh. The broker is not asked:
    access, and above all the end of access, must not depend on the topic that only records it.
    """
    store = GrantStore(settings.postgres_dsn.get_secret_value())
    holdings = Holdings(store, max_staleness=settings.max_staleness_seconds)
    audit = Audit(
        bootstrap=settings.kafka_bootstrap,
        topic_prefix=settings.topic_prefix,
        gateway_id=settings.gateway_id,
        backlog=settings.audit_backlog,
    )
    gateway = Gateway(settings, store=store, holdings=holdings, audit=audit)

    async def database() -> None:
        await store.check(_NOBODY, _NOBODY)

    async def freshness() -> None:
        # One partition that stands still is its devices' trouble; the gateway still serves all others.
        if not is_fresh(store.freshness.newest(time.monotonic()), settings.max_staleness_seconds):
            raise TimeoutError("no device partition is fresh")

    http = create_app("Latchkey access gateway", {"database": database, "freshness": freshness})
    http.include_router(router(gateway, settings))
    return App(http, store, holdings, gateway, audit)
