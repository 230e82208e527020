"""What an account does here that no other service tells of: told to all that it has open, in every process.

| event | what may be other |
|---|---|
| ``devices`` | what the account calls the device that is named |
| ``access_keys`` | its access keys |
| ``contacts`` | its contact book |
| ``invitations`` | whose shares it always accepts, which is read with its invitations |

The data is ``{}`` but for ``devices`` (``{"device_ids": [...]}``, none: the list itself). They have no id and
are told once: whoever comes back to the stream reads all of it again.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final, Literal

from fastapi.sse import format_sse_event
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from servicekit import pg, streams
from servicekit.listening import Listener
from servicekit.logging import get_logger

log = get_logger(__name__)

CHANNEL: Final = "portal_changed"

Event = Literal["devices", "access_keys", "contacts", "invitations"]
EVENTS: Final[tuple[Event, ...]] = ("devices", "access_keys", "contacts", "invitations")


class _Change(BaseModel):
    account_id: str
    event: Event
    device_ids: Sequence[str] = ()


class OwnChanges:
    """The streams of this process, and what it has heard for them from all."""

    def __init__(self, pool: pg.Pool, listener: Listener) -> None:
        self._pool = pool
        self._sql = pg.load_queries("portal")["tell_own_change"]
        self._followers = streams.Followers[streams.Hints]()
        listener.on(CHANNEL, self._hear)

    async def tell(self, account_id: str, event: Event, *device_ids: str) -> None:
        """Say so to all streams of the account. What was done stays done when nobody can be told."""
        try:
            await self._pool.execute(self._sql, _payload(account_id, event, device_ids))
        except pg.TRANSIENT as error:
            log.warning("own_change_not_told", error=repr(error))

    async def tell_with(self, connection: pg.Connection, account_id: str, event: Event) -> None:
        """The same when the connection's transaction commits."""
        await connection.execute(self._sql, _payload(account_id, event, ()))

    @contextmanager
    def following(self, account_id: str) -> Generator[streams.Hints]:
        """What one stream of the account is to be told while the block runs."""
        hints = streams.Hints()
        with self._followers.joined(account_id, hints):
            yield hints

    def _hear(self, payload: str | None) -> None:
        try:
            change = None if payload is None else _Change.model_validate_json(payload)
        except ValidationError:  # of another release
            change = None
        if change is not None:
            for stream in self._followers.of(change.account_id):
                stream.tell(_said(change.event, change.device_ids))
            return
        for stream in self._followers:
            for event in EVENTS:
                stream.tell(_said(event, ()))


def _payload(account_id: str, event: Event, device_ids: Sequence[str]) -> str:
    return _Change(account_id=account_id, event=event, device_ids=device_ids).model_dump_json()


def _said(event: Event, device_ids: Sequence[str]) -> bytes:
    data = {"device_ids": device_ids} if event == "devices" else {}
    return format_sse_event(event=event, data_str=to_json(data).decode())
