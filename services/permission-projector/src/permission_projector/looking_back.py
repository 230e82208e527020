"""Looking back: who had access at a time, and why.

It decides by share_event alone: the last event of each share up to the time, in the order of the versions;
the terms it left; their start and end judged at that time. What a service supported then is not kept, so that
"all" is told as all; nor is what stood in quarantine, or which names and addresses people had.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import asyncpg
from pydantic import TypeAdapter

from contracts.permissions import Permission, PermissionSet, Terms
from permission_projector.projection import ShareState
from permission_projector.reader import Somebody, Told, reached
from servicekit import pg

_PERMISSIONS: Final = TypeAdapter[PermissionSet](PermissionSet)


class PastEvent(Told):
    """The event by which something was so."""

    event_id: UUID
    kind: str
    version: int
    at: datetime


class PastAccess(Told):
    """Somebody who had access at a time. ``by`` is the event that decides it (None for the owner).

    ``permissions`` are those of the service that was asked about; when none was, or when the share names
    services one by one, see ``terms``. The owner has every permission and no terms.
    """

    role: Literal["owner", "recipient"]
    account: Somebody
    email: str | None
    phone: str | None
    share_id: UUID | None
    by: PastEvent | None
    permissions: PermissionSet | None
    terms: Terms | None


class PastAccessList(Told):
    """Who had access at a time."""

    items: list[PastAccess]


class Step(Told):
    """An event of a share that the account had accepted, and the share after it.

    ``verdict`` stands at the last of each share: ``granted``, or why it gave nothing: ``rejected``,
    ``revoked``, ``left``, ``expired``, ``requested`` (asked anew, not accepted), ``not_his_any_more``
    (accepted by another account since), ``not_begun``, ``over``, ``service_not_shared``,
    ``permission_not_given``.
    """

    share_id: UUID
    event: PastEvent
    state: ShareState
    terms: Terms
    reason: str | None
    verdict: str | None


class Why(Told):
    """Whether an account was allowed something at a time.

    ``reason`` is ``owner``, ``granted``, ``no_share``, or the verdict of the share that changed last; ``by``
    is the event that decides it, None for the owner and where there was no share.
    """

    allowed: bool
    reason: str
    by: PastEvent | None
    steps: list[Step]


async def who_had_access(
    database: pg.Pool | pg.Connection,
    sql: Mapping[str, str],
    device_id: str,
    service_id: str | None,
    at: datetime,
) -> list[PastAccess]:
    """Who had access to a device, or to one of its services, at a time: the owner first, then by version.

    The owner is the one that the device's last event up to then names; when there is none, the present one.
    See the module for what is decided by what.
    """
    return past_access(await database.fetch(sql["who_had_access"], device_id, service_id, at, None))


def past_access(rows: Sequence[asyncpg.Record]) -> list[PastAccess]:
    """What the rows of the statement `who_had_access` tell."""
    return [
        PastAccess(
            role=row["role"],
            account=Somebody(account_id=row["account_id"], name=row["name"]),
            **reached(row["address"]),
            share_id=row["share_id"],
            by=_past_event(row),
            permissions=_permissions(row["permissions"]),
            terms=None if row["terms"] is None else Terms.model_validate_json(row["terms"]),
        )
        for row in rows
        if row["role"] is not None
    ]


async def why(  # noqa: PLR0917 - the parts of the question
    database: pg.Pool | pg.Connection,
    sql: Mapping[str, str],
    account_id: str,
    device_id: str,
    service_id: str,
    permission: Permission,
    at: datetime,
) -> Why:
    """Whether an account was allowed a permission on a service at a time, and every step that led there.

    See the module for what is decided by what.
    """
    rows = await database.fetch(sql["why"], account_id, device_id, service_id, permission.value, at)
    owned = rows[0]["owner_account_id"] == account_id
    steps = [
        Step(
            share_id=row["share_id"],
            event=_known_event(row),
            state=row["state"],
            terms=Terms.model_validate_json(row["terms"]),
            reason=row["reason"],
            verdict=row["verdict"],
        )
        for row in rows
        if row["share_id"] is not None
    ]
    verdicts = [step for step in steps if step.verdict is not None]
    granting = [step for step in verdicts if step.verdict == "granted"]
    decisive = (granting or verdicts)[-1:]
    if owned:
        return Why(allowed=True, reason="owner", by=None, steps=steps)
    if not decisive:
        return Why(allowed=False, reason="no_share", by=None, steps=steps)
    return Why(allowed=bool(granting), reason=decisive[0].verdict or "", by=decisive[0].event, steps=steps)


def _permissions(text: str | None) -> PermissionSet | None:
    return None if text is None else _PERMISSIONS.validate_json(text)


def _past_event(row: asyncpg.Record) -> PastEvent | None:
    return None if row["event_id"] is None else _known_event(row)


def _known_event(row: asyncpg.Record) -> PastEvent:
    return PastEvent(event_id=row["event_id"], kind=row["kind"], version=row["version"], at=row["at"])
