"""Who is refused is known by his source: of an IPv6 host, the network that it chooses its addresses from."""

import asyncio
import base64
import json
from collections import Counter
from ipaddress import ip_address
from typing import Any, cast

from access_gateway.agents.hub import Hub
from access_gateway.agents.store import AgentStore, NotTheirsError
from access_gateway.agents.wire import AgentDoor
from access_gateway.audit import Audit
from access_gateway.clients import Inflow, TlsClient
from access_gateway.people import People
from access_gateway.protocols.access import Reception
from access_gateway.refusals import Refusals
from servicekit.http import ApiError

ADDRESSES = [f"2001:db8::{number:x}" for number in range(1, 251)]
ELSEWHERE = "2001:db8:0:1::1"


class Wire(asyncio.Transport):
    """Keeps what is written; its other end closes when it is told to."""

    def __init__(self, inflow: Inflow) -> None:
        super().__init__()
        self.said = b""
        self._inflow = inflow

    def write(self, data: Any) -> None:
        self.said += data

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        self._inflow.connection_lost(None)

    def abort(self) -> None: ...


class Nobody:
    """Knows nobody, and counts who asks."""

    def __init__(self) -> None:
        self.asked = 0

    async def log_in(self, _device_id: str, _key: str) -> None:
        self.asked += 1
        raise NotTheirsError

    async def account_of(self, _token: str) -> str:
        self.asked += 1
        raise ApiError("UNAUTHENTICATED", 401, "Who is that?")


def come(address: str) -> tuple[TlsClient, Wire]:
    inflow = Inflow()
    wire = Wire(inflow)
    return TlsClient(ip_address(address), wire, inflow), wire


async def test_who_guesses_keys_from_many_addresses_of_his_is_put_off() -> None:
    store = Nobody()
    door = AgentDoor(
        Hub(lambda _: None),
        cast("AgentStore", store),
        gateway_id="gw-1",
        gateways=list[str],
        doubt=lambda _: None,
    )
    key = base64.urlsafe_b64encode(bytes(32)).decode()[:43]
    login = {"type": "login", "protocol": 1, "device_id": "dev-1", "key": key, "instance": "one"}

    async def guess(address: str) -> str:
        client, wire = come(address)
        client.unread(json.dumps(login).encode() + b"\n")
        await door.serve(client)
        return json.loads(wire.said)["code"]

    told = Counter(await asyncio.gather(*(guess(address) for address in ADDRESSES)))
    assert told == {"REFUSED": 10, "RATE_LIMITED": 240}
    assert store.asked == 10
    assert await guess(ELSEWHERE) == "REFUSED"


async def test_who_guesses_tokens_from_many_addresses_of_his_is_put_off() -> None:
    people = Nobody()
    audit = Audit(bootstrap="", topic_prefix="", gateway_id="gw-1", backlog=1)
    reception = Reception(
        cast("People", people), Refusals(audit, gateway_id="gw-1"), connections_per_account=1
    )

    async def guess(address: str) -> str:
        try:
            return await reception.admit(come(address)[0], "token")
        except ApiError as error:
            return error.code

    told = Counter(await asyncio.gather(*(guess(address) for address in ADDRESSES)))
    assert told == {"UNAUTHENTICATED": 200, "RATE_LIMITED": 50}
    assert people.asked == 200
    assert await guess(ELSEWHERE) == "UNAUTHENTICATED"
