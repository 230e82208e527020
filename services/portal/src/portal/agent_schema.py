"""Agents of devices behind a NAT in GraphQL. Not in remote.it's schema."""

from datetime import datetime

import strawberry

from portal.commanding import Info, path
from portal.errors import Refused
from servicekit.http import ApiError


@strawberry.type(description="A one-time code that enrols an agent.")
class AgentCode:
    """The only answer that has the code."""

    code: str = strawberry.field(description="What `latchkey-agent.py --code` takes, once.")
    expires: datetime
    gateways: list[str] = strawberry.field(description="What `latchkey-agent.py --gateway` takes: HOST:PORT.")


@strawberry.type
class AgentMutations:
    """What an owner does with the agent of a device."""

    @strawberry.mutation(
        description="Make a one-time code with which the device's owner enrols an agent. From its use on the "
        "device is reached through that agent only; an agent before it is void."
    )
    async def create_agent_code(self, info: Info, device_id: str) -> AgentCode | None:
        """Null, with the refusal beside it, unless the caller owns the device."""
        context = info.context
        try:
            made = await context.peers.gateway.create_agent_code(context.account_id, device_id)
        except Refused as error:
            context.refuse(path(info), error)
            return None
        return AgentCode(code=made.code, expires=made.expires_at, gateways=list(made.gateways))

    @strawberry.mutation(
        description="Remove the device's agent: its key is void and what runs through it is cut, at once. "
        "True also when it has none."
    )
    async def remove_agent(self, info: Info, device_id: str) -> bool:
        """False, with the refusal beside it, unless the caller owns the device."""
        context = info.context
        try:
            await context.peers.gateway.remove_agent(context.account_id, device_id)
        except ApiError as error:
            context.refuse(path(info), error)
            return False
        return True
