"""How shares end, or become less, without anybody's command: by time, and with what they are of. Pure."""

from datetime import datetime
from typing import TypedDict
from uuid import UUID

from contracts.events import (
    AnyShareEvent,
    ChangeReason,
    RevokeReason,
    ShareChanged,
    ShareExpired,
    ShareRevoked,
)
from contracts.permissions import PermissionSet, SomeServices
from share_command.domain.share import Device, Share, due_at


class Common(TypedDict):
    """The fields that every share event has."""

    share_id: UUID
    device_id: str
    contact_id: UUID
    owner_account_id: str


def common(share: Share) -> Common:
    """What every event of the share says."""
    return {
        "share_id": share.share_id,
        "device_id": share.device_id,
        "contact_id": share.contact_id,
        "owner_account_id": share.owner_account_id,
    }


def revoked(share: Share, reason: RevokeReason = RevokeReason.BY_OWNER) -> ShareRevoked:
    """The share is taken back."""
    return ShareRevoked(**common(share), reason=reason, account_id=share.account_id)


def overdue(share: Share, now: datetime) -> ShareExpired | None:
    """What time did to the share: its end, or that of its invitation, has come."""
    due = due_at(share)
    return (
        ShareExpired(**common(share), account_id=share.account_id) if due is not None and due <= now else None
    )


def follow_device(  # noqa: PLR0911 - one for each thing that may have become of the device
    share: Share, device: Device | None, now: datetime
) -> AnyShareEvent | None:
    """What becomes of a share with its device as the directory has it now; None: it stays as it is.

    A device that is gone, or another's, ends it; so does the loss of the last service that it lists. A share
    of all services goes on with what there is.
    """
    if not share.live:
        return None
    expired = overdue(share, now)
    if expired is not None:
        return expired
    if device is None:
        return revoked(share, RevokeReason.DEVICE_REMOVED)
    if device.owner_account_id != share.owner_account_id:
        return revoked(share, RevokeReason.OWNERSHIP_TRANSFERRED)
    if not isinstance(share.terms.scope, SomeServices):
        return None
    listed = share.terms.scope.services
    left: dict[str, PermissionSet] = {
        service_id: chosen for service_id, chosen in listed.items() if service_id in device.services
    }
    if not left:
        return revoked(share, RevokeReason.SERVICE_REMOVED)
    if len(left) == len(listed):
        return None
    return ShareChanged(
        **common(share),
        state="active" if share.state == "active" else "requested",
        terms=share.terms.model_copy(update={"scope": SomeServices(services=left)}),
        notify=False,
        expires_at=share.expires_at,
        reason=ChangeReason.SERVICE_REMOVED,
    )


def follow_erasure(share: Share, now: datetime) -> AnyShareEvent | None:
    """What becomes of a share whose recipient's address is erased."""
    if not share.live:
        return None
    return overdue(share, now) or revoked(share, RevokeReason.ADDRESS_ERASED)


def follow_account_deletion(share: Share, now: datetime) -> AnyShareEvent | None:
    """What becomes of a share whose owner's account, or that of who accepted it, is deleted."""
    if not share.live:
        return None
    return overdue(share, now) or revoked(share, RevokeReason.ACCOUNT_DELETED)
