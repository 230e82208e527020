"""State, events and outbox in Postgres. Nothing here commits: the transaction is the caller's."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg
from pydantic import TypeAdapter

from contracts import codec
from contracts.base import new_id
from contracts.directory import ContactSnapshot
from contracts.events import AnyShareEvent, ShareRequested
from contracts.permissions import Permission, Terms
from contracts.topics import DIRECTORY_CONTACTS, SHARE_EVENTS
from servicekit import pg
from servicekit.telemetry import correlation_id
from share_command import domain
from share_command.errors import DeviceNotFound, LimitReached
from share_command.gate import ApartError, Gate

SOURCE = "share-command"

_MOST_EVENT_BYTES = 500_000
"""Of an encoded event: half of what readers and brokers take (`codec.MAX_BYTES`), so that it passes."""


_SUPPORTED: TypeAdapter[dict[str, frozenset[Permission] | None]] = TypeAdapter(
    dict[str, frozenset[Permission] | None]
)


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
    """Reads and writes of one command in a transaction, which other commands may share (``gate``)."""

    def __init__(self, connection: pg.Connection, sql: Mapping[str, str], gate: Gate | None = None) -> None:
        self._connection, self._sql = connection, sql
        self._gate = gate or Gate(connection, sql)

    async def claim(self, command_id: str, digest: bytes) -> StoredCommand | None:
        """Take the id for this transaction; or what is stored under it. Waits for a concurrent twin."""
        taken = await self._gate.fetch("claim_command", [command_id], [digest])
        if any(row["command_id"] == command_id for row in taken):
            return None
        rows = await self._gate.fetch("stored_command", [command_id])
        row = next(row for row in rows if row["command_id"] == command_id)  # ids are never deleted
        return StoredCommand(row["body_sha256"], row["result"])

    async def finish(self, command_id: str, result: str) -> None:
        """Store the answer."""
        await self._gate.fetch("finish_command", [command_id], [result])

    async def resolve(self, names: Iterable[str]) -> list[Named]:
        """What the names stand for; one that stands for nothing is absent."""
        asked = list(names)
        rows = await self._gate.fetch("resolve_names", asked)
        return [
            Named(row["name"], row["device_id"], row["service_id"], row["owner_account_id"])
            for row in rows
            if row["name"] in asked
        ]

    async def devices(self, device_ids: Iterable[str]) -> dict[str, domain.Device]:
        """What the directory says of these devices now."""
        asked = set(device_ids)
        rows = await self._gate.fetch("devices", list(asked))
        return {
            row["device_id"]: domain.Device(
                row["device_id"], row["owner_account_id"], _SUPPORTED.validate_json(row["services"])
            )
            for row in rows
            if row["device_id"] in asked
        }

    async def verified_addresses(self, account_id: str) -> frozenset[str]:
        """The addresses that are the account's; see `accounts`."""
        own, _ = await self.accounts(account_id, ())
        return own

    async def accounts(
        self, account_id: str, addresses: Iterable[str]
    ) -> tuple[frozenset[str], dict[str, str]]:
        """The addresses that are the account's, and which of ``addresses`` accept whatever it shares.

        The latter as address → account; of several that have verified one address it is the first by id. None
        of these accounts can be deleted meanwhile.

        Raises:
            DeviceNotFound: the account is deleted; an account that nobody has told of yet has no address.
        """
        asked = set(addresses)
        rows = await self._gate.fetch("accounts", [account_id], [account_id], list(asked))
        own = [row["address"] for row in rows if row["owner"] is None and row["account_id"] == account_id]
        if not own:
            deleted = await self._gate.fetch("deleted_accounts", [account_id])
            if any(row["account_id"] == account_id for row in deleted):
                raise DeviceNotFound
        accepting = {
            row["address"]: row["account_id"]
            for row in reversed(rows)
            if row["owner"] == account_id and row["address"] in asked
        }
        return frozenset(address for address in own if address is not None), accepting

    async def contacts(self, addresses: Iterable[str]) -> dict[str, UUID]:
        """Contact ids of those addresses that have one."""
        asked = set(addresses)
        rows = await self._gate.fetch("contacts", list(asked))
        return {row["address"]: row["contact_id"] for row in rows if row["address"] in asked}

    async def book_contacts(
        self, owner: str, addresses: Sequence[str], now: datetime, *, causation: str
    ) -> dict[str, UUID]:
        """Contact ids of all the addresses, locked, and at the top of the owner's book.

        What is new in this book is published before any event, be it for the first time or again: for an
        address that somebody else has shared with the same is done as for one that nobody has, so that the
        time it takes does not tell.
        """
        found = await self._book_contacts(owner, addresses, now, own=True)
        others = [address for address in addresses if address not in found]
        if others:
            await self._gate.fetch("add_contacts", [new_id() for _ in others], others)
            added = await self._book_contacts(owner, others, now, own=False)
            if len(added) < len(others):  # one was erased while we waited for it: the next try makes it anew
                raise asyncpg.LockNotAvailableError
            await self._publish_contacts(added, now, causation)
            found |= added
        return found

    async def _book_contacts(
        self, owner: str, addresses: Sequence[str], now: datetime, *, own: bool
    ) -> dict[str, UUID]:
        count = len(addresses)
        rows = await self._gate.fetch(
            "book_contacts", [owner] * count, addresses, [now] * count, [own] * count
        )
        return {row["address"]: row["contact_id"] for row in rows if row["owner"] == owner}

    async def _publish_contacts(self, contacts: Mapping[str, UUID], now: datetime, causation: str) -> None:
        messages = [
            codec.envelope(
                ContactSnapshot(contact_id=contact_id, address=address),
                source=SOURCE,
                time=now,
                subject=str(contact_id),
                correlationid=correlation_id(),
                causationid=causation,
            )
            for address, contact_id in contacts.items()
        ]
        await self._gate.fetch(
            "append_outbox",
            [DIRECTORY_CONTACTS.name] * len(messages),
            [message.subject for message in messages],
            [codec.encode(message) for message in messages],
            [correlation_id()] * len(messages),
        )

    async def lock_contact_alone(self, owner: str, address: str) -> UUID | None:
        """The contact of an address, locked against new shares; None when the owner's book has none."""
        return await self._connection.fetchval(self._sql["lock_contact_alone"], owner, address)

    async def lock_owner(self, account_id: str) -> None:
        """Make this the only command that adds to what the account shares."""
        rows = await self._gate.fetch("lock_owner", [account_id])
        if any(row["locked"] is False and row["owner"] == account_id for row in rows):
            raise ApartError

    async def lock_account(self, account_id: str) -> None:
        """No command of this account goes on until the transaction ends."""
        await self._connection.execute(self._sql["lock_account"], account_id)

    async def book_addresses(self, owner: str, contact_ids: Iterable[UUID]) -> dict[UUID, str]:
        """The addresses of those contacts that are in the owner's book."""
        asked = list(contact_ids)
        rows = await self._gate.fetch("book_addresses", [owner] * len(asked), asked)
        return {row["contact_id"]: row["address"] for row in rows if row["owner"] == owner}

    async def forget_contact(self, owner: str, contact_id: UUID) -> None:
        """Take a contact, and the remark on it, out of the owner's book."""
        await self._connection.execute(self._sql["forget_contact"], owner, contact_id)

    async def live_counts(self, device_ids: Iterable[str], owner: str) -> tuple[dict[str, int], int]:
        """How many live shares each device has, and the owner gives."""
        rows = await self._gate.fetch("live_counts", list(device_ids), [owner])
        counts = {row["device_id"]: row["shares"] for row in rows if row["owner"] is None}
        return counts, next(row["shares"] for row in rows if row["owner"] == owner)

    async def lock_streams(self, device_ids: Iterable[str]) -> dict[str, int]:
        """Lock the devices' streams; their versions."""
        wanted = sorted(set(device_ids))
        found = await self._lock_streams(wanted)
        if len(found) < len(wanted):
            await self._gate.fetch("add_streams", wanted)
            found = await self._lock_streams(wanted)
        if len(found) < len(wanted):
            raise ApartError  # somebody has one; others that share the transaction do not wait
        return found

    async def _lock_streams(self, wanted: list[str]) -> dict[str, int]:
        rows = await self._gate.fetch("lock_streams", wanted)
        return {row["device_id"]: row["version"] for row in rows if row["device_id"] in wanted}

    async def lock_stream_if_free(self, device_id: str) -> int | None:
        """Lock a device's stream unless somebody has it; its version."""
        row = await self._connection.fetchrow(self._sql["lock_streams_if_free"], [device_id])
        return None if row is None else row["version"]

    async def live_shares(self, device_ids: Iterable[str]) -> list[domain.Share]:
        """The open invitations and grants of the devices."""
        rows = await self._connection.fetch(self._sql["live_shares"], list(device_ids))
        return [_share(row) for row in rows]

    async def overdue(self, now: datetime, most: int) -> list[str]:
        """The devices of shares that time ends, at most ``most``, the longest overdue first."""
        rows = await self._connection.fetch(self._sql["overdue_shares"], now, most)
        return [row["device_id"] for row in rows]

    async def devices_shared(self, owner: str, contact_id: UUID) -> list[str]:
        """The devices that the owner shares with the contact, in order of id."""
        rows = await self._connection.fetch(self._sql["devices_shared"], owner, contact_id)
        return [row["device_id"] for row in rows]

    async def devices_of_account(self, account_id: str) -> list[str]:
        """The devices of which the account gives or has live shares."""
        rows = await self._connection.fetch(self._sql["devices_of_account"], account_id)
        return [row["device_id"] for row in rows]

    async def shares_of_contacts(
        self, device_ids: Iterable[str], contact_ids: Iterable[UUID]
    ) -> dict[tuple[str, UUID], domain.Share]:
        """Shares by device and contact."""
        contacts = list(contact_ids)
        pairs = dict.fromkeys((device_id, contact_id) for device_id in device_ids for contact_id in contacts)
        rows = await self._gate.fetch(
            "shares_of_contacts",
            [device_id for device_id, _ in pairs],
            [contact_id for _, contact_id in pairs],
        )
        return {pair: _share(row) for row in rows if (pair := (row["device_id"], row["contact_id"])) in pairs}

    async def shares_of_recipient(
        self, device_ids: Iterable[str], account_id: str, contact_ids: Iterable[UUID]
    ) -> list[domain.Share]:
        """Shares that the account accepted, or that were made with one of the contacts."""
        devices, contacts = set(device_ids), set(contact_ids)
        rows = await self._gate.fetch("shares_of_recipient", list(devices), [account_id], list(contacts))
        return [
            _share(row)
            for row in rows
            if row["device_id"] in devices
            and (row["account_id"] == account_id or row["contact_id"] in contacts)
        ]

    async def share(self, share_id: UUID, device_id: str) -> tuple[domain.Share, str] | None:
        """A share of the device, and the address it was made with."""
        rows = await self._gate.fetch("share", [share_id], [device_id])
        found = [row for row in rows if row["share_id"] == share_id and row["device_id"] == device_id]
        return (_share(found[0]), found[0]["address"]) if found else None

    async def append(
        self,
        decided: Sequence[tuple[domain.Share | None, tuple[AnyShareEvent, ...]]],
        versions: Mapping[str, int],
        now: datetime,
        *,
        causation: str,
        answer: str | None = None,
    ) -> dict[str, int]:
        """Append the events to their devices' locked streams, with the state and the messages that follow.

        ``decided`` pairs a share, each once, with the events that follow; returns the versions after all.
        ``answer`` is that of the command ``causation``, stored as `finish` does.

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
                share = domain.evolve(share, event, version, now)
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
            if answer is not None:
                await self.finish(causation, answer)
            return after
        values = [codec.encode(envelope) for envelope in envelopes]
        for event, value in zip(events, values, strict=True):
            if len(value) > _MOST_EVENT_BYTES:
                raise LimitReached(
                    f"The terms of this share take {len(value)} bytes; at most {_MOST_EVENT_BYTES} can be "
                    "kept. List fewer services, or share the whole device.",
                    device_id=event.device_id,
                )
        await self._gate.fetch(
            "append",
            [share.share_id for share in shares],
            [share.device_id for share in shares],
            [share.contact_id for share in shares],
            [share.owner_account_id for share in shares],
            [share.state for share in shares],
            [share.terms.model_dump_json() for share in shares],
            [share.version for share in shares],
            [share.invitation_version for share in shares],
            [share.told_at for share in shares],
            [share.expires_at for share in shares],
            [share.account_id for share in shares],
            [domain.due_at(share) for share in shares],
            [event.device_id for event in events],
            [envelope.version for envelope in envelopes],
            [UUID(envelope.id) for envelope in envelopes],
            [event.share_id for event in events],
            [causation] * len(events),
            [value.decode() for value in values],
            [SHARE_EVENTS.name] * len(events),
            [correlation_id()] * len(events),
            list(after),
            list(after.values()),
            [] if answer is None else [causation],
            [] if answer is None else [answer],
        )
        anew = [
            before.share_id
            for before, following in decided
            if before is not None and any(isinstance(event, ShareRequested) for event in following)
        ]
        if anew:  # when it ended and was invited again in one go, the words of before are not those of now
            await self.save_message(anew, "")
        return after

    async def save_message(self, share_ids: Iterable[UUID], message: str) -> None:
        """The owner's words to the recipients of live shares."""
        asked = list(share_ids)
        await self._gate.fetch("save_message", asked, [message] * len(asked))


def _share(row: asyncpg.Record) -> domain.Share:
    return domain.Share(
        share_id=row["share_id"],
        device_id=row["device_id"],
        contact_id=row["contact_id"],
        owner_account_id=row["owner_account_id"],
        state=row["state"],
        terms=Terms.model_validate_json(row["terms"]),
        version=row["version"],
        invitation_version=row["invitation_version"],
        told_at=row["told_at"],
        expires_at=row["expires_at"],
        account_id=row["account_id"],
    )
