"""HTTP CONNECT as a client sees it, plain and over TLS."""

import asyncio
import base64
import contextlib
import hashlib
import json
import random
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Devices, Doorway, Events, Gateways, World

    from devstack.certificates import Files
    from devstack.issuer import IssuerServer

pytestmark = pytest.mark.slow


@pytest.fixture
async def doorway(gateways: "Gateways", issuer: "IssuerServer", certificates: "Files") -> "Doorway":
    return await gateways.doorway(issuer, certificates)


async def ask(
    doorway: "Doorway",
    target: str,
    *headers: str,
    early: bytes = b"",
    secure: bool = False,
    source: str = "127.0.0.1",
    receives: int | None = None,
) -> tuple[int, str, asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a CONNECT; the status and the head of the answer, and the connection."""
    reader, writer = await doorway.connect(secure=secure, source=source, receives=receives)
    head = "\r\n".join([f"CONNECT {target} HTTP/1.1", f"Host: {target}", *headers, "", ""])
    writer.write(head.encode() + early)
    async with asyncio.timeout(20):
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
    return int(answer.split(" ")[1]), answer, reader, writer


def bearer(token: str) -> str:
    return f"Proxy-Authorization: Bearer {token}"


def basic(token: str) -> str:
    return "Proxy-Authorization: Basic " + base64.b64encode(f"whoever:{token}".encode()).decode()


async def body(reader: asyncio.StreamReader) -> dict[str, str]:
    async with asyncio.timeout(10):
        return json.loads(await reader.read())["error"]


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(20):
            return await reader.read(1) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("credentials", [bearer, basic])
async def test_a_recipient_reaches_his_service(
    world: "World", devices: "Devices", doorway: "Doorway", secure: bool, credentials: Callable[[str], str]
) -> None:
    service = await world.device("dev-1", await devices.echo())
    await world.share("dev-1", "ann")
    status, answer, reader, writer = await ask(
        doorway, f"{service}:22", credentials(doorway.token("ann")), early=b"early ", secure=secure
    )
    assert status == 200
    assert "content-length" not in answer.lower()
    writer.write(b"and late")
    async with asyncio.timeout(10):
        assert await reader.readexactly(14) == b"early and late"
    data = random.randbytes(5_000_000)
    writer.write(data)
    async with asyncio.timeout(30):
        got = await reader.readexactly(len(data))
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
    writer.close()


@pytest.mark.parametrize("secure", [False, True])
async def test_what_a_device_says_last_arrives(
    world: "World", devices: "Devices", doorway: "Doorway", secure: bool
) -> None:
    data = random.randbytes(3_000_000)
    service = await world.device("dev-1", await devices.says(data))
    await world.share("dev-1", "ann")
    _, _, reader, writer = await ask(doorway, f"{service}:22", bearer(doorway.token("ann")), secure=secure)
    async with asyncio.timeout(30):
        assert await reader.read() == data
    writer.close()


_LITTLE = 8 * 1024


def kept_by_kernels() -> int:
    """How many bytes a connection takes whose reader, with a little buffer, reads nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _LITTLE)
        reader.connect(listener.getsockname())
        writer, _ = listener.accept()
        with writer:
            writer.setblocking(False)
            count = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    count += writer.send(bytes(65536))
            return count


async def test_a_client_by_tls_that_pauses_gets_all_that_a_device_said_before_it_closed(
    world: "World", devices: "Devices", doorway: "Doorway"
) -> None:
    """TLS dropped what a client had not taken 30 seconds after the device was done."""
    data = random.randbytes(kept_by_kernels() + 150_000)  # the rest is in the gateway's own hands
    service = await world.device("dev-1", await devices.says(data))
    await world.share("dev-1", "ann")
    status, _, reader, writer = await ask(
        doorway, f"{service}:22", bearer(doorway.token("ann")), secure=True, receives=_LITTLE
    )
    assert status == 200
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    still_open = await doorway.gateway.metric("gateway_open_connections")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(31):
            while await doorway.gateway.metric("gateway_open_connections") == still_open:  # noqa: ASYNC110 - asked over HTTP
                await asyncio.sleep(0.2)
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    async with asyncio.timeout(30):
        assert await reader.read() == data
    writer.close()


