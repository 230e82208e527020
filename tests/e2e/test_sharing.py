"""The main job through real processes: share, accept, connect, take back."""

import asyncio
import hashlib
import os
import re
import time
from typing import Any
from uuid import uuid4

import pytest

from contracts.codec import decode
from contracts.commands import CommandAccepted, CommandRefused, RequestShare
from contracts.directory import AccountSnapshot, DeviceSnapshot, Service, Target
from contracts.events import ConnectionClosed, ConnectionCut, ConnectionOpened
from devstack import seed
from devstack.client import DEVICES, RefusedError
from devstack.world import World, until
from servicekit.kafka import Consumer, Partition

BOB = seed.RECIPIENT_EMAIL

# Documents as remote.it's documentation prints them; its second one lacks the closing ") }", added here.
PRINTED_DEVICE, PRINTED_SERVICE = "80:00:00:00:12:34:56:78", "80:00:00:00:12:34:56:79"
PRINTED_ADD = """mutation {
  share(deviceId: "80:00:00:00:12:34:56:78",
        email: "email@example.com",
        scripting: false,
        notify: true,
        action: ADD)
}"""
PRINTED_MIXED = """mutation {
  share(deviceId: "80:00:00:00:12:34:56:78",
        email: [
          "email1@example.com",
          "email2@example.com"
        ],
        notify: true,
        services: [
          {serviceId: "80:00:00:00:12:34:56:79", action: ADD},
          {serviceId: "80:00:00:00:12:34:56:79", action: REMOVE}
        ]
  )
}"""
PRINTED_LEAVE = """mutation {
  share(
    deviceId: "80:00:00:00:12:34:56:78"
    email: "YourEmail@example.com"
    action: LEAVE
  )
}"""


@pytest.fixture(scope="module")
async def printed_device(world: World) -> str:
    """The device that the printed documents name."""
    target = Target(host=world.targets.host, port=world.targets.echo_port)
    service = Service(service_id=PRINTED_SERVICE, name="ssh", protocol="ssh", target=target)
    await world.add_device(
        DeviceSnapshot(
            device_id=PRINTED_DEVICE,
            owner_account_id="ann",
            name="Printed",
            kind="computer",
            services=(service,),
        )
    )
    return PRINTED_DEVICE


async def post(world: World, email: str, document: str) -> Any:
    headers = {"Authorization": f"Bearer {await world.token(email)}"}
    return await world.portal.post("/graphql/v1", json={"query": document}, headers=headers)


async def test_the_printed_add_invites_by_mail(world: World, printed_device: str) -> None:
    answer = await post(world, seed.OWNER_EMAIL, PRINTED_ADD)
    assert (answer.status_code, answer.content) == (200, b'{"data":{"share":true}}')
    assert re.fullmatch(rf"{printed_device}@\d+", answer.headers["latchkey-position"])
    (mail,) = await until(lambda: world.mails("email@example.com", "Printed"))
    assert "Ann Keller" in mail["text"]
    assert "Printed" in mail["html"]


async def test_the_printed_mix_ends_removed_and_says_so(world: World, printed_device: str) -> None:
    answer = await post(world, seed.OWNER_EMAIL, PRINTED_MIXED)
    assert answer.json()["data"] == {"share": True}
    assert "warnings" in answer.json()["extensions"]
    # The share that never was has no mail: the marker that was shared after it has come alone.
    await (await world.account(seed.OWNER_EMAIL)).share(printed_device, "marker@example.com")
    await until(lambda: world.mails("marker@example.com", "Printed"))
    assert await world.mails("email1@example.com", "Printed") == []


async def test_the_printed_leave_gives_it_back(world: World, printed_device: str) -> None:
    emails = (BOB, "YourEmail@example.com")
    await world.add_account(AccountSnapshot(account_id="bob", name="Bob Rossi", verified_emails=emails))
    owner, bob = await world.account(seed.OWNER_EMAIL), await world.account(BOB)
    await owner.share(printed_device, "youremail@example.com", notify=False)

    async def invited() -> Any:
        return await bob.invitation(printed_device)

    await until(invited)
    await bob.accept(printed_device)
    connection = await world.open(bob, PRINTED_SERVICE)
    answer = await post(world, BOB, PRINTED_LEAVE)
    assert answer.content == b'{"data":{"share":true}}'
    await connection.until_closed(5)
    with pytest.raises(RefusedError) as refusal:
        await bob.connect(PRINTED_SERVICE)
    assert refusal.value.code == "ACCESS_DENIED"


