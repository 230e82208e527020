"""What a caller and a client see: opening, using and closing a port."""

import asyncio
import errno
import hashlib
import random
from typing import TYPE_CHECKING
from uuid import uuid4

import psutil
import pytest

if TYPE_CHECKING:
    from conftest import Devices, Gateways, World

pytestmark = pytest.mark.slow


async def closed_at_once(reader: asyncio.StreamReader) -> bool:
    """Whether the other end closed or reset the connection without a byte."""
    try:
        async with asyncio.timeout(10):
            return await reader.read(1) == b""
    except ConnectionError:
        return True


async def echoed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes = b"ping") -> bool:
    writer.write(data)
    async with asyncio.timeout(10):
        return await reader.readexactly(len(data)) == data


async def test_a_recipient_connects_and_gets_his_bytes_both_ways(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    await world.share("dev-1", "ann")
    gateway = await gateways.start()
    answer = await gateway.post("ann", service)
    assert answer.status_code == 201
    assert answer.headers["Latchkey-Position"] == "dev-1@1"
    opened = answer.json()
    assert set(opened) == {
        "connection_id",
        "service_id",
        "device_id",
        "host",
        "port",
        "protocol",
        "created_at",
        "timeout_seconds",
    }
    assert (opened["service_id"], opened["device_id"], opened["host"]) == (service, "dev-1", "127.0.0.1")
    assert (opened["protocol"], opened["timeout_seconds"]) == ("tcp", 900)
    reader, writer = await gateway.connect(opened["port"])
    data = random.randbytes(3_000_000)
    writer.write(data)
    writer.write_eof()
    got = await reader.read()
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
    writer.close()


async def test_what_is_not_granted_is_denied_alike(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    foreign = await world.device("dev-1", await devices.echo())
    await world.share("dev-1", "somebody-else")
    ended = await world.device("dev-2", await devices.echo())
    await world.share("dev-2", "ann")
    await world.revoke("dev-2")
    quarantined = await world.device("dev-3", await devices.echo())
    await world.share("dev-3", "ann")
    await world.run(
        "insert into permissions.stream_quarantine select device_id, 'X', 1 from permissions.device"
        " where device_id = 'dev-3'"
    )
    gateway = await gateways.start()
    answers = [await gateway.post("ann", each) for each in (foreign, ended, quarantined, "no-such-service")]
    assert {(each.status_code, each.text) for each in answers} == {(403, answers[0].text)}
    assert answers[0].json()["error"]["code"] == "ACCESS_DENIED"
    assert (await gateway.post("owner", foreign)).status_code == 201
    assert (await gateway.post("not an account id @", foreign)).status_code == 403


async def test_whoever_is_refused_too_often_has_to_wait(gateways: "Gateways") -> None:
    gateway = await gateways.start()
    answers = await asyncio.gather(*(gateway.post("ann", "no-such-service") for _ in range(25)))
    assert {each.status_code for each in answers} == {403}
    last = await gateway.post("ann", "no-such-service")
    assert last.status_code == 429
    assert last.json()["error"]["code"] == "RATE_LIMITED"
    assert int(last.headers["Retry-After"]) >= 1
    assert (await gateway.post("bob", "no-such-service")).status_code == 403


async def test_a_plain_port_to_a_camera_needs_all_that_its_stream_carries(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    address = await devices.echo()
    service = await world.device("cam-1", address, protocol="rtsp", permissions="connect,live_view,playback")
    await world.share("cam-1", "everything")
    await world.share("cam-1", "stream", '["live_view", "playback"]')
    await world.share("cam-1", "viewer", '["live_view"]')
    await world.share("cam-1", "other", '["connect", "playback"]')
    gateway = await gateways.start()
    for account, status in (
        ("owner", 201),
        ("everything", 201),
        ("stream", 201),
        ("viewer", 403),
        ("other", 403),
    ):
        assert (await gateway.post(account, service)).status_code == status, account


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{", {}),
        (b"{}", {}),
        (b'{"service_id": "has spaces"}', {}),
        (b'{"service_id": "s", "host_ip": "somewhere"}', {}),
        (b'{"service_id": "s", "unknown": 1}', {}),
        (b'{"service_id": "s"}', {"Latchkey-Position": "nonsense"}),
        (b'{"service_id": "s"}', {"Latchkey-Position": ",".join(["d@1"] * 101)}),
    ],
)
async def test_bad_input_is_named(gateways: "Gateways", body: bytes, headers: dict[str, str]) -> None:
    gateway = await gateways.start()
    answer = await gateway.http.post(
        "/v1/connections", content=body, headers={**gateway.headers("ann"), **headers}
    )
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "INVALID_REQUEST"


async def test_only_trusted_callers_are_heard(gateways: "Gateways") -> None:
    gateway = await gateways.start()
    for headers in ({}, {"Authorization": "Bearer nonsense"}):
        for method, path in (("POST", "/v1/connections"), ("DELETE", f"/v1/connections/{uuid4()}")):
            answer = await gateway.http.request(method, path, headers=headers, json={"service_id": "s"})
            assert answer.status_code == 401


async def test_a_position_that_is_not_here_yet_is_waited_for_and_never_answered_from_before(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    await world.share("dev-1", "ann")
    gateway = await gateways.start()
    assert (await gateway.post("ann", service, Latchkey_Position="dev-1@1, dev-9@5")).status_code == 201
    late = await gateway.post("ann", service, Latchkey_Position="dev-1@2")
    assert (late.status_code, late.json()["error"]["code"]) == (503, "NOT_YET_VISIBLE")
    assert (await gateway.post("bob", service, Latchkey_Position="dev-1@2")).status_code == 503
    await world.share("dev-1", "bob")
    assert (await gateway.post("ann", service, Latchkey_Position="dev-1@2")).status_code == 201
    assert (await gateway.post("bob", service, Latchkey_Position="dev-1@2")).status_code == 201


async def test_a_denial_becomes_final_once_the_position_is_proved_to_be_applied(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    gateway = await gateways.start()
    answers: set[str] = set()
    async with asyncio.timeout(15):
        while "ACCESS_DENIED" not in answers:
            for asked in (service, "no-such-service"):
                answer = await gateway.post("ann", asked, Latchkey_Position="dev-1@0")
                answers.add(answer.json()["error"]["code"])
    assert answers == {"NOT_YET_VISIBLE", "ACCESS_DENIED"}


async def test_a_port_latches_to_the_first_source_and_refuses_others(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    gateway = await gateways.start()
    port = (await gateway.open("owner", service))["port"]
    first = await gateway.connect(port, "127.0.0.2")
    assert await echoed(*first)
    assert await gateway.turns_away(port, "127.0.0.3")
    again = await gateway.connect(port, "127.0.0.2")
    assert await echoed(*again)
    assert await echoed(*first)
    for writer in (first[1], again[1]):
        writer.close()


async def test_a_named_source_is_the_only_one(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    gateway = await gateways.start()
    port = (await gateway.open("owner", service, "127.0.0.4"))["port"]
    assert await gateway.turns_away(port, "127.0.0.3")
    rightful = await gateway.connect(port, "127.0.0.4")
    assert await echoed(*rightful)
    rightful[1].close()


async def test_a_port_is_closed_by_its_owner_alone(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    gateway = await gateways.start()
    opened = await gateway.open("owner", service)
    path = f"/v1/connections/{opened['connection_id']}"
    client = await gateway.connect(opened["port"])
    assert await echoed(*client)
    for wrong in (path, "/v1/connections/nonsense", f"/v1/connections/{uuid4()}"):
        foreign = await gateway.http.delete(wrong, headers=gateway.headers("ann"))
        assert (foreign.status_code, foreign.json()["error"]["code"]) == (404, "CONNECTION_NOT_FOUND")
    assert await echoed(*client)
    assert (await gateway.http.delete(path, headers=gateway.headers("owner"))).status_code == 204
    assert await closed_at_once(client[0])
    with pytest.raises(OSError):
        await gateway.connect(opened["port"])
    assert (await gateway.http.delete(path, headers=gateway.headers("owner"))).status_code == 404
    client[1].close()


async def test_a_port_that_nobody_uses_closes_and_one_in_use_stays(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    gateway = await gateways.start(port_idle_seconds=0.5)
    used, unused = [(await gateway.open("owner", service))["port"] for _ in range(2)]
    client = await gateway.connect(used)
    assert await echoed(*client)
    await gateway.reaches("gateway_open_ports", 1)
    with pytest.raises(OSError):
        await gateway.connect(unused)
    assert await echoed(*client)
    client[1].close()
    await gateway.reaches("gateway_open_ports", 0)


async def test_an_account_has_so_many_ports_and_the_range_has_an_end(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    few = await gateways.start(ports_per_account=2)
    answers = await asyncio.gather(*(few.post("owner", service) for _ in range(4)))
    assert sorted(each.status_code for each in answers) == [201, 201, 429, 429]
    assert all("Retry-After" in each.headers for each in answers if each.status_code == 429)
    taken = next(each.json() for each in answers if each.status_code == 201)
    await few.http.delete(f"/v1/connections/{taken['connection_id']}", headers=few.headers("owner"))
    assert (await few.post("owner", service)).status_code == 201
    # A range of one port, which the other gateway holds: on conflict there is nothing left.
    other = next(each.json()["port"] for each in answers if each.status_code == 201 and each.json() != taken)
    full = await gateways.start(relay_ports=f"{other}-{other}", gateway_id="gw-2")
    refused = await full.post("owner", service)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "UNAVAILABLE")


@pytest.mark.parametrize("networks", ["", "10.0.0.0/8", "0.0.0.0/0"])
async def test_a_target_outside_the_networks_is_never_dialled(
    world: "World", devices: "Devices", gateways: "Gateways", networks: str
) -> None:
    service = await world.device("dev-1", ("localhost", (await devices.echo())[1]))
    gateway = await gateways.start(target_networks=networks)
    reader, writer = await gateway.connect((await gateway.open("owner", service))["port"])
    assert await closed_at_once(reader)
    assert devices.connections == 0
    writer.close()


async def test_a_port_carries_so_many_connections(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    gateway = await gateways.start(connections_per_port=1)
    port = (await gateway.open("owner", service))["port"]
    first = await gateway.connect(port)
    assert await echoed(*first)
    second = await gateway.connect(port)
    assert await closed_at_once(second[0])
    assert await echoed(*first)
    for _, writer in (first, second):
        writer.close()


async def test_two_hundred_connections_leave_no_file_open(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    gateway = await gateways.start()
    opened = await gateway.open("owner", service)
    warm = await gateway.connect(opened["port"])
    assert await echoed(*warm)
    warm[1].close()
    await asyncio.gather(gateway.ready(), gateway.ready())

    def files() -> int:
        return psutil.Process().num_fds()

    await gateway.reaches("gateway_open_connections", 0)
    before = files()
    clients = await asyncio.gather(*(gateway.connect(opened["port"]) for _ in range(200)))
    assert all(await asyncio.gather(*(echoed(*client) for client in clients)))
    assert files() >= before + 800  # client, its two ends in the gateway, device
    for number, (reader, writer) in enumerate(clients):
        if number % 2:
            writer.transport.abort()
        else:
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
    async with asyncio.timeout(15):
        while files() > before:  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.02)


async def test_a_connection_for_which_there_is_no_file_left_disturbs_nobody(
    world: "World", devices: "Devices", gateways: "Gateways", monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the ordinary way, where files may be free again, or is refused there."""
    gateway = await gateways.start()
    service_id = await world.device("dev-1", await devices.echo())
    opened = await gateway.open("owner", service_id)
    asked: list[object] = []

    def full(*arguments: object, **_: object) -> None:
        asked.append(arguments)
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("access_gateway.connections.dial", full)
    client = await gateway.connect(opened["port"])
    assert await echoed(*client)
    assert asked
    client[1].close()
    await gateway.reaches("gateway_open_connections", 0)
    assert len(gateway.app.holdings.all()) == 1  # the port itself
