"""Access with a start and an end: nothing before, and what is open ends when its time has come."""

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

if TYPE_CHECKING:
    from conftest import Devices, Gateways, Running, World

    from devstack.pytest_plugin import Database

pytestmark = pytest.mark.slow

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]

IS_OVER = """
select clock_timestamp() >= max((terms ->> 'ends_at')::timestamptz) - interval '0.5 seconds'
from permissions.share
"""
"""Up to what it takes to read a grant: an end counts from when it was asked for, so never too late."""


async def echoes(client: Client) -> bool:
    client[1].write(b"ping")
    async with asyncio.timeout(10):
        return await client[0].readexactly(4) == b"ping"


async def is_reset(client: Client) -> bool:
    """Reads to the end; whether the end was a reset."""
    try:
        async with asyncio.timeout(20):
            while await client[0].read(65536):
                pass
    except ConnectionResetError:
        return True
    finally:
        client[1].close()
    return False


async def connected(gateway: "Running", account_id: str, service_id: str) -> Client:
    client = await gateway.connect((await gateway.open(account_id, service_id))["port"])
    assert await echoes(client)
    return client


async def checked_again(gateway: "Running", before: float) -> None:
    """Wait until the gateway has asked for grants since."""
    async with asyncio.timeout(10):
        while await gateway.metric("gateway_check_seconds_count") <= before:  # noqa: ASYNC110 - over HTTP
            await asyncio.sleep(0.01)


async def test_an_open_stream_ends_with_its_share_and_not_before(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    service = await world.device("dev-1", await devices.flood())
    gateway = await gateways.start()
    cuts = await gateway.metric('gateway_cuts_total{reason="grant_ended"}')
    owner = await gateway.connect((await gateway.open("owner", service))["port"])
    await world.share("dev-1", "ann", lasts="2 seconds")
    opened = await gateway.open("ann", service)
    clients = [await gateway.connect(opened["port"]) for _ in range(2)]
    for reader, _ in clients:
        assert len(await reader.readexactly(1_000_000)) == 1_000_000
    assert await is_reset(clients[0])
    assert await world.value(IS_OVER)
    assert await is_reset(clients[1])
    with pytest.raises(OSError):
        await gateway.connect(opened["port"])
    assert (await gateway.post("ann", service)).status_code == 403
    await gateway.reaches('gateway_cuts_total{reason="grant_ended"}', cuts + 2)
    assert len(await owner[0].readexactly(1_000_000)) == 1_000_000
    owner[1].close()


async def test_nothing_opens_before_the_start_and_everything_from_then_on(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    gateway = await gateways.start()
    await world.share("dev-1", "ann", begins="1 second")
    assert (await gateway.post("ann", service)).status_code == 403
    await world.comes("starts_at")
    client = await connected(gateway, "ann", service)
    client[1].close()


async def test_who_has_another_share_stays_connected(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    gateway = await gateways.start()
    await world.share("dev-1", "ann", lasts="1 second")
    await world.share("dev-1", "ann")
    client = await connected(gateway, "ann", service)
    await world.comes("ends_at", after="0.5 seconds")
    assert await echoes(client)
    client[1].close()


async def test_what_the_ended_share_alone_gave_of_a_camera_ends_the_stream(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    """A plain port cannot hold back one function, so it ends when one of them does."""
    service = await world.device(
        "dev-1", await devices.echo(), protocol="rtsp", permissions="live_view,playback"
    )
    gateway = await gateways.start()
    await world.share("dev-1", "ann", '["live_view"]')
    await world.share("dev-1", "ann", '["playback"]', lasts="1 second")
    assert await is_reset(await connected(gateway, "ann", service))


async def test_an_end_that_is_moved_counts_from_then_on(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    address = await devices.echo()
    shortened, prolonged = [await world.device(f"dev-{number}", address) for number in (1, 2)]
    gateway = await gateways.start()
    await world.share("dev-1", "ann", lasts="1 hour")
    first = await connected(gateway, "ann", shortened)
    await world.share("dev-2", "ann", lasts="1 second")
    second = await connected(gateway, "ann", prolonged)
    checks = await gateway.metric("gateway_check_seconds_count")
    await world.ends("dev-2", "1 hour")
    await checked_again(gateway, checks)
    await world.ends("dev-1", "1 second")
    assert await is_reset(first)
    assert await echoes(second)
    await world.ends("dev-2", None)
    assert await echoes(second)
    second[1].close()


async def test_an_end_comes_although_the_database_is_away(
    world: "World", database: "Database", devices: "Devices", gateways: "Gateways"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    gateway = await gateways.start(max_staleness_seconds=300)
    cuts = await gateway.metric('gateway_cuts_total{reason="grant_ended"}')
    await world.share("dev-1", "ann", lasts="2 seconds")
    client = await connected(gateway, "ann", service)
    owner = await connected(gateway, "owner", service)
    admin = await asyncpg.connect(database.dsn())
    try:
        await admin.execute(f"revoke connect on database {database.name} from access_gateway")
        await admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'access_gateway'"
        )
        assert await is_reset(client)
        assert await world.value(IS_OVER)
        await gateway.reaches('gateway_cuts_total{reason="grant_ended"}', cuts + 1)
        assert await echoes(owner)
    finally:
        await admin.close()
    owner[1].close()


CHECKS_WAIT = "begin; lock table permissions.share in access exclusive mode"


async def test_an_end_does_not_wait_for_a_database_that_does_not_answer(
    world: "World", database: "Database", devices: "Devices", gateways: "Gateways"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    gateway = await gateways.start(max_staleness_seconds=300)
    await world.share("dev-1", "ann", lasts="2 seconds")
    client = await connected(gateway, "ann", service)
    blocking = await asyncpg.connect(database.dsn())
    try:
        await blocking.execute(CHECKS_WAIT)
        assert await is_reset(client)
    finally:
        await blocking.close()
    async with asyncio.timeout(15):
        while (await gateway.post("owner", service)).status_code != 201:  # noqa: ASYNC110 - asked over HTTP
            await asyncio.sleep(0.05)
