"""A stack of docker-compose.yml that runs: whatever is killed comes back, and what was decided is still so.

Runs with ``--stack containers`` on a stack that somebody has started (`docker compose up --detach`), and
leaves it running. It shares a demo device and takes it back.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import yaml

from devstack import seed
from devstack.client import DEVICES, Account, RefusedError
from devstack.target import Target

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
SERVERS = sorted(
    name for name, service in SERVICES.items() if service["restart"] != "no" and "profiles" not in service
)
PORTAL = "http://127.0.0.1:" + os.environ.get("LATCHKEY_PORTAL_PORT", "8480")
ISSUER = "http://127.0.0.1:" + os.environ.get("LATCHKEY_ISSUER_PORT", "8482")
WELL_SECONDS = 300.0
"""Long, as all at once on a busy machine take minutes to start: what is tried is that they get there."""
DEVICE = seed.WORKSHOP_PC

PRODUCE = """
import sys
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
topic, codec = sys.argv[1:]
admin = AdminClient({"bootstrap.servers": "kafka:9092"})
admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()
refused = []
settings = {"bootstrap.servers": "kafka:9092", "compression.type": codec, "message.timeout.ms": 20000}
producer = Producer(settings)
for _ in range(50):
    producer.produce(topic, b"x" * 1000, on_delivery=lambda error, _message: error and refused.append(error))
producer.flush()
admin.delete_topics([topic])[topic].result()
sys.exit(str(refused[0]) if refused else 0)
"""

T = TypeVar("T")

pytestmark = pytest.mark.timeout(3 * WELL_SECONDS)


def docker(*arguments: str) -> str:
    """What the command says."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def inspected() -> dict[str, dict[str, Any]]:
    """The containers of this checkout's stack, by service."""
    ours = f"label=com.docker.compose.project.working_dir={ROOT}"
    ids = docker("ps", "--all", "--quiet", "--filter", ours).split()
    found: list[dict[str, Any]] = json.loads(docker("inspect", *ids)) if ids else []
    return {item["Config"]["Labels"]["com.docker.compose.service"]: item for item in found}


@pytest.fixture(scope="module")
def stack(pytestconfig: pytest.Config) -> Target:
    """The stack that runs; without one there is nothing to try."""
    if pytestconfig.getoption("--stack") != "containers":
        pytest.skip("asked for by --stack containers only")
    if set(SERVERS) - inspected().keys():
        pytest.skip("no stack of docker-compose.yml runs here: docker compose up --detach")
    return Target(PORTAL, "", ISSUER)


async def until_well() -> float:
    """Wait until every server is healthy; the seconds it took."""
    began = time.monotonic()
    while True:
        states = {name: item["State"] for name, item in inspected().items() if name in SERVERS}
        unwell = {
            name: state["Status"] if state["Status"] != "running" else state["Health"]["Status"]
            for name, state in states.items()
            if state["Status"] != "running" or state["Health"]["Status"] != "healthy"
        }
        if not unwell:
            return time.monotonic() - began
        if time.monotonic() - began > WELL_SECONDS:
            pytest.fail(f"not well after {WELL_SECONDS:.0f} s: {unwell}")
        await asyncio.sleep(0.5)


@pytest.fixture
async def people(stack: Target) -> AsyncGenerator[tuple[Account, Account]]:
    """Ann and Bob at the portal."""
    await until_well()
    async with httpx.AsyncClient(base_url=PORTAL, timeout=30) as http:
        ann, bob = [
            Account(http, await stack.token(email)) for email in (seed.OWNER_EMAIL, seed.RECIPIENT_EMAIL)
        ]
        yield ann, bob


async def once_provable(ask: Callable[[], Awaitable[T]]) -> T:
    """The answer, when permissions are fresh again: after a crash, access is refused until they are."""
    deadline = time.monotonic() + WELL_SECONDS
    while True:
        try:
            return await ask()
        except RefusedError as refusal:
            if refusal.code != "UNAVAILABLE" or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.5)


async def devices(person: Account) -> set[str]:
    """The ids in somebody's list."""
    return {item["id"] for item in (await person.ask(DEVICES))["login"]["devices"]["items"]}


def kill(container: dict[str, Any]) -> None:
    """End its first process as a crash would; where that is not ours to do, have the engine do it."""
    try:
        os.kill(container["State"]["Pid"], signal.SIGKILL)
    except PermissionError:  # the engine then counts it as stopped by hand, and has to be told to go on
        docker("kill", container["Id"])
        docker("start", container["Id"])


async def until_shared(people: tuple[Account, Account]) -> None:
    """Ann has shared her PC with Bob, and he has accepted."""
    ann, bob = people
    await once_provable(lambda: ann.share(DEVICE, seed.RECIPIENT_EMAIL))
    bob.position = ann.position
    if await bob.invitation(DEVICE) is not None:
        await bob.accept(DEVICE)


async def expect_nothing_lost(people: tuple[Account, Account]) -> None:
    """Bob still has what was shared, his connection opens, and taking the share back still cuts it."""
    ann, bob = people
    assert DEVICE in await devices(bob), "a share outlives whatever happens to containers"
    connection = await once_provable(lambda: bob.connect(seed.ECHO))
    reader, writer = await asyncio.open_connection(connection["host"], connection["port"])
    writer.write(b"hello")
    assert await asyncio.wait_for(reader.readexactly(5), 30) == b"hello"
    await ann.share(DEVICE, seed.RECIPIENT_EMAIL, action="REMOVE")
    assert await asyncio.wait_for(reader.read(), 30) == b"", "and a revoke still cuts"
    writer.close()
    bob.position = ann.position
    assert DEVICE not in await devices(bob)


async def until_started_anew(before: dict[str, dict[str, Any]]) -> None:
    """Wait until each of these containers has another start than it had."""
    while True:
        now = inspected()
        if all(now[name]["State"]["StartedAt"] != was["State"]["StartedAt"] for name, was in before.items()):
            return
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("name", SERVERS)
async def test_what_is_killed_comes_back_and_nothing_is_lost(
    name: str, people: tuple[Account, Account]
) -> None:
    await until_shared(people)
    killed = {name: inspected()[name]}
    kill(killed[name])
    await until_started_anew(killed)
    await until_well()
    await expect_nothing_lost(people)


async def test_when_all_are_killed_at_once_nothing_is_lost(people: tuple[Account, Account]) -> None:
    await until_shared(people)
    killed = {name: container for name, container in inspected().items() if name in SERVERS}
    for container in killed.values():
        kill(container)
    await until_started_anew(killed)
    await until_well()
    await expect_nothing_lost(people)


@pytest.mark.parametrize("codec", ["none", "gzip", "lz4", "snappy", "zstd"])
async def test_the_broker_takes_what_its_producers_compress(stack: Target, codec: str) -> None:
    """Upstream services choose for themselves. Asked inside, as nothing publishes the broker."""
    await until_well()
    inside = inspected()["share-command-1"]["Id"]
    docker("exec", inside, "python", "-c", PRODUCE, f"tests.{codec}.{time.time_ns()}", codec)


@pytest.mark.parametrize("order", range(3))
async def test_when_all_are_stopped_and_started_in_any_order_nothing_is_lost(
    order: int, people: tuple[Account, Account]
) -> None:
    await until_shared(people)
    ids = {name: container["Id"] for name, container in inspected().items() if name in SERVERS}
    docker("stop", *ids.values())
    for name in random.Random(order).sample(SERVERS, len(SERVERS)):
        docker("start", ids[name])
    await until_well()
    await expect_nothing_lost(people)
