"""Devices that dial out: a real agent, a gateway, and what either of them must survive."""

import asyncio
import json
import os
import stat
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import pytest
from agent_site import Agents, echoes, ends

if TYPE_CHECKING:
    from conftest import Devices, Gateways, World  # pyright: ignore[reportMissingImports]


async def test_a_service_is_reached_through_its_agent_and_in_no_other_way(
    world: "World", devices: "Devices", agents: Agents
) -> None:
    service_id = await world.device("dev-1", await devices.echo())
    agent = await agents.enrolled("agent", "dev-1")
    state = agents.directory / "agent.json"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    key = json.loads(state.read_text())["key"]
    assert not any(key in line for line in agent.lines)
    await echoes(agents, "owner", service_id, os.urandom(300_000))  # the gateway itself may dial nothing
    # Ends cross it: a client that ends its sending still gets all of the answer.
    opened = await agents.gateway.open("owner", service_id)
    reader, writer = await agents.gateway.connect(opened["port"])
    data = os.urandom(1_000_000)
    writer.write(data)
    writer.write_eof()
    async with asyncio.timeout(20):
        assert b"".join([chunk async for chunk in chunks(reader)]) == data
    writer.close()
    assert await agent.stop() == 0
    assert any("Stopping" in line for line in agent.lines)
    # Gone: nobody dials the device's address from here.
    count = devices.connections
    assert await agents.gateway.turns_away(opened["port"], "127.0.0.1")
    assert devices.connections == count
    assert await agents.gateway.metric('gateway_refused_total{reason="DEVICE_OFFLINE"}') >= 1


async def chunks(reader: asyncio.StreamReader) -> AsyncGenerator[bytes]:
    while data := await reader.read(65536):
        yield data


@pytest.mark.timeout(120)
async def test_many_sessions_at_once_each_have_a_connection_of_their_own(
    world: "World", devices: "Devices", agents: Agents
) -> None:
    service_id = await world.device("dev-1", await devices.echo())
    await agents.enrolled("agent", "dev-1")
    opened = await agents.gateway.open("owner", service_id)
    before = await agents.gateway.metric('gateway_refused_total{reason="DEVICE_OFFLINE"}')

    async def one(number: int) -> bool:
        reader, writer = await agents.gateway.connect(opened["port"])
        data = number.to_bytes(4, "big") * 5000
        try:
            writer.write(data)
            return await reader.readexactly(len(data)) == data
        finally:
            writer.close()

    async with asyncio.timeout(90):
        for start in range(0, 160, 80):  # more than an agent may owe at once, and again on what is left
            assert all(await asyncio.gather(*(one(start + number) for number in range(80))))
    assert await agents.gateway.metric('gateway_refused_total{reason="DEVICE_OFFLINE"}') == before


async def test_only_the_owner_gets_a_code_and_nobody_learns_which_devices_there_are(
    world: "World", devices: "Devices", agents: Agents
) -> None:
    await world.device("dev-1", await devices.echo())
    await world.share("dev-1", "bob")
    for device_id, account_id in (("dev-1", "bob"), ("dev-1", "stranger"), ("no-such", "owner")):
        answer = await agents.ask(device_id, account_id)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "DEVICE_NOT_FOUND")
        assert await agents.remove(device_id, account_id) == 404
    answer = await agents.ask("dev-1")
    assert answer.json()["gateways"] == [f"127.0.0.1:{agents.port}"]


async def test_a_code_is_for_one_agent_and_a_wrong_one_tells_nothing(
    world: "World", devices: "Devices", agents: Agents
) -> None:
    await world.device("dev-1", await devices.echo())
    code = await agents.code("dev-1")
    wrong = await agents.start("wrong", "--code", code[:-1] + ("2" if code[-1] != "2" else "3"))
    assert await wrong.exits() == 3
    first = await agents.start("first", "--code", code.lower())
    await first.says("Connected")
    assert await first.stop() == 0
    # The answer may have been lost: the same key may come again. Another one may not.
    state = json.loads((agents.directory / "first.json").read_text())
    lost = {**state, "device_id": "", "key": "", "next_key": state["key"], "enrolled_by": ""}
    (agents.directory / "first.json").write_text(json.dumps(lost))
    for _ in range(2):  # and the line that enrolled may stay in a start script
        again = await agents.start("first", "--code", code)
        await again.says("Connected")
        assert await again.stop() == 0
    second = await agents.start("second", "--code", code)
    assert await second.exits() == 3
    unreadable = await agents.start("third", "--code", "not a code")
    assert await unreadable.exits() == 3
    messages = {next(line for line in each.lines if "refuses" in line)[24:] for each in (wrong, second)}
    assert len(messages) == 1


