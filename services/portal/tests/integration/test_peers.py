"""A peer that goes away within a request: asked again where that is safe, and never a fault of ours."""

from typing import Any

import httpx
import pytest

from portal.errors import Unavailable
from portal.peers import Peer
from servicekit.auth import InternalTokens


@pytest.mark.parametrize(
    "failure",
    [httpx.ReadError("reset"), httpx.ConnectError("refused"), AttributeError("a stream without socket")],
)
async def test_a_connection_that_is_reset_is_tried_again_and_then_unavailable(
    internal_tokens: Any, failure: Exception
) -> None:
    failures = [failure]

    def answer(_: httpx.Request) -> httpx.Response:
        if failures:
            raise failures.pop()
        return httpx.Response(200, json={})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        tokens = InternalTokens(internal_tokens.private_jwk, "portal")
        peer = Peer(client, tokens, name="share-command", url="http://peer.test")
        assert (await peer.ask("ann", "POST", "/v1/x", attempts=2)).status_code == 200
        failures.append(failure)
        with pytest.raises(Unavailable):
            await peer.ask("ann", "POST", "/v1/x", attempts=1)
