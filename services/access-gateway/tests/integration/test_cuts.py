"""Access that ends, or that can no longer be proved, ends the connections that it had opened."""

import asyncio
import random
import time
from collections import Counter
from typing import TYPE_CHECKING

import asyncpg
import pytest

from contracts.events import ConnectionCut, ConnectionOpened, CutReason

if TYPE_CHECKING:
    from conftest import Devices, Events, Gateways, Running, World

    from devstack.pytest_plugin import Database

pytestmark = pytest.mark.slow

STALE_SECONDS = 3.0
"""Short enough to wait for, long enough for a slow machine to poll in."""

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


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


async def test_a_revoke_cuts_with_bytes_in_flight_and_touches_nobody_else(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    service = await world.device("dev-1", await devices.flood())
    bystander = await world.device("dev-2", await devices.echo())
    for account in ("ann", "bob"):
        await world.share("dev-1", account)
        await world.share("dev-2", account)
    gateway = await gateways.start()
    other = await connected(gateway, "ann", bystander)
    opened = await gateway.open("ann", service)
    clients = [await gateway.connect(opened["port"]) for _ in range(2)]
    for reader, _ in clients:
        assert len(await reader.readexactly(1_000_000)) == 1_000_000
    owner = await gateway.connect((await gateway.open("owner", service))["port"])
    await world.revoke("dev-1")
    assert all([await is_reset(client) for client in clients])
    with pytest.raises(OSError):
        await gateway.connect(opened["port"])
    assert await echoes(other)
    assert len(await owner[0].readexactly(1_000_000)) == 1_000_000
    assert (await gateway.post("ann", service)).status_code == 403
    for _, writer in (other, owner):
        writer.close()


@pytest.mark.parametrize(
    "change",
    [
        # The notification got lost: the change is found all the same.
        "with c as (insert into permissions.change (device_ids, correlation_ids, account_ids, contact_ids)"
        " values ('{dev-1}', '{null}', '{}', '{}')) update permissions.share set state = 'left'",
        # The feed has a gap: what the gateway has not read of it is gone.
        "with gone as (delete from permissions.change), s as (update permissions.share set state = 'left')"
        " insert into permissions.change (id, device_ids, correlation_ids, account_ids, contact_ids)"
        " overriding system value values (1000, '{dev-9}', '{null}', '{}', '{}')",
        # Another generation went live, in which the share is not: nothing in its feed tells of it.
        "with g as (update permissions.generation set number = 2) delete from permissions.share",
        # The service belongs to another device now.
        "with c as (insert into permissions.change (device_ids, correlation_ids, account_ids, contact_ids)"
        " values ('{dev-1}', '{null}', '{}', '{}')), s as (insert into permissions.share select 'dev-2',"
        " share_id, contact_id, owner_account_id, state, account_id, terms, 1, now(), now(), null, 1"
        " from permissions.share)"
        " update permissions.service set device_id = 'dev-2' where service_id = 'dev-1-svc'",
    ],
)
async def test_whatever_ends_the_grant_cuts(
    world: "World", devices: "Devices", gateways: "Gateways", change: str
) -> None:
    service = await world.device("dev-1", await devices.echo())
    await world.device("dev-2", await devices.echo())
    await world.share("dev-1", "ann")
    gateway = await gateways.start()
    client = await connected(gateway, "ann", service)
    before = await gateway.metric('gateway_cuts_total{reason="grant_ended"}')
    await world.run(change)
    assert await is_reset(client)
    await gateway.reaches('gateway_cuts_total{reason="grant_ended"}', before + 1)


async def test_a_change_that_leaves_the_grant_leaves_the_connection(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    await world.share("dev-1", "ann")
    gateway = await gateways.start()
    client = await connected(gateway, "ann", service)
    before = await gateway.metric("gateway_check_seconds_count")
    await world.share("dev-1", "bob")
    async with asyncio.timeout(10):
        while await gateway.metric("gateway_check_seconds_count") < before + 1:  # noqa: ASYNC110 - over HTTP
            await asyncio.sleep(0.01)
    assert await echoes(client)
    client[1].close()


@pytest.mark.parametrize("how", ["stands still", "is ahead of the clock", "was never proved"])
async def test_nobody_stays_connected_on_what_cannot_be_proved(
    world: "World", devices: "Devices", gateways: "Gateways", how: str
) -> None:
    service = await world.device("dev-1", await devices.echo())
    await world.share("dev-1", "ann")
    gateway = await gateways.start(max_staleness_seconds=STALE_SECONDS)
    clients = [await connected(gateway, account, service) for account in ("ann", "owner")]
    world.beating = False
    if how == "is ahead of the clock":
        await world.watermark("1 hour")
    elif how == "was never proved":
        await world.run("delete from permissions.watermark")
    assert all([await is_reset(client) for client in clients])
    for account in ("ann", "owner"):
        refused = await gateway.post(account, service)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "UNAVAILABLE")
    assert (await gateway.post("ann", "no-such-service")).status_code == 403
    assert await gateway.ready() == 503
    world.beating = True
    await gateway.becomes_ready(200)
    again = await connected(gateway, "ann", service)
    again[1].close()


async def test_one_partition_that_stands_still_is_cut_alone(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    address = await devices.echo()
    service = await world.device("dev-1", address)
    other = await world.device("dev-2", address)
    await world.run("update permissions.device set partition = 6 where device_id = 'dev-2'")
    gateway = await gateways.start(max_staleness_seconds=STALE_SECONDS)
    client, bystander = [await connected(gateway, "owner", each) for each in (service, other)]
    world.beating = False
    # From now on, partition 5 is at offset 0 and would have to be at 1.
    await world.run("update permissions.watermark set events_ends[6] = 1, as_of = now() + interval '0'")
    keep = asyncio.create_task(keep_fresh(world))
    assert await is_reset(client)
    assert await echoes(bystander)
    assert await gateway.ready() == 200
    keep.cancel()
    bystander[1].close()


async def keep_fresh(world: "World") -> None:
    while True:
        await world.run("update permissions.watermark set as_of = clock_timestamp()")
        await asyncio.sleep(0.1)


async def test_without_the_database_everything_is_refused_and_then_cut_until_it_is_back(
    world: "World", database: "Database", devices: "Devices", gateways: "Gateways"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    await world.share("dev-1", "ann")
    gateway = await gateways.start(max_staleness_seconds=STALE_SECONDS)
    clients = [await connected(gateway, account, service) for account in ("ann", "owner")]
    admin = await asyncpg.connect(database.dsn())
    try:
        # Ended once, it connects again, and nobody notices.
        await admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'access_gateway'"
        )
        assert (await gateway.post("ann", service)).status_code == 201
        assert all([await echoes(client) for client in clients])
        await admin.execute(f"revoke connect on database {database.name} from access_gateway")
        await admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'access_gateway'"
        )
        async with asyncio.timeout(10):  # what it knows counts until it has seen that its connection is gone
            while (await gateway.post("ann", service)).status_code == 201:  # noqa: ASYNC110 - it is told by the kernel
                await asyncio.sleep(0.01)
        for account, asked in (("ann", service), ("ann", "no-such-service")):
            refused = await gateway.post(account, asked)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "UNAVAILABLE")
        assert await gateway.ready() == 503
        assert all([await is_reset(client) for client in clients])
        await admin.execute(f"grant connect on database {database.name} to access_gateway")
        await gateway.becomes_ready(200)
        again = await connected(gateway, "ann", service)
        # A revoke that came while nobody listened is not lost either.
        await admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'access_gateway'"
        )
        await world.revoke("dev-1")
        assert await is_reset(again)
    finally:
        await admin.close()


