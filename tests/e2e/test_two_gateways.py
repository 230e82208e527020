"""Two gateways, and a portal that knows both: whoever is connected is cut, wherever he is."""

import dataclasses
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from functools import partial

import httpx
import pytest

from devstack import seed
from devstack.client import Account, RefusedError
from devstack.process import Process, free_port, spawn, stop
from devstack.services import units
from devstack.world import World, until

BOB = seed.RECIPIENT_EMAIL
OPEN = "{ login { connections(open: true, size: 200) { items { id deviceId serviceId user { id } } } } }"
CUT = "mutation($id: String!) { disconnect(connectionId: $id) }"
OF_A_GATEWAY = ("access-gateway", "access", "access-tls", "agent", "rtsp", "rtsps")

Pair = tuple[httpx.AsyncClient, Callable[[], None]]


@pytest.fixture
async def pair(world: World) -> AsyncGenerator[Pair]:
    """A second gateway, as a process, and a portal to which it is its own and the stack's the other one.

    The portal, and what stops the second gateway.
    """
    state, addresses = world.state, world.status.addresses
    ports = {name: int(address.rpartition(":")[2]) for name, address in addresses.items()}
    ports |= {name: free_port() for name in (*OF_A_GATEWAY, "portal")}
    made = {unit.name: unit.process for unit in units(state, ports, state.load_secrets())}

    def process(name: str, **settings: str) -> Process:
        env = {**made[name].env, **{f"LATCHKEY_{key}": value for key, value in settings.items()}}
        return dataclasses.replace(made[name], name=f"{name}-2", env=env, log=state.logs / f"{name}-2.log")

    gateway = process("access-gateway", GATEWAY_ID="gateway-2")
    first = f"http://{addresses['access-gateway']}"
    portal = process("portal", OTHER_GATEWAY_URLS=json.dumps([first]))
    async with AsyncExitStack() as stack:
        ends: list[Callable[[], None]] = []
        for each in (gateway, portal):
            end = partial(stop, spawn(each), each)
            stack.callback(end)
            ends.append(end)

        async def serves(name: str) -> bool:
            try:
                answer = await world.portal.get(f"http://127.0.0.1:{ports[name]}/readyz")
            except httpx.TransportError:
                return False
            return answer.is_success

        for name in ("access-gateway", "portal"):
            await until(partial(serves, name), 60)
        url = f"http://127.0.0.1:{ports['portal']}"
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=30, trust_env=False))
        yield client, ends[0]


async def open_connections(owner: Account, device: str, number: int) -> dict[str, str]:
    """Service → the id of what is open to it, once there are so many."""

    async def seen() -> dict[str, str]:
        items = (await owner.ask(OPEN))["login"]["connections"]["items"]
        here = {item["serviceId"]: item["id"] for item in items if item["deviceId"] == device}
        return here if len(here) == number else {}

    return await until(seen, 40)


async def shared_at_both(world: World, portal: httpx.AsyncClient) -> tuple[str, Account, Account, Account]:
    """A device shared with Bob; its owner at the second portal, and Bob at each."""
    device = await world.device()
    _, bob_at_first = await world.shared(device)
    owner, bob_at_second = [Account(portal, await world.token(email)) for email in (seed.OWNER_EMAIL, BOB)]
    bob_at_second.position = bob_at_first.position
    return device, owner, bob_at_first, bob_at_second


@pytest.mark.timeout(240)
async def test_who_is_connected_is_cut_at_whichever_gateway_he_is(world: World, pair: Pair) -> None:
    portal, _ = pair
    device, owner, bob_at_first, bob_at_second = await shared_at_both(world, portal)
    at_first = await world.open(bob_at_first, f"{device}.1")
    at_second = await world.open(bob_at_second, f"{device}.2")
    found = await open_connections(owner, device, 2)  # both are told in one list

    for stranger in ("cat@example.test", "dan@example.test"):
        with pytest.raises(RefusedError):
            await Account(portal, await world.token(stranger)).ask(CUT, id=found[f"{device}.1"])
    assert (await owner.ask(CUT, id=found[f"{device}.1"])) == {"disconnect": True}
    await at_first.until_closed(10)
    assert await at_second.echo(b"still here") == b"still here"  # one is cut, the other is not
    assert (await owner.ask(CUT, id=found[f"{device}.2"])) == {"disconnect": True}
    await at_second.until_closed(10)
    with pytest.raises(RefusedError) as refusal:  # no gateway has it any more
        await owner.ask(CUT, id=found[f"{device}.2"])
    assert refusal.value.code != "UNAVAILABLE"

    # What is granted stays granted; taken back, it is cut at both.
    at_first = await world.open(bob_at_first, f"{device}.1")
    at_second = await world.open(bob_at_second, f"{device}.2")
    await owner.share(device, BOB, action="REMOVE")
    for connection in (at_first, at_second):
        await connection.until_closed(10)


@pytest.mark.timeout(240)
async def test_a_gateway_that_is_away_keeps_nobody_from_being_cut_at_the_other(
    world: World, pair: Pair
) -> None:
    portal, end_second = pair
    device, owner, bob_at_first, bob_at_second = await shared_at_both(world, portal)
    at_first = await world.open(bob_at_first, f"{device}.1")
    at_second = await world.open(bob_at_second, f"{device}.2")
    found = await open_connections(owner, device, 2)
    end_second()
    await at_second.until_closed(10)
    assert (await owner.ask(CUT, id=found[f"{device}.1"])) == {"disconnect": True}
    await at_first.until_closed(10)
    with pytest.raises(RefusedError) as refusal:  # where it may be does not answer: not "there is none"
        await owner.ask(CUT, id=found[f"{device}.2"])
    assert refusal.value.code == "UNAVAILABLE"
