"""What can be done with a device itself: the owner names it, a recipient calls it what he likes."""

from typing import Final

import strawberry

from portal.commanding import Info, path
from portal.errors import Forbidden, InvalidRequest, Unavailable
from servicekit.http import ApiError

_MAX_NAME: Final = 200


@strawberry.type
class DeviceMutations:
    """Names."""

    @strawberry.mutation(
        description="Give a device of the caller's own another name, at the registry that it belongs to. "
        "FORBIDDEN for whom it is shared with: see `setDeviceAlias`."
    )
    async def rename_device(self, info: Info, device_id: str, name: str) -> bool:
        """By the owner alone; it shows once the registry has told of it."""
        context = info.context
        try:
            wanted = _words(name, _MAX_NAME)
            if not wanted:
                raise InvalidRequest("A device must have a name.")
            device = await context.peers.read_api.device(context.account_id, device_id, context.position)
            if not device.owned:
                raise Forbidden("Only the owner names a device.")
            if context.peers.registry is None:
                raise Unavailable("Devices are not renamed here, but at the registry that they belong to.")
            await context.peers.registry.rename(device_id, context.account_id, wanted)
        except ApiError as error:
            context.refuse(path(info), error)
            return False
        return True

    @strawberry.mutation(
        description="Call a device that is shared with the caller what he likes; nobody else sees it. "
        "An empty alias: call it by its name again."
    )
    async def set_device_alias(self, info: Info, device_id: str, alias: str) -> bool:
        """Of devices that the caller sees."""
        context = info.context
        try:
            wanted = _words(alias, _MAX_NAME)
            if wanted:
                await context.peers.read_api.device(context.account_id, device_id, context.position)
                await context.aliases.set(context.account_id, device_id, wanted)
            else:
                await context.aliases.forget(context.account_id, device_id)
            await context.own_changes.tell(context.account_id, "devices", device_id)
        except ApiError as error:
            context.refuse(path(info), error)
            return False
        return True


def _words(text: str, most: int) -> str:
    """One line without control characters or white space around it."""
    line = " ".join(text.split())
    if len(line) > most or any(ord(character) < 32 or ord(character) == 127 for character in line):
        raise InvalidRequest(f"A name is one line of at most {most} characters.")
    return line