async def test_a_code_that_is_guessed_at_is_void_after_five_tries(
    world: "World", devices: "Devices", agents: Agents
) -> None:
    await world.device("dev-1", await devices.echo())
    code = await agents.code("dev-1")
    for letter in "23456":
        guess = await agents.start("guess", "--code", code[:-2] + letter + letter)
        assert await guess.exits() == 3
    late = await agents.start("late", "--code", code)
    assert await late.exits() == 3


async def test_a_new_login_evicts_the_agent_before_it(
    world: "World", devices: "Devices", agents: Agents
) -> None:
    service_id = await world.device("dev-1", await devices.echo())
    old = await agents.enrolled("old", "dev-1")
    (agents.directory / "new.json").write_bytes((agents.directory / "old.json").read_bytes())
    (agents.directory / "new.json").chmod(0o600)
    new = await agents.start("new")
    await new.says("Connected")
    assert await old.exits() == 4
    await echoes(agents, "owner", service_id)


async def test_an_agent_reaches_only_what_its_owner_allows(
    world: "World", devices: "Devices", agents: Agents
) -> None:
    host, port = await devices.echo()
    allowed = await world.device("dev-1", (host, port))
    other = await devices.echo()
    forbidden = await world.device("dev-2", other)
    agent = await agents.enrolled("one", "dev-1", "--allow", f"{host}:{port}")
    await echoes(agents, "owner", allowed)
    await agents.enrolled("two", "dev-2", "--allow", f"{host}:{port}")
    opened = await agents.gateway.open("owner", forbidden)
    refused = 'gateway_refused_total{reason="TARGET_NOT_ALLOWED"}'  # of this process, by other tests too
    before = await agents.gateway.metric(refused)
    assert await agents.gateway.turns_away(opened["port"], "127.0.0.1")
    assert await agents.gateway.metric(refused) == before + 1
    assert agent.process.returncode is None


async def test_removing_the_agent_cuts_what_runs_through_it_and_voids_its_key(
    world: "World", devices: "Devices", agents: Agents
) -> None:
    service_id = await world.device("dev-1", await devices.flood())
    agent = await agents.enrolled("agent", "dev-1")
    opened = await agents.gateway.open("owner", service_id)
    reader, writer = await agents.gateway.connect(opened["port"])
    assert await reader.readexactly(1_000_000)
    assert await agents.remove("dev-1") == 204
    await ends(reader)
    writer.close()
    assert await agent.exits() == 3
    back = await agents.start("agent")
    assert await back.exits() == 3


@pytest.mark.parametrize("change", ["owner_account_id = 'other'", None])
async def test_another_owner_or_none_voids_the_key(
    world: "World", devices: "Devices", agents: Agents, change: str | None
) -> None:
    await world.device("dev-1", await devices.echo())
    connected = await agents.enrolled("agent", "dev-1")
    await world.device("dev-2", await devices.echo())
    away = await agents.enrolled("away", "dev-2")
    assert await away.stop() == 0
    for device_id in ("dev-1", "dev-2"):
        statement = (
            "delete from permissions.device where device_id = $1"
            if change is None
            else f"update permissions.device set {change} where device_id = $1"
        )
        await world.run(statement, device_id)
        await world.run(
            "insert into permissions.change (device_ids, correlation_ids, account_ids, contact_ids)"
            " values (array[$1], array[null], '{}', '{}')",
            device_id,
        )
    await world.run("notify permissions_changed")
    assert await connected.exits() == 3
    if change is not None:  # given back to the first owner: void is void
        await world.run("update permissions.device set owner_account_id = 'owner'")
    back = await agents.start("away")
    assert await back.exits() == 3


async def test_an_agent_waits_while_nobody_can_judge_its_key(
    world: "World", devices: "Devices", gateways: "Gateways", agents: Agents
) -> None:
    """Read models that are being filled again know no device yet: that voids nothing."""
    await world.device("dev-1", await devices.echo())
    agent = await agents.enrolled("agent", "dev-1")
    assert await agent.stop() == 0
    world.beating = False
    await world.run("delete from permissions.watermark")
    await world.run("update permissions.device set device_id = 'elsewhere' where device_id = 'dev-1'")
    agent = await agents.start("agent")
    await agent.says("answers UNAVAILABLE")
    await world.run("update permissions.device set device_id = 'dev-1' where device_id = 'elsewhere'")
    world.beating = True
    await agent.says("Connected")