async def test_a_service_with_colons_is_reached_by_its_host_name(
    world: "World", devices: "Devices", doorway: "Doorway"
) -> None:
    await world.device("80:00:00:00:01:00:00:01", await devices.echo(), service_id="80:00:00:00:01:00:00:02")
    await world.share("80:00:00:00:01:00:00:01", "ann")
    for target in ("80-00-00-00-01-00-00-02.latchkey:22", "[80:00:00:00:01:00:00:02]:22"):
        status, _, _, writer = await ask(doorway, target, bearer(doorway.token("ann")))
        assert status == 200
        writer.close()


async def test_nobody_comes_in_without_a_token_that_is_good(
    world: "World", devices: "Devices", doorway: "Doorway"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    await world.share("dev-1", "ann")
    for headers in (
        (),
        ("Proxy-Authorization: Bearer",),
        ("Proxy-Authorization: Basic !!!",),
        ("Proxy-Authorization: Digest x",),
        ("Authorization: Bearer " + doorway.token("ann"),),
        (bearer(doorway.issuer.foreign_token("ann")),),
        (bearer(doorway.issuer.expired_token("ann")),),
        (bearer(doorway.issuer.token("ann", aud="somebody-else")),),
        (bearer("x" * 9000),),
    ):
        status, answer, reader, writer = await ask(doorway, f"{service}:22", *headers)
        assert status == 407, headers
        assert "proxy-authenticate: basic" in answer.lower()
        assert "proxy-authenticate: bearer" in answer.lower()
        assert (await body(reader))["code"] == "UNAUTHENTICATED"
        writer.close()
    assert devices.connections == 0


async def test_what_is_not_granted_and_what_does_not_exist_are_refused_alike(
    world: "World", devices: "Devices", doorway: "Doorway", events: "Events"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    answers: list[tuple[int, dict[str, str]]] = []
    for target in (f"{service}:22", "no-such-service:22"):
        status, _, reader, writer = await ask(doorway, target, bearer(doorway.token("bob")))
        answers.append((status, await body(reader)))
        writer.close()
    assert answers[0] == answers[1]
    assert (answers[0][0], answers[0][1]["code"]) == (403, "ACCESS_DENIED")
    told = [each.data.model_dump() for each in await events.take(2)]
    assert {(each["way"], each["reason"]) for each in told} == {("connect", "ACCESS_DENIED")}
    assert devices.connections == 0


async def test_what_cannot_be_reached_and_what_is_too_much(
    world: "World", gateways: "Gateways", devices: "Devices", issuer: "IssuerServer", certificates: "Files"
) -> None:
    doorway = await gateways.doorway(issuer, certificates, connections_per_account=1)
    silent = await world.device("dev-1", ("127.0.0.1", 1))
    outside = await world.device("dev-2", ("192.0.2.1", 1))
    there = await world.device("dev-3", await devices.echo())
    found: list[tuple[int, str]] = []
    mine = bearer(doorway.token("owner"))
    for target in (silent, outside):
        status, _, reader, writer = await ask(doorway, f"{target}:22", mine)
        found.append((status, (await body(reader))["code"]))
        writer.close()
    assert found == [(502, "TARGET_UNREACHABLE"), (502, "TARGET_NOT_ALLOWED")]
    _, _, _, first = await ask(doorway, f"{there}:22", mine)
    status, answer, reader, second = await ask(doorway, f"{there}:22", mine)
    assert (status, (await body(reader))["code"]) == (429, "RATE_LIMITED")
    assert "retry-after: 60" in answer.lower()
    second.close()
    first.close()
    await doorway.gateway.reaches("gateway_open_connections", 0)
    status, _, _, writer = await ask(doorway, f"{there}:22", mine)
    assert status == 200
    writer.close()


async def test_a_position_that_has_not_arrived_is_not_answered_from_before(
    world: "World", devices: "Devices", doorway: "Doorway"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    await world.share("dev-1", "ann")
    mine = bearer(doorway.token("ann"))
    status, answer, reader, writer = await ask(doorway, f"{service}:22", mine, "Latchkey-Position: dev-1@9")
    assert (status, (await body(reader))["code"]) == (503, "NOT_YET_VISIBLE")
    assert "retry-after: 1" in answer.lower()
    writer.close()
    status, _, _, writer = await ask(doorway, f"{service}:22", mine, "Latchkey-Position: dev-1@1")
    assert status == 200
    writer.close()


@pytest.mark.parametrize("secure", [False, True])
async def test_a_revoke_cuts_and_nothing_follows(
    world: "World", devices: "Devices", doorway: "Doorway", events: "Events", secure: bool
) -> None:
    service = await world.device("dev-1", await devices.flood())
    await world.share("dev-1", "ann")
    status, _, reader, writer = await ask(
        doorway, f"{service}:22", bearer(doorway.token("ann")), secure=secure
    )
    assert status == 200
    await reader.readexactly(1_000_000)
    await world.revoke("dev-1")
    with pytest.raises((ConnectionError, TimeoutError)):
        async with asyncio.timeout(20):
            while await reader.read(1_000_000):
                pass
            raise ConnectionError
    writer.close()
    told = [each.data.model_dump(mode="json") for each in await events.take(2)]
    assert [each["way"] for each in told] == ["connect", "connect"]
    assert told[1]["reason"] == "grant_ended"
    assert told[1]["bytes_from_device"] >= 1_000_000
    status, _, reader, writer = await ask(doorway, f"{service}:22", bearer(doorway.token("ann")))
    assert status == 403
    writer.close()


NO_CONNECT = [
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 405, "METHOD_NOT_ALLOWED"),
    (b"POST http://dev-1/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", 405, "METHOD_NOT_ALLOWED"),
    (b"CONNECT dev-1:22 HTTP/3.0\r\nHost: x\r\n\r\n", 505, "INVALID_REQUEST"),
    (b"CONNECT dev-1:22 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 400, "INVALID_REQUEST"),
    (
        b"CONNECT a:22 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
        "INVALID_REQUEST",
    ),
    (b"CONNECT dev-1:22 HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 4000 + b"\r\n", 431, "INVALID_REQUEST"),
    (b"OPTIONS rtsp://x RTSP/1.0\r\nCSeq: 1\r\n\r\n", 400, "INVALID_REQUEST"),
    (b"\x16\x03\x01\x02\x00\x01\x00", 400, "INVALID_REQUEST"),
]


async def test_what_is_no_connect_is_answered_in_words(doorway: "Doorway") -> None:
    for sent, status, code in NO_CONNECT:
        reader, writer = await doorway.connect()
        writer.write(sent)
        async with asyncio.timeout(20):
            answer = await reader.read()
        head, _, text = answer.partition(b"\r\n\r\n")
        assert int(head.split(b" ")[1]) == status, answer
        assert json.loads(text)["error"]["code"] == code
        writer.close()


async def test_a_target_that_names_no_service_is_told_to_who_may_ask(doorway: "Doorway") -> None:
    for target in ("dev-1", "a/b:22", "x" * 65 + ":22"):
        status, _, reader, writer = await ask(doorway, target, bearer(doorway.token("ann")))
        assert status == 400
        assert "names no service" in (await body(reader))["message"]
        writer.close()


async def test_who_guesses_tokens_is_slowed_down_and_others_are_not(
    world: "World", devices: "Devices", doorway: "Doorway"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    bad = bearer(doorway.issuer.foreign_token("ann"))

    async def guess() -> int:
        status, _, _, writer = await ask(doorway, f"{service}:22", bad, source="127.0.0.9")
        writer.close()
        return status

    async with asyncio.timeout(40):
        while 429 not in await asyncio.gather(*(guess() for _ in range(50))):
            pass
    status, _, _, writer = await ask(doorway, f"{service}:22", bearer(doorway.token("owner")))
    assert status == 200
    writer.close()


async def test_what_is_open_ends_with_the_gateway(
    world: "World", devices: "Devices", doorway: "Doorway", gateways: "Gateways"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    _, _, reader, writer = await ask(doorway, f"{service}:22", bearer(doorway.token("owner")))
    await gateways.stop(doorway.gateway)
    assert await ended(reader)
    writer.close()
