"""What routing and delivery read and write."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Literal
from uuid import UUID, uuid4

import asyncpg

from notifier.planner import Channel, Invitation, Notice, Template
from notifier.routing import BULK_LONGEST, Person, QuietHours, Subscription
from notifier.store.inward import Inward
from notifier.store.rows import invitation_of, notice_of
from servicekit import pg

Outcome = Literal["routed", "inbox", "superseded", "expired", "failed"]


@dataclass(frozen=True, slots=True)
class Unrouted:
    """A notice that is to be looked at, with all that is known; None is what has not arrived."""

    notice_id: UUID
    notice: Notice
    invitation: Invitation
    correlation_id: str
    person: Person
    refused: bool
    """Mail to the address was refused for good not long ago."""
    has_account: bool
    told_before: bool | None
    """Of a revocation, whether its contact got the invitation; None: neither he did nor is it on its way."""
    device_name: str | None
    owner_name: str | None
    service_names: Mapping[str, str]
    waits: int
    age: timedelta
    looked_at: datetime


@dataclass(frozen=True, slots=True)
class Routed:
    """What came of looking at a notice: an ``outcome``, or another look at ``route_at``."""

    notice_id: UUID
    outcome: Outcome | None
    code: str | None = None
    route_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A delivery to be added."""

    notice_id: UUID
    channel: Channel
    target: str
    due_at: datetime
    pair: str
    lane: str


class Routing:
    """One batch of routing, inside the transaction of ``connection``."""

    def __init__(self, connection: pg.Connection, sql: Mapping[str, str]) -> None:
        self._connection, self._sql = connection, sql
        self.inward = Inward(connection, sql)

    async def due(self, most: int) -> list[Unrouted]:
        """Notices to be looked at; nobody else gets them before the transaction ends."""
        rows = await self._connection.fetch(self._sql["notices_to_route"], most)
        return [_unrouted(row) for row in rows]

    async def latest(self, pairs: Sequence[str], within: timedelta) -> dict[tuple[str, Channel], datetime]:
        """When the latest delivery of each pair, if not older than ``within``, is or was due."""
        rows = await self._connection.fetch(self._sql["latest_of_pairs"], list(pairs), within)
        return {(row["pair"], Channel(row["channel"])): row["last"] for row in rows}

    async def add(self, deliveries: Sequence[NewDelivery]) -> None:
        """Add deliveries, and wake who sends them."""
        if not deliveries:
            return
        await self._connection.execute(
            self._sql["add_deliveries"],
            [item.notice_id for item in deliveries],
            [item.channel for item in deliveries],
            [item.target for item in deliveries],
            [item.due_at for item in deliveries],
            [item.pair for item in deliveries],
            [item.lane for item in deliveries],
        )
        for channel in {item.channel for item in deliveries}:
            await self._connection.execute(self._sql["announce"], channel)

    async def wait_for_bulk(self, pairs: Sequence[str], gap: timedelta) -> None:
        """More of a bulk has come for these pairs: what waits for its end waits on."""
        if pairs:
            await self._connection.execute(self._sql["wait_for_bulk"], list(pairs), gap, BULK_LONGEST)

    async def save(self, results: Sequence[Routed]) -> None:
        """Keep what came of each notice."""
        await self._connection.execute(
            self._sql["routed"],
            [item.notice_id for item in results],
            [item.route_at for item in results],
            [item.outcome for item in results],
            [item.code for item in results],
        )


def _unrouted(row: asyncpg.Record) -> Unrouted:
    choices: dict[tuple[Template, Channel], bool] = {}
    for template, channel, wanted in json.loads(row["choices"] or "[]"):
        # Who turned something off, as an account or before he had one, does not get it.
        key = Template(template), Channel(channel)
        choices[key] = wanted and choices.get(key, True)
    return Unrouted(
        notice_id=row["notice_id"],
        notice=notice_of(row),
        invitation=invitation_of(row, "accepted_by"),
        correlation_id=row["correlation_id"],
        person=Person(
            address=row["address"],
            choices=choices,
            quiet=_quiet(row),
            subscriptions=[
                Subscription(identity, Channel(channel))
                for identity, channel in json.loads(row["subscriptions"] or "[]")
            ],
        ),
        refused=row["refused"],
        has_account=row["has_account"],
        told_before=row["told_before"],
        device_name=row["device_name"],
        owner_name=row["owner_name"],
        service_names=json.loads(row["service_names"] or "{}"),
        waits=row["waits"],
        age=row["looked_at"] - row["created_at"],
        looked_at=row["looked_at"],
    )


