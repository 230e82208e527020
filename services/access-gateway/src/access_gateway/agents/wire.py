"""The door for agents: enrols them, logs them in, and keeps what they dial back until a session takes it."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from access_gateway import metrics
from access_gateway.agents import protocol
from access_gateway.agents.hub import Hub
from access_gateway.agents.peer import DataPeer, Peer
from access_gateway.agents.protocol import Code, Data, Enrol, Lines, Login, MalformedError, Refused
from access_gateway.agents.store import AgentStore, NotTheirsError, StoreUnavailableError
from access_gateway.clients import TlsClient
from access_gateway.limits import RefusalLimiter
from servicekit.logging import get_logger

log = get_logger(__name__)

_RETRY_SECONDS: Final = 5.0


class _RefusedError(Exception):
    def __init__(self, code: Refused, retry_seconds: float = 0.0) -> None:
        super().__init__(code)
        self.code, self.retry_seconds = code, retry_seconds


class AgentDoor:
    """Serves the connections that agents make. ``gateways`` tells where agents can log in now; ``doubt`` has
    an agent that is logged in judged again.
    """

    def __init__(
        self,
        hub: Hub,
        store: AgentStore,
        *,
        gateway_id: str,
        gateways: Callable[[], Sequence[str]],
        doubt: Callable[[str], None],
    ) -> None:
        self._hub, self._store, self._doubt = hub, store, doubt
        self._gateway_id, self._gateways = gateway_id, gateways
        self._limiter = RefusalLimiter(burst=10)

    async def serve(self, client: TlsClient) -> None:
        """One connection, from its first line to its end. Until it is admitted, the door limits its time."""
        try:
            # Before anything is looked up: guessing is slow, however many connections it uses.
            if wait := self._limiter.blocked_for(client.origin, time.monotonic()):
                raise _RefusedError(Refused.RATE_LIMITED, wait)
            lines = Lines()
            match await self._first(client, lines):
                case None:
                    return
                case Data(token=token):
                    await self._data(client, lines, token)
                case hello:
                    await self._control(client, lines, hello)
        except MalformedError:
            await self._refuse(client, _RefusedError(Refused.MALFORMED))
        except _RefusedError as error:
            await self._refuse(client, error)

    async def _first(self, client: TlsClient, lines: Lines) -> protocol.First | None:
        while (line := lines.next()) is None:
            data = await client.receive()
            if not data:
                return None
            lines.feed(data)
        return protocol.read_first(line)

    async def _refuse(self, client: TlsClient, error: _RefusedError) -> None:
        metrics.AGENTS_REFUSED.labels(reason=error.code.value).inc()
        if error.code in {Refused.REFUSED, Refused.MALFORMED}:
            await asyncio.sleep(self._limiter.refused(client.origin, time.monotonic()))
        await client.send(protocol.refusal(error.code, error.retry_seconds))
        await client.close()

    async def _control(self, client: TlsClient, lines: Lines, hello: Enrol | Login) -> None:
        if hello.protocol != protocol.PROTOCOL:
            raise _RefusedError(Refused.UNSUPPORTED_PROTOCOL)
        try:
            if isinstance(hello, Enrol):
                enrolment = await self._store.enrol(Code(hello.code), hello.key)
                log.info("agent_enrolled", device_id=enrolment.device_id)
            else:
                enrolment = await self._store.log_in(hello.device_id, hello.key)
        except (NotTheirsError, MalformedError):  # a code that cannot be one is a wrong one
            raise _RefusedError(Refused.REFUSED) from None
        except StoreUnavailableError:
            raise _RefusedError(Refused.UNAVAILABLE, _RETRY_SECONDS) from None
        client.admit()
        welcome = protocol.welcome(enrolment.device_id, self._gateway_id, self._gateways())
        if isinstance(hello, Enrol):
            await client.send(welcome)
            await client.close()
            return
        control = Peer(client, lines)
        control.send(welcome)
        agent = self._hub.log_in(enrolment, hello.instance, control)
        self._doubt(agent.device_id)  # what changed while the answer was on its way found nobody logged in
        self._hub.refill(agent)

        def heard(line: bytes) -> None:
            protocol.read_ping(line)
            agent.heard = time.monotonic()
            control.send(protocol.pong())

        try:
            await control.run(heard)
        finally:
            self._hub.drop(agent)

    async def _data(self, client: TlsClient, lines: Lines, token: str) -> None:
        agent = self._hub.claim(token)
        if agent is None:
            raise _RefusedError(Refused.REFUSED)
        client.admit()
        peer = DataPeer(client, lines, agent.control, token)
        self._hub.arrived(agent, peer)
        await peer.run(peer.answered)
