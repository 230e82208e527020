"""A device behind a NAT, through the whole stack: a real agent process, the portal, Kafka and the gateway."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from contracts.directory import DeviceSnapshot, Service, Target
from devstack import seed
from devstack.certificates import files
from devstack.client import Account, RefusedError
from devstack.world import Connection, World, until

BOB = seed.RECIPIENT_EMAIL
CODE = "mutation($id: String!) { createAgentCode(deviceId: $id) { code gateways } }"
REMOVE = "mutation($id: String!) { removeAgent(deviceId: $id) }"
STATE = (
    "query($id: [String!]!) { login { device(id: $id) { state online lastReported services { online } } } }"
)


class Agents:
    """Agents of one test."""

    def __init__(self, world: World, script: Path, directory: Path) -> None:
        self.world, self._script, self._directory = world, script, directory
        self._processes: list[asyncio.subprocess.Process] = []

    async def code(self, device: str) -> tuple[str, str]:
        """A one-time code, and where to use it."""
        owner = await self.world.account(seed.OWNER_EMAIL)
        made = (await owner.ask(CODE, id=device))["createAgentCode"]
        return made["code"], made["gateways"][0]

    async def start(self, name: str, *arguments: str) -> asyncio.subprocess.Process:
        """One agent; ``name`` is of its state file."""
        ca = files(self.world.state.tls).ca
        process = await asyncio.create_subprocess_exec(
            sys.executable, self._script, "--ca", ca, "--state", self._directory / name, *arguments,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        self._processes.append(process)
        return process

    async def enrolled(self, name: str, device: str) -> asyncio.subprocess.Process:
        """An agent that is connected as the device's."""
        code, gateway = await self.code(device)
        process = await self.start(name, "--gateway", gateway, "--code", code)
        await self.becomes(device, "active")
        return process

    async def becomes(self, device: str, state: str, email: str = seed.OWNER_EMAIL) -> None:
        """Wait until GraphQL tells this state of the device, and the same of its services."""
        account = await self.world.account(email)

        async def so() -> bool:
            (found,) = (await account.ask(STATE, id=[device]))["login"]["device"]
            online = state == "active"
            assert found["online"] is (found["state"] == "active")
            return found["state"] == state and all(each["online"] is online for each in found["services"])

        await until(so, 40)

    async def end(self) -> None:
        """Kill what still runs."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@pytest.fixture
async def agents(world: World, project: Path, tmp_path: Path) -> AsyncIterator[Agents]:
    made = Agents(world, project / "agent" / "latchkey-agent.py", tmp_path)
    yield made
    await made.end()


async def opens(world: World, account: Account, service: str) -> Connection | None:
    """A connection that echoes, or None while the device cannot be reached."""
    try:
        return await world.open(account, service)
    except (RefusedError, ConnectionError, asyncio.IncompleteReadError):
        return None


async def code_of(process: asyncio.subprocess.Process) -> int:
    return await asyncio.wait_for(process.wait(), 40)


@pytest.mark.timeout(150)
async def test_a_device_is_reached_through_its_agent_and_comes_and_goes_with_it(
    world: World, agents: Agents
) -> None:
    device = await world.device()
    _, bob = await world.shared(device)
    await agents.becomes(device, "unknown")  # it has no agent: nobody observes it
    agent = await agents.enrolled("agent", device)
    await agents.becomes(device, "active", BOB)
    connection = await world.open(bob, f"{device}.1")
    assert await connection.echo(os.urandom(200_000))
    agent.send_signal(signal.SIGKILL)
    await connection.until_closed(10)
    await agents.becomes(device, "inactive")
    assert await opens(world, bob, f"{device}.1") is None  # never dialled directly
    agent = await agents.start("agent")  # without code or gateway
    await agents.becomes(device, "active")
    connection = await world.open(bob, f"{device}.1")
    other = await agents.start("agent")
    assert await code_of(agent) == 4  # evicted
    await connection.until_closed(10)
    await agents.becomes(device, "active")
    (await world.open(bob, f"{device}.1")).writer.close()
    assert other.returncode is None


@pytest.mark.timeout(120)
async def test_a_revoke_cuts_what_runs_through_an_agent(world: World, agents: Agents) -> None:
    device = await world.device()
    owner, bob = await world.shared(device)
    await agents.enrolled("agent", device)
    connection, own = await world.open(bob, f"{device}.1"), await world.open(owner, f"{device}.1")
    await owner.share(device, BOB, action="REMOVE")
    await connection.until_closed(10)
    assert await own.echo(b"still here") == b"still here"
    bob.position = owner.position
    with pytest.raises(RefusedError):
        await bob.connect(f"{device}.1")


@pytest.mark.timeout(150)
async def test_a_gateway_that_is_killed_leaves_no_device_online_and_its_agents_come_back(
    world: World, agents: Agents
) -> None:
    device = await world.device()
    gone = await world.device()
    owner, _ = await world.shared(device)
    agent = await agents.enrolled("agent", device)
    lost = await agents.enrolled("gone", gone)
    lost.send_signal(signal.SIGSTOP)  # it will not come back
    await world.kill("access-gateway")
    await agents.becomes(gone, "inactive")

    async def reached() -> Any:
        return await opens(world, owner, f"{device}.1")

    (await until(reached, 60)).writer.close()
    await agents.becomes(device, "active")
    assert agent.returncode is None


@pytest.mark.timeout(120)
async def test_wrong_codes_removal_and_another_owner(world: World, agents: Agents) -> None:
    device = await world.device()
    code, gateway = await agents.code(device)
    wrong = await agents.start(
        "wrong", "--gateway", gateway, "--code", code[:-1] + ("2" if code[-1] != "2" else "3")
    )
    assert await code_of(wrong) == 3
    bob = await world.account(BOB)
    for mutation in (CODE, REMOVE):
        with pytest.raises(RefusedError) as refusal:
            await bob.ask(mutation, id=device)
        assert refusal.value.code == "DEVICE_NOT_FOUND"
    agent = await agents.enrolled("agent", device)
    owner = await world.account(seed.OWNER_EMAIL)
    await owner.ask(REMOVE, id=device)
    assert await code_of(agent) == 3
    await agents.becomes(device, "unknown")
    agent = await agents.enrolled("agent", device)
    target = Target(host=world.targets.host, port=world.targets.echo_port)
    service = Service(service_id=f"{device}.1", name="Echo 1", protocol="tcp", target=target)
    await world.add_device(
        DeviceSnapshot(
            device_id=device, owner_account_id="cat", name=device, kind="computer", services=(service,)
        )
    )
    assert await code_of(agent) == 3
