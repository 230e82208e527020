"""The registry publishes what it owns, whole, in order, and again after a restart."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.codec import decode
from contracts.directory import AccountSnapshot, DeviceSnapshot
from contracts.topics import DIRECTORY_ACCOUNTS, DIRECTORY_DEVICES
from devstack import seed
from devstack.registry import Registry
from servicekit.kafka import Admin, Consumer, Partition

TARGETS = seed.Targets("127.0.0.1", 7001, 7002, 7003)
TOKEN = "registry-token"
Start = Callable[..., AbstractAsyncContextManager[Registry]]
Seen = dict[str, list[bytes | None]]


@pytest.fixture
async def start(kafka_bootstrap: str, topic_prefix: str, tmp_path: Path) -> Start:
    nothing_set: dict[str, str] = {}
    topics = (DIRECTORY_DEVICES, DIRECTORY_ACCOUNTS)
    await Admin(kafka_bootstrap).provision((topic_prefix + topic.name, 1, nothing_set) for topic in topics)

    def begin(**changes: Any) -> AbstractAsyncContextManager[Registry]:
        settings: dict[str, Any] = {"directory": tmp_path, "targets": TARGETS, "token": TOKEN, **changes}
        return Registry.start(kafka_bootstrap=kafka_bootstrap, topic_prefix=topic_prefix, **settings)

    return begin


@pytest.fixture
def published(kafka_bootstrap: str, topic_prefix: str) -> Callable[[], Any]:
    """Everything on both topics up to now: values by key, in order."""

    async def read() -> Seen:
        topics = [topic_prefix + topic.name for topic in (DIRECTORY_DEVICES, DIRECTORY_ACCOUNTS)]
        ends = await Admin(kafka_bootstrap).end_offsets([Partition(topic, 0) for topic in topics])

        async def nothing(_: set[Partition]) -> None: ...

        group = f"{topic_prefix}reader{sum(ends.values())}"
        seen: Seen = {}
        at = dict.fromkeys(ends, 0)
        async with Consumer(
            kafka_bootstrap, group=group, topics=topics, assigned=nothing, revoked=nothing
        ) as consumer:
            while at != ends:
                for place, records in (await consumer.getmany(timeout_ms=100, max_records=100)).items():
                    at[place] = records[-1].offset + 1
                    for record in records:
                        assert record.key is not None
                        seen.setdefault(record.key.decode(), []).append(record.value)
        return seen

    return read


@asynccontextmanager
async def client_of(registry: Registry, token: str | None = TOKEN) -> AsyncGenerator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(base_url=registry.url, headers=headers) as client:
        yield client


def device(device_id: str = "dev-1", **changes: Any) -> dict[str, Any]:
    whole = {"device_id": device_id, "owner_account_id": "bob", "name": "Shed PC", "kind": "computer"}
    return {**whole, "services": [], **changes}


def service(service_id: str) -> dict[str, Any]:
    target = {"host": "127.0.0.1", "port": 9}
    return {"service_id": service_id, "name": "x", "protocol": "tcp", "target": target}


async def test_a_new_registry_publishes_the_demo(start: Start, published: Callable[[], Any]) -> None:
    async with start():
        seen = await published()
    message = decode(seen[seed.WORKSHOP_PC][-1])
    assert isinstance(message.data, DeviceSnapshot)
    assert (message.source, message.subject) == ("registry", seed.WORKSHOP_PC)
    assert {item.target.port for item in message.data.services} == {7001, 7002}
    account = decode(seen["bob"][-1]).data
    assert account == seed.ACCOUNTS[1]
    assert len(seen) == len(seed.ACCOUNTS) + 3


async def test_a_change_is_published_before_its_answer_and_survives(
    start: Start, published: Callable[[], Any]
) -> None:
    async with start() as registry, client_of(registry) as client:
        assert (await client.put("/devices/dev-1", json=device())).status_code == 200
        account = {"account_id": "eve", "name": "Eve Lund", "verified_emails": ["eve@example.test"]}
        assert (await client.put("/accounts/eve", json=account)).status_code == 200
        seen = await published()
    kept = decode(seen["dev-1"][-1]).data
    assert isinstance(kept, DeviceSnapshot)
    assert kept.name == "Shed PC"
    assert isinstance(decode(seen["eve"][-1]).data, AccountSnapshot)
    async with start() as registry, client_of(registry, None) as client:
        assert "dev-1" in [item["device_id"] for item in (await client.get("/devices")).json()["devices"]]
        assert "eve" in [item["account_id"] for item in (await client.get("/accounts")).json()["accounts"]]


async def test_a_deletion_is_published_and_published_again_at_the_next_start(
    start: Start, published: Callable[[], Any]
) -> None:
    async with start() as registry, client_of(registry) as client:
        assert (await client.delete(f"/devices/{seed.WORKSHOP_PC}")).status_code == 204
        assert (await published())[seed.WORKSHOP_PC][-1] is None
    async with start() as registry, client_of(registry) as client:
        seen = (await published())[seed.WORKSHOP_PC]
        assert seen[-2:] == [None, None]
        assert seed.WORKSHOP_PC not in [item.device_id for item in registry.devices()]


async def test_demo_services_follow_their_targets(start: Start, published: Callable[[], Any]) -> None:
    async with start() as registry, client_of(registry) as client:
        await client.put("/devices/dev-1", json=device(services=[service("svc-1")]))
    async with start(targets=seed.Targets("127.0.0.1", 8001, 8002, 8003)):
        seen = await published()
    moved = decode(seen[seed.WORKSHOP_PC][-1]).data
    assert isinstance(moved, DeviceSnapshot)
    assert {item.target.port for item in moved.services} == {8001, 8002}
    untouched = decode(seen["dev-1"][-1]).data
    assert isinstance(untouched, DeviceSnapshot)
    assert untouched.services[0].target.port == 9


@pytest.mark.parametrize(
    ("path", "body", "refusal"),
    [
        ("/devices/dev-1", device("dev-2"), (422, "INVALID_REQUEST")),
        ("/devices/dev-1", {"device_id": "dev-1"}, (422, "INVALID_REQUEST")),
        ("/devices/a%20b", device("a b"), (422, "INVALID_REQUEST")),
        ("/devices/dev-1", device(owner_account_id="nobody"), (422, "ACCOUNT_NOT_FOUND")),
        ("/devices/dev-1", device(services=[service(seed.ECHO)]), (409, "SERVICE_ID_TAKEN")),
        ("/devices/dev-1", device(services=[service("dev-1")]), (409, "SERVICE_ID_TAKEN")),
        ("/devices/dev-1", device(services=[service("s"), service("s")]), (409, "SERVICE_ID_TAKEN")),
        (
            "/accounts/eve",
            {"account_id": "eve", "name": "Eve", "verified_emails": ["bob@example.test"]},
            (409, "ADDRESS_TAKEN"),
        ),
    ],
)
async def test_a_bad_change_changes_nothing(
    start: Start, published: Callable[[], Any], path: str, body: dict[str, Any], refusal: tuple[int, str]
) -> None:
    async with start() as registry, client_of(registry) as client:
        before = (registry.devices(), registry.accounts(), await published())
        answer = await client.put(path, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == refusal
        assert (registry.devices(), registry.accounts(), await published()) == before


@pytest.mark.parametrize(
    ("given", "configured", "status"),
    [(None, TOKEN, 401), ("wrong", TOKEN, 403), ("", None, 401), ("None", None, 403)],
)
async def test_changes_need_the_token(
    start: Start, given: str | None, configured: str | None, status: int
) -> None:
    async with start(token=configured) as registry, client_of(registry, given) as client:
        assert (await client.put("/devices/dev-1", json=device())).status_code == status
        assert (await client.delete(f"/devices/{seed.WORKSHOP_PC}")).status_code == status
        assert (await client.put("/accounts/bob", json={})).status_code == status
        assert len(registry.devices()) == 3


async def test_deleting_what_is_not_there_is_told(start: Start) -> None:
    async with start() as registry, client_of(registry) as client:
        answer = await client.delete("/devices/none")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "DEVICE_NOT_FOUND")
