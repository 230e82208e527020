"""What became, or would become, of each share that a command is about."""

from collections.abc import Mapping
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from contracts.base import AccountId, Fact, Moment, Order
from contracts.commands import DeviceIds, Message, Recipients, ServiceChange
from contracts.permissions import Permissions, PermissionSet
from contracts.positions import PositionField

OperationId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x2e\x30-\x7e]{1,60}$")]
"""The idempotency key of a bulk: 1 to 60 visible ASCII characters other than ``/``."""

EffectivePermissions = Literal["all"] | Permissions
"""What may be done on a service, scripting among it; ``"all"``: what it supports, which is not known here."""

Outcome = Literal[
    "requested",
    "accepted",
    "changed",
    "resent",
    "rejected",
    "left",
    "revoked",
    "expired",
    "unchanged",
    "refused",
]


class BulkShare(Order):
    """Every device shared with every recipient, each pair by itself: the outcome of one is not another's.

    The fields mean what they mean in `contracts.commands.RequestShare`. Each device is one transaction, with
    the command id ``<operation_id>/<device_id>``. The same operation again goes on where it stopped, doubles
    nothing, and gives the same outcomes; with another body it is refused with ``IDEMPOTENCY_CONFLICT``.
    """

    operation_id: OperationId
    actor: AccountId
    device_ids: DeviceIds
    recipients: Recipients
    services: Annotated[tuple[ServiceChange, ...], Field(max_length=1000)] = ()
    permissions: PermissionSet = "all"
    scripting: bool | None = None
    notify: bool = True
    starts_at: Moment | None = None
    ends_at: Moment | None = None
    expires_at: Moment | None = None
    message: Message | None = None


class ItemOutcome(Fact):
    """One device with one recipient, both as the caller wrote them.

    ``accepted`` for a request means that the recipient accepts whatever this owner shares. ``code`` and
    ``message`` are set when it was refused.
    """

    device_id: str
    recipient: str | None = None
    outcome: Outcome
    share_id: UUID | None = None
    service_id: str | None = None
    code: str | None = None
    message: str | None = None


class BulkDone(Fact):
    """Every pair has an outcome. ``positions`` are where the devices' streams stand now."""

    operation_id: str
    items: tuple[ItemOutcome, ...]
    positions: tuple[PositionField, ...] = ()


class ItemExplanation(ItemOutcome):
    """What would become of one share: its state, and what it gives on each service, before and after.

    The permissions are those of the terms: a ``requested`` share gives them once it is accepted, and within
    its start and end.
    """

    state_before: str | None = None
    state_after: str | None = None
    permissions_before: Mapping[str, EffectivePermissions] = {}
    permissions_after: Mapping[str, EffectivePermissions] = {}


class Explanation(Fact):
    """What a command would do now; nothing was done. ``code`` and ``message``: why it would be refused."""

    would_be_accepted: bool
    items: tuple[ItemExplanation, ...] = ()
    code: str | None = None
    message: str | None = None