def _quiet(row: asyncpg.Record) -> QuietHours | None:
    begins: time | None = row["quiet_from"]
    ends: time | None = row["quiet_until"]
    zone: str | None = row["time_zone"]
    return QuietHours(begins, ends, zone) if begins is not None and ends is not None and zone else None


@dataclass(frozen=True, slots=True)
class Claimed:
    """Deliveries that go out as one, held under ``claim``."""

    claim: UUID
    channel: Channel
    target: str
    lane: str
    delivery_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """One delivery at the moment of sending: its notice, and what the tables say now.

    ``wanted``: what its reader has said about such notices on this way; None: nothing.
    """

    delivery_id: UUID
    notice_id: UUID
    target: str
    notice: Notice
    invitation: Invitation
    correlation_id: str
    attempts: int
    age: timedelta
    looked_at: datetime
    device_name: str | None
    service_names: Mapping[str, str]
    owner_name: str | None
    owner_address: str | None
    contact_address: str | None
    address: str | None
    language: str | None
    quiet: QuietHours | None
    wanted: bool | None
    reader_account: str | None
    endpoint: str | None
    public_key: str | None
    auth_secret: str | None

    @property
    def key(self) -> str:
        """The identity of the notice, the same for ever."""
        return f"{self.notice.event_id}/{self.notice.reader}/{self.notice.template}"


