"""Only a token of the right issuer, for the right audience, in its time, names an account."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey
from starlette.requests import Request

from servicekit.auth import InternalCallers, InternalTokens, OidcVerifier
from servicekit.http import ApiError

ISSUER = "https://issuer.example"


def new_key(kid: str) -> ECKey:
    return ECKey.generate_key("P-256", {"kid": kid, "alg": "ES256", "use": "sig"})


KEY, OTHER = new_key("k1"), new_key("k2")
JWKS = json.dumps({"keys": [KEY.as_dict(private=False)]})


def request(authorization: str | None) -> Request:
    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    return Request({"type": "http", "headers": headers})


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"iss": "portal", "aud": "share-command", "sub": "acc-1", "iat": now, "exp": now + 60, **changes}


def signed(key: ECKey, **changes: Any) -> str:
    return jwt.encode(
        {"alg": "ES256", "kid": key.kid}, {k: v for k, v in claims(**changes).items() if v is not None}, key
    )


def test_an_internal_token_names_the_account_to_its_audience_only() -> None:
    token = InternalTokens(json.dumps(KEY.as_dict(private=True)), "portal").mint(
        audience="share-command", account_id="acc-1"
    )
    assert InternalCallers(JWKS, "share-command")(request(f"Bearer {token}")) == "acc-1"
    with pytest.raises(ApiError) as refusal:
        InternalCallers(JWKS, "access-gateway")(request(f"Bearer {token}"))
    assert (refusal.value.status, refusal.value.code) == (401, "UNAUTHENTICATED")


def none_token() -> str:
    return "eyJhbGciOiJub25lIn0." + signed(KEY).split(".")[1] + "."


def header_token(header: dict[str, Any]) -> str:
    return ".".join([encoded(json.dumps(header)), *signed(KEY).split(".")[1:]])


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic YWxhZGRpbg==",
        "Bearer",
        "Bearer x",
        "Bearer a.b.c",
        f"Bearer {signed(OTHER)}",
        f"Bearer {signed(KEY, exp=int(time.time()) - 60)}",
        f"Bearer {signed(KEY, aud='portal')}",
        f"Bearer {signed(KEY, sub=None)}",
        f"Bearer {signed(KEY, exp=None)}",
        f"Bearer {none_token()}",
        f"Bearer {header_token({'alg': 'ES256', 'kid': 'k1', 'crit': 1})}",
        f"Bearer {header_token({'alg': 'ES256', 'kid': ['k1']})}",
        "Bearer " + jwt.encode({"alg": "HS256", "kid": "k1"}, claims(), OctKey.import_key(JWKS)),
    ],
)
def test_anything_else_is_refused(authorization: str | None) -> None:
    with pytest.raises(ApiError) as refusal:
        InternalCallers(JWKS, "share-command")(request(authorization))
    assert refusal.value.code == "UNAUTHENTICATED"


class FakeIssuer:
    """An issuer's two documents, served in process; counts how often keys are asked for."""

    def __init__(self) -> None:
        self.keys, self.asked, self.up = [KEY], 0, True
        self.others: list[object] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if not self.up:
            raise httpx.ConnectError("down")
        if request.url.path.endswith("openid-configuration"):
            urls = {name: f"{ISSUER}/x" for name in ("authorization_endpoint", "token_endpoint")}
            return httpx.Response(200, json={"issuer": ISSUER, "jwks_uri": f"{ISSUER}/jwks", **urls})
        self.asked += 1
        keys = [*self.others, *(key.as_dict(private=False) for key in self.keys)]
        return httpx.Response(200, json={"keys": keys})


@pytest.fixture
async def issuer() -> AsyncIterator[tuple[FakeIssuer, OidcVerifier]]:
    fake = FakeIssuer()
    async with httpx.AsyncClient(transport=httpx.MockTransport(fake)) as client:
        yield fake, OidcVerifier(issuer=ISSUER, audience="latchkey", algorithms=["ES256"], client=client)


async def test_an_issuers_token_is_read_and_its_keys_are_fetched_once(
    issuer: tuple[FakeIssuer, OidcVerifier],
) -> None:
    fake, verifier = issuer
    for _ in range(3):
        assert (await verifier.verify(signed(KEY, iss=ISSUER, aud="latchkey")))["sub"] == "acc-1"
    for _ in range(20):  # unknown key ids must not become a way to make us ask for ever
        with pytest.raises(ApiError):
            await verifier.verify(signed(OTHER, iss=ISSUER, aud="latchkey"))
    assert fake.asked == 1


