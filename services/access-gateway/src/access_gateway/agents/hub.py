"""The agents that are logged in at this gateway, and the data connections that they have dialled back.

Nothing is multiplexed: each session has a data connection of its own. One waits ready, so that a session
need not be dialled back for; when it is taken, the next one is asked for.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from access_gateway import metrics
from access_gateway.agents import protocol
from access_gateway.agents.peer import DataPeer, Peer
from access_gateway.agents.protocol import SILENT_SECONDS, Refused
from access_gateway.agents.store import Enrolment
from servicekit.logging import get_logger

log = get_logger(__name__)

WARM: Final = 1
"""Data connections that wait ready for each agent."""
_MOST_ASKED: Final = 64
"""Data connections that an agent may owe; more are asked for as they come."""
_MOST_WAITING: Final = 512
"""Sessions that may wait for an agent to dial back."""
_TOKEN_SECONDS: Final = 15.0
_SWEEP_SECONDS: Final = 5.0


class OfflineError(Exception):
    """The device has no agent here, or one that does not dial back."""


@dataclass(eq=False)
class Agent:
    """One logged-in agent."""

    enrolment: Enrolment
    instance: str
    control: Peer
    heard: float = field(default_factory=time.monotonic)
    gone: bool = False
    asked: dict[str, float] = field(default_factory=dict[str, float])
    """Tokens of data connections that have not come, and when they were asked for."""
    warm: deque[DataPeer] = field(default_factory=deque[DataPeer])
    waiting: deque[asyncio.Future[DataPeer]] = field(default_factory=deque[asyncio.Future[DataPeer]])
    carrying: set[DataPeer] = field(default_factory=set[DataPeer])

    @property
    def device_id(self) -> str:
        """Whose agent it is."""
        return self.enrolment.device_id


class Hub:
    """Who is logged in. ``changed`` is told each device whose agent comes or goes."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._agents: dict[str, Agent] = {}
        self._tokens: dict[str, Agent] = {}

    @property
    def devices(self) -> Sequence[str]:
        """The devices whose agents are logged in here."""
        return list(self._agents)

    def log_in(self, enrolment: Enrolment, instance: str, control: Peer) -> Agent:
        """A new login; it evicts the one before it, which is stale or a stranger's."""
        before = self._agents.get(enrolment.device_id)
        agent = Agent(enrolment, instance, control)
        if before is not None and before.instance == instance:
            # The same agent on another way, or back before its loss was noticed: its sessions go on.
            agent.carrying, before.carrying = before.carrying, set()
            for connection in agent.carrying:
                connection.control = control
            self.drop(before, Refused.REPLACED)
        elif before is not None:
            self.drop(before, Refused.EVICTED)
        self._agents[agent.device_id] = agent
        metrics.AGENTS.set(len(self._agents))
        self._changed(agent.device_id)
        log.info("agent_logged_in", device_id=agent.device_id)
        return agent

    def drop(self, agent: Agent, why: Refused | None = None) -> None:
        """End an agent's connections and sessions, once; ``why`` is what it is told."""
        if agent.gone:
            return
        agent.gone = True
        if self._agents.get(agent.device_id) is agent:
            del self._agents[agent.device_id]
        metrics.AGENTS.set(len(self._agents))
        for token in agent.asked:
            self._tokens.pop(token, None)
        for connection in [*agent.warm, *agent.carrying]:
            connection.end()
        for waiter in agent.waiting:
            if not waiter.done():
                waiter.set_exception(OfflineError())
        agent.control.end(b"" if why is None else protocol.refusal(why))
        self._changed(agent.device_id)
        log.info("agent_gone", device_id=agent.device_id, reason=why and why.value)

    def of(self, device_id: str) -> Agent | None:
        """The device's agent, if it is logged in here."""
        return self._agents.get(device_id)

    def claim(self, token: str) -> Agent | None:
        """Whose data connection a token is for; it can be used once."""
        agent = self._tokens.pop(token, None)
        if agent is not None:
            del agent.asked[token]
        return agent

    def arrived(self, agent: Agent, connection: DataPeer) -> None:
        """A data connection is there: for the session that waits longest, else for the next one."""
        if agent.gone:
            connection.end()
            return
        while agent.waiting:
            waiter = agent.waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        agent.warm.append(connection)

    async def take(self, agent: Agent) -> DataPeer:
        """A data connection for one session; it ends with the agent.

        Raises:
            OfflineError: too many wait for the agent, or it goes.
        """
        if agent.gone:
            raise OfflineError
        while agent.warm:
            connection = agent.warm.popleft()
            if connection.usable:
                break
        else:
            agent.waiting = deque(each for each in agent.waiting if not each.done())
            if len(agent.waiting) >= _MOST_WAITING:
                raise OfflineError
            waiter: asyncio.Future[DataPeer] = asyncio.get_running_loop().create_future()
            agent.waiting.append(waiter)
            self.refill(agent)
            try:
                connection = await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                    self.arrived(agent, waiter.result())
                raise
            if agent.gone:  # in the turn in which it came
                connection.end()
                raise OfflineError
        agent.carrying = {each for each in agent.carrying if not each.closed} | {connection}
        self.refill(agent)
        return connection

    def refill(self, agent: Agent) -> None:
        """Ask for as many data connections as sessions wait for, and for those that are to be kept ready."""
        waiting = sum(not waiter.done() for waiter in agent.waiting)
        if agent.gone:
            return
        while len(agent.asked) + len(agent.warm) < waiting + WARM and len(agent.asked) < _MOST_ASKED:
            token = protocol.new_token()
            agent.asked[token] = time.monotonic()
            self._tokens[token] = agent
            agent.control.send(protocol.open_data(token))

    def tell_gateways(self, addresses: Sequence[str]) -> None:
        """Tell all agents which gateways there are."""
        for agent in self._agents.values():
            agent.control.send(protocol.gateways(addresses))

    async def sweep(self) -> None:
        """Forget, for ever, what does not come, and drop whom nobody has heard of for too long."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = time.monotonic()
            for agent in list(self._agents.values()):
                agent.carrying = {each for each in agent.carrying if not each.closed}
                agent.warm = deque(each for each in agent.warm if each.usable)
                if now - agent.heard > SILENT_SECONDS:
                    self.drop(agent)
                for token in [each for each, asked in agent.asked.items() if now - asked > _TOKEN_SECONDS]:
                    del agent.asked[token]
                    del self._tokens[token]
                self.refill(agent)

    def close(self) -> None:
        """End everything; the agents go elsewhere, or come back."""
        for agent in list(self._agents.values()):
            self.drop(agent)
