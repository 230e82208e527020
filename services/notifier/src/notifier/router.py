"""Turns notices into deliveries: who is reached how, and when; and finds what the clock makes due.

Any number of instances share the work: a batch of notices is locked for the length of one transaction.
"""

import asyncio
import contextlib
import math
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Final, Literal

from contracts.contacts import is_phone
from notifier.metrics import Metrics
from notifier.planner import (
    INVITING,
    Channel,
    Notice,
    Template,
    link_ends_at,
    reminder,
    still_due,
    undeliverable,
)
from notifier.routing import Route, due_together, pair, routes
from notifier.settings import Settings
from notifier.store.outward import NewDelivery, Routed, Routing, Store, Unrouted
from notifier.wording import missing_services
from servicekit import pg
from servicekit.logging import get_logger
from servicekit.telemetry import correlated

log = get_logger(__name__)

_BATCH: Final = 200
_FACTS_MOST_SECONDS: Final = 60.0
_NAME_PATIENCE: Final = timedelta(seconds=60)


class Router:
    """Two background tasks, see `run` and `remind`."""

    def __init__(
        self, *, store: Store, metrics: Metrics, settings: Settings, ways: frozenset[Channel]
    ) -> None:
        self._store, self._metrics, self._settings = store, metrics, settings
        self._ways = ways
        self._gap = timedelta(seconds=settings.digest_seconds)
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There is something to route."""
        self._wake.set()

    async def run(self) -> None:
        """Route until cancelled."""
        while True:
            self._wake.clear()
            pause = self._settings.delivery_poll_seconds
            try:
                pause = min(pause, await self._route_batch())
            except pg.TRANSIENT as error:
                log.warning("database_away", error=repr(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def remind(self) -> None:
        """Plan what the clock makes due, until cancelled."""
        while True:
            try:
                async with self._store.pool.acquire() as connection, connection.transaction():
                    inward = self._store.inward(connection)
                    found = [
                        notice
                        for invitation in await inward.due_reminders()
                        if (notice := reminder(invitation)) is not None
                    ]
                    for notice in found:
                        self._metrics.planned.labels(notice.template).inc()
                        log.info("notice_planned", template=notice.template, share_id=str(notice.share_id))
                    await inward.add_notices([(notice, str(notice.event_id)) for notice in found])
            except pg.TRANSIENT as error:
                log.warning("database_away", error=repr(error))
            await asyncio.sleep(self._settings.delivery_poll_seconds)

    async def _route_batch(self) -> float:
        """Route what is due, at most `_BATCH` notices; in how many seconds to look again."""
        async with self._store.pool.acquire() as connection, connection.transaction():
            routing = self._store.routing(connection)
            notices = await routing.due(_BATCH)
            if not notices:
                return math.inf
            results = await self._route(routing, notices)
        if len(notices) == _BATCH:
            return 0
        waiting = [item.route_at for item in results if item.route_at is not None]
        return min(((at - notices[0].looked_at).total_seconds() for at in waiting), default=math.inf)

    async def _route(self, routing: Routing, notices: list[Unrouted]) -> list[Routed]:
        results: list[Routed] = []
        going: list[tuple[Unrouted, Route]] = []
        failed: list[tuple[Notice, str]] = []
        for item in notices:
            with correlated(item.correlation_id):
                ways = self._decide(item)
                if isinstance(ways, Routed):
                    results.append(ways)
                    if ways.outcome == "failed" and item.notice.template in INVITING:
                        told = undeliverable(item.notice, item.invitation, item.looked_at)
                        failed.append((told, item.correlation_id))
                    continue
                results.append(Routed(item.notice_id, "routed" if ways else "inbox"))
                going += [(item, way) for way in ways]
        await routing.add(await self._timed(routing, going))
        await routing.save(results)
        await routing.inward.add_notices(failed)
        return results

    async def _timed(self, routing: Routing, going: list[tuple[Unrouted, Route]]) -> list[NewDelivery]:
        """The deliveries with their times, so that what belongs together goes together."""
        if not going:
            return []
        bulk = sorted({pair(item.notice) for item, _ in going if item.notice.operation is not None})
        await routing.wait_for_bulk(bulk, self._gap)
        latest: dict[tuple[str, Channel], datetime] = {}
        if self._gap:
            latest = await routing.latest(sorted({pair(item.notice) for item, _ in going}), self._gap)
        return [
            NewDelivery(
                notice_id=item.notice_id,
                channel=way.channel,
                target=way.target,
                due_at=due_together(
                    way, item.notice, latest.get((pair(item.notice), way.channel)), item.looked_at, self._gap
                ),
                pair=pair(item.notice) if self._gap else "",
                lane=_lane(item.person.address) if way.channel is Channel.EMAIL else "",
            )
            for item, way in going
        ]

    def _decide(self, item: Unrouted) -> tuple[Route, ...] | Routed:
        """The ways of a notice, or why there are none now."""
        notice = item.notice
        if not still_due(notice, item.invitation, item.looked_at):
            return self._ended(item, "superseded", "SUPERSEDED")
        if notice.template in INVITING and link_ends_at(notice.event_time, item.invitation) <= item.looked_at:
            return self._ended(item, "expired", "LINK_ENDED")
        if notice.template is Template.REVOKED and notice.account_id is None and not item.told_before:
            if item.told_before is None:
                return Routed(item.notice_id, "inbox", "NEVER_TOLD")
            return Routed(item.notice_id, None, "BEING_TOLD", item.looked_at + timedelta(seconds=1))
        if notice.template in INVITING and self._no_way(item):
            return self._ended(item, "failed", "NO_CHANNEL")
        missing = self._missing(item)
        return self._wait(item, missing) if missing else self._ways_of(item)

    def _ways_of(self, item: Unrouted) -> tuple[Route, ...] | Routed:
        ways = tuple(
            way
            for way in routes(item.notice, item.person, item.looked_at)
            if way.channel in self._ways and not (item.refused and way.channel is Channel.EMAIL)
        )
        if not ways and item.notice.template in INVITING and item.refused:
            return self._ended(item, "failed", "ADDRESS_REFUSED")
        return ways

    def _no_way(self, item: Unrouted) -> bool:
        """Whether there is nothing but a telephone number, and nobody to send short messages."""
        person = item.person
        return (
            person.address is not None
            and is_phone(person.address)
            and Channel.SMS not in self._ways
            and not person.subscriptions
        )

    def _missing(self, item: Unrouted) -> list[str]:
        """What must arrive before people can be told; names of what is gone are waited for a minute only."""
        notice = item.notice
        inviting = notice.template in INVITING
        missing: list[str] = []
        if notice.account_id is None and item.person.address is None:
            missing.append("contact")
        if item.device_name is None:
            missing.append("device")
        if item.owner_name is None:
            missing.append("account")
        if notice.account_id is not None and not item.has_account and "account" not in missing:
            missing.append("account")
        if item.age >= _NAME_PATIENCE:
            return missing if inviting else []
        if inviting and missing_services(item.invitation.terms, item.service_names):
            missing.append("service")
        return missing

    def _wait(self, item: Unrouted, missing: list[str]) -> Routed:
        if item.age >= timedelta(seconds=self._settings.give_up_seconds):
            return self._ended(item, "failed", "FACTS_MISSING")
        alarming = item.age >= timedelta(seconds=self._settings.facts_alarm_seconds)
        (log.error if alarming else log.info)(
            "notice_waits_for_facts",
            missing=missing, age_seconds=int(item.age.total_seconds()), event_id=str(item.notice.event_id),
        )  # fmt: skip
        delay = min(self._settings.facts_retry_seconds * 2 ** min(item.waits, 32), _FACTS_MOST_SECONDS)
        self._metrics.waited.inc()
        return Routed(item.notice_id, None, "FACTS_MISSING", item.looked_at + timedelta(seconds=delay))

    def _ended(
        self, item: Unrouted, outcome: Literal["superseded", "expired", "failed"], code: str
    ) -> Routed:
        report = log.warning if outcome == "failed" else log.info
        report(
            f"notice_{outcome}",
            code=code, template=item.notice.template, event_id=str(item.notice.event_id),
            share_id=str(item.notice.share_id),
        )  # fmt: skip
        self._metrics.unrouted.labels(outcome).inc()
        return Routed(item.notice_id, outcome, code)


def _lane(address: str | None) -> str:
    """Which mails may be slow together: a digest of the domain, which is a part of an address."""
    domain = (address or "").rpartition("@")[2]
    return blake2b(domain.encode(), digest_size=6).hexdigest()
