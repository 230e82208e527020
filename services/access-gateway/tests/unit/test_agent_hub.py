"""The hub: who gets a data connection, and when nobody may."""

import asyncio
from typing import cast

import pytest

from access_gateway.agents.hub import Hub, OfflineError
from access_gateway.agents.peer import DataPeer, Peer
from access_gateway.agents.protocol import Refused
from access_gateway.agents.store import Enrolment


class Connection:
    """A connection of an agent, as far as the hub looks at it."""

    def __init__(self) -> None:
        self.ended = False

    @property
    def usable(self) -> bool:
        return not self.ended

    closed = property(lambda self: self.ended)

    def send(self, message: bytes) -> None: ...

    def end(self, last: bytes = b"") -> None:
        self.ended = True


async def test_a_connection_that_comes_as_its_agent_is_dropped_carries_nothing() -> None:
    """Its key is void: what was given to a session in the same turn must not be used any more."""
    hub = Hub(lambda _: None)
    agent = hub.log_in(Enrolment("dev-1", "owner", b""), "one", cast("Peer", Connection()))
    session = asyncio.create_task(hub.take(agent))
    await asyncio.sleep(0)  # it waits
    late = Connection()
    hub.arrived(agent, cast("DataPeer", late))
    hub.drop(agent, Refused.REFUSED)
    with pytest.raises(OfflineError):
        await session
    assert late.ended
