"""Sends what is due: claim, look again, render, hand over, mark.

Any number of instances share the work: a delivery is claimed for a while (``claim_seconds``), the claim is
renewed while the mail server takes its time, and what a process that died had claimed is taken over then.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Literal

import structlog

from notifier.channels.email import EmailChannel, Letter
from notifier.errors import DeferredError, HandoverError
from notifier.letters import Facts, Renderer, link_ends_at
from notifier.metrics import Metrics
from notifier.planner import still_due
from notifier.settings import Settings
from notifier.store import Delivery, Known, Store
from notifier.wording import missing_services
from servicekit import pg
from servicekit.logging import get_logger
from servicekit.telemetry import correlated

log = get_logger(__name__)

_FACTS_MOST_SECONDS = 60.0
_SERVICE_NAME_PATIENCE = timedelta(seconds=60)
_MARK_RETRY_SECONDS = 0.1
_STOP_SECONDS = 3.0
_JITTER = 0.2


def retry_delay(failures: int, *, first: float, most: float, jitter: float) -> timedelta:
    """Wait after the try that followed ``failures`` failed ones: doubled each time, up to ``most`` seconds.

    ``jitter`` (-1 … 1) moves it by up to a fifth, so that many mails do not come back at once.
    """
    return timedelta(seconds=min(first * 2 ** min(failures, 32), most) * (1 + _JITTER * jitter))


class Deliveries:
    """The sending side of one process: three background tasks, see `run`, `listen` and `watch`."""

    def __init__(
        self, *, store: Store, email: EmailChannel, renderer: Renderer, metrics: Metrics, settings: Settings
    ) -> None:
        self._store, self._email, self._renderer = store, email, renderer
        self._metrics, self._settings = metrics, settings
        self._claim_duration = timedelta(seconds=settings.claim_seconds)
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(settings.delivery_concurrency)
        self._open: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Deliver until cancelled; mails on their way then get three seconds to be finished and marked."""
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

    async def listen(self) -> None:
        """Wake up when any instance has planned something; until cancelled."""
        while True:
            with contextlib.suppress(*pg.TRANSIENT):  # polling goes on meanwhile
                await self._store.listen(self._wake.set)
            await asyncio.sleep(self._settings.delivery_poll_seconds)

    async def watch(self) -> None:
        """Keep the backlog's metrics fresh; until cancelled."""
        patience = timedelta(seconds=self._settings.facts_alarm_seconds)
        while True:
            with contextlib.suppress(*pg.TRANSIENT):  # the next look corrects them
                oldest, without_facts = await self._store.backlog(patience)
                self._metrics.oldest_due_seconds.set(oldest)
                self._metrics.long_without_facts.set(without_facts)
            await asyncio.sleep(self._settings.delivery_poll_seconds)

    async def _start_next(self) -> None:
        """Claim one delivery and start it in the background, or wait until there may be one."""
        await self._slots.acquire()
        self._wake.clear()
        claimed_until = asyncio.get_running_loop().time() + self._settings.claim_seconds
        try:
            delivery = await self._store.claim(self._claim_duration)
        except BaseException:
            self._slots.release()
            raise
        if delivery is None:
            self._slots.release()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.delivery_poll_seconds):
                    await self._wake.wait()
            return
        task = asyncio.create_task(self._deliver(delivery, claimed_until))
        self._open.add(task)
        task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        self._slots.release()

    async def _deliver(self, delivery: Delivery, claimed_until: float) -> None:
        """One try, from the claim to its end; whatever happens, the other deliveries go on."""
        notice = delivery.notice
        with (
            correlated(delivery.correlation_id),
            structlog.contextvars.bound_contextvars(
                delivery_id=str(delivery.delivery_id),
                event_id=str(notice.event_id),
                share_id=str(notice.share_id),
                template=notice.template,
            ),
        ):
            try:
                async with asyncio.timeout_at(claimed_until) as claim, self._renewed(delivery, claim):
                    await self._try(delivery, claim)
            except TimeoutError:
                log.warning("claim_lost")
            except pg.TRANSIENT as error:
                log.warning("database_away", error=repr(error))  # the claim runs out, then it is tried again
            except Exception:
                log.exception("delivery_failed_unexpectedly")
                with contextlib.suppress(*pg.TRANSIENT):
                    await self._put_off(delivery, "internal", "INTERNAL")

    async def _try(self, delivery: Delivery, claim: asyncio.Timeout) -> None:
        notice = delivery.notice
        known = await self._store.known(delivery)
        if not still_due(notice.version, known.invitation):
            await self._finish(delivery, "superseded", "SUPERSEDED")
            return
        if link_ends_at(notice.event_time) <= delivery.claimed_at:
            await self._finish(delivery, "expired", "LINK_ENDED")
            return
        facts = await self._facts(delivery, known)
        if facts is None:
            return
        letter = self._renderer.invitation(
            facts,
            known.invitation,
            template=notice.template,
            key=delivery.key,
            event_time=notice.event_time,
            correlation_id=delivery.correlation_id,
        )
        try:
            await self._send(delivery, letter, claim)
        except DeferredError as error:
            await self._put_off(delivery, "deferred", error.code, error.reply)
        except HandoverError as error:
            await self._finish(delivery, "failed", error.code, error.reply)

    async def _send(self, delivery: Delivery, letter: Letter, claim: asyncio.Timeout) -> None:
        async with self._email.sent(letter, delivery.claimed_at):
            claim.reschedule(None)  # it is out: nothing may keep us from marking it
            await self._mark_sent(delivery)
            self._metrics.finished.labels(delivery.notice.channel, "sent").inc()
            log.info("notice_sent", attempts=delivery.attempts + 1)

    async def _mark_sent(self, delivery: Delivery) -> None:
        while True:
            try:
                await self._store.mark_sent(delivery)
            except pg.TRANSIENT as error:
                log.warning("mark_delayed", error=repr(error))
                await asyncio.sleep(_MARK_RETRY_SECONDS)
            else:
                return

    async def _facts(self, delivery: Delivery, known: Known) -> Facts | None:
        """Names and address; None, and another look later, while they have not all arrived.

        A service that the device is not known to have after a minute is shown by its id.
        """
        age = delivery.claimed_at - delivery.created_at
        missing = [
            name
            for name, value in (
                ("contact", known.address), ("device", known.device_name), ("account", known.owner_name)
            )
            if value is None
        ]  # fmt: skip
        if age < _SERVICE_NAME_PATIENCE and missing_services(known.invitation.terms, known.service_names):
            missing.append("service")
        if missing or known.address is None or known.device_name is None or known.owner_name is None:
            await self._wait_for_facts(delivery, age, missing)
            return None
        return Facts(
            address=known.address,
            sharer_name=known.owner_name,
            sharer_address=known.owner_address,
            device_name=known.device_name,
            service_names=known.service_names,
            terms=known.invitation.terms,
        )

    async def _wait_for_facts(self, delivery: Delivery, age: timedelta, missing: list[str]) -> None:
        if age >= timedelta(seconds=self._settings.give_up_seconds):
            await self._finish(delivery, "failed", "FACTS_MISSING")
            return
        report = log.error if age >= timedelta(seconds=self._settings.facts_alarm_seconds) else log.info
        report("notice_waits_for_facts", missing=missing, age_seconds=int(age.total_seconds()))
        delay = retry_delay(
            delivery.waits, first=self._settings.facts_retry_seconds, most=_FACTS_MOST_SECONDS, jitter=0
        )
        await self._store.wait_for_facts(delivery, delay, "FACTS_MISSING")
        self._metrics.retried.labels(delivery.notice.channel, "facts_missing").inc()

    async def _put_off(
        self, delivery: Delivery, reason: Literal["deferred", "internal"], code: str, reply: int | None = None
    ) -> None:
        delay = retry_delay(
            delivery.attempts,
            first=self._settings.retry_first_seconds,
            most=self._settings.retry_most_seconds,
            jitter=random.uniform(-1, 1),  # noqa: S311 - spreads load, guards nothing
        )
        age = delivery.claimed_at - delivery.created_at
        if age >= timedelta(seconds=self._settings.give_up_seconds):
            await self._finish(delivery, "failed", code, reply)
            return
        await self._store.retry_sending(delivery, delay, code)
        self._metrics.retried.labels(delivery.notice.channel, reason).inc()
        report = log.error if code == "SMTP_SETUP" else log.warning
        report("notice_put_off", code=code, reply=reply, retry_in_seconds=round(delay.total_seconds(), 1))

    async def _finish(
        self,
        delivery: Delivery,
        state: Literal["failed", "superseded", "expired"],
        code: str,
        reply: int | None = None,
    ) -> None:
        await self._store.finish(delivery, state, code)
        self._metrics.finished.labels(delivery.notice.channel, state).inc()
        report = log.warning if state == "failed" else log.info
        report(f"notice_{state}", code=code, reply=reply, attempts=delivery.attempts + 1)

    @contextlib.asynccontextmanager
    async def _renewed(self, delivery: Delivery, claim: asyncio.Timeout) -> AsyncGenerator[None]:
        """Renew the claim while the block runs; ``claim`` cancels the block when it runs out or is lost."""

        async def renew() -> None:
            loop = asyncio.get_running_loop()
            while True:
                await asyncio.sleep(self._settings.claim_seconds / 3)
                asked_at = loop.time()
                with contextlib.suppress(*pg.TRANSIENT):  # the time-out stands until it succeeds
                    kept = await self._store.renew(delivery, self._claim_duration)
                    if claim.when() is not None and not claim.expired():
                        claim.reschedule(asked_at + self._settings.claim_seconds if kept else asked_at)

        task = asyncio.create_task(renew())
        try:
            yield
        finally:
            task.cancel()
