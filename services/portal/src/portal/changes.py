"""``GET /changes/v1``: what changes for the caller, as it does: Server-Sent Events, passed on as they come.

A stream that broke is taken up again where it was (`Last-Event-ID`). Whether the session, token or signature
still counts is asked again for each part that comes; on a quiet stream that is every 15 s.
"""

from collections.abc import AsyncGenerator
from typing import Annotated, Final

import httpx
from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse

from portal.authentication import Authentication
from portal.read_api import ReadApi
from servicekit.http import ApiError
from servicekit.logging import get_logger

log = get_logger(__name__)

_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def router(authentication: Authentication, read_api: ReadApi) -> APIRouter:
    """The endpoint; ``read_api`` has a client whose connections may stay open."""
    routes = APIRouter()

    @routes.get("/changes/v1", include_in_schema=False)
    async def changes(
        request: Request, last_event_id: Annotated[str | None, Header(max_length=100)] = None
    ) -> Response:
        """Follow what changes for the account that the token, signature or session names."""
        account_id = await authentication.account_of(request, only_looks=True)
        upstream = await read_api.changes(account_id, last_event_id)
        return StreamingResponse(
            _passed_on(request, account_id, upstream), media_type="text/event-stream", headers=_HEADERS
        )

    async def _passed_on(
        request: Request, account_id: str, upstream: httpx.Response
    ) -> AsyncGenerator[bytes]:
        try:
            async for part in upstream.aiter_raw():
                if await authentication.account_of(request, only_looks=True) != account_id:
                    return
                yield part
        except (httpx.HTTPError, ApiError) as error:  # the client comes again, and is told then
            log.info("stream_ended", error=type(error).__name__)
        finally:
            await upstream.aclose()

    return routes
