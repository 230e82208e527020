"""Live updates: what the read API, the notifier and the portal itself tell an account, in one stream."""

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

from devstack.issuer import IssuerServer
from portal.app import build
from portal.settings import Settings
from servicekit import pg

SignIn = Callable[..., Awaitable[httpx.Response]]
Asked = list[dict[str, Any]]
Replies = dict[str, tuple[int, Any]]

FEED = b'id: 1-7\nevent: devices\ndata: {"device_ids": ["cam-1"]}\n\n'


async def feed() -> AsyncGenerator[bytes]:
    """What the read API's stream says."""
    yield FEED


async def token_of(client: httpx.AsyncClient) -> str:
    """The CSRF token that the app finds in its page."""
    found = re.search(r'data-csrf="([^"]+)"', (await client.get("/")).text)
    assert found is not None
    return found[1]


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
        answer = await browser.get("/changes/v1")
    assert answer.content == FEED + SIGNED_OUT


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
SIGNED_OUT = b"event: signed_out\ndata: {}\n\n"


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
        assert await told(len(SIGNED_OUT)) == SIGNED_OUT
        with pytest.raises(StopAsyncIteration):
            await told(1)
    for stream in spoken.values():
        await stream.until(0)


CONTACT = "0199a000-0000-7000-8000-00000000000a"
OWN_CHANGES = [
    ('mutation { setDeviceAlias(deviceId: "cam-9", alias: "Yard") }', "devices", '{"device_ids":["cam-9"]}'),
    ("mutation { createAccessKey { key } }", "access_keys", "{}"),
    ('mutation { addContact(recipient: "dan@example.com") }', "contacts", "{}"),
    (f'mutation {{ setRemark(contactId: "{CONTACT}", remark: "x") }}', "contacts", "{}"),
    ('mutation { scanContactCode(code: "c") { id } }', "contacts", "{}"),
    ('mutation { removeRecipient(recipient: "dan@example.com") }', "contacts", "{}"),
    ('mutation { setAlwaysAccept(ownerId: "dan", always: true) }', "invitations", "{}"),
]


@pytest.fixture
async def there(
    settings: Settings, client: httpx.AsyncClient, issuer: IssuerServer
) -> AsyncGenerator[Callable[[str, str], Awaitable[None]]]:
    """Has an account do something at another process of the portal, on the same database."""
    async with (
        build(settings) as other,
        httpx.AsyncClient(transport=httpx.ASGITransport(other), base_url=client.base_url) as asking,
    ):

        async def does(account_id: str, document: str) -> None:
            answer = await asking.post(
                "/graphql/v1",
                json={"query": document},
                headers={"Authorization": f"Bearer {issuer.token(account_id)}"},
            )
            assert "errors" not in answer.json(), document

        yield does


@pytest.fixture
def answered(replies: Replies) -> None:
    """share-command does what `OWN_CHANGES` ask of it."""
    replies |= {
        "POST share-command/v1/contacts": (201, {"contact_id": CONTACT}),
        f"PUT share-command/v1/contacts/{CONTACT}/remark": (204, None),
        "POST share-command/v1/contact-codes/scans": (200, {"contact_id": CONTACT, "name": "Dan"}),
        "PUT share-command/v1/always-accept/dan": (204, None),
    }


@pytest.mark.usefixtures("answered", "table")
async def test_what_an_account_does_here_is_told_to_all_that_it_has_open(
    client: httpx.AsyncClient, browser: httpx.AsyncClient, sign_in: SignIn, spoken: dict[str, Spoken],
    graphql: Callable[..., Any],
) -> None:  # fmt: skip
    await sign_in("ann")
    async with following(browser, client) as told, following(browser, client) as told_too:
        await spoken["read-api"].until(2)
        for document, event, data in OWN_CHANGES:
            answer = (await graphql(document)).json()
            assert "errors" not in answer, document
            said = f"event: {event}\ndata: {data}\n\n".encode()
            assert await told(len(said)) == said, document
            assert await told_too(len(said)) == said, document


@pytest.mark.usefixtures("table")
async def test_it_is_told_in_every_process_and_to_nobody_else(
    client: httpx.AsyncClient, browser: httpx.AsyncClient, sign_in: SignIn, spoken: dict[str, Spoken],
    there: Callable[[str, str], Awaitable[None]],
) -> None:  # fmt: skip
    await sign_in("bob")
    async with following(browser, client) as told:
        await spoken["read-api"].until(1)
        await there("ann", "mutation { createAccessKey { key } }")
        await there("bob", 'mutation { setDeviceAlias(deviceId: "cam-9", alias: "Yard") }')
        said = b'event: devices\ndata: {"device_ids":["cam-9"]}\n\n'
        assert await told(len(said)) == said, "of what Ann did, Bob hears nothing"


async def test_what_was_refused_is_told_to_nobody(
    client: httpx.AsyncClient, browser: httpx.AsyncClient, sign_in: SignIn, spoken: dict[str, Spoken],
    graphql: Callable[..., Any],
) -> None:  # fmt: skip
    await sign_in("ann")
    async with following(browser, client) as told:
        await spoken["read-api"].until(1)
        assert "errors" in (await graphql('mutation { deleteAccessKey(key: "NONE") }')).json()
        assert "errors" in (await graphql('mutation { setDeviceAlias(deviceId: "x", alias: "y") }')).json()
        spoken["read-api"].say(FEED)
        assert await told(len(FEED)) == FEED


async def test_when_it_could_not_be_heard_for_a_while_all_is_read_again(
    client: httpx.AsyncClient, browser: httpx.AsyncClient, sign_in: SignIn, spoken: dict[str, Spoken],
    table: pg.Connection,
) -> None:  # fmt: skip
    await sign_in("ann")
    async with following(browser, client) as told:
        await spoken["read-api"].until(1)
        ended = await table.fetchval(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where application_name = 'portal-listen' and datname = current_database()"
        )
        assert ended == 1
        everything = b'event: devices\ndata: {"device_ids":[]}\n\n' + b"".join(
            b"event: %s\ndata: {}\n\n" % event for event in (b"access_keys", b"contacts", b"invitations")
        )
        assert await told(len(everything)) == everything
