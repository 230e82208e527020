"""What a stream says when much happens in one turn of the loop; reading/test_live.py asks over HTTP."""

import asyncio
import time
from typing import Any, cast

import pytest

from permission_projector.live import Live
from servicekit import streams


class Feed:
    """The change feed as the database tells it: change n is of the device ``devices[n - 1]``, olga's."""

    def __init__(self) -> None:
        self.devices: list[str] = []

    async def fetch(self, _sql: str, after: int, _accounts: list[str], most: int) -> list[dict[str, Any]]:
        place = {"generation": 1, "oldest": 1, "newest": len(self.devices), "reached": len(self.devices)}
        told = {"account_id": "olga", "invited": False, "named": False}
        changes = [
            {**place, **told, "id": number, "device_ids": [device]}
            for number, device in enumerate(self.devices, 1)
            if number > after
        ]
        return changes[:most] or [{**place, "id": None}]


class Notifications:
    """Told by the test."""

    def __init__(self) -> None:
        self.listening, self._changed = asyncio.Event(), asyncio.Event()
        self.listening.set()

    def next(self) -> asyncio.Event:
        return self._changed

    def notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


async def test_what_comes_in_the_moment_of_a_keep_alive_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "KEEP_ALIVE_SECONDS", 0.05)
    feed, notifications = Feed(), Notifications()
    following = Live(cast("Any", feed), cast("Any", notifications), "feed", "activity")
    reading = asyncio.create_task(following.follow())
    stream = following.stream("olga", None)
    assert b"event: ready" in await anext(stream)
    said = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    feed.devices.append("cam-1")
    asyncio.get_running_loop().call_later(0, notifications.notify)
    time.sleep(0.06)  # noqa: ASYNC251 - a loop so busy that the change and the keep-alive are due in one turn
    async with asyncio.timeout(5):
        while b"cam-1" not in await said:
            said = asyncio.ensure_future(anext(stream))
    await stream.aclose()
    reading.cancel()
