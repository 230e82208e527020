"""``GET /v1/changes``: tells each account when its inbox or its choices may be other (Server-Sent Events).

| event | meaning |
|---|---|
| ``ready`` | whatever changes from here on is told; read now |
| ``notices`` | the inbox may be other: a notice more, another mark, or what is told of its share |
| ``notice_settings`` | language, quiet hours or wanted ways may be others |

The data of each is ``{}``. They have no id: whoever comes again is told `ready`, and reads again. A hint that
its client has not taken yet stands for all that come meanwhile, so that a slow one costs no memory.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Annotated, Any, Final

import asyncpg
from fastapi import APIRouter, Depends, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import ValidationError

from notifier.hints import CHANNEL, EVENTS, Event, Readers, read
from servicekit import pg, streams
from servicekit.deleted import LivingCallers
from servicekit.listening import Listener, set_within
from servicekit.logging import get_logger

log = get_logger(__name__)

_PAUSE_SECONDS: Final = 0.25
"""Between two looks at what was heard: many hints are told as one."""

_MOST_HEARD: Final = 5_000
"""Ids between two looks; with more, everybody is told."""

_LISTEN_SECONDS: Final = 5.0
"""To wait, as the process starts, until hints are heard."""

_RESPONSES: Final[Mapping[int | str, dict[str, Any]]] = {
    200: {
        "description": "Events `ready`, `notices`, `notice_settings`.",
        "content": {streams.MEDIA_TYPE: {"schema": {"type": "string"}}},
    }
}


class Changes:
    """The streams of this process, and what it has heard for them from all."""

    def __init__(self, pool: pg.Pool, listener: Listener) -> None:
        self._pool, self._listening = pool, listener.listening
        self._sql = pg.load_queries("notifier", "inbox.sql")["concerned"]
        self._followers = streams.Followers[streams.Hints]()
        self._heard: dict[Event, Readers] = {}
        self._hinted = asyncio.Event()
        listener.on(CHANNEL, self._hear)

    def _hear(self, payload: str | None) -> None:
        try:
            event, readers = (None, Readers()) if payload is None else read(payload)
        except ValidationError:  # of another release
            event, readers = None, Readers()
        heard = self._heard.setdefault(event, Readers()) if event else readers
        heard.add(readers)
        if event is None or len(heard) > _MOST_HEARD:
            self._heard.clear()
            for stream in self._followers:
                for each in EVENTS:
                    stream.tell(_said(each))
        else:
            self._hinted.set()

    async def follow(self) -> None:
        """Tell what is heard until cancelled, at most every `_PAUSE_SECONDS`."""
        while True:
            await self._hinted.wait()
            self._hinted.clear()
            heard, self._heard = self._heard, {}
            try:
                for event, readers in heard.items():
                    for account_id in await self._concerned(readers):
                        for stream in self._followers.of(account_id):
                            stream.tell(_said(event))
            except (*pg.TRANSIENT, asyncpg.QueryCanceledError) as error:
                log.warning("changes_not_told", error=repr(error))
                self._hear(None)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _concerned(self, readers: Readers) -> set[str]:
        """Who of those that follow reads what these read."""
        accounts = self._followers.accounts
        found = readers.accounts.intersection(accounts)
        if accounts and (readers.contacts or readers.devices):
            rows = await self._pool.fetch(
                self._sql, accounts, sorted(readers.contacts), sorted(readers.devices)
            )
            found |= {row["account_id"] for row in rows}
        return found

    def require_room(self, account_id: str) -> None:
        """Refuse what would be one stream too many.

        Raises:
            TooManyStreamsError: see there.
        """
        self._followers.require_room(account_id)

    async def stream(self, account_id: str) -> AsyncGenerator[bytes]:
        """What an account's stream says from now on; it ends by itself (`streams.STREAM_SECONDS`)."""
        stream = streams.Hints()
        await set_within(self._listening, _LISTEN_SECONDS)
        loop = asyncio.get_running_loop()
        ends = loop.time() + streams.STREAM_SECONDS
        with self._followers.joined(account_id, stream):
            yield _said("ready")
            while (left := ends - loop.time()) > 0:
                if await set_within(stream.told, min(left, streams.KEEP_ALIVE_SECONDS)):
                    yield stream.take()
                else:
                    yield format_sse_event(comment="still here")


def _said(event: str) -> bytes:
    return format_sse_event(event=event, data_str="{}")


def build_router(callers: LivingCallers, changes: Changes) -> APIRouter:
    """The endpoint; ``callers`` tells for whom."""

    async def follow(account_id: Annotated[str, Depends(callers)]) -> Response:
        """When the caller's inbox, or what he chose about notices, may be other: Server-Sent Events."""
        changes.require_room(account_id)
        return StreamingResponse(
            changes.stream(account_id), media_type=streams.MEDIA_TYPE, headers=streams.HEADERS
        )

    router = APIRouter(prefix="/v1")
    router.add_api_route("/changes", follow, response_class=StreamingResponse, responses=dict(_RESPONSES))
    return router
