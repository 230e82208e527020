"""An account that its registry has deleted is told nothing, though devices and shares name it still."""

from typing import Any

import pytest

from contracts import topics
from servicekit import deleted

PATHS = (
    "/me", "/devices", "/devices/cam-1", "/devices/cam-1/access", "/devices/cam-1/history", "/invitations",
    "/history", "/events", "/device-events?id=cam-1", "/connections", "/changes",
)  # fmt: skip


async def test_every_call_is_refused_until_the_account_is_there_again(
    world: Any, api: Any, people: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleted, "REMEMBERED_SECONDS", 0)
    del people
    assert (await api.get("olga", "/devices")).status_code == 200
    await world.apply(world.raw(topics.DIRECTORY_ACCOUNTS, b"olga", None))
    for path in PATHS:
        refused = await api.get("olga", path)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "ACCOUNT_DELETED"), path
    assert (await api.get("ravi", "/devices")).status_code == 200
    assert (await api.get("nobody-yet", "/devices")).status_code == 200, "nobody has told of it yet"
    await world.apply(world.account("olga"))
    assert (await api.get("olga", "/devices")).status_code == 200
