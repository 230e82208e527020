"""What the consumer and the clock write: notices that are due, and what is known of shares and people."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

from contracts.base import new_id
from contracts.contacts import InvalidAddressError, canonical_address
from contracts.directory import AccountSnapshot, ContactSnapshot, DeviceSnapshot
from notifier.hints import Readers, payloads
from notifier.planner import Invitation, Notice
from notifier.store.rows import invitation_of
from servicekit import pg

AnySnapshot = DeviceSnapshot | AccountSnapshot | ContactSnapshot
Kind = Literal["device", "account", "contact"]

DUE_CHANNEL = "notifier_due"
ROUTES = "routes"
"""What a notification of that channel about notices to be routed says; one about deliveries names
their channel."""


class Inward:
    """Writes inside the transaction of ``connection``; the caller commits."""

    def __init__(self, connection: pg.Connection, sql: Mapping[str, str]) -> None:
        self._connection, self._sql = connection, sql

    async def last_versions(self, device_ids: Iterable[str]) -> dict[str, int]:
        """How far each device's stream was planned; a device without an event is absent."""
        rows = await self._connection.fetch(self._sql["last_versions"], list(device_ids))
        return {row["device_id"]: row["last_version"] for row in rows}

    async def invitations(self, share_ids: Iterable[UUID]) -> dict[UUID, Invitation]:
        """The invitations known so far."""
        rows = await self._connection.fetch(self._sql["invitations"], list(share_ids))
        return {row["share_id"]: invitation_of(row) for row in rows}

    async def save_progress(self, versions: Mapping[str, int]) -> None:
        """Set the last planned version of devices."""
        if versions:
            devices = sorted(versions)
            await self._connection.execute(
                self._sql["save_progress"], devices, [versions[device] for device in devices]
            )

    async def save_invitations(self, invitations: Sequence[Invitation]) -> None:
        """Insert or replace invitations."""
        if not invitations:
            return
        await self._connection.execute(
            self._sql["save_invitation"],
            [item.share_id for item in invitations],
            [item.device_id for item in invitations],
            [item.contact_id for item in invitations],
            [item.owner_account_id for item in invitations],
            [item.state for item in invitations],
            [item.version for item in invitations],
            [item.announced_version for item in invitations],
            [item.terms.model_dump_json() for item in invitations],
            [item.expires_at for item in invitations],
            [item.account_id for item in invitations],
            [item.notify for item in invitations],
            [item.reminder_at for item in invitations],
        )

    async def add_notices(self, notices: Sequence[tuple[Notice, str]]) -> None:
        """Insert notices (with their correlation ids); what was planned before stays as it is. At the commit
        their readers are told, and all instances wake up if any is to be told outside the inbox."""
        if not notices:
            return
        items = [notice for notice, _ in notices]
        await self._connection.execute(
            self._sql["add_notices"],
            [new_id() for _ in items],
            [item.event_id for item in items],
            [item.reader for item in items],
            [item.contact_id for item in items],
            [item.account_id for item in items],
            [item.template for item in items],
            [item.share_id for item in items],
            [item.device_id for item in items],
            [item.owner_account_id for item in items],
            [item.version for item in items],
            [item.event_time for item in items],
            [item.outside for item in items],
            [item.operation for item in items],
            [correlation_id for _, correlation_id in notices],
        )
        if any(item.outside for item in items):
            await self._connection.execute(self._sql["announce"], ROUTES)
        await self.tell(
            Readers(
                accounts={item.account_id for item in items if item.account_id is not None},
                contacts={item.contact_id for item in items if item.account_id is None},
            )
        )

    async def tell(self, readers: Readers) -> None:
        """Their inboxes may be others from the commit on: whoever follows his is told."""
        if readers:
            await self._connection.execute(self._sql["tell"], list(payloads("notices", readers)))

    async def look_again(self) -> None:
        """Names or addresses have come: what waits for some is looked at again now."""
        if await self._connection.fetchval(self._sql["look_again"]):
            await self._connection.execute(self._sql["announce"], ROUTES)

    async def note_first_uses(self, uses: Sequence[tuple[UUID, str, UUID, datetime]]) -> None:
        """Connections by share: share, account, event, time. The first of each share is kept."""
        if uses:
            await self._connection.execute(
                self._sql["note_first_uses"], *(list(column) for column in zip(*uses, strict=True))
            )

    async def tell_first_uses(self, share_ids: Iterable[UUID]) -> list[tuple[UUID, UUID, datetime]]:
        """First uses of these shares that nobody was told of, each once: share, event, time."""
        rows = await self._connection.fetch(self._sql["tell_first_uses"], list(share_ids))
        return [(row["share_id"], row["event_id"], row["event_time"]) for row in rows]

    async def forget_first_uses(self, share_ids: Iterable[UUID], before: datetime) -> None:
        """These shares begin anew: what was used before counts no more."""
        await self._connection.execute(self._sql["forget_first_uses"], list(share_ids), before)

    async def due_reminders(self) -> list[Invitation]:
        """Shares whose end is to be announced now; nobody else gets them."""
        return [invitation_of(row) for row in await self._connection.fetch(self._sql["due_reminders"])]

    async def delete_snapshot(self, kind: Kind, key: str) -> None:
        """Forget what a directory no longer has, and all that is kept of it here."""
        if kind == "account":
            await self._connection.execute(self._sql["lock_account"], key)
        await self._connection.execute(self._sql[f"delete_{kind}"], key)
        await self.tell(_readers(kind, [key]))

    async def save_snapshots(self, kind: Kind, latest: Mapping[str, AnySnapshot]) -> None:
        """Insert or replace what a directory says, by id; each is of ``kind``. Whoever reads it is told."""
        rows = [_columns(latest[key]) for key in sorted(latest)]
        if rows:
            await self._connection.execute(
                self._sql[f"save_{kind}s"], *(list(column) for column in zip(*rows, strict=True))
            )
            await self.tell(_readers(kind, latest))


def _readers(kind: Kind, ids: Iterable[str]) -> Readers:
    """In whose inboxes what a directory says is shown, or decides about what is."""
    match kind:
        case "device":
            return Readers(devices=set(ids))
        case "account":
            return Readers(accounts=set(ids))
        case "contact":
            return Readers(contacts=set(map(UUID, ids)))


def _columns(snapshot: AnySnapshot) -> tuple[object, ...]:
    match snapshot:
        case DeviceSnapshot():
            names = {item.service_id: item.name for item in snapshot.services}
            return snapshot.device_id, snapshot.name, json.dumps(names)
        case AccountSnapshot():
            addresses = _canonical((*snapshot.verified_emails, *snapshot.verified_phones))
            return (
                snapshot.account_id,
                snapshot.name,
                json.dumps(snapshot.verified_emails),
                json.dumps(addresses),
            )
        case ContactSnapshot():
            return snapshot.contact_id, snapshot.address


def _canonical(addresses: Iterable[str]) -> list[str]:
    """The canonical forms, in order; what is no address is left out."""
    found: list[str] = []
    for address in addresses:
        try:
            found.append(canonical_address(address))
        except InvalidAddressError:
            continue
    return found
