"""The read models' tables, as sets of rows. Everything here runs inside the transaction of its caller."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from contracts.directory import ContactSnapshot, DeviceSnapshot
from contracts.permissions import Terms
from permission_projector.projection import Share, ShareState, Stream
from permission_projector.records import Account, DeviceWatermark
from servicekit import pg

SCHEMA: Final = "permissions"
"""Where the live generation is, whatever its number: the search_path of every session."""

KEPT_WATERMARKS: Final = 120
KEPT_CHANGES: Final = 100_000
_FORGET_EVERY: Final = 1_000
"""Old changes are deleted each time the feed has grown by this many."""


class Touch(NamedTuple):
    """What touched a device last: the offset of the record, and the request that it came from, if known."""

    offset: int
    correlation_id: str | None


@dataclass(slots=True)
class StreamChanges:
    """What a batch of share.events changed. Streams and shares by their keys; each in its final form."""

    streams: dict[str, Stream] = field(default_factory=dict[str, Stream])
    quarantine_offsets: dict[str, int] = field(default_factory=dict[str, int])
    events: list[tuple[str, int, UUID]] = field(default_factory=list[tuple[str, int, UUID]])
    shares: dict[tuple[str, UUID], Share] = field(default_factory=dict[tuple[str, UUID], Share])


@dataclass(slots=True)
class DeviceChanges:
    """What a batch of directory.devices says, by device: its snapshot, None when it was removed, or the code
    and offset of a record that could not be read."""

    snapshots: dict[str, DeviceSnapshot | None] = field(default_factory=dict[str, DeviceSnapshot | None])
    unreadable: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])


class Store:
    """Reads and writes the live generation."""

    def __init__(self) -> None:
        self._sql = pg.load_queries("permission_projector")

    async def streams(
        self,
        connection: pg.Connection,
        devices: Collection[str],
        asked: Sequence[tuple[str, int, UUID]],
    ) -> dict[str, Stream]:
        """The streams of ``devices``, each with those of its events and shares that are ``asked`` for.

        ``asked`` holds device, version and share. A device that is not known has an empty stream.
        """
        streams = {device_id: Stream() for device_id in devices}
        for row in await connection.fetch(self._sql["streams"], list(devices)):
            streams[row["device_id"]] = Stream(row["version"], row["quarantine_code"])
        ids, versions, shares = _columns(asked, 3)
        for row in await connection.fetch(self._sql["recorded_events"], ids, versions):
            streams[row["device_id"]].event_ids[row["version"]] = _uuid(row["event_id"])
        for row in await connection.fetch(self._sql["shares"], ids, shares):
            share = _share(row)
            streams[share.device_id].shares[share.share_id] = share
        return streams

    async def save_streams(self, connection: pg.Connection, changes: StreamChanges) -> None:
        """Write what a batch of share.events changed."""
        if changes.events:
            await connection.execute(self._sql["record_events"], *_columns(changes.events, 3))
        if changes.shares:
            rows = [
                (
                    share.device_id, share.share_id, share.contact_id, share.owner_account_id,
                    share.state.value, share.account_id, share.terms.model_dump_json(),
                    share.invitation_version, share.requested_at, share.since,
                )
                for share in changes.shares.values()
            ]  # fmt: skip
            await connection.execute(self._sql["save_shares"], *_columns(rows, 10))
        if changes.streams:
            heads = [
                (device_id, stream.version, stream.quarantine, changes.quarantine_offsets.get(device_id))
                for device_id, stream in changes.streams.items()
            ]
            await connection.execute(self._sql["save_streams"], *_columns(heads, 4))

    async def save_devices(self, connection: pg.Connection, partition: int, changes: DeviceChanges) -> None:
        """Write a batch of directory.devices. What cannot be read leaves the last snapshot in place."""
        there = [device for device in changes.snapshots.values() if device is not None]
        gone = [device_id for device_id, device in changes.snapshots.items() if device is None]
        touched = list(changes.snapshots)
        if touched:
            await connection.execute(self._sql["delete_services"], touched)
            await connection.execute(self._sql["release_devices"], touched)
        if gone:
            await connection.execute(self._sql["delete_devices"], gone)
        if there:
            devices = [
                (device.device_id, device.owner_account_id, device.name, device.kind, device.created_at)
                for device in there
            ]
            await connection.execute(self._sql["save_devices"], partition, *_columns(devices, 5))
            services = [
                (
                    device.device_id, service.service_id, ordinal, service.name, service.protocol,
                    service.channel, service.target.host, service.target.port,
                    ",".join(sorted(service.permissions)),
                )
                for device in there
                for ordinal, service in enumerate(device.services)
            ]  # fmt: skip
            await connection.execute(self._sql["save_services"], *_columns(services, 9))
        if changes.unreadable:
            rows = [(device_id, *why) for device_id, why in changes.unreadable.items()]
            await connection.execute(self._sql["quarantine_devices"], *_columns(rows, 3))

    async def save_accounts(self, connection: pg.Connection, accounts: Mapping[str, Account | None]) -> None:
        """Write a batch of directory.accounts; None removes."""
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

    async def save_contacts(
        self, connection: pg.Connection, contacts: Mapping[UUID, ContactSnapshot | None]
    ) -> None:
        """Write a batch of directory.contacts; None removes."""
        gone = [contact_id for contact_id, contact in contacts.items() if contact is None]
        await connection.execute(self._sql["delete_contacts"], gone)
        rows = [(item.contact_id, item.address) for item in contacts.values() if item is not None]
        await connection.execute(self._sql["save_contacts"], *_columns(rows, 2))

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

    async def announce(
        self, connection: pg.Connection, topic: str, partition: int, touched: Mapping[str, Touch]
    ) -> None:
        """Write the change feed: devices with what touched them last. Call it last.

        It holds the generation's lock until the transaction ends.
        """
        if touched:
            generation = await connection.fetchval(self._sql["lock_generation"])
            rows = await connection.fetch(
                self._sql["append_changes"],
                generation, topic, partition, [touch.offset for touch in touched.values()], list(touched),
                [touch.correlation_id for touch in touched.values()],
            )  # fmt: skip
            first, last = rows[0]["id"], rows[-1]["id"]
            if first // _FORGET_EVERY != (last + 1) // _FORGET_EVERY:
                await connection.execute(self._sql["forget_changes"], last - KEPT_CHANGES)
        await connection.execute(self._sql["notify"])

    async def observe(self, pool: pg.Pool) -> tuple[int, float | None]:
        """How many devices are in quarantine, and the age in seconds of the stalest partition (None: never
        proved)."""
        row = await pool.fetchrow(self._sql["observe"])
        assert row is not None
        return row["quarantined"], row["age_seconds"]


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [[row[place] for row in rows] for place in range(width)]


def _uuid(value: UUID) -> UUID:
    """The driver's own subclass as the plain class, so that both compare and print alike."""
    return UUID(int=value.int)


def _share(row: asyncpg.Record) -> Share:
    return Share(
        share_id=_uuid(row["share_id"]),
        device_id=row["device_id"],
        contact_id=_uuid(row["contact_id"]),
        owner_account_id=row["owner_account_id"],
        state=ShareState(row["state"]),
        account_id=row["account_id"],
        terms=Terms.model_validate_json(row["terms"]),
        invitation_version=row["invitation_version"],
        requested_at=row["requested_at"],
        since=row["since"],
    )
