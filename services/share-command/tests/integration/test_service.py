"""Real processes: HTTP, directories, and kill -9 of relay and service under load."""

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from contracts import codec
from contracts.commands import CommandAccepted, RequestShare, RevokeShare
from contracts.directory import AccountSnapshot, DeviceSnapshot
from contracts.events import ShareEvent
from contracts.links import InvitationLink, sign_link
from servicekit import pg
from servicekit.kafka import Producer, Record

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

Start = Callable[[str], tuple[subprocess.Popen[bytes], str]]
ReadTopic = Callable[[str], Awaitable[list[Record]]]
Until = Callable[..., Awaitable[None]]
Ready = Callable[[str], Awaitable[None]]


def message(command: codec.Message, **attributes: str) -> bytes:
    return codec.encode(
        codec.envelope(
            command, source="test", time=datetime.now(UTC), correlationid=attributes.get("correlation")
        )
    )


async def sent_events(read_topic: ReadTopic) -> list[codec.Envelope]:
    return [codec.decode(record.value) for record in await read_topic("share.events")]


async def outbox_is_empty(pool: pg.Pool) -> bool:
    return not await pool.fetchval("select exists (select from outbox)")


async def assert_whole_and_in_order(pool: pg.Pool, read_topic: ReadTopic) -> None:
    """Each stored event was sent at least once, and for each device the first sendings are in order."""
    versions: dict[str, list[int]] = {}
    ids: set[str] = set()
    for envelope in await sent_events(read_topic):
        assert isinstance(envelope.data, ShareEvent)
        assert envelope.version is not None
        known = versions.setdefault(envelope.data.device_id, [])
        if envelope.version not in known:
            known.append(envelope.version)
        ids.add(envelope.id)
    stored = await pool.fetch("select device_id, version, event_id from event order by device_id, version")
    assert ids == {str(row["event_id"]) for row in stored}
    expected: dict[str, list[int]] = {}
    for row in stored:
        expected.setdefault(row["device_id"], []).append(row["version"])
    assert versions == expected


async def toggle(client: httpx.AsyncClient, internal_tokens: Any, device: str, rounds: int, run: str) -> int:
    """Share and revoke, over and over, with fixed command ids; the same id again until it is answered."""
    done = 0
    for number in range(rounds):
        for name in ("RequestShare", "RevokeShare"):
            body = {"command_id": f"{run}-{device}-{number}-{name}", "device_ids": [device],
                    "recipients": ["ann@x.test"]}  # fmt: skip
            headers = {"Authorization": f"Bearer {internal_tokens.token('share-command', 'owner')}"}
            while True:
                try:
                    answer = await client.post(f"/v1/commands/{name}", json=body, headers=headers)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                    continue
                assert answer.status_code == 200, answer.text
                done += 1
                break
    return done


