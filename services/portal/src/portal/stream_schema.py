"""Cameras' streams in GraphQL, for players that know passwords only. Not in remote.it's schema."""

from datetime import datetime
from urllib.parse import urlsplit, urlunsplit

import strawberry

from portal.context import Context

_Info = strawberry.Info[Context, None]
_USER = "latchkey"  # any will do: the password says whose it is


@strawberry.type(description="Where a media player finds a camera's stream.")
class StreamAddress:
    """With the password in it, for the caller alone; a player that is refused something does without."""

    urls: list[str] = strawberry.field(description="The one over TLS first, where there is one.")
    web_urls: list[str] = strawberry.field(
        description="The same in a WebSocket (sub-protocol `rtsp.onvif.org`), for players in pages."
    )
    expires: datetime = strawberry.field(description="Until when a player can begin with it.")


@strawberry.type
class StreamMutations:
    """What can be done with a camera."""

    @strawberry.mutation(
        description="An address for a media player, good for an hour. What may be seen and heard there is "
        "decided when the player comes, and again with each change of the share."
    )
    async def open_stream(self, info: _Info, service_id: str) -> StreamAddress:
        """The same for everything that is not granted: it leads nowhere then."""
        context = info.context
        given = await context.peers.gateway.stream_password(context.account_id, service_id)
        return StreamAddress(
            urls=[_with_password(url, given.password) for url in given.urls],
            web_urls=[_with_password(url, given.password) for url in given.web_urls],
            expires=given.ends_at,
        )


def _with_password(url: str, password: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{_USER}:{password}@{parts.netloc}"))
