"""Signing in with a browser at a real issuer, and what is refused on the way."""

import hashlib
from collections.abc import Awaitable, Callable
from http.cookies import SimpleCookie

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from devstack.issuer import Client, IssuerServer

SignIn = Callable[..., Awaitable[httpx.Response]]


def cookies_of(answer: httpx.Response) -> SimpleCookie:
    """The cookies that an answer sets, with their attributes."""
    jar = SimpleCookie()
    for header in answer.headers.get_list("set-cookie"):
        jar.load(header)
    return jar


async def callback_address(client: httpx.AsyncClient, account: str = "ann", next_path: str = "/") -> str:
    """Begin a sign-in, choose an account at the issuer, and return where the issuer sends the browser."""
    begun = await client.get("/auth/login", params={"next": next_path})
    target = httpx.URL(begun.headers["location"])
    async with httpx.AsyncClient() as issuer_pages:
        chosen = await issuer_pages.post(
            target.copy_with(query=None), data={**target.params, "account": account}
        )
    return chosen.headers["location"]


async def test_signing_in_ends_where_it_began(client: httpx.AsyncClient, sign_in: SignIn) -> None:
    answer = await sign_in("ann", "/invitations/tok.en?x=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/invitations/tok.en?x=1")
    session = cookies_of(answer)["__Host-latchkey_session"]
    assert session["httponly"]
    assert session["secure"]
    assert (session["samesite"].lower(), session["path"], session["domain"]) == ("lax", "/", "")
    assert int(session["max-age"]) == 12 * 3600
    assert len(session.value) == 43
    home = await client.get("/")
    assert 'data-account="ann"' in home.text


async def test_the_request_to_the_issuer_is_protected(
    client: httpx.AsyncClient, issuer: IssuerServer
) -> None:
    answer = await client.get("/auth/login")
    target = httpx.URL(answer.headers["location"])
    assert str(target.copy_with(query=None)) == f"{issuer.url}/authorize"
    asked = target.params
    assert asked["code_challenge_method"] == "S256"
    assert len(asked["code_challenge"]) == 43
    assert len(asked["state"]) == len(asked["nonce"]) == 43
    assert asked["redirect_uri"] == "https://portal.example.test/auth/callback"
    attempt = cookies_of(answer)["__Host-latchkey_sign_in"]
    assert attempt["httponly"]
    assert int(attempt["max-age"]) == 600
    again = httpx.URL((await client.get("/auth/login")).headers["location"]).params
    assert again["state"] != asked["state"]


@pytest.mark.parametrize(
    "next_path",
    [
        "https://evil.test/",
        "//evil.test",
        "/\\evil.test",
        "\\\\evil.test",
        "/\t/evil.test",
        "javascript:alert(1)",
        "evil",
        "",
        "/ü",
        "/a\r\nSet-Cookie: x=y",
        "/" + "a" * 2000,
    ],
)
async def test_nobody_is_sent_to_another_site(client: httpx.AsyncClient, next_path: str) -> None:
    answer = await client.get("/auth/login", params={"next": next_path})
    assert answer.status_code == 400
    assert "INVALID_NEXT" in answer.text
    assert "set-cookie" not in answer.headers


async def refused(client: httpx.AsyncClient, address: str) -> None:
    """The callback is refused and nobody is signed in."""
    answer = await client.get(address)
    assert answer.status_code == 400
    assert "SIGN_IN_FAILED" in answer.text
    assert "location" not in answer.headers
    assert "latchkey_session" not in answer.headers.get("set-cookie", "")
    assert "Sign in" in (await client.get("/")).text


async def test_an_answer_with_another_state_is_refused(client: httpx.AsyncClient) -> None:
    address = httpx.URL(await callback_address(client))
    await refused(client, str(address.copy_merge_params({"state": "x" * 43})))


async def test_an_answer_without_state_or_code_is_refused(client: httpx.AsyncClient) -> None:
    address = httpx.URL(await callback_address(client))
    await refused(client, str(address.copy_remove_param("state")))
    await refused(client, str(address.copy_remove_param("code")))


async def test_an_answer_that_another_browser_began_is_refused(
    client: httpx.AsyncClient, portal: FastAPI
) -> None:
    address = await callback_address(client)
    transport = httpx.ASGITransport(portal)
    async with httpx.AsyncClient(transport=transport, base_url=client.base_url) as victim:
        await refused(victim, address)
        await victim.get("/auth/login")
        await refused(victim, address)


