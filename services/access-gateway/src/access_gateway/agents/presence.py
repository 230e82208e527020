"""Which devices are connected, told to ``directory.presence``.

What is told follows from a table that all gateways share, under a lock on the device, and its time is the
database's: a device that leaves one gateway and is still at another stays online, and what is told late is
older than what holds.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from access_gateway.agents.store import AgentStore, StoreUnavailableError
from contracts import codec, topics
from contracts.directory import PresenceSnapshot
from servicekit.kafka import KafkaError, Producer
from servicekit.logging import get_logger

log = get_logger(__name__)

REPEAT_SECONDS: Final = 15.0
"""How often one device is told of again: a gateway that readers do not hear for a minute is dead to them."""
_SEND_SECONDS: Final = 15.0
_RETRY_SECONDS: Final = 1.0
_AT_ONCE: Final = 500


class Presence:
    """Publishes what changes, each device at least once, and now and then one that has not changed."""

    def __init__(
        self,
        store: AgentStore,
        *,
        bootstrap: str,
        topic_prefix: str,
        gateway_id: str,
        connected: Callable[[], Sequence[str]],
    ) -> None:
        self._store, self._bootstrap, self._gateway_id = store, bootstrap, gateway_id
        self._topic = topic_prefix + topics.DIRECTORY_PRESENCE.name
        self._connected = connected
        self._changed: dict[str, None] = {}
        self._told: dict[str, PresenceSnapshot] = {}
        self._news = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()

    def changed(self, devices: Iterable[str]) -> None:
        """Something about these devices may have changed: look, and tell."""
        self._changed.update(dict.fromkeys(devices))
        if self._changed:
            self._quiet.clear()
            self._news.set()

    async def flushed(self, seconds: float) -> None:
        """Return when all is told, or after ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._quiet.wait()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            try:
                async with Producer(
                    self._bootstrap, f"access-gateway-{self._gateway_id}-presence"
                ) as producer:
                    await self._publish(producer)
            except (KafkaError, OSError, TimeoutError, StoreUnavailableError) as error:
                log.warning("presence_not_told", error=type(error).__name__, waiting=len(self._changed))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _publish(self, producer: Producer) -> None:
        repeat_at = time.monotonic() + REPEAT_SECONDS
        while True:
            if not self._changed:
                self._news.clear()
                self._quiet.set()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, repeat_at - time.monotonic())):
                        await self._news.wait()
            devices = list(self._changed)[:_AT_ONCE]
            for device_id in devices:
                del self._changed[device_id]
            try:
                await self._tell(producer, await self._look(devices))
            except BaseException:
                self.changed(devices)
                raise
            if time.monotonic() >= repeat_at:
                repeat_at = time.monotonic() + REPEAT_SECONDS
                await self._tell(producer, self._one_again())

    async def _look(self, devices: Sequence[str]) -> dict[str, PresenceSnapshot | None]:
        if not devices:
            return {}
        here = sorted(set(devices).intersection(self._connected()))
        rows = await self._store.presence(devices, here=here, gateway_id=self._gateway_id)
        found = {row["device_id"]: self._snapshot(row) for row in rows}
        for device_id, snapshot in found.items():
            self._told.pop(device_id, None)
            if snapshot is not None and snapshot.online and snapshot.gateway_id == self._gateway_id:
                self._told[device_id] = snapshot
        return found

    def _snapshot(self, row: Any) -> PresenceSnapshot | None:
        if not row["enrolled"]:
            return None  # nobody observes it any more
        since: datetime = row["now"]
        gateway_id: str | None = row["gateway_id"]
        return PresenceSnapshot(
            device_id=row["device_id"],
            online=gateway_id is not None,
            since=since.astimezone(UTC),
            gateway_id=gateway_id or self._gateway_id,
        )

    def _one_again(self) -> dict[str, PresenceSnapshot | None]:
        for device_id, snapshot in self._told.items():
            del self._told[device_id]  # to the end: the others have their turn first
            self._told[device_id] = snapshot
            return {device_id: snapshot}
        return {}

    async def _tell(self, producer: Producer, found: dict[str, PresenceSnapshot | None]) -> None:
        async with asyncio.timeout(_SEND_SECONDS):
            sent = [
                await producer.enqueue(self._topic, device_id, self._encoded(device_id, snapshot))
                for device_id, snapshot in found.items()
            ]
            await asyncio.gather(*sent)

    def _encoded(self, device_id: str, snapshot: PresenceSnapshot | None) -> bytes | None:
        if snapshot is None:
            return None
        source = f"access-gateway/{self._gateway_id}"
        return codec.encode(
            codec.envelope(snapshot, source=source, time=datetime.now(UTC), subject=device_id)
        )
