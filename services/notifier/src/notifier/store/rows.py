"""Rows of the notifier's tables as the planner's values."""

import asyncpg

from contracts.permissions import Terms
from notifier.planner import Invitation, Notice, Template


def invitation_of(row: asyncpg.Record, accepted_by: str = "account_id") -> Invitation:
    """The invitation in a row; ``accepted_by`` is the column that tells who accepted it."""
    return Invitation(
        share_id=row["share_id"],
        device_id=row["device_id"],
        contact_id=row["contact_id"],
        owner_account_id=row["owner_account_id"],
        state=row["state"],
        version=row["invitation_version"],
        announced_version=row["announced_version"],
        expires_at=row["expires_at"],
        terms=Terms.model_validate_json(row["terms"]),
        account_id=row[accepted_by],
        notify=row["notify"],
        reminder_at=row["reminder_at"],
    )


def notice_of(row: asyncpg.Record) -> Notice:
    """The notice in a row."""
    return Notice(
        event_id=row["event_id"],
        contact_id=row["contact_id"],
        account_id=row["account_id"],
        template=Template(row["template"]),
        share_id=row["share_id"],
        device_id=row["device_id"],
        owner_account_id=row["owner_account_id"],
        version=row["version"],
        event_time=row["event_time"],
        outside=row["outside"],
        operation=row["operation"],
    )