async def test_a_code_is_good_once(client: httpx.AsyncClient) -> None:
    address = await callback_address(client)
    kept = {cookie.name: cookie.value or "" for cookie in client.cookies.jar}
    assert (await client.get(address)).status_code == 303
    client.cookies.clear()
    await refused(client, address)  # the attempt's cookie is gone
    client.cookies.update(kept)
    await refused(client, address)  # and with it kept, the issuer refuses the code


async def test_an_answer_of_another_issuer_is_refused(client: httpx.AsyncClient) -> None:
    address = httpx.URL(await callback_address(client))
    await refused(client, str(address.copy_merge_params({"iss": "https://elsewhere.test"})))


async def test_a_declined_sign_in_is_said_so(client: httpx.AsyncClient) -> None:
    await client.get("/auth/login")
    await refused(client, "/auth/callback?error=access_denied&state=x")


@pytest.mark.parametrize("value", ["", "e30", "x", "!!!", "bnVsbA"])
async def test_a_damaged_cookie_is_refused(client: httpx.AsyncClient, value: str) -> None:
    address = await callback_address(client)
    client.cookies.clear()
    client.cookies.set("__Host-latchkey_sign_in", value, domain="portal.example.test")
    await refused(client, address)


async def test_an_id_token_with_another_nonce_is_refused(
    client: httpx.AsyncClient, issuer: IssuerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = issuer.id_token

    def with_another(account: str, client: Client, _nonce: str | None) -> str:
        return honest(account, client, "other")

    monkeypatch.setattr(issuer, "id_token", with_another)
    await refused(client, await callback_address(client))


async def test_an_id_token_for_another_client_is_refused(
    client: httpx.AsyncClient, issuer: IssuerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def for_the_api(account: str, _client: Client, nonce: str | None) -> str:
        return issuer.token(account, nonce=nonce)

    monkeypatch.setattr(issuer, "id_token", for_the_api)
    await refused(client, await callback_address(client))


async def test_signing_out_needs_the_form_of_ones_own_page(
    client: httpx.AsyncClient, sign_in: SignIn, csrf: Callable[[], Awaitable[str]]
) -> None:
    await sign_in("ann")
    for body in ({}, {"csrf": "x"}, {"csrf": "ü"}):
        answer = await client.post("/auth/logout", data=body)
        assert answer.status_code == 403
        assert "CSRF_REFUSED" in answer.text
    assert "data-account" in (await client.get("/")).text
    token = await csrf()
    kept = client.cookies["__Host-latchkey_session"]
    answer = await client.post("/auth/logout", data={"csrf": token, "next": "/invitations/t"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/invitations/t")
    client.cookies.set("__Host-latchkey_session", kept, domain="portal.example.test")
    assert "data-account" not in (await client.get("/")).text


async def test_signing_out_sends_nobody_to_another_site(
    client: httpx.AsyncClient, sign_in: SignIn, csrf: Callable[[], Awaitable[str]]
) -> None:
    await sign_in("ann")
    answer = await client.post("/auth/logout", data={"csrf": await csrf(), "next": "//evil.test"})
    assert answer.status_code == 400
    assert "data-account" in (await client.get("/")).text


async def test_signing_in_anew_ends_the_former_session(client: httpx.AsyncClient, sign_in: SignIn) -> None:
    await sign_in("ann")
    former = client.cookies["__Host-latchkey_session"]
    await sign_in("bob")
    assert client.cookies["__Host-latchkey_session"] != former
    client.cookies.clear()
    client.cookies.set("__Host-latchkey_session", former, domain="portal.example.test")
    assert "data-account" not in (await client.get("/")).text


async def test_the_database_knows_the_hash_only_and_forgets_what_expired(
    client: httpx.AsyncClient, sign_in: SignIn, environment: dict[str, str]
) -> None:
    await sign_in("ann")
    session_id = client.cookies["__Host-latchkey_session"]
    connection = await asyncpg.connect(environment["LATCHKEY_POSTGRES_DSN"])
    try:
        rows = await connection.fetch("select id_hash from session")
        assert hashlib.sha256(session_id.encode()).digest() in {row["id_hash"] for row in rows}
        await connection.execute(
            "update session set created_at = now() - interval '2 days', expires_at = now() - interval '1 day'"
        )
        assert "data-account" not in (await client.get("/")).text
        await sign_in("bob")
        assert await connection.fetchval("select count(*) from session") == 1
    finally:
        await connection.close()