class Store:
    """What the processes' tasks need; each call is a transaction of its own."""

    def __init__(self, pool: pg.Pool) -> None:
        self.pool = pool
        self._sql = {
            name: text
            for file in ("inward.sql", "routing.sql", "delivery.sql")
            for name, text in pg.load_queries("notifier", file).items()
        }

    def inward(self, connection: pg.Connection) -> Inward:
        """The consumer's side, in its transaction."""
        return Inward(connection, self._sql)

    def routing(self, connection: pg.Connection) -> Routing:
        """Routing's side, in its transaction."""
        return Routing(connection, self._sql)

    async def ping(self) -> None:
        """Raises when the database does not answer."""
        await self.pool.execute(self._sql["ping"])

    async def claim(
        self, channel: Channel, most: int, busy: Mapping[str, int], lane_most: int, duration: timedelta
    ) -> list[Claimed]:
        """Take what is due longest on a way, at most ``most`` and what goes with it, for ``duration``.

        ``busy`` tells how many workers lanes have now; none but the empty one gets more than ``lane_most``.
        """
        claim = uuid4()
        rows = await self.pool.fetch(
            self._sql["claim_deliveries"],
            channel,
            claim,
            most,
            list(busy),
            list(busy.values()),
            lane_most,
            duration,
        )
        groups: dict[object, list[asyncpg.Record]] = {}
        for row in rows:
            together = (row["pair"], row["target"]) if row["pair"] else row["delivery_id"]
            groups.setdefault(together, []).append(row)
        return [
            Claimed(
                claim,
                channel,
                group[0]["target"],
                group[0]["lane"],
                tuple(row["delivery_id"] for row in group),
            )
            for group in groups.values()
        ]

    async def next_due(self, channel: Channel) -> float | None:
        """In how many seconds something is due on a way; None: nothing is planned."""
        return await self.pool.fetchval(self._sql["next_due"], channel)

    async def items(self, groups: Sequence[Claimed]) -> list[list[Item]]:
        """What is claimed, as it is now, for each group; what has been lost since is not in it."""
        rows = await self.pool.fetch(
            self._sql["delivery_facts"],
            [delivery_id for group in groups for delivery_id in group.delivery_ids],
            [group.claim for group in groups for _ in group.delivery_ids],
        )
        places = {
            delivery_id: place for place, group in enumerate(groups) for delivery_id in group.delivery_ids
        }
        found: list[list[Item]] = [[] for _ in groups]
        for row in rows:
            found[places[row["delivery_id"]]].append(_item(row))
        return found

    async def renew(self, claimed: Claimed, duration: timedelta) -> bool:
        """Hold the claim for ``duration`` from now; False when it is lost."""
        rows = await self.pool.fetch(
            self._sql["renew_claims"], list(claimed.delivery_ids), claimed.claim, duration
        )
        return bool(rows)

    async def mark_sent(self, delivery_ids: Sequence[UUID]) -> None:
        """They were taken."""
        await self.pool.execute(self._sql["mark_sent"], list(delivery_ids))

    async def finish(
        self,
        claim: UUID,
        delivery_ids: Sequence[UUID],
        state: Literal["failed", "superseded", "expired"],
        code: str,
        *,
        undeliverable: Sequence[tuple[Item, Notice]] = (),
        refused: Item | None = None,
    ) -> None:
        """They are not tried again; ``code`` says why. Nothing happens when the claim is lost.

        Sharers are told by the notices ``undeliverable``, unless theirs was delivered on another way. To the
        reader of ``refused`` mail is refused for good.
        """
        async with self.pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(self._sql["finish"], list(delivery_ids), claim, state, code)
            finished = {row["notice_id"] for row in rows}
            if refused is not None and finished:
                account = refused.notice.account_id
                name = "refuse_contact" if account is None else "refuse_account"
                await connection.execute(
                    self._sql[name], refused.notice.contact_id if account is None else account
                )
            failed = [(item, notice) for item, notice in undeliverable if item.notice_id in finished]
            if failed:
                told = await connection.fetch(
                    self._sql["told_otherwise"], [item.notice_id for item, _ in failed]
                )
                otherwise = {row["notice_id"] for row in told}
                await self.inward(connection).add_notices(
                    [
                        (notice, item.correlation_id)
                        for item, notice in failed
                        if item.notice_id not in otherwise
                    ]
                )

    async def retry_later(
        self, claim: UUID, delivery_ids: Sequence[UUID], delay: timedelta, code: str
    ) -> None:
        """A try failed: again after ``delay``. Nothing happens when the claim is lost."""
        await self.pool.execute(self._sql["retry_later"], list(delivery_ids), claim, delay, code)

    async def wait_until(self, claim: UUID, delivery_ids: Sequence[UUID], moment: datetime) -> None:
        """They are not to go out before ``moment``. Nothing happens when the claim is lost."""
        await self.pool.execute(self._sql["wait_until"], list(delivery_ids), claim, moment)

    async def forget_subscription(self, target: str) -> None:
        """A push service says that it is gone."""
        await self.pool.execute(self._sql["forget_subscription"], UUID(target))

    async def refuse_subscription(self, target: str, most: int) -> bool:
        """A push service refuses us there; True when it has ``most`` times in a row, and it was deleted."""
        refusals = await self.pool.fetchval(self._sql["refuse_subscription"], UUID(target))
        if refusals is None or refusals < most:
            return False
        await self.forget_subscription(target)
        return True

    async def accept_subscription(self, target: str) -> None:
        """A push was taken there."""
        await self.pool.execute(self._sql["accept_subscription"], UUID(target))

    async def backlog(self, patience: timedelta) -> tuple[float, int]:
        """Age of the oldest unsent notice (s), and how many wait for facts beyond ``patience``."""
        waiting = await self.pool.fetchrow(self._sql["notice_backlog"], patience)
        sending: float = await self.pool.fetchval(self._sql["delivery_backlog"])
        assert waiting is not None  # an aggregate always gives one
        return max(waiting["oldest_seconds"], sending), waiting["long_without_facts"]

    async def failed(self, code: str | None) -> list[tuple[str, str, int]]:
        """Deliveries that have failed for good (with ``code``): code, channel and how many."""
        rows = await self.pool.fetch(self._sql["failed_deliveries"], code)
        return [(row["code"], row["channel"], row["deliveries"]) for row in rows]

    async def redrive(self, code: str | None) -> int:
        """Have failed deliveries (with ``code``) tried again; how many."""
        return len(await self.pool.fetch(self._sql["redrive"], code))


def _item(row: asyncpg.Record) -> Item:
    return Item(
        delivery_id=row["delivery_id"],
        notice_id=row["notice_id"],
        target=row["target"],
        notice=notice_of(row),
        invitation=invitation_of(row, "accepted_by"),
        correlation_id=row["correlation_id"],
        attempts=row["attempts"],
        age=row["looked_at"] - row["created_at"],
        looked_at=row["looked_at"],
        device_name=row["device_name"] or row["former_device_name"],
        service_names=json.loads(row["service_names"] or "{}"),
        owner_name=row["owner_name"],
        owner_address=row["owner_address"],
        contact_address=row["contact_address"],
        address=row["address"],
        language=row["language"],
        quiet=_quiet(row),
        wanted=row["wanted"],
        reader_account=row["person_account"],
        endpoint=row["endpoint"],
        public_key=row["public_key"],
        auth_secret=row["auth_secret"],
    )