async def test_nobody_gets_in_before_he_accepts(world: World) -> None:
    device = await world.device()
    owner, bob = await world.account(seed.OWNER_EMAIL), await world.account(BOB)
    await owner.share(device, BOB)
    bob.position = owner.position
    (mail,) = await until(lambda: world.mails(BOB, device))
    links = re.findall(r"https?://\S+/invitations/\S+", mail["text"])
    assert len(links) >= 2
    for link in links:  # a mail scanner opens everything, again and again
        for _ in range(3):
            await world.portal.get(link, follow_redirects=True)
            await world.portal.head(link)
    assert await bob.invitation(device) is not None
    with pytest.raises(RefusedError):
        await bob.connect(f"{device}.1")
    names = [item["id"] for item in (await bob.ask(DEVICES))["login"]["devices"]["items"]]
    assert device not in names
    await bob.accept(device)
    names = [item["id"] for item in (await bob.ask(DEVICES))["login"]["devices"]["items"]]
    assert device in names
    (await world.open(bob, f"{device}.1")).writer.close()


async def test_bytes_arrive_unchanged_both_ways_and_are_accounted_for(world: World) -> None:
    device = await world.device()
    _, bob = await world.shared(device)
    connection = await world.open(bob, f"{device}.1")
    size, sent, received = 8_000_000, hashlib.sha256(), hashlib.sha256()

    async def send() -> None:
        left = size
        while left:
            chunk = os.urandom(min(left, 65536))
            sent.update(chunk)
            connection.writer.write(chunk)
            await connection.writer.drain()
            left -= len(chunk)
        connection.writer.write_eof()

    async def receive() -> None:
        while chunk := await connection.reader.read(65536):
            received.update(chunk)

    await asyncio.wait_for(asyncio.gather(send(), receive()), 30)
    assert sent.digest() == received.digest()
    connection.writer.close()
    closed = await find_access_event(world, device, ConnectionClosed)
    assert (closed.bytes_to_device, closed.bytes_from_device) == (size + 4, size + 4)


async def find_access_event(world: World, device: str, kind: type) -> Any:
    async def changed(_: set[Partition]) -> None: ...

    async with Consumer(
        world.status.addresses["kafka"],
        group=str(uuid4()),
        topics=["access.events"],
        assigned=changed,
        revoked=changed,
    ) as consumer:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            for records in (await consumer.getmany(timeout_ms=500, max_records=500)).values():
                for record in records:
                    message = decode(record.value)
                    if isinstance(message.data, kind) and message.subject == device:
                        return message.data
    raise AssertionError(f"no {kind.__name__} for {device}")


async def test_a_revoke_cuts_what_is_open_with_bytes_in_flight(world: World) -> None:
    device = await world.device()
    owner, bob = await world.shared(device)
    connection = await world.open(bob, f"{device}.1")
    flowing = asyncio.Event()
    seen = 0

    async def pump() -> None:
        nonlocal seen
        try:
            while True:
                seen += len(await connection.echo(os.urandom(30_000)))
                flowing.set()
        except (ConnectionError, asyncio.IncompleteReadError):
            return

    pumping = asyncio.create_task(pump())
    await asyncio.wait_for(flowing.wait(), 10)
    await owner.share(device, BOB, action="REMOVE")
    await asyncio.wait_for(pumping, 5)
    cut = await find_access_event(world, device, ConnectionCut)
    assert (cut.reason, cut.account_id) == ("grant_ended", "bob")
    assert cut.bytes_from_device >= seen
    bob.position = owner.position
    with pytest.raises(RefusedError):
        await bob.connect(f"{device}.1")
    # The way that was opened earlier leads nowhere either.


async def test_a_narrowing_cuts_only_what_it_takes_away(world: World) -> None:
    device = await world.device()
    owner, bob = await world.shared(device)
    first, second = await world.open(bob, f"{device}.1"), await world.open(bob, f"{device}.2")
    await owner.share(device, BOB, services=[{"serviceId": f"{device}.1", "action": "REMOVE"}])
    await first.until_closed(5)
    assert await second.echo(b"still here") == b"still here"
    second.writer.close()


