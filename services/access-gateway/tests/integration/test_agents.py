"""Devices that dial out: a real agent, a gateway, and what either of them must survive."""

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import ssl
import stat
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from access_gateway.agents.store import AgentStore
from contracts import codec, topics
from contracts.directory import PresenceSnapshot
from servicekit.kafka import Admin, Consumer, Partition

if TYPE_CHECKING:
    from conftest import Devices, Gateways, Running, World  # pyright: ignore[reportMissingImports]

    from devstack.certificates import Files
    from devstack.pytest_plugin import Database

AGENT = Path(__file__).parents[4] / "agent" / "latchkey-agent.py"
PYTHON = os.environ.get("LATCHKEY_TEST_AGENT_PYTHON", sys.executable)
"""Which interpreter runs the agents: it must work with any from 3.9 on."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait for what is true of this process."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


LOGIN_WAITS = """
    select count(*) from pg_stat_activity
    where application_name = 'access-gateway agents' and wait_event_type = 'Lock'
"""


class Process:
    """A running agent; `lines` is what it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process, self.lines = process, list[str]()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(line.decode())

    async def says(self, text: str) -> None:
        try:
            await until(lambda: any(text in line for line in self.lines))
        except TimeoutError:
            raise AssertionError(f"never said {text!r}: {self.lines}") from None

    async def exits(self) -> int:
        async with asyncio.timeout(20):
            code = await self.process.wait()
            await self._reading
        return code

    async def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(sign)
        return await self.exits()


class Agents:
    """A gateway with a door for agents, and agents at it."""

    def __init__(self, gateway: "Running", port: int, ca: Path, directory: Path, dsn: str) -> None:
        self.gateway, self.port, self.ca, self.directory, self.dsn = gateway, port, ca, directory, dsn
        self.processes: list[Process] = []

    async def code(self, device_id: str, account_id: str = "owner") -> str:
        answer = await self.ask(device_id, account_id)
        assert answer.status_code == 201, answer.text
        return answer.json()["code"]

    async def ask(self, device_id: str, account_id: str = "owner") -> Any:
        return await self.gateway.http.post(
            "/v1/agent-codes", json={"device_id": device_id}, headers=self.gateway.headers(account_id)
        )

    async def remove(self, device_id: str, account_id: str = "owner") -> int:
        path = f"/v1/agents/{device_id}"
        return (await self.gateway.http.delete(path, headers=self.gateway.headers(account_id))).status_code

    async def start(self, name: str, *arguments: str, gateway: str | None = None) -> Process:
        process = Process(
            await asyncio.create_subprocess_exec(
                PYTHON, str(AGENT), "--verbose", "--ca", str(self.ca),
                "--state", str(self.directory / f"{name}.json"),
                "--gateway", gateway or f"localhost:{self.port}", *arguments,
                stderr=asyncio.subprocess.PIPE,
            )
        )  # fmt: skip
        self.processes.append(process)
        return process

    async def enrolled(self, name: str, device_id: str, *arguments: str) -> Process:
        process = await self.start(name, "--code", await self.code(device_id), *arguments)
        await process.says("Connected")
        return process

    async def end(self) -> None:
        for process in self.processes:
            if process.process.returncode is None:
                await process.stop(signal.SIGKILL)


@pytest.fixture
async def presence_topic(kafka_bootstrap: str, topic_prefix: str) -> str:
    topic = topics.DIRECTORY_PRESENCE
    await Admin(kafka_bootstrap).provision([(topic_prefix + topic.name, topic.partitions, topic.config)])
    return topic_prefix + topic.name


@pytest.fixture
async def agents(
    gateways: "Gateways",
    presence_topic: str,
    certificates: "Files",
    tmp_path: Path,
    database: "Database",
) -> AsyncIterator[Agents]:
    del presence_topic  # it must be there before
    port = free_port()
    gateway = await gateways.start(
        agent_port=port, tls_cert_file=certificates.certificate, tls_key_file=certificates.key,
        connect_seconds=4.0, target_networks="",
    )  # fmt: skip
    made = Agents(gateway, port, certificates.ca, tmp_path, database.dsn("access_gateway"))
    yield made
    await made.end()


async def echoes(agents: Agents, account_id: str, service_id: str, data: bytes = b"ping") -> None:
    opened = await agents.gateway.open(account_id, service_id)
    reader, writer = await agents.gateway.connect(opened["port"])
    try:
        writer.write(data)
        async with asyncio.timeout(15):
            assert await reader.readexactly(len(data)) == data
    finally:
        writer.close()


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


async def ends(reader: asyncio.StreamReader) -> None:
    """Wait until a stream is cut, whatever was still on its way."""
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            while await reader.read(1_000_000):
                pass


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


class Told:
    """What `directory.presence` says, as a reader that keeps the latest ``since``."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self.now: dict[str, PresenceSnapshot | None] = {}

    async def until(self, device_id: str, online: bool | None, gateway_id: str | None = None) -> None:
        async with asyncio.timeout(40):
            while not self._is(device_id, online, gateway_id):
                for records in (await self._consumer.getmany(timeout_ms=100, max_records=100)).values():
                    for record in records:
                        self._add((record.key or b"").decode(), record.value)

    def _is(self, device_id: str, online: bool | None, gateway_id: str | None) -> bool:
        if device_id not in self.now:
            return False
        found = self.now[device_id]
        if found is None or online is None:
            return found is None and online is None
        return found.online is online and gateway_id in (None, found.gateway_id)

    def _add(self, device_id: str, value: bytes | None) -> None:
        if value is None:
            self.now[device_id] = None
            return
        snapshot = codec.decode(value).data
        assert isinstance(snapshot, PresenceSnapshot)
        before = self.now.get(device_id)
        if before is None or snapshot.since >= before.since:
            self.now[device_id] = snapshot


@pytest.fixture
async def told(kafka_bootstrap: str, presence_topic: str) -> AsyncGenerator[Told]:
    async def ignore(_places: set[Partition]) -> None: ...

    async with Consumer(
        kafka_bootstrap, group=f"{presence_topic}.test", topics=[presence_topic],
        assigned=ignore, revoked=ignore,
    ) as consumer:  # fmt: skip
        yield Told(consumer)


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


async def talk(agents: Agents) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the door, as an agent of our own makes one."""
    trusting = ssl.create_default_context(cafile=agents.ca)
    return await asyncio.open_connection("localhost", agents.port, ssl=trusting)


async def said(reader: asyncio.StreamReader) -> Any:
    async with asyncio.timeout(20):
        line = await reader.readline()
    return json.loads(line) if line else None


async def logged_in(agents: Agents, device_id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """An agent of our own: it never dials back unless the test does."""
    reader, writer = await talk(agents)
    writer.write(await enrolled(agents, device_id))
    assert (await said(reader))["type"] == "welcome"
    return reader, writer


async def enrolled(agents: Agents, device_id: str) -> bytes:
    """What an agent of our own logs in with."""
    hello = {"protocol": 1, "key": base64.urlsafe_b64encode(os.urandom(32)).decode()[:43], "instance": "test"}
    reader, writer = await talk(agents)
    writer.write(line(type="enrol", code=await agents.code(device_id), **hello))
    assert (await said(reader))["type"] == "welcome"
    writer.close()
    return line(type="login", device_id=device_id, **hello)


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode() + b"\n"


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


async def talk_when_there_is_room(
    agents: Agents,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(20):
        while True:
            try:
                return await talk(agents)
            except (OSError, ssl.SSLError):
                await asyncio.sleep(0.1)


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
