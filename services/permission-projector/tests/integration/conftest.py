"""A migrated database, the real handler on it, and records as the broker would hand them over."""

import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from contracts import topics
from contracts.base import new_id
from contracts.codec import Message, encode, envelope
from contracts.directory import AccountSnapshot, ContactSnapshot, DeviceSnapshot, Service, Target
from contracts.events import AnyShareEvent, ShareAccepted, ShareRequested
from contracts.permissions import AllServices, Permission, Terms
from contracts.watermarks import TopicEnds, Watermark
from permission_projector.consumer import Projector
from permission_projector.generation import LIVE, ensure_live
from permission_projector.store import ARRIVED, Store
from servicekit import pg
from servicekit.kafka import Admin, DeadLetters, Producer, Record, partition_of

START = datetime(2026, 1, 1, tzinfo=UTC)


class World:
    """Builds records, each with the next offset of its partition, and applies them."""

    def __init__(self, database: Any, pool: pg.Pool, projector: Projector, prefix: str) -> None:
        self.database, self.pool, self.projector, self.prefix = database, pool, projector, prefix
        self.ends: defaultdict[tuple[str, int], int] = defaultdict(int)

    def raw(self, topic: topics.Topic, key: bytes | None, value: bytes | None) -> Record:
        partition = partition_of(key or b"", topic.partitions)
        offset = self.ends[topic.name, partition]
        self.ends[topic.name, partition] += 1
        return Record(self.prefix + topic.name, partition, offset, key, value, (), 0)

    def bytes_of(self, data: Message, version: int | None = None, event_id: UUID | None = None) -> bytes:
        message = envelope(data, source="test", time=START + timedelta(seconds=version or 0), version=version)
        return encode(message.model_copy(update={"id": str(event_id or new_id())}))

    def event(self, data: AnyShareEvent, version: int, event_id: UUID | None = None) -> Record:
        return self.raw(topics.SHARE_EVENTS, data.device_id.encode(), self.bytes_of(data, version, event_id))

    def device(
        self,
        device_id: str = "cam-1",
        owner: str = "olga",
        services: dict[str, Iterable[Permission]] | None = None,
        name: str = "Camera",
        created_at: datetime = START,
    ) -> Record:
        supported = {f"{device_id}-ssh": [Permission.CONNECT]} if services is None else services
        snapshot = DeviceSnapshot(
            device_id=device_id,
            owner_account_id=owner,
            name=name,
            kind="camera",
            services=tuple(
                Service(
                    service_id=service_id,
                    name=service_id.upper(),
                    protocol="tcp",
                    target=Target(host="10.0.0.1", port=22),
                    permissions=frozenset(permissions),
                )
                for service_id, permissions in supported.items()
            ),
            created_at=created_at,
        )
        return self.raw(topics.DIRECTORY_DEVICES, device_id.encode(), self.bytes_of(snapshot))

    def account(self, account_id: str, *emails: str, phones: tuple[str, ...] = ()) -> Record:
        snapshot = AccountSnapshot(
            account_id=account_id,
            name=account_id.title(),
            verified_emails=emails or (f"{account_id}@example.com",),
            verified_phones=phones,
        )
        return self.raw(topics.DIRECTORY_ACCOUNTS, account_id.encode(), self.bytes_of(snapshot))

    def contact(self, contact_id: UUID, address: str) -> Record:
        snapshot = ContactSnapshot(contact_id=contact_id, address=address)
        return self.raw(topics.DIRECTORY_CONTACTS, str(contact_id).encode(), self.bytes_of(snapshot))

    def watermark(self, as_of: datetime, events_id: str = "e1", devices_id: str = "d1") -> Record:
        def ends(topic: topics.Topic, topic_id: str) -> TopicEnds:
            return TopicEnds(
                topic_id=topic_id,
                end_offsets={number: self.ends[topic.name, number] for number in range(topic.partitions)},
            )

        data = Watermark(
            as_of=as_of,
            topics={
                topics.SHARE_EVENTS.name: ends(topics.SHARE_EVENTS, events_id),
                topics.DIRECTORY_DEVICES.name: ends(topics.DIRECTORY_DEVICES, devices_id),
            },
        )
        return self.raw(topics.WATERMARKS, None, self.bytes_of(data))

    def shared(
        self,
        account: str | None = "ravi",
        *,
        device_id: str = "cam-1",
        owner: str = "olga",
        terms: Terms | None = None,
        first_version: int = 1,
        contact_id: UUID | None = None,
        expires_at: datetime | None = None,
    ) -> list[Record]:
        """A share that ``account`` has accepted; None: that still waits."""
        who: dict[str, Any] = {
            "share_id": new_id(),
            "device_id": device_id,
            "contact_id": contact_id or new_id(),
            "owner_account_id": owner,
        }
        asked = ShareRequested(**who, terms=terms or Terms(scope=AllServices()), expires_at=expires_at)
        records = [self.event(asked, first_version)]
        if account is not None:
            records.append(self.event(ShareAccepted(**who, account_id=account), first_version + 1))
        return records

    async def apply(self, *records: Record) -> None:
        """Hand records over as the inbox does; neighbours of one partition are a batch, in a transaction."""
        for _, batch in groupby(records, key=lambda record: (record.topic, record.partition)):
            await self.together(*batch)

    async def together(self, *records: Record) -> None:
        """Hand records of any partitions over in one transaction, as the inbox does if they come at once."""
        async with self.pool.acquire() as connection, connection.transaction():
            for record in records:
                await connection.execute(
                    "insert into kafka_offset values ($1, $2, $3, $4)"
                    " on conflict (topic, partition) do update set next_offset = excluded.next_offset",
                    record.topic, record.partition, "e1" if "share.events" in record.topic else "d1",
                    record.offset + 1,
                )  # fmt: skip
            await self.projector.handle(connection, records)

    async def check(
        self, account: str, service: str, permission: str = "connect", at: datetime | None = None
    ) -> dict[str, Any]:
        """The gateway's question, asked as the gateway; ``at`` is now unless given."""
        connection = await asyncpg.connect(self.database.dsn("access_gateway"))
        try:
            row = await connection.fetchrow(
                "select * from permissions_api.check_grant_v2($1, $2, $3, coalesce($4, now()))",
                account, service, permission, at,
            )  # fmt: skip
        finally:
            await connection.close()
        assert row is not None
        return dict(row)

    async def reason(self, account: str, service: str, permission: str = "connect") -> str:
        return (await self.check(account, service, permission))["reason"]

    async def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Every row that follows from the topics alone, whatever the batches were."""
        answer: dict[str, list[dict[str, Any]]] = {}
        for table in (
            "share_event", "stream_quarantine", "share", "device", "service", "device_quarantine", "account",
            "account_address", "contact",
        ):  # fmt: skip
            rows = await self.pool.fetch(f"select to_jsonb(t) as row from {table} t order by to_jsonb(t)")
            answer[table] = [json.loads(row["row"]) for row in rows]
        return answer

    async def empty(self) -> None:
        self.ends.clear()
        await self.pool.execute(
            "truncate kafka_offset, share_event, stream_quarantine, share, device, service,"
            " device_quarantine, account, account_address, contact, watermark, change"
        )


@pytest.fixture
async def dead_letters(kafka_bootstrap: str, topic_prefix: str) -> AsyncGenerator[DeadLetters]:
    topic = topics.dead_letters("permission-projector")
    await Admin(kafka_bootstrap).provision([(topic_prefix + topic.name, topic.partitions, topic.config)])
    async with Producer(kafka_bootstrap, "test") as producer:
        yield DeadLetters(producer, topic_prefix + topic.name)


@pytest.fixture
async def world(database: Any, dead_letters: DeadLetters, topic_prefix: str) -> AsyncGenerator[World]:
    dsn = database.dsn("permission_projector")
    await pg.migrate(dsn, "permission_projector")
    await ensure_live(dsn)
    async with await pg.open_pool(
        dsn, application="test", search_path=LIVE, max_size=4, on_connect=ARRIVED
    ) as pool:
        yield World(database, pool, Projector(Store(), dead_letters, topic_prefix), topic_prefix)
