"""The read models' tables, as sets of rows. Everything here runs inside the transaction of its caller."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from contracts.directory import ContactSnapshot, DeviceSnapshot
from permission_projector.projection import Share, ShareState, Stream, VersionedEvent
from permission_projector.records import Account, DeviceWatermark
from servicekit import pg

ARRIVED: Final = resources.files("permission_projector").joinpath("sql/arrived.sql").read_text()
"""What a session that uses `Store` executes first (`servicekit.pg.open_pool`, ``on_connect``)."""

KEPT_WATERMARKS: Final = 120
KEPT_CHANGES: Final = 100_000
_FEW: Final = 200
"""So many rows go into the tables as parameters, more through `ARRIVED`: by each way, about as quick."""

_FORGET_EVERY: Final = 1_000
"""Old changes are deleted each time the feed has grown by this many."""


class AppliedEvent(NamedTuple):
    """An event that was applied, and its share after it. ``brings_terms``: it has terms of its own."""

    event: VersionedEvent
    share: Share
    brings_terms: bool
    reason: str | None
    correlation_id: str | None


@dataclass(slots=True)
class StreamChanges:
    """What a batch of share.events changed: events in their order; quarantines with code and offset."""

    events: list[AppliedEvent] = field(default_factory=list[AppliedEvent])
    quarantines: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])


@dataclass(slots=True)
class DeviceChanges:
    """What a batch of directory.devices says of each device: its partition and snapshot (None: removed), or
    the code and offset of a record that could not be read."""

    partitions: dict[str, int] = field(default_factory=dict[str, int])
    snapshots: dict[str, DeviceSnapshot | None] = field(default_factory=dict[str, DeviceSnapshot | None])
    unreadable: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])


@dataclass(slots=True)
class Touched:
    """Whose answers a transaction may have changed: devices, each with the request that it came from, where
    known; accounts and contacts that these changes are about; and accounts whose ``lists`` as such are others
    now: of devices, as they lost one, or of invitations, as they have other addresses."""

    devices: dict[str, str | None] = field(default_factory=dict[str, str | None])
    accounts: set[str] = field(default_factory=set[str])
    contacts: set[UUID] = field(default_factory=set[UUID])
    lists: set[str] = field(default_factory=set[str])


class Store:
    """Reads and writes the generation that the session's search_path names."""

    def __init__(self) -> None:
        self._sql = pg.load_queries("permission_projector", "projecting.sql")
        _, _, statement = self._sql["save_arrived"].partition("\nwith ")
        self._save_few = f"{self._sql['arrived_by_parameters']} {statement}"

    async def streams(
        self, connection: pg.Connection, asked: Collection[tuple[str, UUID | None]]
    ) -> dict[str, Stream]:
        """The streams of devices, each with those of its shares that are ``asked`` for.

        A device that is not known has an empty stream. Events are not read: see `recorded`.
        """
        streams: dict[str, Stream] = {}
        for row in await connection.fetch(self._sql["streams"], *_columns(asked, 2)):
            stream = streams.setdefault(row["device_id"], Stream(row["head"] or 0, row["quarantine"]))
            if row["share_id"] is not None:
                share = _share(row)
                stream.shares[share.share_id] = share
        return streams

    async def recorded(
        self, connection: pg.Connection, asked: Collection[tuple[str, int]]
    ) -> list[tuple[str, int, UUID]]:
        """Of devices and versions: which event stands there."""
        rows = await connection.fetch(self._sql["recorded_events"], *_columns(asked, 2))
        return [(row["device_id"], row["version"], row["event_id"]) for row in rows]

    async def save_streams(self, connection: pg.Connection, changes: StreamChanges) -> None:
        """Write what a batch of share.events changed."""
        if changes.events:
            last = {item.share.share_id: item.event.version for item in changes.events}
            rows = [
                (
                    share.device_id, event.version, event.event_id, share.share_id,
                    type(event.data).__name__, event.time, share.state.value, share.account_id,
                    share.owner_account_id, share.contact_id, share.terms, brings_terms, reason,
                    correlation_id, share.invitation_version, share.requested_at, share.since,
                    share.expires_at, last[share.share_id] == event.version,
                )
                for event, share, brings_terms, reason, correlation_id in changes.events
            ]  # fmt: skip
            if len(rows) <= _FEW:
                await connection.execute(self._save_few, *_columns(rows, 19))
            else:
                await connection.copy_records_to_table("arrived", records=rows)
                await connection.execute(self._sql["save_arrived"])
        if changes.quarantines:
            quarantines = [(device_id, *why) for device_id, why in changes.quarantines.items()]
            await connection.execute(self._sql["quarantine_streams"], *_columns(quarantines, 3))

    async def save_devices(self, connection: pg.Connection, changes: DeviceChanges) -> set[str]:
        """Write a batch of directory.devices. What cannot be read leaves the last snapshot in place.

        Returns the owners who have lost one.
        """
        there = [device for device in changes.snapshots.values() if device is not None]
        gone = [device_id for device_id, device in changes.snapshots.items() if device is None]
        touched = list(changes.snapshots)
        losers: set[str] = set()
        if touched:
            await connection.execute(self._sql["delete_services"], touched)
            await connection.execute(self._sql["release_devices"], touched)
        if gone:
            rows = await connection.fetch(self._sql["delete_devices"], gone)
            losers.update(row["owner_account_id"] for row in rows)
        if there:
            devices = [
                (
                    device.device_id, changes.partitions[device.device_id], device.owner_account_id,
                    device.name, device.kind, device.created_at,
                )
                for device in there
            ]  # fmt: skip
            rows = await connection.fetch(self._sql["save_devices"], *_columns(devices, 6))
            losers.update(
                row["former_owner"] for row in rows if row["former_owner"] not in {None, row["owner"]}
            )
            services = [
                (
                    device.device_id, service.service_id, ordinal, service.name, service.protocol,
                    service.channel, service.target.host, service.target.port,
                    ",".join(sorted(service.permissions)),
                    service.stream and service.stream.live, service.stream and service.stream.recording,
                )
                for device in there
                for ordinal, service in enumerate(device.services)
            ]  # fmt: skip
            await connection.execute(self._sql["save_services"], *_columns(services, 11))
        if changes.unreadable:
            quarantines = [(device_id, *why) for device_id, why in changes.unreadable.items()]
            await connection.execute(self._sql["quarantine_devices"], *_columns(quarantines, 3))
        return losers

    async def save_accounts(
        self, connection: pg.Connection, accounts: Mapping[str, Account | None]
    ) -> list[str]:
        """Write a batch of directory.accounts; None removes.

        Returns the devices that are another's to use now: of accounts that were deleted, or are there again.
        """
        there = [account for account in accounts.values() if account is not None]
        gone = [account_id for account_id, account in accounts.items() if account is None]
        await connection.execute(self._sql["delete_addresses"], list(accounts))
        await connection.execute(self._sql["delete_accounts"], gone)
        rows = [(account.account_id, account.name) for account in there]
        await connection.execute(self._sql["save_accounts"], *_columns(rows, 2))
        addresses = [
            (account.account_id, address, ordinal)
            for account in there
            for ordinal, address in enumerate(account.addresses)
        ]
        await connection.execute(self._sql["save_addresses"], *_columns(addresses, 3))
        return await self.note_deletions(connection, gone, [account.account_id for account in there])

    async def note_deletions(
        self, connection: pg.Connection, gone: Sequence[str], there: Sequence[str]
    ) -> list[str]:
        """Keep which accounts are deleted, for all generations; returns what `save_accounts` does."""
        rows = await connection.fetch(self._sql["note_deletions"], gone, there)
        return [row["device_id"] for row in rows]

    async def save_contacts(
        self, connection: pg.Connection, contacts: Mapping[UUID, ContactSnapshot | None]
    ) -> list[str]:
        """Write a batch of directory.contacts; None removes.

        Returns the devices that are shared with them: their owners see an address come or go.
        """
        gone = [contact_id for contact_id, contact in contacts.items() if contact is None]
        await connection.execute(self._sql["delete_contacts"], gone)
        rows = [(item.contact_id, item.address) for item in contacts.values() if item is not None]
        await connection.execute(self._sql["save_contacts"], *_columns(rows, 2))
        shared = await connection.fetch(self._sql["devices_of_contacts"], list(contacts))
        return [row["device_id"] for row in shared]

    async def save_watermarks(
        self, connection: pg.Connection, watermarks: Sequence[tuple[int, DeviceWatermark]]
    ) -> None:
        """Write watermarks, each with its offset, ascending; the newest `KEPT_WATERMARKS` are kept."""
        rows = [
            (
                offset, item.as_of,
                item.events.topic, item.events.topic_id, item.events.end_offsets,
                item.devices.topic, item.devices.topic_id, item.devices.end_offsets,
            )
            for offset, item in watermarks[-KEPT_WATERMARKS:]
        ]  # fmt: skip
        if rows:
            await connection.executemany(self._sql["save_watermark"], rows)
            await connection.execute(self._sql["forget_watermarks"], rows[-1][0] - KEPT_WATERMARKS)

    async def announce(self, connection: pg.Connection, touched: Touched) -> None:
        """Write the change feed. Call it last: it holds the generation's lock until the transaction ends."""
        if touched.devices or touched.accounts or touched.contacts:
            await self._append_change(connection, touched)
        if touched.lists:  # a change of its own: one that names devices too would say nothing of the lists
            await self._append_change(connection, Touched(accounts=touched.lists))
        if touched == Touched():
            await connection.execute(self._sql["notify"])

    async def _append_change(self, connection: pg.Connection, touched: Touched) -> None:
        newest: int = await connection.fetchval(
            self._sql["append_change"],
            list(touched.devices), list(touched.devices.values()),
            sorted(touched.accounts), sorted(touched.contacts),
        )  # fmt: skip
        if newest % _FORGET_EVERY == 0:
            await connection.execute(self._sql["forget_changes"], newest - KEPT_CHANGES)

    async def observe(self, pool: pg.Pool) -> tuple[int, float | None]:
        """How many devices are in quarantine, and the age in seconds of the stalest partition (None: never
        proved)."""
        row = await pool.fetchrow(self._sql["observe"])
        assert row is not None
        return row["quarantined"], row["age_seconds"]


def _columns(rows: Collection[tuple[object, ...]], width: int) -> list[tuple[object, ...]]:
    return list(zip(*rows, strict=True)) if rows else [()] * width


def _share(row: asyncpg.Record) -> Share:
    return Share(
        share_id=row["share_id"],
        device_id=row["device_id"],
        contact_id=row["contact_id"],
        owner_account_id=row["owner_account_id"],
        state=ShareState(row["state"]),
        account_id=row["account_id"],
        terms=row["terms"],
        invitation_version=row["invitation_version"],
        expires_at=row["expires_at"],
        version=row["version"],
        requested_at=row["requested_at"],
        since=row["since"],
    )
