"""State, events and outbox in Postgres. Nothing here commits: the transaction is the caller's."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from contracts import codec
from contracts.base import new_id
from contracts.directory import ContactSnapshot
from contracts.events import AnyShareEvent
from contracts.permissions import Terms
from contracts.topics import DIRECTORY_CONTACTS, SHARE_EVENTS
from servicekit import pg
from servicekit.telemetry import correlation_id
from share_command import domain
from share_command.errors import LimitReached

SOURCE = "share-command"

_MOST_EVENT_BYTES = 500_000
"""Of an encoded event: half of what readers and brokers take (`codec.MAX_BYTES`), so that it passes."""


@dataclass(frozen=True, slots=True)
class Named:
    """One device that was named: by its id, or by one of its services."""

    written: str
    device_id: str
    service_id: str | None
    owner_account_id: str


@dataclass(frozen=True, slots=True)
class StoredCommand:
    """A command id that is taken: digest of its body, and the answer as JSON."""

    digest: bytes
    result: str


class Store:
    """Reads and writes of one transaction."""

    def __init__(self, connection: pg.Connection, sql: Mapping[str, str]) -> None:
        self._connection, self._sql = connection, sql

    async def claim(self, command_id: str, digest: bytes) -> StoredCommand | None:
        """Take the id for this transaction; or what is stored under it. Waits for a concurrent twin."""
        if await self._connection.fetchval(self._sql["claim_command"], command_id, digest) is not None:
            return None
        row = await self._connection.fetchrow(self._sql["stored_command"], command_id)
        assert row is not None, "command ids are never deleted"
        return StoredCommand(row["body_sha256"], row["result"])

    async def finish(self, command_id: str, result: str) -> None:
        """Store the answer."""
        await self._connection.execute(self._sql["finish_command"], command_id, result)

    async def resolve(self, names: Iterable[str]) -> list[Named]:
        """What the names stand for; one that stands for nothing is absent."""
        rows = await self._connection.fetch(self._sql["resolve_names"], list(names))
        return [
            Named(row["name"], row["device_id"], row["service_id"], row["owner_account_id"]) for row in rows
        ]

    async def devices(self, device_ids: Iterable[str]) -> dict[str, domain.Device]:
        """What the directory says of these devices now."""
        rows = await self._connection.fetch(self._sql["devices"], list(device_ids))
        return {
            row["device_id"]: domain.Device(
                row["device_id"], row["owner_account_id"], frozenset(row["services"])
            )
            for row in rows
        }

    async def verified_addresses(self, account_id: str) -> frozenset[str]:
        """The addresses that are the account's."""
        rows = await self._connection.fetch(self._sql["verified_addresses"], account_id)
        return frozenset(row["address"] for row in rows)

    async def contacts(self, addresses: Iterable[str]) -> dict[str, UUID]:
        """Contact ids of those addresses that have one."""
        rows = await self._connection.fetch(self._sql["contacts"], list(addresses))
        return {row["address"]: row["contact_id"] for row in rows}

    async def lock_contacts(
        self, addresses: Sequence[str], now: datetime, *, causation: str
    ) -> dict[str, UUID]:
        """Contact ids of all the addresses, locked; new ones are made, and published before any event."""
        new = await self._connection.fetch(
            self._sql["add_contacts"], [new_id() for _ in addresses], list(addresses)
        )
        await self._publish(
            [
                (
                    DIRECTORY_CONTACTS.name,
                    str(row["contact_id"]),
                    codec.encode(
                        codec.envelope(
                            ContactSnapshot(contact_id=row["contact_id"], address=row["address"]),
                            source=SOURCE,
                            time=now,
                            subject=str(row["contact_id"]),
                            correlationid=correlation_id(),
                            causationid=causation,
                        )
                    ),
                )
                for row in new
            ]
        )
        rows = await self._connection.fetch(self._sql["lock_contacts"], list(addresses))
        return {row["address"]: row["contact_id"] for row in rows}

    async def use_contacts(self, owner: str, contact_ids: Iterable[UUID], now: datetime) -> None:
        """Put the contacts at the top of the owner's contact book."""
        await self._connection.execute(self._sql["use_contacts"], owner, list(contact_ids), now)

    async def lock_streams(self, device_ids: Iterable[str]) -> dict[str, int]:
        """Lock the devices' streams; their versions."""
        wanted = sorted(set(device_ids))
        await self._connection.execute(self._sql["add_streams"], wanted)
        rows = await self._connection.fetch(self._sql["lock_streams"], wanted)
        return {row["device_id"]: row["version"] for row in rows}

    async def shares_of_contacts(
        self, device_ids: Iterable[str], contact_ids: Iterable[UUID]
    ) -> dict[tuple[str, UUID], domain.Share]:
        """Shares by device and contact."""
        rows = await self._connection.fetch(
            self._sql["shares_of_contacts"], list(device_ids), list(contact_ids)
        )
        return {(row["device_id"], row["contact_id"]): _share(row) for row in rows}

    async def shares_of_recipient(
        self, device_ids: Iterable[str], account_id: str, contact_ids: Iterable[UUID]
    ) -> list[domain.Share]:
        """Shares that the account accepted, or that were made with one of the contacts."""
        rows = await self._connection.fetch(
            self._sql["shares_of_recipient"], list(device_ids), account_id, list(contact_ids)
        )
        return [_share(row) for row in rows]

    async def share(self, share_id: UUID, device_id: str) -> tuple[domain.Share, str] | None:
        """A share of the device, and the address it was made with."""
        row = await self._connection.fetchrow(self._sql["share"], share_id, device_id)
        return None if row is None else (_share(row), row["address"])

    async def append(
        self,
        decided: Sequence[tuple[domain.Share | None, tuple[AnyShareEvent, ...]]],
        versions: Mapping[str, int],
        now: datetime,
        *,
        causation: str,
    ) -> dict[str, int]:
        """Append the events to their devices' locked streams, with the state and the messages that follow.

        ``decided`` pairs a share, each once, with the events that follow; returns the versions after all.

        Raises:
            LimitReached: an event is larger than one may be.
        """
        after = dict(versions)
        shares: list[domain.Share] = []
        envelopes: list[codec.Envelope] = []
        events = [event for _, following in decided for event in following]
        for before, following in decided:
            share = before
            for event in following:
                version = after[event.device_id] = after[event.device_id] + 1
                share = domain.evolve(share, event, version)
                envelopes.append(
                    codec.envelope(
                        event,
                        source=SOURCE,
                        time=now,
                        subject=event.device_id,
                        version=version,
                        correlationid=correlation_id(),
                        causationid=causation,
                    )
                )
            if share is not None and following:
                shares.append(share)
        if not events:
            return after
        values = [codec.encode(envelope) for envelope in envelopes]
        for event, value in zip(events, values, strict=True):
            if len(value) > _MOST_EVENT_BYTES:
                raise LimitReached(
                    f"The terms of this share take {len(value)} bytes; at most {_MOST_EVENT_BYTES} can be "
                    "kept. List fewer services, or share the whole device.",
                    device_id=event.device_id,
                )
        await self._connection.execute(
            self._sql["save_shares"],
            [share.share_id for share in shares],
            [share.device_id for share in shares],
            [share.contact_id for share in shares],
            [share.owner_account_id for share in shares],
            [share.state for share in shares],
            [share.terms.model_dump_json() for share in shares],
            [share.invitation_version for share in shares],
            [share.account_id for share in shares],
        )
        await self._connection.execute(
            self._sql["append_events"],
            [event.device_id for event in events],
            [envelope.version for envelope in envelopes],
            [UUID(envelope.id) for envelope in envelopes],
            [event.share_id for event in events],
            causation,
            [value.decode() for value in values],
        )
        await self._connection.execute(self._sql["advance_streams"], list(after), list(after.values()))
        await self._publish(
            [(SHARE_EVENTS.name, event.device_id, value) for event, value in zip(events, values, strict=True)]
        )
        return after

    async def _publish(self, messages: Sequence[tuple[str, str, bytes]]) -> None:
        if messages:
            await self._connection.execute(
                self._sql["append_outbox"],
                [topic for topic, _, _ in messages],
                [key for _, key, _ in messages],
                [value for _, _, value in messages],
                correlation_id(),
            )

    async def contact_book(self, owner: str) -> list[tuple[UUID, str]]:
        """The owner's contacts (id, canonical address), the last used first."""
        rows = await self._connection.fetch(self._sql["contact_book"], owner)
        return [(row["contact_id"], row["address"]) for row in rows]

    async def invitation(
        self, share_id: UUID, device_id: str, contact_id: UUID, account_id: str
    ) -> Mapping[str, Any] | None:
        """What an invitation says, if the account is the one that may see it (columns of the query)."""
        row = await self._connection.fetchrow(
            self._sql["invitation"], share_id, device_id, contact_id, account_id
        )
        return (
            None
            if row is None
            else {**row, **{name: json.loads(row[name]) for name in ("terms", "service_names")}}
        )


def _share(row: asyncpg.Record) -> domain.Share:
    return domain.Share(
        share_id=row["share_id"],
        device_id=row["device_id"],
        contact_id=row["contact_id"],
        owner_account_id=row["owner_account_id"],
        state=row["state"],
        terms=Terms.model_validate_json(row["terms"]),
        invitation_version=row["invitation_version"],
        account_id=row["account_id"],
    )
