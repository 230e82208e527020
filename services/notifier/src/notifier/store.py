"""The notifier's tables; every statement is in ``sql/queries.sql``."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID, uuid4

import asyncpg

from contracts.directory import AccountSnapshot, ContactSnapshot, DeviceSnapshot
from contracts.permissions import Terms
from notifier.planner import Channel, Invitation, Notice, Template
from servicekit import pg

_WAKE_CHANNEL = "notifier_due"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A claimed notice. ``attempts`` and ``waits`` count earlier tries; times are the database's."""

    delivery_id: UUID
    claim: UUID
    notice: Notice
    correlation_id: str
    attempts: int
    waits: int
    created_at: datetime
    claimed_at: datetime

    @property
    def key(self) -> str:
        """The identity of the notice, the same for ever."""
        notice = self.notice
        return f"{notice.event_id}/{notice.contact_id}/{notice.channel}/{notice.template}"


@dataclass(frozen=True, slots=True)
class Known:
    """What the tables say now about a notice; None is what has not arrived yet."""

    invitation: Invitation
    device_name: str | None
    service_names: Mapping[str, str]
    owner_name: str | None
    owner_address: str | None
    address: str | None


class Inward:
    """What the consumer writes, inside the transaction of ``connection``."""

    def __init__(self, connection: pg.Connection, sql: Mapping[str, str]) -> None:
        self._connection, self._sql = connection, sql

    async def last_versions(self, device_ids: Iterable[str]) -> dict[str, int]:
        """How far each device's stream was planned; a device without an event is absent."""
        rows = await self._connection.fetch(self._sql["last_versions"], list(device_ids))
        return {row["device_id"]: row["last_version"] for row in rows}

    async def invitations(self, share_ids: Iterable[UUID]) -> dict[UUID, Invitation]:
        """The invitations known so far."""
        rows = await self._connection.fetch(self._sql["invitations"], list(share_ids))
        return {row["share_id"]: _invitation(row) for row in rows}

    async def save_progress(self, versions: Mapping[str, int]) -> None:
        """Set the last planned version of devices."""
        await self._connection.executemany(self._sql["save_progress"], sorted(versions.items()))

    async def save_invitations(self, invitations: Iterable[Invitation]) -> None:
        """Insert or replace invitations."""
        await self._connection.executemany(
            self._sql["save_invitation"],
            [
                (
                    item.share_id, item.device_id, item.contact_id, item.owner_account_id, item.state,
                    item.version, item.announced_version, item.terms.model_dump_json(),
                )
                for item in invitations
            ],
        )  # fmt: skip

    async def add_deliveries(self, notices: Iterable[tuple[Notice, str]]) -> None:
        """Insert notices (with their correlation ids) that are due, and wake all instances at the commit."""
        await self._connection.executemany(
            self._sql["add_delivery"],
            [
                (
                    item.event_id, item.contact_id, item.channel, item.template, item.share_id, item.version,
                    item.event_time, correlation_id,
                )
                for item, correlation_id in notices
            ],
        )  # fmt: skip
        await self._connection.execute(self._sql["announce"])

    async def save_snapshot(self, snapshot: DeviceSnapshot | AccountSnapshot | ContactSnapshot) -> None:
        """Insert or replace what a directory says."""
        match snapshot:
            case DeviceSnapshot():
                names = {item.service_id: item.name for item in snapshot.services}
                await self._connection.execute(
                    self._sql["save_device"], snapshot.device_id, snapshot.name, json.dumps(names)
                )
            case AccountSnapshot():
                await self._connection.execute(
                    self._sql["save_account"],
                    snapshot.account_id,
                    snapshot.name,
                    list(snapshot.verified_emails),
                )
            case ContactSnapshot():
                await self._connection.execute(
                    self._sql["save_contact"], snapshot.contact_id, snapshot.address
                )

    async def delete_snapshot(self, kind: Literal["device", "account", "contact"], key: str | UUID) -> None:
        """Forget what a directory no longer has."""
        await self._connection.execute(self._sql[f"delete_{kind}"], key)


