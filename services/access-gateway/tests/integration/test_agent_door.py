"""What the door for agents survives: agents of our own, strangers, and what changes meanwhile."""

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from agent_site import (
    Agents,
    echoes,
    ends,
    enrolled,
    free_port,
    line,
    logged_in,
    said,
    talk,
    talk_when_there_is_room,
)

from access_gateway.agents.store import AgentStore

if TYPE_CHECKING:
    from conftest import Devices, Gateways, World  # pyright: ignore[reportMissingImports]

    from devstack.certificates import Files
    from devstack.pytest_plugin import Database


async def test_strangers_learn_nothing_and_harm_nobody(
    world: "World", devices: "Devices", agents: Agents
) -> None:
    service_id = await world.device("dev-1", await devices.echo())
    await agents.enrolled("agent", "dev-1")
    key = base64.urlsafe_b64encode(bytes(32)).decode()[:43]
    hello = {"protocol": 1, "key": key, "instance": "x"}
    answers = [
        (line(type="login", device_id="dev-1", **hello), "REFUSED"),
        (line(type="login", device_id="no-such", **hello), "REFUSED"),
        (line(type="enrol", code="x", **hello), "REFUSED"),
        (line(type="data", token="x"), "REFUSED"),
        (line(type="ping"), "MALFORMED"),
        (b"x" * 5000, "MALFORMED"),
        (b"[" * 4000 + b"\n", "MALFORMED"),
        (line(type="login", device_id="dev-1", **{**hello, "protocol": 2}), "UNSUPPORTED_PROTOCOL"),
    ]
    seen: dict[bytes, set[str]] = {}
    for hostile, code in answers:
        reader, writer = await talk(agents)
        writer.write(hostile)
        answer = await said(reader)
        assert answer["code"] == code, hostile[:80]
        seen.setdefault(code.encode(), set()).add(json.dumps(answer))
        assert await reader.read() == b""
        writer.close()
    assert all(len(each) == 1 for each in seen.values())
    # A flood from one address is put off before anything is looked up.
    answer = None
    for _ in range(12):
        reader, writer = await talk(agents)
        writer.write(line(type="login", device_id="no-such", **hello))
        answer = await said(reader)
        writer.close()
    assert answer is not None
    assert answer["code"] == "RATE_LIMITED"
    assert answer["retry_seconds"] > 0
    await echoes(agents, "owner", service_id)


async def test_half_open_strangers_are_sent_away_and_the_agent_stays(  # noqa: PLR0917 - pytest passes fixtures by name
    world: "World",
    devices: "Devices",
    gateways: "Gateways",
    presence_topic: str,
    certificates: "Files",
    tmp_path: Path,
    database: "Database",
) -> None:
    del presence_topic
    port = free_port()
    gateway = await gateways.start(
        agent_port=port, tls_cert_file=certificates.certificate, tls_key_file=certificates.key,
        hello_seconds=1.5, strangers_per_source=20, clients=1000,
    )  # fmt: skip
    agents = Agents(gateway, port, certificates.ca, tmp_path, database.dsn("access_gateway"))
    half: list[socket.socket] = []
    try:
        service_id = await world.device("dev-1", await devices.echo())
        await agents.enrolled("agent", "dev-1")
        half += [socket.create_connection(("127.0.0.1", port)) for _ in range(30)]  # no TLS follows
        reader, writer = await talk_when_there_is_room(agents)
        await ends(reader)  # it said nothing for too long
        writer.close()
        await echoes(agents, "owner", service_id)
    finally:
        for each in half:
            each.close()
        await agents.end()


async def test_an_agent_that_does_not_dial_back_or_answer_costs_only_its_own_sessions(
    world: "World", devices: "Devices", agents: Agents
) -> None:
    service_id = await world.device("dev-1", await devices.echo())
    reader, writer = await logged_in(agents, "dev-1")
    warm = await said(reader)
    assert warm["type"] == "open"
    opened = await agents.gateway.open("owner", service_id)
    clients = [await agents.gateway.connect(opened["port"]) for _ in range(3)]
    tokens = [warm["token"], *[(await said(reader))["token"] for _ in range(3)]]
    assert len(set(tokens)) == 4  # one for each session, and one to keep ready
    # One is dialled back and then says nothing; one says nonsense; the others never come.
    mute_reader, mute = await talk(agents)
    mute.write(line(type="data", token=tokens[0]))
    assert (await said(mute_reader))["type"] == "dial"
    liar_reader, liar = await talk(agents)
    liar.write(line(type="data", token=tokens[1]))
    assert (await said(liar_reader))["type"] == "dial"
    liar.write(line(type="failed", reason="because"))
    for client_reader, client in clients:
        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionError):
                assert await client_reader.read() == b""
        client.close()
    # A token is used once.
    again_reader, again = await talk(agents)
    again.write(line(type="data", token=tokens[0]))
    assert (await said(again_reader))["code"] == "REFUSED"
    for each in (mute, liar, again, writer):
        each.close()
    refused = 'gateway_refused_total{reason="%s"}'
    assert await agents.gateway.metric(refused % "DEVICE_OFFLINE") >= 1
    assert await agents.gateway.metric(refused % "TARGET_UNREACHABLE") >= 2


