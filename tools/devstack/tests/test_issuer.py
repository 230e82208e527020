"""The demo issuer signs people in by the book, and nobody else's client."""

import base64
import hashlib
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from devstack.issuer import Client, IssuerServer, fetch_token
from devstack.process import StackError
from servicekit.auth import OidcVerifier
from servicekit.http import ApiError

CALLBACK = "http://portal.test/auth/callback"
CLIENT = Client("portal", "a secret/+:", (CALLBACK,), ("http://portal.test/",))
VERIFIER = "v" * 50
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
GOOD = {
    "client_id": "portal",
    "redirect_uri": CALLBACK,
    "response_type": "code",
    "scope": "openid email",
    "state": "s&1",
    "nonce": "n1",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}


@pytest.fixture
async def server() -> AsyncGenerator[IssuerServer]:
    async with IssuerServer.start(clients=[CLIENT]) as issuer:
        yield issuer


@pytest.fixture
async def browser(server: IssuerServer) -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url) as client:
        yield client


def answer_of(response: httpx.Response) -> dict[str, str]:
    assert response.status_code == 303
    assert response.headers["location"].startswith(CALLBACK + "?")
    return {
        name: values[0] for name, values in parse_qs(urlsplit(response.headers["location"]).query).items()
    }


async def code_for(browser: httpx.AsyncClient, account: str = "bob", **changes: str) -> str:
    page = await browser.get("/authorize", params={**GOOD, **changes})
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.text))
    hidden["state"] = hidden["state"].replace("&amp;", "&")
    return answer_of(await browser.post("/authorize", data={**hidden, "account": account}))["code"]


async def exchange(browser: httpx.AsyncClient, good_code: str, **changes: str) -> httpx.Response:
    form = {
        "grant_type": "authorization_code",
        "code": good_code,
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
        "client_id": CLIENT.client_id,
        "client_secret": CLIENT.client_secret,
    }
    return await browser.post("/token", data={**form, **changes})


async def verifier(server: IssuerServer, client: httpx.AsyncClient) -> OidcVerifier:
    return OidcVerifier(issuer=server.url, audience=server.audience, algorithms=["ES256"], client=client)


async def test_a_person_signs_in(server: IssuerServer, browser: httpx.AsyncClient) -> None:
    page = await browser.get("/authorize", params=GOOD)
    assert "Ann Keller" in page.text
    assert "demo issuer" in page.text
    code = await code_for(browser)
    tokens = (await exchange(browser, code)).json()
    keys = KeySet.import_key_set((await browser.get("/jwks")).json())
    identity = jwt.decode(tokens["id_token"], keys, algorithms=["ES256"]).claims
    assert identity["aud"] == "portal"
    assert identity["nonce"] == "n1"
    assert (identity["sub"], identity["email"], identity["name"]) == ("bob", "bob@example.test", "Bob Rossi")
    claims = await (await verifier(server, browser)).verify(tokens["access_token"])
    assert claims["sub"] == "bob"
    assert claims["exp"] - claims["iat"] == 3600


async def test_the_state_and_the_issuer_come_back(server: IssuerServer, browser: httpx.AsyncClient) -> None:
    answer = answer_of(await browser.post("/authorize", data={**GOOD, "account": "bob"}))
    assert (answer["state"], answer["iss"]) == ("s&1", server.url)


async def test_basic_authentication_of_the_client_works(browser: httpx.AsyncClient) -> None:
    code = await code_for(browser)
    basic = base64.b64encode(b"portal:a+secret%2F%2B%3A").decode()
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
    }
    answer = await browser.post("/token", data=form, headers={"Authorization": f"Basic {basic}"})
    assert answer.status_code == 200


@pytest.mark.parametrize("change", [{"client_id": "other"}, {"redirect_uri": CALLBACK + "/evil"}])
async def test_an_unregistered_return_address_is_never_followed(
    browser: httpx.AsyncClient, change: dict[str, str]
) -> None:
    for answer in (
        await browser.get("/authorize", params={**GOOD, **change}),
        await browser.post("/authorize", data={**GOOD, **change, "account": "bob"}),
    ):
        assert answer.status_code == 400
        assert "location" not in answer.headers
        assert "cannot go on" in answer.text


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "email"}, "invalid_scope"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"state": ""}, "invalid_request"),
        ({"prompt": "none"}, "login_required"),
    ],
)
async def test_what_is_not_served_is_told_to_the_client(
    browser: httpx.AsyncClient, change: dict[str, str], error: str
) -> None:
    assert answer_of(await browser.get("/authorize", params={**GOOD, **change}))["error"] == error
    posted = await browser.post("/authorize", data={**GOOD, **change, "account": "bob"})
    assert answer_of(posted)["error"] == error