async def test_services_added_later_belong_to_a_whole_share_and_not_to_a_list(world: World) -> None:
    device = await world.device(services=1)
    _, bob = await world.shared(device)
    listed = await world.device(services=1)
    await world.shared(listed, services=[{"serviceId": f"{listed}.1"}])
    for name in (device, listed):
        target = Target(host=world.targets.host, port=world.targets.echo_port)
        services = tuple(
            Service(service_id=f"{name}.{n}", name=f"Echo {n}", protocol="tcp", target=target) for n in (1, 2)
        )
        await world.add_device(
            DeviceSnapshot(
                device_id=name, owner_account_id="ann", name=name, kind="computer", services=services
            )
        )

    async def reachable() -> bool:
        try:
            (await world.open(bob, f"{device}.2")).writer.close()
        except RefusedError:
            return False
        return True

    await until(reachable)
    with pytest.raises(RefusedError):
        await bob.connect(f"{listed}.2")


async def test_the_owner_himself_connects_and_is_audited(world: World) -> None:
    device = await world.device()
    owner = await world.account(seed.OWNER_EMAIL)
    connection = await world.open(owner, f"{device}.1")
    connection.writer.close()
    opened = await find_access_event(world, device, ConnectionOpened)
    assert (opened.account_id, opened.share_id) == ("ann", None)


async def test_a_way_in_belongs_to_one_source_address(world: World) -> None:
    device = await world.device()
    _, bob = await world.shared(device)
    way = await bob.connect(f"{device}.1")
    first = await asyncio.open_connection(way["host"], way["port"])
    first[1].write(b"x")
    assert await first[0].readexactly(1) == b"x"
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):  # at the connect, or just after it
        stranger, writer = await asyncio.open_connection(
            way["host"], way["port"], local_addr=("127.0.0.2", 0)
        )
        writer.write(b"x")
        await asyncio.wait_for(stranger.readexactly(1), 10)
    first[1].write(b"y")
    assert await first[0].readexactly(1) == b"y"
    first[1].close()


async def command_results(world: World, wanted: set[str]) -> dict[str, Any]:
    """The answers to the commands ``wanted``."""
    found: dict[str, Any] = {}

    async def changed(_: set[Partition]) -> None: ...

    async with Consumer(
        world.status.addresses["kafka"], group=str(uuid4()), topics=["share.command-results"],
        assigned=changed, revoked=changed,
    ) as consumer:  # fmt: skip
        deadline = time.monotonic() + 20
        while wanted - found.keys() and time.monotonic() < deadline:
            for records in (await consumer.getmany(timeout_ms=500, max_records=500)).values():
                for record in records:
                    data = decode(record.value).data
                    if isinstance(data, CommandAccepted | CommandRefused) and data.command_id in wanted:
                        found[str(data.command_id)] = data
    return found


async def test_a_command_on_kafka_does_the_same_and_is_answered(world: World) -> None:
    device = await world.device()
    good, foreign, twin = (str(uuid4()) for _ in range(3))
    command = RequestShare(command_id=good, actor="ann", device_ids=(device,), recipients=(BOB,))
    await world.publish("share.commands", device, command)
    await world.publish("share.commands", device, command)  # an upstream service that tries again
    await world.publish(
        "share.commands", device, command.model_copy(update={"command_id": foreign, "actor": "cat"})
    )
    await world.producer.send("share.commands", device, b'{"not": "a command"}')
    await world.producer.send("share.commands", device, b"\xff\x00", [("header", None)])
    await world.publish("share.commands", device, command.model_copy(update={"command_id": twin}))
    results = await command_results(world, {good, foreign, twin})
    assert results[good] == CommandAccepted(command_id=good, positions=results[good].positions)
    assert [str(position) for position in results[good].positions] == [f"{device}@1"]
    assert results[foreign].code == "DEVICE_NOT_FOUND"
    assert results[twin].positions == results[good].positions  # nothing had to be done again
    await until(lambda: world.mails(BOB, device))
    bob = await world.account(BOB)
    bob.position = str(results[good].positions[0])
    await bob.accept(device)
    (await world.open(bob, f"{device}.1")).writer.close()
    assert len(await world.mails(BOB, device)) == 1


async def test_notify_false_sends_nothing(world: World) -> None:
    quiet, loud = await world.device(), await world.device()
    owner = await world.account(seed.OWNER_EMAIL)
    address = f"{quiet}@example.test"
    await owner.share(quiet, address, notify=False)
    await owner.share(loud, address)
    await until(lambda: world.mails(address, loud))
    assert await world.mails(address, quiet) == []