READING_THAT_WAITS = """
alter function permissions_api.device_grants_v1 set schema permission_projector;
create function permissions_api.device_grants_v1(service text, at timestamptz)
returns table (
    device_id text, owner_account_id text, device_version bigint, partition integer, quarantined boolean,
    services jsonb, shares jsonb
)
language plpgsql security definer as $$
begin
    return query select * from permission_projector.device_grants_v1($1, $2);
    perform pg_advisory_xact_lock_shared(4711);
end
$$;
grant execute on function permissions_api.device_grants_v1 to permissions_reader;
select pg_advisory_lock(4711);
"""

WAITING = "select count(*) from pg_locks where locktype = 'advisory' and not granted"


async def test_a_grant_that_ends_on_the_way_of_its_own_check_opens_no_port(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    await world.share("dev-1", "ann")
    gateway = await gateways.start()
    await world.run(READING_THAT_WAITS)
    opening = asyncio.create_task(gateway.post("ann", service))
    async with asyncio.timeout(10):
        while not await world.value(WAITING):  # noqa: ASYNC110 - asked of the database
            await asyncio.sleep(0.005)
    # The check has read the grant and its answer is still to come. Now the grant ends, and that is followed.
    followed = asyncio.create_task(gateway.app.store.change(10))
    await world.revoke("dev-1")
    await followed
    await world.run("select pg_advisory_unlock(4711)")
    assert (await opening).status_code == 403
    assert await gateway.metric("gateway_open_ports") == 0


@pytest.mark.timeout(120)
async def test_a_connect_that_races_a_revoke_never_survives_it(
    world: "World", devices: "Devices", gateways: "Gateways"
) -> None:
    address = await devices.echo()
    gateway = await gateways.start()
    outcomes: Counter[str] = Counter()

    began = time.monotonic()
    await gateway.post("nobody", "no-such-service")
    longest = max(0.06, 3 * (time.monotonic() - began))  # a slow machine needs later revokes to have a race

    async def connect(account: str, service: str, delay: float) -> str:
        await asyncio.sleep(random.uniform(0, longest))
        answer = await gateway.post(account, service)
        if answer.status_code != 201:
            assert answer.status_code == 403
            return "denied"
        await asyncio.sleep(delay)
        try:
            client = await gateway.connect(answer.json()["port"])
        except OSError:
            return "port closed"
        try:
            client[1].write(b"x")
            got = 0
            async with asyncio.timeout(15):  # a connection that survives stays open
                while data := await client[0].read(100):
                    got += len(data)
        except ConnectionError:
            pass
        finally:
            client[1].close()
        return "cut"

    async def race(number: int) -> None:
        device, account = f"dev-{number}", f"ann-{number}"
        service = await world.device(device, address)
        await world.share(device, account)

        async def revoke() -> None:
            await asyncio.sleep(random.uniform(0, longest))
            await world.revoke(device)

        outcome, _ = await asyncio.gather(
            connect(account, service, random.choice([0, random.uniform(0, 0.03)])), revoke()
        )
        outcomes[outcome] += 1

    for start in range(0, 500, 10):
        await asyncio.gather(*(race(number) for number in range(start, start + 10)))
    assert outcomes.total() == 500
    assert len(outcomes) >= 2, outcomes
    assert await gateway.metric("gateway_open_connections") == 0
    assert await gateway.metric("gateway_open_ports") == 0


async def test_the_devices_owner_cuts_a_connection_by_hand_and_nobody_else_does(
    world: "World", devices: "Devices", gateways: "Gateways", events: "Events"
) -> None:
    service = await world.device("dev-1", await devices.echo())
    for account in ("ann", "bob"):
        await world.share("dev-1", account)
    gateway = await gateways.start()
    anns, bobs = await connected(gateway, "ann", service), await connected(gateway, "bob", service)
    opened = [event.data for event in await events.take(2) if isinstance(event.data, ConnectionOpened)]
    (path,) = [f"/v1/connections/{event.connection_id}" for event in opened if event.account_id == "bob"]
    for stranger in ("ann", "nobody"):
        refused = await gateway.http.delete(path, headers=gateway.headers(stranger))
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "CONNECTION_NOT_FOUND")
    assert await echoes(bobs)
    assert (await gateway.http.delete(path, headers=gateway.headers("owner"))).status_code == 204
    assert await is_reset(bobs)
    (cut,) = await events.take(1)
    assert isinstance(cut.data, ConnectionCut)
    assert (cut.data.account_id, cut.data.reason) == ("bob", CutReason.BY_HAND)
    assert await echoes(anns)
    again = await connected(gateway, "bob", service)  # it is no revoke
    for client in (again, anns):
        client[1].close()
    assert (await gateway.http.delete(path, headers=gateway.headers("owner"))).status_code == 404