async def test_http(
    pool: pg.Pool, start: Start, ready: Ready, internal_tokens: Any, read_topic: ReadTopic
) -> None:
    _, address = start("serve")
    await ready(address)

    def token(account: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {internal_tokens.token('share-command', account)}"}

    async with httpx.AsyncClient(base_url=address) as client:
        body = {"command_id": "h1", "device_ids": ["d0"], "recipients": ["Ann@x.test"]}
        answer = await client.post("/v1/commands/RequestShare", json=body, headers=token("owner"))
        assert (answer.status_code, answer.json()) == (200, {"command_id": "h1", "positions": ["d0@1"]})
        assert answer.headers["latchkey-position"] == "d0@1"
        assert answer.headers["x-correlation-id"]

        for wrong, status, code in (
            (body | {"scripting": True}, 409, "IDEMPOTENCY_CONFLICT"),
            (body | {"command_id": "h2", "servces": []}, 422, "INVALID_REQUEST"),
            (body | {"command_id": "h2", "actor": "rival"}, 422, "INVALID_REQUEST"),
            (body | {"command_id": "h2", "device_ids": ["foreign"]}, 404, "DEVICE_NOT_FOUND"),
            (body | {"command_id": "h3", "recipients": ["nonsense"]}, 422, "INVALID_EMAIL"),
        ):
            answer = await client.post("/v1/commands/RequestShare", json=wrong, headers=token("owner"))
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert answer.json()["error"]["recipient"] == "nonsense"
        for headers in ({}, {"Authorization": "Bearer x.y.z"}):
            answer = await client.post("/v1/commands/RequestShare", json=body, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHENTICATED")
        answer = await client.post("/v1/commands/RequestShare", content=b"{", headers=token("owner"))
        assert answer.json()["error"]["code"] == "INVALID_REQUEST"

        body = {"command_id": "h4", "device_ids": ["d1"], "recipients": ["bob@x.test"]}
        await client.post("/v1/commands/RequestShare", json=body, headers=token("owner"))
        book = (await client.get("/v1/contacts", headers=token("owner"))).json()["contacts"]
        assert [entry["address"] for entry in book] == ["bob@x.test", "ann@x.test"]
        assert (await client.get("/v1/contacts", headers=token("ann"))).json() == {"contacts": []}

        row = await pool.fetchrow("select share_id, contact_id from share where device_id = 'd0'")
        assert row is not None
        link = InvitationLink(
            share_id=row["share_id"], device_id="d0", contact_id=row["contact_id"], invitation_version=1,
            purpose="accept", ends_at=datetime.now(UTC) + timedelta(hours=1),
        )  # fmt: skip

        async def follow(account: str, link: InvitationLink, secret: str = "s" * 32) -> httpx.Response:
            return await client.post(
                "/v1/invitation-links", json={"token": sign_link(link, secret)}, headers=token(account)
            )

        answer = await follow("ann", link)
        shown = answer.json()
        assert datetime.fromisoformat(shown.pop("expires_at")) > datetime.now(UTC) + timedelta(days=1)
        assert shown == {
            "share_id": str(row["share_id"]), "device_id": "d0", "device_name": "Device d0",
            "owner_name": "Owner", "state": "requested", "invitation_version": 1, "purpose": "accept",
            "terms": {"scope": {"kind": "all", "permissions": "all"}, "scripting": False,
                      "starts_at": None, "ends_at": None}, "message": None,
            "service_names": {}, "changed_since_link": False,
        }  # fmt: skip
        listed = {"command_id": "h6", "device_ids": ["d2"], "recipients": ["ann@x.test"]}
        listed |= {"services": [{"service_id": "d2-web"}]}
        await client.post("/v1/commands/RequestShare", json=listed, headers=token("owner"))
        share_id = await pool.fetchval("select share_id from share where device_id = 'd2'")
        answer = await follow("ann", link.model_copy(update={"share_id": share_id, "device_id": "d2"}))
        assert answer.json()["service_names"] == {"d2-web": "web"}

        older = link.model_copy(update={"ends_at": datetime.now(UTC) - timedelta(seconds=1)})
        other = link.model_copy(update={"device_id": "d1"})
        refused = [
            await follow("eve", link), await follow("owner", link), await follow("ann", older),
            await follow("ann", other), await follow("ann", link, "x" * 32),
        ]  # fmt: skip
        assert {item.status_code for item in refused} == {404}
        assert len({item.text for item in refused}) == 1, "each the same answer"

        accept = {"command_id": "h5", "device_id": "d0", "share_id": str(row["share_id"])}
        answer = await client.post(
            "/v1/commands/AcceptShare", json=accept | {"invitation_version": 7}, headers=token("ann")
        )
        assert answer.status_code == 409
        assert answer.json()["error"]["invitation_version"] == 1
        assert answer.json()["error"]["terms"]["scope"] == {"kind": "all", "permissions": "all"}
        schema = (await client.get("/openapi.json")).json()
        properties = schema["components"]["schemas"]["RequestShareBody"]["properties"]
        assert "services" in properties
        assert "actor" not in properties
        assert "share_commands_total" in (await client.get("/metrics")).text


async def test_directories(  # noqa: PLR0917 - fixtures
    dsn: str, start: Start, ready: Ready, until: Until, read_topic: ReadTopic, producer: Producer, prefix: str
) -> None:
    devices, accounts = prefix + "directory.devices", prefix + "directory.accounts"
    pool = await pg.open_pool(dsn, application="test")
    device = DeviceSnapshot(device_id="x1", owner_account_id="owner", name="X", kind="computer")
    await producer.send(devices, "x0", message(device.model_copy(update={"device_id": "x0"})))
    await producer.send(devices, "x1", b"poison")
    await producer.send(devices, "other-key", message(device))
    await producer.send(devices, "x1", message(device))
    await producer.send(devices, "x0", None)
    await producer.send(devices, "x\0", None)
    await producer.send(devices, "x 1", None)
    await producer.send(accounts, "ann/eve", None)
    account = AccountSnapshot(
        account_id="ann", name="Ann", verified_emails=("Ann@X.test", "old@x.test", "no")
    )
    await producer.send(accounts, "ann", message(account))
    await producer.send(
        accounts, "ann", message(account.model_copy(update={"verified_emails": ("ann@x.test",)}))
    )
    start("serve")

    async def tables() -> tuple[set[str], set[str]]:
        return (
            {row["device_id"] for row in await pool.fetch("select device_id from device")},
            {row["address"] for row in await pool.fetch("select address from account_address")},
        )

    async def applied() -> bool:
        ends = await pool.fetchval("select sum(next_offset) from kafka_offset")
        return ends == 10 and await tables() == ({"x1"}, {"mailto:ann@x.test"})

    await until(applied)
    letters = await read_topic("share-command.dead-letters")
    codes = sorted(dict(item.headers)["latchkey-error-code"] or b"" for item in letters)
    assert codes == [*[b"INVALID_DATA"] * 4, b"MALFORMED"]
    await pool.close()


async def test_relay_killed_under_load(  # noqa: PLR0917 - fixtures
    pool: pg.Pool, start: Start, ready: Ready, until: Until, read_topic: ReadTopic, internal_tokens: Any
) -> None:
    """Two relays; the active one is killed, the next one hangs. Nothing lost, nothing out of order."""
    _, address = start("serve")
    relays = [start("relay"), start("relay")]
    for _, relay_address in relays:
        await ready(relay_address)
    await ready(address)

    async def active() -> subprocess.Popen[bytes] | None:
        async with httpx.AsyncClient() as client:
            for process, relay_address in relays:
                with contextlib.suppress(httpx.TransportError):  # killed, or not yet up
                    text = (await client.get(f"{relay_address}/metrics")).text
                    if "outbox_relay_active 1.0" in text:
                        return process
        return None

    async def sends() -> bool:
        return bool(await sent_events(read_topic))

    async with httpx.AsyncClient(base_url=address) as client:
        load = asyncio.gather(
            *(toggle(client, internal_tokens, f"d{number}", 15, "load") for number in range(8))
        )
        await until(active)
        await until(sends)
        killed = await active()
        assert killed is not None
        killed.kill()
        killed.wait(10)
        relays.append(start("relay"))
        await load

    async def empty() -> bool:
        return await outbox_is_empty(pool)

    await until(empty)
    await assert_whole_and_in_order(pool, read_topic)
    assert await pool.fetchval("select count(*) from event") == 8 * 15 * 2

    await ready(relays[-1][1])
    stopped = await active()  # one that hangs must not keep the lock
    assert stopped is not None
    stopped.send_signal(signal.SIGSTOP)
    try:
        async with httpx.AsyncClient(base_url=address) as client:
            await toggle(client, internal_tokens, "d9", 3, "after")
        await until(empty)
    finally:
        stopped.send_signal(signal.SIGCONT)
    await assert_whole_and_in_order(pool, read_topic)


async def test_service_killed_under_load(  # noqa: PLR0917 - fixtures
    pool: pg.Pool, start: Start, ready: Ready, until: Until, read_topic: ReadTopic, internal_tokens: Any,
    producer: Producer, prefix: str,
) -> None:  # fmt: skip
    """The same command ids again after kill -9, over HTTP and Kafka: each ran once."""
    process, address = start("serve")
    await ready(address)
    names = [f"k{number}" for number in range(40)]
    for number, name in enumerate(names):
        device = f"d{20 + number % 10}"
        kind = RequestShare if number // 10 % 2 == 0 else RevokeShare
        command = kind(command_id=name, actor="owner", device_ids=(device,), recipients=("ann@x.test",))
        await (await producer.enqueue(prefix + "share.commands", device, message(command)))

    async def begun(least: int) -> bool:
        return await pool.fetchval("select count(*) from event") >= least

    async with httpx.AsyncClient(base_url=address) as client:
        load = [
            asyncio.create_task(toggle(client, internal_tokens, f"d{number}", 8, "run"))
            for number in range(5)
        ]
        await until(lambda: begun(30))
        process.kill()
        process.wait(10)
        for task in load:
            task.cancel()
        await asyncio.gather(*load, return_exceptions=True)
    _, address = start("serve")
    _, relay = start("relay")
    await ready(address)
    await ready(relay)
    async with httpx.AsyncClient(base_url=address) as client:
        await asyncio.gather(
            *(toggle(client, internal_tokens, f"d{number}", 8, "run") for number in range(5))
        )

    async def answered() -> bool:
        found = [codec.decode(record.value).data for record in await read_topic("share.command-results")]
        ids = {item.command_id for item in found if isinstance(item, CommandAccepted)}
        return set(names) <= ids and await outbox_is_empty(pool)

    await until(answered)
    assert await pool.fetchval("select count(*) from event") == 5 * 8 * 2 + 40
    per_command = "select count(distinct command_id) from event"
    assert await pool.fetchval(per_command) == 5 * 8 * 2 + 40, "no command gave two events"
    await assert_whole_and_in_order(pool, read_topic)
