"""Sends what is due on one way: claim, look again, render, hand over, mark.

Each way has its own workers, so that one that is slow or gone holds up no other; and one lane of a way (the
mails to one domain) gets at most half of them. Any number of instances share the work: deliveries are claimed
for a while (``claim_seconds``), the claim is renewed while the server takes its time, and what a process that
died had claimed is taken over then.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Final, Literal, Protocol

import structlog

from notifier.errors import DeferredError, HandoverError, RefusedError
from notifier.metrics import Metrics
from notifier.planner import INVITING, Channel, link_ends_at, still_due, undeliverable
from notifier.routing import by_default, undisturbed
from notifier.settings import Settings
from notifier.store.outward import Claimed, Item, Store
from notifier.together import Looker, Marker
from servicekit import pg
from servicekit.logging import get_logger
from servicekit.telemetry import correlated

log = get_logger(__name__)

_STOP_SECONDS: Final = 3.0
_JITTER: Final = 0.2
_INTERNAL: Final = "INTERNAL"
_GATHER_SECONDS: Final = 0.025
"""So long at most free workers wait until they are half of all: a claim for many costs what one costs."""


class Way(Protocol):
    """A channel: turns what is to be told into a message and hands it over."""

    channel: Channel

    def sent(self, items: Sequence[Item]) -> AbstractAsyncContextManager[None]:
        """Hand over one message about ``items``; the block runs as soon as the other side has taken it.

        Raises:
            DeferredError: not taken for now, or it is unknown whether it was.
            RefusedError: it will never be taken.
        """
        ...


def retry_delay(failures: int, *, first: float, most: float, jitter: float) -> timedelta:
    """Wait after the try that followed ``failures`` failed ones: doubled each time, up to ``most`` seconds.

    ``jitter`` (-1 … 1) moves it by up to a fifth, so that many messages do not come back at once.
    """
    return timedelta(seconds=min(first * 2 ** min(failures, 32), most) * (1 + _JITTER * jitter))


class Deliveries:
    """The sending side of one way in one process, see `run`.

    ``at_once`` messages are handed over at one time; three times as many are worked on, and of one lane half.
    """

    def __init__(
        self,
        way: Way,
        *,
        store: Store,
        marker: Marker,
        looker: Looker,
        metrics: Metrics,
        settings: Settings,
        at_once: int,
    ) -> None:
        self._way, self._store, self._marker, self._looker = way, store, marker, looker
        self._metrics, self._settings = metrics, settings
        self._claim_duration = timedelta(seconds=settings.claim_seconds)
        self._workers = 3 * at_once if at_once > 1 else 1
        self._lane_most = max(1, at_once // 2)
        self._wake = asyncio.Event()
        self._lanes: Counter[str] = Counter()
        self._open: set[asyncio.Task[None]] = set()

    @property
    def channel(self) -> Channel:
        """Which way."""
        return self._way.channel

    def wake(self) -> None:
        """There is something to send."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled; messages on their way then get three seconds to be finished and marked."""
        try:
            while True:
                try:
                    await self._start_next()
                except pg.TRANSIENT as error:
                    log.warning("database_away", error=repr(error))
                    await asyncio.sleep(self._settings.delivery_poll_seconds)
        finally:
            if self._open:
                await asyncio.wait(self._open, timeout=_STOP_SECONDS)
            for task in self._open:
                task.cancel()

    async def _start_next(self) -> None:
        """Claim for the workers that are free and start them, or wait until there may be something to do."""
        await self._gather()
        self._wake.clear()
        free = self._workers - len(self._open)
        if free:
            claimed_until = asyncio.get_running_loop().time() + self._settings.claim_seconds
            busy = {lane: count for lane, count in self._lanes.items() if lane}
            groups = await self._store.claim(self.channel, free, busy, self._lane_most, self._claim_duration)
            for group in groups:
                self._lanes[group.lane] += 1
                task = asyncio.create_task(self._deliver(group, claimed_until))
                self._open.add(task)
                task.add_done_callback(lambda done, group=group: self._closed(done, group))
            if groups:
                return
        await self._wait()

    async def _gather(self) -> None:
        """While others work, wait until half of the workers are free, or for a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GATHER_SECONDS):
                while len(self._open) > self._workers // 2:
                    self._wake.clear()
                    await self._wake.wait()

    async def _wait(self) -> None:
        """Until a worker is free, something was planned, or something becomes due."""
        pause = self._settings.delivery_poll_seconds
        if len(self._open) < self._workers:
            due_in = await self._store.next_due(self.channel)
            if due_in is not None and due_in > 0:
                pause = min(pause, due_in + 0.001)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._wake.wait()

    def _closed(self, task: asyncio.Task[None], group: Claimed) -> None:
        self._open.discard(task)
        self._lanes[group.lane] -= 1
        if not self._lanes[group.lane]:
            del self._lanes[group.lane]
        self._wake.set()

    async def _deliver(self, group: Claimed, claimed_until: float) -> None:
        """One try, from the claim to its end; whatever happens, the other deliveries go on."""
        with structlog.contextvars.bound_contextvars(
            delivery_id=str(group.delivery_ids[0]), channel=self.channel
        ):
            try:
                async with asyncio.timeout_at(claimed_until) as claim, self._renewed(group, claim):
                    items = await self._looker(group)
                    if items:
                        with correlated(items[0].correlation_id):
                            await self._try(group, items, claim)
            except TimeoutError:
                log.warning("claim_lost")
            except pg.TRANSIENT as error:
                log.warning("database_away", error=repr(error))  # the claim runs out, then it is tried again
            except Exception:
                log.exception("delivery_failed_unexpectedly")
                with contextlib.suppress(*pg.TRANSIENT):
                    await self._put_off(group, await self._looker(group), DeferredError(_INTERNAL, "A bug."))

    async def _try(self, group: Claimed, items: list[Item], claim: asyncio.Timeout) -> None:
        going: list[Item] = []
        for item in items:
            if not still_due(item.notice, item.invitation, item.looked_at):
                await self._finish(group, [item], "superseded", "SUPERSEDED")
            elif _too_late(item):
                await self._finish(group, [item], "expired", "LINK_ENDED")
            elif not self._wanted(item):
                await self._finish(group, [item], "superseded", "NOT_WANTED")
            else:
                going.append(item)
        if not going or await self._waits(group, going):
            return
        try:
            async with self._way.sent(going):
                claim.reschedule(None)  # it is out: nothing may keep us from marking it
                await self._marker([item.delivery_id for item in going])
                self._metrics.finished.labels(self.channel, "sent").inc(len(going))
                self._report("notice_sent", going)
        except DeferredError as error:
            await self._put_off(group, going, error)
        except RefusedError as error:
            await self._refused(group, going, error)

    def _wanted(self, item: Item) -> bool:
        default = by_default(item.notice.template, self.channel)
        return default if item.wanted is None else item.wanted

    async def _waits(self, group: Claimed, items: Sequence[Item]) -> bool:
        """Whether their reader's quiet hours have begun since they were planned, or were put off."""
        begin = min(undisturbed(item.notice.template, item.quiet, item.looked_at) for item in items)
        if begin <= items[0].looked_at:
            return False
        await self._store.wait_until(group.claim, [item.delivery_id for item in items], begin)
        return True

    def _report(self, event: str, items: Sequence[Item], **more: object) -> None:
        for item in items:
            log.info(
                event,
                event_id=str(item.notice.event_id), share_id=str(item.notice.share_id),
                template=item.notice.template, attempts=item.attempts + 1, together=len(items),
                correlation_id=item.correlation_id, **more,
            )  # fmt: skip

    async def _put_off(self, group: Claimed, items: Sequence[Item], error: DeferredError) -> None:
        if not items:
            return
        delay = retry_delay(
            max(item.attempts for item in items),
            first=self._settings.retry_first_seconds,
            most=self._settings.retry_most_seconds,
            jitter=random.uniform(-1, 1),  # noqa: S311 - spreads load, guards nothing
        )
        if error.retry_after is not None:
            asked = min(error.retry_after, self._settings.retry_most_seconds)
            delay = max(delay, timedelta(seconds=asked))
        give_up = timedelta(seconds=self._settings.give_up_seconds)
        late = [item for item in items if item.age >= give_up]
        if late:
            await self._fail(group, late, error)
        again = [item for item in items if item.age < give_up]
        if again:
            await self._store.retry_later(
                group.claim, [item.delivery_id for item in again], delay, error.code
            )
            reason = "internal" if error.code == _INTERNAL else "deferred"
            self._metrics.retried.labels(self.channel, reason).inc(len(again))
            report = log.error if error.code.endswith(("_SETUP", _INTERNAL)) else log.warning
            report(
                "notice_put_off",
                code=error.code, reply=error.reply, retry_in_seconds=round(delay.total_seconds(), 1),
                together=len(again),
            )  # fmt: skip

    async def _refused(self, group: Claimed, items: Sequence[Item], error: RefusedError) -> None:
        if error.gone and group.target:
            await self._store.forget_subscription(group.target)
        await self._fail(group, items, error)

    async def _fail(self, group: Claimed, items: Sequence[Item], error: HandoverError) -> None:
        """For good: sharers are told, and an address that refuses mail gets no more."""
        told = [
            (item, undeliverable(item.notice, item.invitation, item.looked_at))
            for item in items
            if item.notice.template in INVITING and not group.target
        ]
        refused = items[0] if isinstance(error, RefusedError) and error.gone and not group.target else None
        await self._store.finish(
            group.claim,
            [item.delivery_id for item in items],
            "failed",
            error.code,
            undeliverable=told,
            refused=refused,
        )
        self._metrics.finished.labels(self.channel, "failed").inc(len(items))
        log.warning("notice_failed", code=error.code, reply=error.reply, together=len(items))

    async def _finish(
        self, group: Claimed, items: Sequence[Item], state: Literal["superseded", "expired"], code: str
    ) -> None:
        await self._store.finish(group.claim, [item.delivery_id for item in items], state, code)
        self._metrics.finished.labels(self.channel, state).inc(len(items))
        self._report(f"notice_{state}", items, code=code)

    @contextlib.asynccontextmanager
    async def _renewed(self, group: Claimed, claim: asyncio.Timeout) -> AsyncGenerator[None]:
        """Renew the claim while the block runs; ``claim`` cancels the block when it runs out or is lost."""
        loop = asyncio.get_running_loop()
        renewing: asyncio.Task[None] | None = None

        async def renew() -> None:
            asked_at = loop.time()
            with contextlib.suppress(*pg.TRANSIENT):  # the time-out stands until it succeeds
                kept = await self._store.renew(group, self._claim_duration)
                if claim.when() is not None and not claim.expired():
                    claim.reschedule(asked_at + self._settings.claim_seconds if kept else asked_at)

        def again() -> None:
            nonlocal renewing, timer
            renewing = loop.create_task(renew())
            timer = loop.call_later(self._settings.claim_seconds / 3, again)

        timer = loop.call_later(self._settings.claim_seconds / 3, again)
        try:
            yield
        finally:
            timer.cancel()
            if renewing is not None:
                renewing.cancel()


def _too_late(item: Item) -> bool:
    """Whether the links of an invitation have ended."""
    notice = item.notice
    return notice.template in INVITING and link_ends_at(notice.event_time, item.invitation) <= item.looked_at
