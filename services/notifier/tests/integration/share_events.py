"""What follows an invitation, as share-command tells it."""

from contracts.events import RevokeReason, ShareAccepted, ShareRequested, ShareRevoked


def accepted(event: ShareRequested, account_id: str = "bob") -> ShareAccepted:
    return ShareAccepted(
        share_id=event.share_id,
        device_id=event.device_id,
        contact_id=event.contact_id,
        owner_account_id=event.owner_account_id,
        account_id=account_id,
    )


def revoked(event: ShareRequested, account_id: str | None = "bob") -> ShareRevoked:
    return ShareRevoked(
        share_id=event.share_id,
        device_id=event.device_id,
        contact_id=event.contact_id,
        owner_account_id=event.owner_account_id,
        reason=RevokeReason.BY_OWNER,
        account_id=account_id,
    )
