"""What one GraphQL request knows: who asks, whom it asks, and what is to be said besides the data."""

import asyncio
from dataclasses import dataclass, field

from portal import answers
from portal.access_keys import AccessKeys
from portal.aliases import Aliases
from portal.device_lookups import DeviceLookups
from portal.errors import Refused
from portal.notices import Notifier
from portal.own_changes import OwnChanges
from portal.peers import Gateway, ShareCommand
from portal.read_api import ReadApi
from portal.registry import Registry
from servicekit.http import ApiError

FieldPath = list[str | int]


@dataclass(frozen=True, slots=True)
class Peers:
    """The services behind; ``registry`` is None where devices are named elsewhere."""

    share_command: ShareCommand
    read_api: ReadApi
    gateway: Gateway
    notifier: Notifier
    registry: Registry | None


_EXTENSION_NAMES = {
    "device_id": "deviceId",
    "recipient": "email",
    "service_id": "serviceId",
    "state": "state",
    "version": "version",
    "invitation_version": "invitationVersion",
    "terms": "terms",
    "retry_after_seconds": "retryAfterSeconds",
}


def error_extensions(error: ApiError) -> dict[str, object]:
    """The ``extensions`` of a refusal: its code, and what it is about in the names that clients know."""
    about = {
        name: error.details[key]
        for key, name in _EXTENSION_NAMES.items()
        if error.details.get(key) is not None
    }
    return {"code": error.code, **about}


@dataclass(slots=True)
class Context:
    """One request. ``refusals``, ``warnings`` and ``positions`` fill while it runs."""

    account_id: str
    peers: Peers
    access_keys: AccessKeys
    aliases: Aliases
    own_changes: OwnChanges
    position: str | None = None
    idempotency_key: str | None = None
    refusals: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    warnings: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    positions: list[str] = field(default_factory=list[str])
    _access: dict[str, asyncio.Task[tuple[answers.Access, ...]]] = field(
        default_factory=dict[str, asyncio.Task[tuple[answers.Access, ...]]]
    )
    _aliases: asyncio.Task[dict[str, str]] | None = None
    _me: asyncio.Task[answers.Me] | None = None
    lookups: DeviceLookups = field(init=False)

    def __post_init__(self) -> None:
        self.lookups = DeviceLookups(self.peers.read_api, self.account_id, self.position)

    async def alias_of(self, device_id: str) -> str | None:
        """What the caller calls a device, if he does; read once for the request."""
        if self._aliases is None:
            self._aliases = asyncio.create_task(self.aliases.of(self.account_id))
        return (await self._aliases).get(device_id)

    async def me(self) -> answers.Me:
        """The caller himself, read once for the request."""
        if self._me is None:
            self._me = asyncio.create_task(self.peers.read_api.me(self.account_id))
        return await self._me

    async def access_of(self, device: answers.Device) -> tuple[answers.Access, ...]:
        """All of a device's access list: what came with it, or read once for the request."""
        if device.access_total <= len(device.access):
            return device.access
        if device.device_id not in self._access:
            reading = self.peers.read_api.access(self.account_id, device.device_id)
            self._access[device.device_id] = asyncio.create_task(reading)
        try:
            return await self._access[device.device_id]
        except Refused as error:
            if error.code != "DEVICE_NOT_FOUND":  # taken away just now: what was seen is all
                raise
            return device.access

    def refuse(self, path: FieldPath, error: ApiError) -> None:
        """Answer a refusal beside the data: the field is false and everything else of the answer stays."""
        self.refusals.append({"message": error.message, "path": path, "extensions": error_extensions(error)})

    def warn(self, path: FieldPath, code: str, message: str, **about: str) -> None:
        """Say something about a call that was done."""
        self.warnings.append({"code": code, "message": message, "path": path, **about})
