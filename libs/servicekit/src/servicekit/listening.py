"""PostgreSQL's NOTIFY, heard by one connection for everybody in a process."""

import asyncio
from collections.abc import Callable
from typing import Final

import asyncpg

from servicekit import pg
from servicekit.logging import get_logger

log = get_logger(__name__)

Hear = Callable[[str | None], None]
"""Takes the payload of a notification; None: some may have come while nobody listened."""

_RECONNECT_SECONDS: Final = 1.0
_KEEPALIVE_SECONDS: Final = 10.0


class Listener:
    """Listens on the channels that were named with `on` before `run` begins."""

    def __init__(self, dsn: str, application: str) -> None:
        self._dsn, self._application = dsn, application
        self._hear: dict[str, Hear] = {}
        self.listening = asyncio.Event()
        """Set from the first time on that it listens."""

    def on(self, channel: str, hear: Hear) -> None:
        """Have ``hear`` called with each notification, and with None whenever listening begins."""
        self._hear[channel] = hear

    async def run(self) -> None:
        """Listen until cancelled; a lost connection is made anew."""
        while True:
            try:
                await self._listen()
            except pg.TRANSIENT as error:
                log.warning("listen_reconnects", error=repr(error))
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self) -> None:
        """Listen until the connection is lost."""
        lost = asyncio.Event()
        connection = await asyncpg.connect(self._dsn, server_settings={"application_name": self._application})
        try:
            connection.add_termination_listener(lambda _connection: lost.set())
            for channel in self._hear:
                await connection.add_listener(channel, self._on_notify)
            for hear in self._hear.values():
                hear(None)
            self.listening.set()
            while not await set_within(lost, _KEEPALIVE_SECONDS):
                await connection.execute("select 1", timeout=_KEEPALIVE_SECONDS)
        finally:
            connection.terminate()

    def _on_notify(self, _connection: object, _process: int, channel: str, payload: object) -> None:
        self._hear[channel](str(payload))


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether ``event`` is set, once it is or once the time is over."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return event.is_set()
    return True
