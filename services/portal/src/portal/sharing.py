"""Pure: what the ``share`` mutation of remote.it's clients means as one command of ours.

| action | services | command |
|---|---|---|
| ADD | absent or null | RequestShare of every service, those added later included |
| ADD | listed | RequestShare with an entry for each, in order, added or removed as the entry says |
| REMOVE | absent or null | RevokeShare: the share ends, scripting included |
| REMOVE | listed | RequestShare that takes each of them out, whatever the entry says |
| LEAVE | absent or null | LeaveShare; without an address, of all that the caller's addresses gave him |
| LEAVE | listed | refused: a share is left as a whole |

An empty list of services is refused: a script that computed it must not share, or end, everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid5

from pydantic import ValidationError

from contracts.base import new_id
from contracts.commands import AnyCommand, LeaveShare, RequestShare, RevokeShare
from contracts.permissions import PermissionSet


class SharingAction(Enum):
    """What to do with a share or with a service of it."""

    ADD = "ADD"
    REMOVE = "REMOVE"
    LEAVE = "LEAVE"


@dataclass(frozen=True, slots=True)
class ServiceEntry:
    """One service of a call and what is to become of it."""

    service_id: str
    action: SharingAction = SharingAction.ADD
    permissions: PermissionSet | None = None

    def as_order(self, common: PermissionSet, *, remove: bool = False) -> dict[str, Any]:
        """What a `contracts.commands.ServiceChange` is made of; ``common`` are the call's permissions."""
        if remove or self.action is not SharingAction.ADD:
            return {"service_id": self.service_id, "action": "REMOVE"}
        return {
            "service_id": self.service_id,
            "permissions": common if self.permissions is None else self.permissions,
        }


@dataclass(frozen=True, slots=True)
class ShareCall:
    """The arguments of one call, with null already read as the default.

    ``services`` None means that none were listed; ``scripting`` None that it was not given.
    """

    device_ids: tuple[str, ...]
    emails: tuple[str, ...]
    services: tuple[ServiceEntry, ...] | None = None
    scripting: bool | None = None
    notify: bool = True
    action: SharingAction = SharingAction.ADD
    permissions: PermissionSet | None = None
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    expires_at: datetime | None = None
    message: str | None = None


class UnusableCallError(ValueError):
    """A call that means no command. ``code`` is stable; the ids are those that are wrong, as written."""

    def __init__(
        self,
        message: str,
        *,
        code: Literal["INVALID_REQUEST", "LIMIT_REACHED"] = "INVALID_REQUEST",
        device_id: str | None = None,
        service_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.code = message, code
        self.device_id, self.service_id = device_id, service_id


def command_id_for(account_id: str, key: str | None, field: str) -> str:
    """The id under which a command runs once.

    With an idempotency key of the client it is the same for the same account, key and field of the document;
    one account cannot meet another's. Without a key it is new.
    """
    return str(new_id() if key is None else uuid5(NAMESPACE_URL, f"latchkey:{account_id}\n{field}\n{key}"))


def to_command(call: ShareCall, *, actor: str, command_id: str) -> AnyCommand:
    """The one command that a call means.

    Raises:
        UnusableCallError: nothing or too much is named, an id is none, or arguments contradict each other.
    """
    _check(call)
    whom: dict[str, Any] = {
        "command_id": command_id,
        "actor": actor,
        "device_ids": tuple(dict.fromkeys(call.device_ids)),
        "recipients": call.emails,
    }
    try:
        if call.action is SharingAction.LEAVE:
            return LeaveShare(**whom)
        if call.action is SharingAction.REMOVE and call.services is None:
            return RevokeShare(**whom)
        removing = call.action is SharingAction.REMOVE
        common = "all" if call.permissions is None else call.permissions
        return RequestShare.model_validate(
            {
                **whom,
                "services": [entry.as_order(common, remove=removing) for entry in call.services or ()],
                "permissions": common,
                "scripting": None if removing else call.scripting,
                "notify": call.notify,
                "starts_at": call.starts_at,
                "ends_at": call.ends_at,
                "expires_at": call.expires_at,
                "message": call.message,
            }
        )
    except ValidationError as error:
        raise _unusable(call, error) from None


def undone_services(services: Sequence[ServiceEntry]) -> list[str]:
    """Services that a call adds and then takes out again; it most likely means something else."""
    added: set[str] = set()
    undone: dict[str, None] = {}
    for entry in services:
        if entry.action is SharingAction.ADD:
            added.add(entry.service_id)
            undone.pop(entry.service_id, None)
        elif entry.service_id in added:
            undone[entry.service_id] = None
    return list(undone)


def _check(call: ShareCall) -> None:
    if not call.device_ids:
        raise UnusableCallError("Name at least one device in deviceId or deviceIds.")
    if not call.emails and call.action is not SharingAction.LEAVE:
        raise UnusableCallError("Name at least one address in email.")
    given = (call.permissions, call.starts_at, call.ends_at, call.expires_at, call.message)
    if call.action is not SharingAction.ADD and any(value is not None for value in given):
        raise UnusableCallError(
            f"permissions, startsAt, endsAt, expiresAt and message belong to ADD, not to {call.action.value}."
        )
    if call.services is None:
        return
    if not call.services:
        raise UnusableCallError("services is empty. Leave it out to mean every service, or list some.")
    if call.action is SharingAction.LEAVE:
        raise UnusableCallError("A share is left as a whole: send LEAVE without services.")
    for entry in call.services:
        if entry.action is SharingAction.LEAVE:
            raise UnusableCallError(
                "A single service cannot be left. Send LEAVE as the action of the whole call.",
                service_id=entry.service_id,
            )


def _unusable(call: ShareCall, error: ValidationError) -> UnusableCallError:
    """Say in the caller's words what the command's own rules found."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field, *rest = first["loc"]
    index = rest[0] if rest and isinstance(rest[0], int) else None
    if first["type"] == "too_long":
        return UnusableCallError(f"Too many in {field}: at most 1000 in one call.", code="LIMIT_REACHED")
    if field == "device_ids" and index is not None:
        return UnusableCallError(
            "A device id has 1 to 64 characters of A-Za-z0-9:._-",
            device_id=tuple(dict.fromkeys(call.device_ids))[index],
        )
    if field == "services" and index is not None and call.services is not None:
        return UnusableCallError(
            "A service id has 1 to 64 characters of A-Za-z0-9:._-",
            service_id=call.services[index].service_id,
        )
    return UnusableCallError(f"{field}: {first['msg']}")
