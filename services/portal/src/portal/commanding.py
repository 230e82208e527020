"""How a mutation has a command carried out, and how its refusal is told."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import strawberry
from pydantic import ValidationError

from contracts.base import Order
from portal.context import Context, FieldPath
from portal.errors import InvalidRequest
from portal.sharing import command_id_for
from servicekit.http import ApiError

Info = strawberry.Info[Context, None]

_O = TypeVar("_O", bound=Order)


def path(info: Info) -> FieldPath:
    """Where in the answer the field stands."""
    return info.path.as_list()


def command_id(info: Info) -> str:
    """The id under which this field's command runs once; see `command_id_for`."""
    context = info.context
    return command_id_for(context.account_id, context.idempotency_key, str(info.path.key))


def order(make: Callable[[], _O]) -> _O:
    """What an order says, or why it cannot be one.

    Raises:
        InvalidRequest: naming each argument that cannot be used, and no value.
    """
    try:
        return make()
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors(include_url=False, include_input=False, include_context=False)
        )
        raise InvalidRequest(f"This cannot be used: {problems}") from None


async def taken(info: Info, asked: Awaitable[str]) -> bool:
    """Whether a command was durably taken; a refusal is answered beside the data."""
    try:
        positions = await asked
    except ApiError as error:
        info.context.refuse(path(info), error)
        return False
    if positions:
        info.context.positions.append(positions)
    return True


async def sent(info: Info, make: Callable[[], _O], send: Callable[[_O], Awaitable[str]]) -> bool:
    """Make an order, have it carried out; false, with the refusal beside the data, when that is refused."""

    async def asked() -> str:
        return await send(order(make))

    return await taken(info, asked())