class Store:
    """What delivery reads and writes; each call is a transaction of its own."""

    def __init__(self, pool: pg.Pool) -> None:
        self._pool = pool
        self._sql = pg.load_queries("notifier")

    def inward(self, connection: pg.Connection) -> Inward:
        """The consumer's side, in its transaction."""
        return Inward(connection, self._sql)

    async def ping(self) -> None:
        """Raises when the database does not answer."""
        await self._pool.execute(self._sql["ping"])

    async def claim(self, duration: timedelta) -> Delivery | None:
        """Take the delivery that is due longest; nobody else takes it for ``duration``."""
        claim = uuid4()
        row = await self._pool.fetchrow(self._sql["claim_delivery"], claim, duration)
        if row is None:
            return None
        notice = Notice(
            event_id=row["event_id"],
            contact_id=row["contact_id"],
            channel=Channel(row["channel"]),
            template=Template(row["template"]),
            share_id=row["share_id"],
            version=row["version"],
            event_time=row["event_time"],
        )
        return Delivery(
            delivery_id=row["delivery_id"],
            claim=claim,
            notice=notice,
            correlation_id=row["correlation_id"],
            attempts=row["attempts"],
            waits=row["waits"],
            created_at=row["created_at"],
            claimed_at=row["claimed_at"],
        )

    async def known(self, delivery: Delivery) -> Known:
        """The invitation as it is now, the names and the address."""
        row = await self._pool.fetchrow(self._sql["delivery_facts"], delivery.notice.share_id)
        assert row is not None  # a foreign key holds it
        return Known(
            invitation=_invitation(row),
            device_name=row["device_name"],
            service_names=json.loads(row["service_names"] or "{}"),
            owner_name=row["owner_name"],
            owner_address=next(iter(row["owner_addresses"] or ()), None),
            address=row["address"],
        )

    async def renew(self, delivery: Delivery, duration: timedelta) -> bool:
        """Hold the claim for ``duration`` from now; False when it is lost."""
        return (
            await self._pool.fetchval(
                self._sql["renew_claim"], delivery.delivery_id, delivery.claim, duration
            )
            is not None
        )

    async def mark_sent(self, delivery: Delivery) -> None:
        """The mail was taken."""
        await self._pool.execute(self._sql["mark_sent"], delivery.delivery_id)

    async def finish(
        self, delivery: Delivery, state: Literal["failed", "superseded", "expired"], code: str
    ) -> None:
        """It is not tried again; ``code`` says why. Nothing happens when the claim is lost."""
        await self._pool.execute(self._sql["finish"], delivery.delivery_id, delivery.claim, state, code)

    async def retry_sending(self, delivery: Delivery, delay: timedelta, code: str) -> None:
        """A try failed: again after ``delay``. Nothing happens when the claim is lost."""
        await self._pool.execute(
            self._sql["retry_sending"], delivery.delivery_id, delivery.claim, delay, code
        )

    async def wait_for_facts(self, delivery: Delivery, delay: timedelta, code: str) -> None:
        """A name or the address is not there yet: look again after ``delay``."""
        await self._pool.execute(
            self._sql["wait_for_facts"], delivery.delivery_id, delivery.claim, delay, code
        )

    async def backlog(self, patience: timedelta) -> tuple[float, int]:
        """Age of the oldest unsent delivery (s), and how many wait for facts beyond ``patience``."""
        row = await self._pool.fetchrow(self._sql["backlog"], patience)
        assert row is not None  # an aggregate always gives one
        return row["oldest_seconds"], row["long_without_facts"]

    async def listen(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever something was planned, until the connection is lost (then it returns)."""
        lost = asyncio.Event()

        def on_notify(*_: object) -> None:
            wake()

        def on_lost(_: object) -> None:
            lost.set()

        async with self._pool.acquire() as connection:
            connection.add_termination_listener(on_lost)
            await connection.add_listener(_WAKE_CHANNEL, on_notify)
            wake()  # what was announced before we listened
            try:
                await lost.wait()
            finally:
                connection.remove_termination_listener(on_lost)
                if not connection.is_closed():
                    await connection.remove_listener(_WAKE_CHANNEL, on_notify)


def _invitation(row: asyncpg.Record) -> Invitation:
    return Invitation(
        share_id=row["share_id"],
        device_id=row["device_id"],
        contact_id=row["contact_id"],
        owner_account_id=row["owner_account_id"],
        state=row["state"],
        version=row["invitation_version"],
        announced_version=row["announced_version"],
        terms=Terms.model_validate_json(row["terms"]),
    )
