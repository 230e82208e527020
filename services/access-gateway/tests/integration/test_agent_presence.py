"""What is told of agents that come and go."""

import asyncio
import signal
from typing import TYPE_CHECKING

import asyncpg
import pytest
from agent_site import LOGIN_WAITS, Agents, Told, echoes, enrolled, free_port, said, talk

if TYPE_CHECKING:
    from conftest import Devices, Gateways, World  # pyright: ignore[reportMissingImports]

    from devstack.certificates import Files
    from devstack.pytest_plugin import Database


async def test_presence_is_told_when_agents_come_and_go(
    world: "World", devices: "Devices", agents: Agents, told: Told
) -> None:
    service_id = await world.device("dev-1", await devices.echo())
    agent = await agents.enrolled("agent", "dev-1")
    await told.until("dev-1", True, "gw-1")
    await agent.stop(signal.SIGKILL)
    await told.until("dev-1", False)
    agent = await agents.start("agent")
    await told.until("dev-1", True)
    await echoes(agents, "owner", service_id)
    assert await agents.remove("dev-1") == 204
    await told.until("dev-1", None)


@pytest.mark.timeout(120)
async def test_with_several_gateways_a_device_is_at_each_and_offline_only_when_it_has_left_all(  # noqa: PLR0917 - pytest passes fixtures by name
    world: "World",
    devices: "Devices",
    gateways: "Gateways",
    agents: Agents,
    told: Told,
    certificates: "Files",
) -> None:
    service_id = await world.device("dev-1", await devices.echo())
    agent = await agents.enrolled("agent", "dev-1")
    port = free_port()
    second = await gateways.start(
        gateway_id="gw-2", agent_port=port, tls_cert_file=certificates.certificate,
        tls_key_file=certificates.key, target_networks="",
    )  # fmt: skip
    await agent.says(f"Connected to the gateway 127.0.0.1:{port}")
    await told.until("dev-1", True, "gw-2")
    opened = await second.open("owner", service_id)
    reader, writer = await second.connect(opened["port"])
    writer.write(b"there")
    assert await asyncio.wait_for(reader.readexactly(5), 15) == b"there"
    writer.close()
    await gateways.stop(second)
    await told.until("dev-1", True, "gw-1")
    await agent.stop(signal.SIGKILL)
    await told.until("dev-1", False)


@pytest.mark.timeout(120)
async def test_what_a_dead_gateway_left_behind_is_told_by_another(
    world: "World", devices: "Devices", agents: Agents, told: Told
) -> None:
    await world.device("dev-1", await devices.echo())
    agent = await agents.enrolled("agent", "dev-1")
    assert await agent.stop() == 0
    await told.until("dev-1", False)
    connection = await asyncpg.connect(agents.dsn)
    await connection.execute(
        "insert into gateway values ('gw-dead', '127.0.0.1:1', now() - interval '1 minute')"
    )
    await connection.execute("insert into agent_connection values ('dev-1', 'gw-dead')")
    async with asyncio.timeout(30):
        while await connection.fetchval("select count(*) from agent_connection"):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await connection.close()
    await told.until("dev-1", False)


async def test_an_agent_that_is_gone_before_it_is_known_does_not_count_as_connected(
    world: "World", devices: "Devices", agents: Agents, told: Told, database: "Database"
) -> None:
    await world.device("dev-1", await devices.echo())
    login = await enrolled(agents, "dev-1")
    reader, writer = await talk(agents)
    writer.write(login)
    assert (await said(reader))["type"] == "welcome"
    await told.until("dev-1", True)
    blocking = await asyncpg.connect(database.dsn())
    try:
        await blocking.execute("begin; lock table access_gateway.agent in access exclusive mode")
        _, late = await talk(agents)
        late.write(login)
        async with asyncio.timeout(1.5):  # the gateway waits no longer for the database
            while not await blocking.fetchval(LOGIN_WAITS):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        late.transport.abort()
    finally:
        await blocking.close()
    while (last := await said(reader)) is not None and last["type"] != "refused":
        pass
    assert last is not None
    assert last["code"] == "REPLACED"  # so the late one was let in
    await told.until("dev-1", False)
    writer.close()
