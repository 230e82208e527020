"""``GET /changes/v1``: what changes for the caller, as it does: Server-Sent Events of those who know.

The read API's stream is passed on as it comes; it says when the answer begins and ends, and one that broke is
taken up again where it was (`Last-Event-ID`). The notifier's events are put in between, and the portal's own
(`own_changes`). While the notifier is away the rest goes on; each time that its stream begins, the client is
told that all of its notices may be others.
Whether the session, token or signature still counts is asked again for each event; on a quiet stream that is
every 15 s. When it does not, the last event is ``signed_out``.
"""

import asyncio
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Annotated, Final

import httpx
from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse

from portal.authentication import Authentication
from portal.notices import Notifier
from portal.own_changes import OwnChanges
from portal.read_api import ReadApi
from servicekit import streams
from servicekit.http import ApiError
from servicekit.logging import get_logger

log = get_logger(__name__)

_MOST_WAITING: Final = 20
"""Events of one client's that he has not taken; with more, they wait where they come from."""

_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 15.0
"""Between two tries to follow the notifier; the first, and what doubling it leads to."""

_READY: Final = b"event: ready\n"
_SIGNED_OUT: Final = b"event: signed_out\ndata: {}\n\n"
_ALL_NOTICES: Final = b"event: notices\ndata: {}\n\nevent: notice_settings\ndata: {}\n\n"

_Told = asyncio.Queue[bytes | None]
"""Whole events; None: it is over."""


def router(
    authentication: Authentication, read_api: ReadApi, notifier: Notifier, own_changes: OwnChanges
) -> APIRouter:
    """The endpoint; both services have a client whose connections may stay open."""
    routes = APIRouter()

    @routes.get("/changes/v1", include_in_schema=False)
    async def changes(
        request: Request, last_event_id: Annotated[str | None, Header(max_length=100)] = None
    ) -> Response:
        """Follow what changes for the account that the token, signature or session names."""
        account_id = await authentication.account_of(request, only_looks=True)
        upstream = await read_api.changes(account_id, last_event_id)
        return StreamingResponse(
            _told(request, account_id, upstream), media_type=streams.MEDIA_TYPE, headers=streams.HEADERS
        )

    async def _told(request: Request, account_id: str, upstream: httpx.Response) -> AsyncGenerator[bytes]:
        told = _Told(_MOST_WAITING)
        following = [
            asyncio.create_task(_follow_read_api(upstream, told)),
            asyncio.create_task(_follow_notifier(notifier, account_id, told)),
            asyncio.create_task(_follow_own(own_changes, account_id, told)),
        ]
        try:
            while (said := await told.get()) is not None:
                if await authentication.account_of(request, only_looks=True) != account_id:
                    yield _SIGNED_OUT
                    return
                yield said
        except ApiError as error:  # the client comes again, and is told then
            log.info("stream_ended", error=type(error).__name__)
            if error.status == HTTPStatus.UNAUTHORIZED:
                yield _SIGNED_OUT
        finally:
            # Not waited for: when the client has left, a wait here is cancelled, and with it their closing.
            for task in following:
                task.cancel()

    return routes


async def _follow_read_api(upstream: httpx.Response, told: _Told) -> None:
    try:
        async for event in _events(upstream):
            await told.put(event)
    except httpx.HTTPError as error:
        log.info("stream_ended", error=type(error).__name__)
    finally:
        await upstream.aclose()
    await told.put(None)


async def _follow_notifier(notifier: Notifier, account_id: str, told: _Told) -> None:
    """Until cancelled: a stream that ends, or cannot be had, is asked for again."""
    pause = _PAUSE_SECONDS
    while True:
        try:
            answer = await notifier.changes(account_id)
            try:
                async for event in _events(answer):
                    if event.startswith(_READY):  # what came before is told by nobody
                        pause = _PAUSE_SECONDS
                        await told.put(_ALL_NOTICES)
                    else:
                        await told.put(event)
            finally:
                await answer.aclose()
        except (httpx.HTTPError, ApiError) as error:
            log.info("notices_not_followed", error=type(error).__name__)
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


async def _follow_own(own_changes: OwnChanges, account_id: str, told: _Told) -> None:
    """Until cancelled."""
    with own_changes.following(account_id) as hints:
        while True:
            await hints.told.wait()
            await told.put(hints.take())


async def _events(answer: httpx.Response) -> AsyncGenerator[bytes]:
    """A stream's events (and comments), each whole."""
    rest = b""
    async for part in answer.aiter_raw():
        *events, rest = (rest + part).split(b"\n\n")
        for event in events:
            yield event + b"\n\n"
