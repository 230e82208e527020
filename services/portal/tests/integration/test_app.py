"""The web app's page, what it asks by the session alone, and live updates."""

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from portal.app_page import PATHS
from portal.authentication import CSRF_HEADER

SignIn = Callable[..., Awaitable[httpx.Response]]
Asked = list[dict[str, Any]]
Replies = dict[str, tuple[int, Any]]

WHO = {"query": "{ login { id } }"}
SHARE = {"query": 'mutation { share(deviceId: "cam-1", email: ["bob@example.com"]) }'}
ADDRESSES = [path.replace("{part:path}", "people").replace("{device_id}", "cam-1") for path in PATHS]
FEED = b'id: 1-7\nevent: devices\ndata: {"device_ids": ["cam-1"]}\n\n'


async def feed() -> AsyncGenerator[bytes]:
    """What the read API's stream says."""
    yield FEED


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


async def test_live_updates_are_passed_on_and_taken_up_where_they_were(
    client: httpx.AsyncClient, sign_in: SignIn, replies: Replies, asked: Asked
) -> None:
    replies["GET read-api/v1/changes"] = (200, feed)
    assert (await client.get("/changes/v1")).status_code == 401
    await sign_in("ann")
    answer = await client.get("/changes/v1", headers={"Last-Event-ID": "1-6"})
    assert answer.content == FEED
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    (follows,) = [item for item in asked if item["call"] == "GET read-api/v1/changes"]
    assert follows["account"] == "ann"
    assert follows["headers"]["last-event-id"] == "1-6"


async def test_live_updates_that_cannot_be_had_are_refused_with_the_code(
    client: httpx.AsyncClient, sign_in: SignIn, replies: Replies
) -> None:
    await sign_in("ann")
    replies["GET read-api/v1/changes"] = (429, {"error": {"code": "TOO_MANY_STREAMS", "message": "Enough."}})
    refused = await client.get("/changes/v1")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "TOO_MANY_STREAMS")
    replies["GET read-api/v1/changes"] = (500, {})
    assert (await client.get("/changes/v1")).status_code == 503


async def test_a_stream_ends_with_its_session(
    client: httpx.AsyncClient, portal: FastAPI, sign_in: SignIn, replies: Replies
) -> None:
    await sign_in("ann")
    token = await token_of(client)
    arrived = asyncio.Event()

    async def signs_out_in_between() -> AsyncGenerator[bytes]:
        yield FEED
        await arrived.wait()
        await client.post("/auth/logout", data={"csrf": token})
        yield b"event: devices\ndata: {}\n\n"

    async def watched(scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        async def noting(message: Any) -> None:
            await send(message)
            if message.get("body") == FEED:
                arrived.set()

        await portal(scope, receive, noting)

    replies["GET read-api/v1/changes"] = (200, signs_out_in_between)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(watched), base_url=client.base_url, cookies=client.cookies
    ) as browser:
        assert (await browser.get("/changes/v1")).content == FEED


class Spoken:
    """A service's streams, for which a test speaks to each client that follows."""

    def __init__(self) -> None:
        self.followed = 0
        self._clients: list[asyncio.Queue[bytes | None]] = []

    async def __call__(self) -> AsyncGenerator[bytes]:
        said = asyncio.Queue[bytes | None]()
        self._clients.append(said)
        self.followed += 1
        try:
            while (part := await said.get()) is not None:
                yield part
        finally:
            self._clients.remove(said)

    def say(self, *parts: bytes | None) -> None:
        for client in self._clients:
            for part in parts:
                client.put_nowait(part)

    async def until(self, clients: int) -> None:
        """So many follow; whoever has left is noticed when something is said to him."""
        async with asyncio.timeout(10):
            while len(self._clients) != clients:
                if len(self._clients) > clients:
                    self.say(b": still here\n\n")
                await asyncio.sleep(0.01)


@pytest.fixture
def spoken(replies: Replies) -> dict[str, Spoken]:
    """The streams of both services."""
    both = {"read-api": Spoken(), "notifier": Spoken()}
    for name, stream in both.items():
        replies[f"GET {name}/v1/changes"] = (200, stream)
    return both


@pytest.fixture
async def browser(portal: FastAPI, client: httpx.AsyncClient) -> AsyncGenerator[httpx.AsyncClient]:
    """The signed-in `client`'s browser, over real HTTP, so that what is streamed comes as it is said."""
    sock = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(portal, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    )
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{sock.getsockname()[1]}", timeout=20) as browser:
        yield browser
    server.should_exit = True
    await serving


