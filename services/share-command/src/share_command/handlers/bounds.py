"""How much one command, or one bulk, may ask for: what a transaction can do in its time."""

from contracts.commands import (
    AcceptShare,
    AnyCommand,
    ChangeShare,
    RejectShare,
    RemoveRecipient,
    RequestShare,
    ResendInvitation,
)
from contracts.outcomes import BulkShare
from share_command.errors import LimitReached

_MOST_SHARES = 1_000
"""Devices x recipients of one command: more than these would take longer than a transaction may."""

_MOST_ENTRIES = 20_000
"""Recipients x services listed of one command, for the same reason."""

_MOST_BULK = 20_000
"""Devices x recipients of a bulk: what can be answered in one piece."""


def require_bulk_size(order: BulkShare) -> None:
    """Raises LimitReached."""
    if len(set(order.device_ids)) * len(set(order.recipients)) > _MOST_BULK:
        raise LimitReached(f"At most {_MOST_BULK} shares (devices x recipients) go into one bulk.")
    _require_entries(len(set(order.recipients)), len(order.services))


def require_size(command: AnyCommand) -> None:
    """Raises LimitReached."""
    if isinstance(command, AcceptShare | RejectShare | ChangeShare | ResendInvitation | RemoveRecipient):
        return
    devices, recipients = len(set(command.device_ids)), len(set(command.recipients)) or 1
    if devices * recipients > _MOST_SHARES:
        raise LimitReached(
            f"{devices} devices with {recipients} recipients are {devices * recipients} shares; at most "
            f"{_MOST_SHARES} go into one command. Split it into smaller ones, each with an id of its own."
        )
    if isinstance(command, RequestShare):
        _require_entries(recipients, len(command.services))


def _require_entries(recipients: int, services: int) -> None:
    if recipients * services > _MOST_ENTRIES:
        raise LimitReached(
            f"{services} services for {recipients} recipients are too many for one command (at most "
            f"{_MOST_ENTRIES} in all). Split it into smaller ones, each with an id of its own."
        )
