"""The web app's page, and what it asks by the session alone."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from portal.app_page import PATHS
from portal.authentication import CSRF_HEADER

SignIn = Callable[..., Awaitable[httpx.Response]]
Asked = list[dict[str, Any]]
Replies = dict[str, tuple[int, Any]]

WHO = {"query": "{ login { id } }"}
SHARE = {"query": 'mutation { share(deviceId: "cam-1", email: ["bob@example.com"]) }'}
ADDRESSES = [path.replace("{part:path}", "people").replace("{device_id}", "cam-1") for path in PATHS]


async def token_of(client: httpx.AsyncClient) -> str:
    """The CSRF token that the app finds in its page."""
    found = re.search(r'data-csrf="([^"]+)"', (await client.get("/")).text)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("address", ADDRESSES)
async def test_each_address_of_the_app_leads_to_it_after_signing_in(
    client: httpx.AsyncClient, sign_in: SignIn, address: str
) -> None:
    away = await client.get(address)
    if address != "/":
        assert away.status_code == 303
        assert away.headers["location"] == f"/auth/login?next={address.replace('/', '%2F')}"
    assert (await sign_in("ann", address)).headers["location"] == address
    page = await client.get(address)
    assert page.status_code == 200
    assert 'data-account="ann"' in page.text
    assert 'data-renames="yes"' in page.text
    assert 'data-access="https://gateway.example.com:8443"' in page.text


async def test_the_page_runs_its_own_scripts_only_and_is_kept_nowhere(
    client: httpx.AsyncClient, sign_in: SignIn
) -> None:
    await sign_in("ann")
    page = await client.get("/")
    policy = page.headers["content-security-policy"]
    for rule in (
        *(
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self' wss://gateway.example.com:8443;",
        ),
        *("form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"),
    ):
        assert rule in policy
    assert "unsafe" not in policy
    assert page.headers["cache-control"] == "no-store"
    assert "camera=(self)" in page.headers["permissions-policy"]
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", page.text)


async def test_what_the_page_names_is_there_small_and_kept(
    client: httpx.AsyncClient, sign_in: SignIn
) -> None:
    await sign_in("ann")
    files = re.findall(r'(?:src|href)="(/static/app/[^"]+)"', (await client.get("/")).text)
    assert len(files) == 2
    for file in files:
        answer = await client.get(file)
        assert answer.status_code == 200
        assert answer.headers["content-encoding"] == "gzip"
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await client.get("/static/app/assets/none.js")).status_code == 404


async def test_the_session_asks_graphql(client: httpx.AsyncClient, sign_in: SignIn, asked: Asked) -> None:
    assert (await client.post("/graphql/v1", json=WHO)).status_code == 401
    await sign_in("ann")
    headers = {CSRF_HEADER: await token_of(client)}
    answer = await client.post("/graphql/v1", json=SHARE, headers=headers)
    assert answer.json() == {"data": {"share": True}}
    assert asked[-1]["account"] == "ann"


@pytest.mark.parametrize("given", [None, "", "wrong", "of another session"])
@pytest.mark.parametrize("document", [WHO, SHARE])
async def test_without_the_sessions_token_nothing_is_asked(
    client: httpx.AsyncClient, sign_in: SignIn, asked: Asked, given: str | None, document: dict[str, str]
) -> None:
    await sign_in("ann")
    if given == "of another session":
        given = await token_of(client)
        await sign_in("ann")
    asked.clear()
    headers = {} if given is None else {CSRF_HEADER: given}
    answer = await client.post("/graphql/v1", json=document, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["errors"][0]["extensions"]["code"] == "CSRF_REFUSED"
    assert not asked


async def test_a_session_that_has_ended_asks_nothing(
    client: httpx.AsyncClient, sign_in: SignIn, asked: Asked
) -> None:
    await sign_in("ann")
    token = await token_of(client)
    kept = dict(client.cookies)
    await client.post("/auth/logout", data={"csrf": token})
    client.cookies.update(kept)
    asked.clear()
    answer = await client.post("/graphql/v1", json=WHO, headers={CSRF_HEADER: token})
    assert answer.status_code == 401
    assert (await client.get("/changes/v1")).status_code == 401
    assert not asked


async def test_a_bearer_token_counts_more_than_the_browsers_session(
    client: httpx.AsyncClient, sign_in: SignIn, graphql: Callable[..., Any], asked: Asked
) -> None:
    await sign_in("bob")
    asked.clear()
    assert (await graphql(WHO["query"])).status_code == 200
    assert {item["account"] for item in asked} == {"ann"}
    wrong = await client.post("/graphql/v1", json=WHO, headers={"Authorization": "Bearer x"})
    assert wrong.status_code == 401


async def test_the_worker_that_shows_pushes_may_act_for_every_page(client: httpx.AsyncClient) -> None:
    answer = await client.get("/static/push-worker.js")
    assert answer.status_code == 200
    assert answer.headers["service-worker-allowed"] == "/"
    assert "javascript" in answer.headers["content-type"]