@asynccontextmanager
async def following(
    browser: httpx.AsyncClient, client: httpx.AsyncClient
) -> AsyncGenerator[Callable[[int], Awaitable[bytes]]]:
    """The next so many bytes that the signed-in client is told."""
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in client.cookies.jar)
    async with browser.stream("GET", "/changes/v1", headers={"Cookie": cookies}) as answer:
        assert answer.status_code == 200
        parts = answer.aiter_bytes()
        rest = b""

        async def told(length: int) -> bytes:
            nonlocal rest
            async with asyncio.timeout(10):
                while len(rest) < length:
                    rest += await anext(parts)
            said, rest = rest[:length], rest[length:]
            return said

        yield told


NOTICES = b"event: notices\ndata: {}\n\n"
ALL_NOTICES = NOTICES + b"event: notice_settings\ndata: {}\n\n"
READY = b"event: ready\ndata: {}\n\n"


async def test_what_both_services_tell_comes_in_one_stream_event_by_event(
    client: httpx.AsyncClient, browser: httpx.AsyncClient, sign_in: SignIn, spoken: dict[str, Spoken]
) -> None:
    await sign_in("ann")
    async with following(browser, client) as told:
        await spoken["read-api"].until(1)
        await spoken["notifier"].until(1)
        spoken["notifier"].say(READY)
        assert await told(len(ALL_NOTICES)) == ALL_NOTICES
        spoken["read-api"].say(FEED[:20])
        spoken["notifier"].say(NOTICES)
        assert await told(len(NOTICES)) == NOTICES, "an event is not torn by another's"
        spoken["read-api"].say(FEED[20:])
        assert await told(len(FEED)) == FEED
    for stream in spoken.values():
        await stream.until(0)  # who has left is followed by nobody


async def test_while_the_notifier_is_away_the_rest_goes_on_and_when_it_is_back_all_is_read_again(
    client: httpx.AsyncClient, browser: httpx.AsyncClient, sign_in: SignIn, spoken: dict[str, Spoken],
    replies: Replies,
) -> None:  # fmt: skip
    replies["GET notifier/v1/changes"] = (503, {"error": {"code": "UNAVAILABLE", "message": "Away."}})
    await sign_in("ann")
    async with following(browser, client) as told:
        await spoken["read-api"].until(1)
        spoken["read-api"].say(FEED)
        assert await told(len(FEED)) == FEED
        replies["GET notifier/v1/changes"] = (200, spoken["notifier"])
        await spoken["notifier"].until(1)
        spoken["notifier"].say(READY)
        assert await told(len(ALL_NOTICES)) == ALL_NOTICES
        spoken["notifier"].say(None)  # it ends, and is back
        await spoken["notifier"].until(0)
        spoken["read-api"].say(FEED)
        assert await told(len(FEED)) == FEED
        await spoken["notifier"].until(1)
        spoken["notifier"].say(READY)
        assert await told(len(ALL_NOTICES)) == ALL_NOTICES


async def test_both_streams_end_with_the_session_and_with_the_read_apis(
    client: httpx.AsyncClient, browser: httpx.AsyncClient, sign_in: SignIn, spoken: dict[str, Spoken]
) -> None:
    await sign_in("ann")
    token = await token_of(client)
    async with following(browser, client) as told:
        await spoken["notifier"].until(1)
        spoken["read-api"].say(None)
        with pytest.raises(StopAsyncIteration):
            await told(1)
    await spoken["notifier"].until(0)
    async with following(browser, client) as told:
        await spoken["notifier"].until(1)
        spoken["notifier"].say(READY)
        assert await told(len(ALL_NOTICES)) == ALL_NOTICES
        await client.post("/auth/logout", data={"csrf": token})
        spoken["notifier"].say(NOTICES)
        with pytest.raises(StopAsyncIteration):
            await told(1)
    for stream in spoken.values():
        await stream.until(0)


async def test_the_worker_that_shows_pushes_may_act_for_every_page(client: httpx.AsyncClient) -> None:
    answer = await client.get("/static/push-worker.js")
    assert answer.status_code == 200
    assert answer.headers["service-worker-allowed"] == "/"
    assert "javascript" in answer.headers["content-type"]