async def test_a_session_needs_no_dialling_back_when_one_waits_ready(
    world: "World", devices: "Devices", agents: Agents
) -> None:
    service_id = await world.device("dev-1", await devices.echo())
    reader, writer = await logged_in(agents, "dev-1")
    data_reader, data = await talk(agents)
    data.write(line(type="data", token=(await said(reader))["token"]))
    opened = await agents.gateway.open("owner", service_id)
    client_reader, client = await agents.gateway.connect(opened["port"])
    assert (await said(data_reader))["type"] == "dial"  # and not an "open" first
    data.write(line(type="ready") + b"early")  # the service speaks first
    assert await asyncio.wait_for(client_reader.readexactly(5), 20) == b"early"
    client.write(b"late")
    assert await asyncio.wait_for(data_reader.readexactly(4), 20) == b"late"
    client.write_eof()
    told = await said(reader)
    while told["type"] != "end":
        told = await said(reader)
    assert told["bytes"] == 4
    data.write(b"bye")
    data.close()
    assert await asyncio.wait_for(client_reader.read(), 20) == b"bye"
    for each in (client, writer):
        each.close()


async def test_the_end_of_what_a_client_sends_is_told_where_the_agent_listens_now(
    world: "World", devices: "Devices", agents: Agents
) -> None:
    """An agent that comes again, before the loss of its way is noticed, keeps its sessions."""
    service_id = await world.device("dev-1", await devices.echo())
    login = await enrolled(agents, "dev-1")
    reader, writer = await talk(agents)
    writer.write(login)
    assert (await said(reader))["type"] == "welcome"
    token = (await said(reader))["token"]
    data_reader, data = await talk(agents)
    data.write(line(type="data", token=token))
    opened = await agents.gateway.open("owner", service_id)
    _, client = await agents.gateway.connect(opened["port"])
    assert (await said(data_reader))["type"] == "dial"
    data.write(line(type="ready"))
    client.write(b"all")
    assert await asyncio.wait_for(data_reader.readexactly(3), 20) == b"all"
    again_reader, again = await talk(agents)
    again.write(login)
    assert (await said(again_reader))["type"] == "welcome"
    client.write_eof()
    async with asyncio.timeout(10):
        while (told := await said(again_reader))["type"] != "end":
            pass
    assert (told["token"], told["bytes"]) == (token, 3)
    for each in (client, data, again, writer):
        each.close()


async def test_an_agent_that_is_removed_while_it_is_judged_is_judged_again(
    world: "World", devices: "Devices", agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the database has answered is true of the time before; and the answer is on its way for a while."""
    await world.device("dev-1", await devices.echo())
    agent = await agents.enrolled("agent", "dev-1")
    answered, removed, judge, forget = asyncio.Event(), asyncio.Event(), AgentStore.judge, AgentStore.forget

    async def slowly(store: AgentStore, devices: Collection[str]) -> Any:
        found = await judge(store, devices)
        answered.set()
        await removed.wait()
        return found

    def told(store: AgentStore, device_id: str) -> None:
        forget(store, device_id)
        removed.set()

    monkeypatch.setattr(AgentStore, "judge", slowly)
    await world.revoke("dev-1")
    async with asyncio.timeout(20):
        await answered.wait()
    monkeypatch.setattr(AgentStore, "forget", told)
    assert await agents.remove("dev-1") == 204
    assert await agent.exits() == 3


async def test_an_agent_that_is_removed_while_it_logs_in_is_sent_away(
    world: "World", devices: "Devices", agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.device("dev-1", await devices.echo())
    login = await enrolled(agents, "dev-1")
    answered, looked, log_in, judge = asyncio.Event(), asyncio.Event(), AgentStore.log_in, AgentStore.judge

    async def slowly(store: AgentStore, device_id: str, key: str) -> Any:
        found = await log_in(store, device_id, key)
        answered.set()
        await looked.wait()
        return found

    async def judged(store: AgentStore, devices: Collection[str]) -> Any:
        found = await judge(store, devices)
        if answered.is_set():  # who is told of the removal looks, and finds nobody to send away
            looked.set()
        return found

    monkeypatch.setattr(AgentStore, "log_in", slowly)
    monkeypatch.setattr(AgentStore, "judge", judged)
    reader, writer = await talk(agents)
    writer.write(login)
    async with asyncio.timeout(20):
        await answered.wait()
    assert await agents.remove("dev-1") == 204
    async with asyncio.timeout(20):
        while (last := await said(reader))["type"] != "refused":
            pass
    assert last["code"] == "REFUSED"
    writer.close()