async def test_an_unknown_account_is_refused(browser: httpx.AsyncClient) -> None:
    assert (
        answer_of(await browser.post("/authorize", data={**GOOD, "account": "eve"}))["error"]
        == "access_denied"
    )


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ({"code_verifier": "w" * 50}, 400, "invalid_grant"),
        ({"code_verifier": "ü"}, 400, "invalid_grant"),
        ({"redirect_uri": "http://portal.test/other"}, 400, "invalid_grant"),
        ({"code": "made up"}, 400, "invalid_grant"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "other"}, 401, "invalid_client"),
    ],
)
async def test_a_wrong_exchange_gives_no_token(
    browser: httpx.AsyncClient, change: dict[str, str], status: int, error: str
) -> None:
    answer = await exchange(browser, await code_for(browser), **change)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert "access_token" not in answer.json()


async def test_a_code_works_once(browser: httpx.AsyncClient) -> None:
    code = await code_for(browser)
    assert (await exchange(browser, code)).status_code == 200
    assert (await exchange(browser, code)).json()["error"] == "invalid_grant"


async def test_an_unreadable_authorization_header_is_refused(browser: httpx.AsyncClient) -> None:
    answer = await browser.post("/token", data={}, headers={"Authorization": "Basic %%%"})
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize("kind", ["foreign_token", "expired_token"])
async def test_bad_tokens_are_bad(server: IssuerServer, browser: httpx.AsyncClient, kind: str) -> None:
    checker = await verifier(server, browser)
    await checker.verify(server.token("bob"))
    with pytest.raises(ApiError) as refused:
        await checker.verify(getattr(server, kind)("bob"))
    assert refused.value.code == "UNAUTHENTICATED"


async def test_claims_can_be_set_and_unknown_accounts_signed(
    server: IssuerServer, browser: httpx.AsyncClient
) -> None:
    claims = await (await verifier(server, browser)).verify(server.token("zoe", email="zoe@example.test"))
    assert (claims["sub"], claims["email"]) == ("zoe", "zoe@example.test")


async def test_a_token_for_scripts(server: IssuerServer, browser: httpx.AsyncClient) -> None:
    claims = await (await verifier(server, browser)).verify(await fetch_token(server.url, "Ann@Example.test"))
    assert claims["sub"] == "ann"
    with pytest.raises(StackError, match=r"no demo account .* ann@example.test, bob@example.test, "):
        await fetch_token(server.url, "eve@example.test")
    answer = await browser.post("/demo/token", json={"email": "eve@example.test"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "ACCOUNT_NOT_FOUND")
    answer = await browser.post("/demo/token", content="{")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "INVALID_REQUEST")


async def test_a_proxy_that_leads_elsewhere_is_not_asked_for_a_token(
    server: IssuerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert await fetch_token(server.url, "ann@example.test")


async def test_signing_out_returns_to_registered_addresses_only(browser: httpx.AsyncClient) -> None:
    asked = {"client_id": "portal", "post_logout_redirect_uri": "http://portal.test/", "state": "x"}
    answer = await browser.get("/end-session", params=asked)
    assert answer.headers["location"] == "http://portal.test/?state=x"
    asked["post_logout_redirect_uri"] = "http://evil.test/"
    answer = await browser.get("/end-session", params=asked)
    assert answer.status_code == 200
    assert "signed out" in answer.text


async def test_the_key_survives_a_restart_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "issuer" / "key.pem"
    seen: list[Any] = []
    for _ in range(2):
        async with (
            IssuerServer.start(key_file=path) as issuer,
            httpx.AsyncClient(base_url=issuer.url) as client,
        ):
            seen.append((await client.get("/jwks")).json())
    assert seen[0] == seen[1]
    assert "d" not in seen[0]["keys"][0]
    assert path.stat().st_mode & 0o077 == 0


async def test_discovery_names_what_is_served(server: IssuerServer, browser: httpx.AsyncClient) -> None:
    document = (await browser.get("/.well-known/openid-configuration")).json()
    assert document["issuer"] == server.url
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert (await browser.get("/")).status_code == 200
