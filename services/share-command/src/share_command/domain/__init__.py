"""The rules of sharing. Pure: time, ids and limits come in as arguments."""

from share_command.domain.deciding import decide, require_services
from share_command.domain.ending import follow_account_deletion, follow_device, follow_erasure, overdue
from share_command.domain.share import (
    ENDED,
    LIVE,
    Device,
    Rules,
    Share,
    State,
    Subject,
    due_at,
    evolve,
    is_recipient,
)
from share_command.domain.terms import effective

__all__ = [
    "ENDED",
    "LIVE",
    "Device",
    "Rules",
    "Share",
    "State",
    "Subject",
    "decide",
    "due_at",
    "effective",
    "evolve",
    "follow_account_deletion",
    "follow_device",
    "follow_erasure",
    "is_recipient",
    "overdue",
    "require_services",
]
