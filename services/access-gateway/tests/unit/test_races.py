"""A revoke that races a connect, in every order that chance finds: nothing that was granted survives it.

The database is played here, so that its answers can be held back between any two steps of the gateway; the
gateway's own parts are the real ones. What it plays is tested against Postgres in tests/integration.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from access_gateway.audit import Audit
from access_gateway.grants import GrantStore
from access_gateway.holdings import Holdings
from access_gateway.pinned import Connection as Database
from access_gateway.policy import AccessRequest
from access_gateway.refusals import RefusedError
from access_gateway.server import Gateway
from access_gateway.settings import Settings
from access_gateway.targets import Targets
from contracts.events import CutReason

RACES, TOGETHER = 10_000, 200
SERVICES = json.dumps(
    [
        {
            "service_id": "",
            "protocol": "tcp",
            "channel": None,
            "target_host": "127.0.0.1",
            "target_port": 22,
            "live_path": None,
            "recording_path": None,
            "permissions": ["connect"],
        }
    ]
)


class Played:
    """The grants and the feed, as a database that answers when chance says so."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._shared: dict[str, str] = {}
        self._changes: list[str] = []
        self._listeners: list[Callable[..., object]] = []

    def share(self, device_id: str, account_id: str) -> None:
        self._shared[device_id] = account_id

    def revoke(self, device_id: str) -> None:
        del self._shared[device_id]
        self._changes.append(device_id)

    def notify(self) -> None:
        for listener in self._listeners:
            listener()

    async def connect(self, _dsn: str, _application: str) -> Database:
        return cast("Database", self)

    async def pause(self, most: int = 8) -> None:
        for _ in range(self._chance.randrange(most)):
            await asyncio.sleep(0)

    async def fetch(self, _query: str, *arguments: Any) -> list[dict[str, Any]]:
        await self.pause()
        answer = self._answer(*arguments)  # this is the moment that it tells of
        await self.pause()
        return answer

    def _answer(self, *arguments: Any) -> list[dict[str, Any]]:
        if not arguments:
            return [{"partition": 0, "age": 0.0}]
        if len(arguments) == 1:
            return [self._device(service_id) for service_id in arguments[0]]
        generation, after, _ = arguments
        if generation == 0:
            return [_change(len(self._changes), None)]
        return [
            _change(number, device)
            for number, device in enumerate(self._changes[after:], after + 1)
            if number <= after + 1000
        ]

    def _device(self, service_id: str) -> dict[str, Any]:
        device_id = service_id.removesuffix("-svc")
        services = json.loads(SERVICES)
        services[0]["service_id"] = service_id
        account_id = self._shared.get(device_id)
        share = {
            "share_id": "01936b1e-0000-7000-8000-000000000001",
            "account_id": account_id,
            "terms": {"scope": {"kind": "all", "permissions": "all"}},
            "begins_in": None,
            "ends_in": None,
        }
        return {
            "service_id": service_id,
            "device_id": device_id,
            "owner_account_id": "owner",
            "device_version": 1,
            "partition": 0,
            "quarantined": False,
            "services": json.dumps(services),
            "shares": json.dumps([share] if account_id else []),
        }

    async def add_listener(self, _channel: str, callback: Callable[..., object]) -> None:
        self._listeners.append(callback)

    def add_termination_listener(self, callback: Callable[..., object]) -> None: ...

    def terminate(self) -> None: ...


def _change(number: int, device_id: str | None) -> dict[str, Any]:
    return {"generation": 1, "id": number, "device_id": device_id, "correlation_id": None}


@asynccontextmanager
async def playing(played: Played) -> AsyncGenerator[tuple[Gateway, GrantStore]]:
    settings = Settings.model_validate(
        {
            "postgres_dsn": "postgresql://played",
            "kafka_bootstrap": "127.0.0.1:1",
            "gateway_id": "gw-1",
            "internal_keys": '{"keys": [{"kty": "EC"}]}',
        }
    )
    store = GrantStore("postgresql://played", capacity=1000, connect=played.connect)
    holdings = Holdings(store, max_staleness=15)
    audit = Audit(bootstrap="127.0.0.1:1", topic_prefix="", gateway_id="gw-1", backlog=10)
    gateway = Gateway(settings, store=store, holdings=holdings, audit=audit, targets=Targets(()))
    watching = asyncio.create_task(store.watch(holdings.recheck))
    while not store.freshness.ages:  # noqa: ASYNC110 - the first poll
        await asyncio.sleep(0)
    try:
        yield gateway, store
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        store.close()


async def race(gateway: Gateway, played: Played, number: int) -> str:
    """One connect and one revoke; how it ended."""
    device_id, account_id = f"dev-{number}", f"ann-{number}"
    played.share(device_id, account_id)
    request = AccessRequest(account_id, f"{device_id}-svc")
    cuts: list[CutReason] = []
    done = asyncio.Event()

    def cut(reason: CutReason) -> None:
        cuts.append(reason)
        done.set()

    async def connect() -> str:
        if number % 3 == 0:  # somebody has asked before: it is in memory
            await gateway.decider.decide(request, gateway.connection(request, way="port").connection_id)
        await played.pause(40)
        async with gateway.connection(request, way="port", cut=cut) as connection:
            try:
                await connection.check()
            except RefusedError:
                return "refused"
            await played.pause()
            at_once = connection.ended is not None
            async with asyncio.timeout(20):
                await done.wait()
            assert cuts == [CutReason.GRANT_ENDED]
            return "ended before its first byte" if at_once else "cut"

    async def revoke() -> None:
        await played.pause(40)
        played.revoke(device_id)
        await played.pause()
        played.notify()

    outcome, _ = await asyncio.gather(connect(), revoke())
    return outcome


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_connect_that_races_a_revoke_never_survives_it() -> None:
    seed = random.randrange(2**32)
    played = Played(random.Random(seed))
    outcomes: Counter[str] = Counter()
    async with playing(played) as (gateway, _):
        for start in range(0, RACES, TOGETHER):
            outcomes.update(
                await asyncio.gather(
                    *(race(gateway, played, number) for number in range(start, start + TOGETHER))
                )
            )
    assert outcomes.total() == RACES, seed
    assert min(outcomes["refused"], outcomes["cut"]) > RACES // 50, outcomes


async def test_a_revoke_that_nobody_told_of_is_found() -> None:
    """The notification is only a hint; the feed is read each second."""
    played = Played(random.Random(1))
    played.share("dev-1", "ann")
    done = asyncio.Event()
    async with playing(played) as (gateway, _):
        request = AccessRequest("ann", "dev-1-svc")
        async with gateway.connection(request, way="port", cut=lambda _: done.set()) as connection:
            await connection.check()
            played.revoke("dev-1")
            async with asyncio.timeout(20):
                await done.wait()
