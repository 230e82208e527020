"""The HTTP API for a device's owner: codes with which an agent is enrolled, and its removal."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import TypeAdapter, ValidationError

from access_gateway.agents.store import AgentStore, NotTheirsError, StoreUnavailableError
from access_gateway.errors import DeviceNotFoundError, RateLimitedError, UnavailableError
from access_gateway.limits import RefusalLimiter
from contracts.base import Fact, Id, Order
from servicekit.auth import InternalCallers

_DEVICE_ID: TypeAdapter[str] = TypeAdapter(Id)


class AgentCodeOrder(Order):
    """For which device."""

    device_id: Id


class AgentCode(Fact):
    """What the owner types where the agent runs. It can be used once, until ``expires_at``."""

    device_id: str
    code: str
    expires_at: datetime
    gateways: tuple[str, ...]
    """Where the agent can dial, ``host:port``."""


def router(store: AgentStore, gateways: Callable[[], Sequence[str]], internal_keys: str) -> APIRouter:
    """``/v1/agent-codes`` and ``/v1/agents``, for trusted callers that name the acting account."""
    callers = Depends(InternalCallers(internal_keys, "access-gateway"))
    routes = APIRouter(prefix="/v1")
    # Codes as much as refusals: nobody needs many of either.
    limiter = RefusalLimiter(burst=30, forgive_seconds=2.0)

    def counted(account_id: str) -> None:
        now = time.monotonic()
        if wait := limiter.blocked_for(account_id, now):
            raise RateLimitedError("You ask too often. Wait before you try again.", wait)
        limiter.refused(account_id, now)

    async def create_agent_code(body: AgentCodeOrder, account_id: Annotated[str, callers]) -> AgentCode:
        """Make a one-time code; an older one of the device is void."""
        counted(account_id)
        try:
            made = await store.create_code(body.device_id, account_id)
        except NotTheirsError:
            raise DeviceNotFoundError from None
        except StoreUnavailableError:
            raise UnavailableError("No code can be made now.") from None
        return AgentCode(
            device_id=body.device_id,
            code=made.code,
            expires_at=made.expires_at,
            gateways=tuple(gateways()),
        )

    async def remove_agent(device_id: str, account_id: Annotated[str, callers]) -> None:
        """Void the key and any code of a device, and cut what runs through its agent."""
        counted(account_id)
        try:
            await store.remove(_DEVICE_ID.validate_python(device_id), account_id)
        except (NotTheirsError, ValidationError):
            raise DeviceNotFoundError from None
        except StoreUnavailableError:
            raise UnavailableError("The agent cannot be removed now.") from None

    routes.add_api_route("/agent-codes", create_agent_code, methods=["POST"], status_code=201)
    routes.add_api_route("/agents/{device_id}", remove_agent, methods=["DELETE"], status_code=204)
    return routes
