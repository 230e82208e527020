"""What somebody asks of share-command (topic ``share.commands``), and its answer (``share.command-results``).

``command_id`` is the idempotency key on every way in: the same id again gives the same answer and no new
event; the same id with another body is refused with ``IDEMPOTENCY_CONFLICT``.
"""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from contracts.base import AccountId, CommandId, Fact, Id, Order
from contracts.permissions import PermissionSet
from contracts.positions import PositionField

DeviceIds = Annotated[tuple[Id, ...], Field(min_length=1, max_length=1000)]
"""Devices meant. The id of a service stands for that one service of its device."""

Recipients = Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)]
"""Addresses as typed; share-command makes them canonical and refuses what is none."""


class Command(Order):
    """Common to all. ``actor`` is the account that asks; over HTTP it is taken from the caller's token."""

    command_id: CommandId
    actor: AccountId


class ServiceChange(Order):
    """One service added to a share or taken out of it."""

    service_id: Id
    action: Literal["ADD", "REMOVE"] = "ADD"
    permissions: PermissionSet = "all"


class RequestShare(Command):
    """Invite contacts to devices, or change what they were invited to: a delta to the present state.

    Without ``services`` every service is shared, those added later included, with ``permissions``. With
    ``services`` the entries are applied in order to what is shared now; services not listed stay as they are.
    ``scripting`` absent leaves it as it is (a new share has none). All devices and recipients, or none.
    """

    device_ids: DeviceIds
    recipients: Recipients
    services: Annotated[tuple[ServiceChange, ...], Field(max_length=1000)] = ()
    permissions: PermissionSet = "all"
    scripting: bool | None = None
    notify: bool = True


class AcceptShare(Command):
    """Accept an invitation, as the terms were at ``invitation_version``."""

    device_id: Id
    share_id: UUID
    invitation_version: Annotated[int, Field(ge=1)]


class RejectShare(Command):
    """Refuse an invitation."""

    device_id: Id
    share_id: UUID


class RevokeShare(Command):
    """End the shares of devices with recipients.

    By a recipient who names an address of his own this is a `LeaveShare`.
    """

    device_ids: DeviceIds
    recipients: Recipients


class LeaveShare(Command):
    """Give shared devices back. An address in ``recipients`` must be the actor's own; empty means his."""

    device_ids: DeviceIds
    recipients: Annotated[tuple[str, ...], Field(max_length=1000)] = ()


AnyCommand = RequestShare | AcceptShare | RejectShare | RevokeShare | LeaveShare


class CommandAccepted(Fact):
    """The command was decided and is durable. ``positions`` are where its devices' streams stand now."""

    command_id: CommandId
    positions: tuple[PositionField, ...] = ()


class CommandRefused(Fact):
    """Nothing was changed. ``code`` is stable; ``message`` says what was wrong and what to do.

    ``command_id`` is absent when the message was too broken to have one. The last three name what was
    refused, as the caller wrote it.
    """

    command_id: CommandId | None = None
    code: str
    message: str
    device_id: str | None = None
    service_id: str | None = None
    recipient: str | None = None


AnyCommandResult = CommandAccepted | CommandRefused