async def test_keys_of_kinds_that_are_not_known_here_keep_nobody_out(
    issuer: tuple[FakeIssuer, OidcVerifier],
) -> None:
    """An issuer publishes keys for others too, and those of a new kind before anybody uses them."""
    fake, verifier = issuer
    fake.others = [
        {"kty": "EC", "crv": "BP-256", "kid": "curve", "x": "AA", "y": "AA"},
        {"kty": "new", "kid": "kind"},
        {"kty": "RSA", "kid": "spoilt"},
        "no key at all",
    ]
    assert (await verifier.verify(signed(KEY, iss=ISSUER, aud="latchkey")))["sub"] == "acc-1"


async def test_an_issuer_that_publishes_no_keys_is_no_refusal_of_the_token() -> None:
    urls = {name: f"{ISSUER}/x" for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")}
    answer = httpx.MockTransport(lambda _: httpx.Response(200, json={"issuer": ISSUER, **urls}))
    async with httpx.AsyncClient(transport=answer) as client:
        verifier = OidcVerifier(issuer=ISSUER, audience="latchkey", algorithms=["ES256"], client=client)
        with pytest.raises(ApiError) as refusal:
            await verifier.verify(signed(KEY, iss=ISSUER, aud="latchkey"))
    assert (refusal.value.status, refusal.value.code) == (503, "UNAVAILABLE")


async def test_an_issuer_is_asked_where_it_can_be_reached_from_here() -> None:
    fake, hosts = FakeIssuer(), list[str]()

    def answer(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        return fake(request)

    inside = "https://issuer.inside"
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        verifier = OidcVerifier(
            issuer=ISSUER, audience="latchkey", algorithms=["ES256"], client=client, asked_at=inside
        )
        assert (await verifier.verify(signed(KEY, iss=ISSUER, aud="latchkey")))["sub"] == "acc-1"
        found = await verifier.discovery()
        with pytest.raises(ApiError):
            await verifier.verify(signed(KEY, iss=inside, aud="latchkey"))
    assert set(hosts) == {"issuer.inside"}
    assert found.token_endpoint == f"{inside}/x"
    assert found.authorization_endpoint == f"{ISSUER}/x", "browsers go where people see it"


@pytest.mark.parametrize(
    "changes", [{"iss": "https://evil.example"}, {"aud": "another"}, {"exp": 1}, {"exp": None}, {"sub": None}]
)
async def test_wrong_claims_are_refused(
    issuer: tuple[FakeIssuer, OidcVerifier], changes: dict[str, Any]
) -> None:
    with pytest.raises(ApiError) as refusal:
        await issuer[1].verify(signed(KEY, **{"iss": ISSUER, "aud": "latchkey", **changes}))
    assert refusal.value.code == "UNAUTHENTICATED"


async def test_an_issuer_that_is_away_is_no_refusal_of_the_token(
    issuer: tuple[FakeIssuer, OidcVerifier],
) -> None:
    issuer[0].up = False
    with pytest.raises(ApiError) as refusal:
        await issuer[1].verify(signed(KEY, iss=ISSUER, aud="latchkey"))
    assert (refusal.value.status, refusal.value.code) == (503, "UNAVAILABLE")


async def test_a_token_that_nests_without_end_is_refused(issuer: tuple[FakeIssuer, OidcVerifier]) -> None:
    with pytest.raises(ApiError) as refusal:
        await issuer[1].verify(f"{encoded('[' * 100_000)}.x.y")
    assert refusal.value.code == "UNAUTHENTICATED"


async def test_a_token_with_a_known_key_waits_for_no_issuer() -> None:
    fake, hangs = FakeIssuer(), asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        if fake.asked:
            await hangs.wait()
        return fake(request)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        verifier = OidcVerifier(issuer=ISSUER, audience="latchkey", algorithms=["ES256"], client=client)
        good = signed(KEY, iss=ISSUER, aud="latchkey")
        await verifier.verify(good)
        verifier._not_before = 0.0  # pyright: ignore[reportPrivateUsage] - as if ten seconds had passed
        stranger = asyncio.create_task(verifier.verify(signed(OTHER, iss=ISSUER, aud="latchkey")))
        await asyncio.sleep(0)
        await asyncio.wait_for(verifier.verify(good), 5)
        assert not stranger.done()
        hangs.set()
        with pytest.raises(ApiError):
            await stranger
