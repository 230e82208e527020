"""The portal on a real database and a real issuer. The services behind it are one small HTTP server that
checks internal tokens and commands as the real ones do and answers what a test tells it.
"""

import asyncio
import secrets
import socket
from collections.abc import AsyncGenerator, Callable
from typing import Any, cast

import asyncpg
import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from contracts.commands import COMMAND_TYPES
from devstack.issuer import Client, IssuerServer
from devstack.postgres import Cluster
from devstack.pytest_plugin import InternalTokenMaker
from portal.app import build
from portal.settings import Settings
from servicekit import pg
from servicekit.auth import InternalCallers

PUBLIC_URL = "https://portal.example.test"
AUDIENCES = {
    "share-command": "share-command",
    "read-api": "permission-projector",
    "gateway": "access-gateway",
    "gateway-2": "access-gateway",
    "notifier": "notifier",
}
REGISTRY_TOKEN = "a token of the registry"
COMMANDS = {kind.__name__: kind for kind in COMMAND_TYPES}

ANN, BOB = "ann", "bob"
DEVICE: dict[str, Any] = {
    "device_id": "cam-1",
    "name": "Front door",
    "kind": "camera",
    "created_at": "2026-01-02T03:04:05Z",
    "owner": {"account_id": ANN, "name": "Ann", "email": "ann@example.com"},
    "owned": True,
    "share_state": "out",
    "scripting": False,
    "services": [
        {
            "service_id": "cam-1:rtsp",
            "name": "Live stream",
            "protocol": "rtsp",
            "channel": 1,
            "permissions": ["live_view", "playback"],
        },
        {
            "service_id": "cam-1:ssh",
            "name": "Shell",
            "protocol": "ssh",
            "channel": None,
            "permissions": ["connect"],
        },
    ],
    "access": [
        {
            "share_id": "0199a000-0000-7000-8000-000000000001",
            "state": "active",
            "account_id": BOB,
            "email": "bob@example.com",
            "terms": {
                "scope": {"kind": "some", "services": {"cam-1:ssh": ["connect"]}},
                "scripting": True,
            },
            "since": "2026-02-02T00:00:00Z",
        },
        {
            "share_id": "0199a000-0000-7000-8000-000000000002",
            "state": "requested",
            "account_id": None,
            "email": "carol@example.com",
            "terms": {"scope": {"kind": "all", "permissions": "all"}, "scripting": False},
            "since": "2026-02-03T00:00:00Z",
        },
    ],
}
TERMS = {"scope": {"kind": "some", "services": {"cam-1:rtsp": ["live_view"]}}, "scripting": False}
INVITATION: dict[str, Any] = {
    "share_id": "0199a000-0000-7000-8000-000000000003",
    "device_id": "cam-9",
    "device_name": "Back yard",
    "owner": {"account_id": "dan", "name": "Dan", "email": "dan@example.com"},
    "terms": TERMS,
    "invitation_version": 4,
    "created_at": "2026-02-04T00:00:00Z",
}
LINKED: dict[str, Any] = {
    "share_id": INVITATION["share_id"],
    "device_id": "cam-9",
    "device_name": "Back yard",
    "owner_name": "Dan <b>D</b>",
    "state": "requested",
    "invitation_version": 4,
    "purpose": "accept",
    "terms": TERMS,
    "changed_since_link": False,
}

NOT_FOUND = {"error": {"code": "DEVICE_NOT_FOUND", "message": "No such device."}}

Replies = dict[str, tuple[int, Any]]
Asked = list[dict[str, Any]]


class Peers:
    """The services: what they answer and what they were asked, during one test."""

    def __init__(self) -> None:
        self.url = ""
        self.replies: Replies = {}
        self.asked: Asked = []
        self.losses: list[str] = []
        self.deleted: list[dict[str, Any]] = []
        """Accounts that the registry has deleted, as share-command tells of them."""
        self.deletions_asked = 0
        """How often it was asked for them."""
        self.deaf = False
        """Whether share-command cannot be asked for them."""


@pytest.fixture
def replies(peers: Peers) -> Replies:
    """What the services answer, by ``<method> <service><path>``, to which `` after <position>`` may be added;
    a test changes what it needs.
    """
    return peers.replies


@pytest.fixture
def asked(peers: Peers) -> Asked:
    """What the services were asked, in order."""
    return peers.asked


@pytest.fixture
def losses(peers: Peers) -> list[str]:
    """Calls that are carried out and whose answer is lost on the way; each entry counts once."""
    return peers.losses


@pytest.fixture
def peers(peer_server: Peers) -> Peers:
    """The services as every test finds them."""
    peer_server.asked, peer_server.losses = [], []
    peer_server.replies = {
        "GET read-api/v1/me": (200, {"account_id": ANN, "name": "Ann", "email": "ann@example.com"}),
        "GET read-api/v1/devices": (200, {"items": [DEVICE], "total": 1, "hasMore": False}),
        "GET read-api/v1/devices/cam-1": (200, DEVICE),
        "GET read-api/v1/devices/cam-9": (200, {**DEVICE, "device_id": "cam-9", "name": "Back yard"}),
        "GET read-api/v1/invitations": (200, {"items": [INVITATION]}),
        "GET share-command/v1/contacts": (
            200,
            {
                "contacts": [
                    {
                        "contact_id": "0199a000-0000-7000-8000-00000000000a",
                        "address": "bob@example.com",
                    }
                ]
            },
        ),
        "POST share-command/v1/invitation-links": (200, LINKED),
        "POST gateway/v1/connections": (
            201,
            {
                "connection_id": "conn-1",
                "service_id": "cam-1:ssh",
                "device_id": "cam-1",
                "host": "relay.example.com",
                "port": 20001,
                "protocol": "ssh",
                "created_at": "2026-02-04T00:00:00Z",
                "timeout_seconds": 30,
            },
        ),
        "DELETE gateway/v1/connections/conn-1": (204, None),
    }
    return peer_server


def _command_reply(name: str, account_id: str, body: Any) -> tuple[int, Any]:
    command = COMMANDS[name].model_validate({**body, "actor": account_id})
    devices = getattr(command, "device_ids", None) or (getattr(command, "device_id", ""),)
    return 200, {"command_id": command.command_id, "positions": [f"{device}@7" for device in devices]}


@pytest.fixture(scope="session")
async def peer_server(internal_tokens: InternalTokenMaker) -> AsyncGenerator[Peers]:
    """The server that stands for the services; each is below its own name."""
    peers = Peers()
    app = FastAPI()
    callers = {
        name: InternalCallers(internal_tokens.public_jwks, audience) for name, audience in AUDIENCES.items()
    }

    @app.api_route("/{service}/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    async def answer(request: Request, service: str, path: str) -> Response:
        if service == "registry":
            account_id = "portal" if request.headers["authorization"] == f"Bearer {REGISTRY_TOKEN}" else ""
        else:
            account_id = callers[service](request)
        if path == "v1/deleted-accounts":  # asked every second, beside what tests are about
            peers.deletions_asked += 1
            if peers.deaf:
                return Response(status_code=503)
            after = int(request.query_params["after"])
            return JSONResponse({"items": [item for item in peers.deleted if item["number"] > after]})
        body = await request.json() if await request.body() else None
        peers.asked.append(
            {
                "call": f"{request.method} {service}/{path}",
                "account": account_id,
                "body": body,
                "params": request.query_params.multi_items(),
                "headers": dict(request.headers),
            }
        )
        call = f"{request.method} {service}/{path}"
        if call in peers.losses:
            peers.losses.remove(call)
            return Response(b"", headers={"content-length": "9"})
        after = request.headers.get("latchkey-position")
        reply = peers.replies.get(f"{call} after {after}") or peers.replies.get(call)
        if reply is None and path.startswith("v1/commands/"):
            reply = _command_reply(path.rpartition("/")[2], account_id, body)
        status, content = reply or (
            404,
            {"error": {"code": "DEVICE_NOT_FOUND", "message": "No such device."}},
        )
        if status == 204:
            return Response(status_code=204)
        if callable(content):
            made = cast("Callable[[], AsyncGenerator[bytes]]", content)
            return StreamingResponse(made(), status, media_type="text/event-stream")
        headers: dict[str, str] = {}
        if isinstance(content, dict) and "positions" in content:
            headers["Latchkey-Position"] = ", ".join(content["positions"])  # pyright: ignore[reportUnknownArgumentType] - JSON
        return JSONResponse(content, status, headers)

    sock = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws="none", lifespan="off"))
    running = asyncio.create_task(server.serve(sockets=[sock]))
    peers.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    yield peers
    server.should_exit = True
    await running


@pytest.fixture(scope="session")
async def environment(
    postgres_cluster: Cluster, issuer: IssuerServer, internal_tokens: InternalTokenMaker, peer_server: Peers
) -> AsyncGenerator[dict[str, str]]:
    """The portal's settings as environment variables; its tables are there. One database for all tests."""
    name = f"portal_{secrets.token_hex(6)}"
    postgres_cluster.create(name)
    dsn = postgres_cluster.dsn(name, "portal")
    issuer.register(Client("latchkey-portal", "p+ /:secret", (f"{PUBLIC_URL}/auth/callback",)))
    await pg.migrate(dsn, "portal")
    yield {
        "LATCHKEY_POSTGRES_DSN": dsn,
        "LATCHKEY_INTERNAL_KEY": internal_tokens.private_jwk,
        "LATCHKEY_PUBLIC_URL": PUBLIC_URL,
        "LATCHKEY_OIDC_ISSUER": issuer.url,
        "LATCHKEY_OIDC_AUDIENCE": issuer.audience,
        "LATCHKEY_OIDC_CLIENT_ID": "latchkey-portal",
        "LATCHKEY_OIDC_CLIENT_SECRET": "p+ /:secret",
        "LATCHKEY_ACCESS_KEY_SECRET": "a secret of at least 32 characters",
        "LATCHKEY_SHARE_COMMAND_URL": f"{peer_server.url}/share-command",
        "LATCHKEY_READ_API_URL": f"{peer_server.url}/read-api",
        "LATCHKEY_GATEWAY_URL": f"{peer_server.url}/gateway",
        "LATCHKEY_OTHER_GATEWAY_URLS": f'["{peer_server.url}/gateway-2"]',
        "LATCHKEY_ACCESS_URLS": '["https://gateway.example.com:8443"]',
        "LATCHKEY_REGISTRY_URL": f"{peer_server.url}/registry",
        "LATCHKEY_REGISTRY_TOKEN": REGISTRY_TOKEN,
        "LATCHKEY_NOTIFIER_URL": f"{peer_server.url}/notifier",
        "LATCHKEY_REQUESTS_PER_MINUTE": "100000",
    }
    postgres_cluster.drop(name)


@pytest.fixture
async def table(environment: dict[str, str]) -> AsyncGenerator[pg.Connection]:
    """The portal's database, with no key in it."""
    connection = await asyncpg.connect(environment["LATCHKEY_POSTGRES_DSN"])
    await connection.execute("truncate access_key")
    yield connection
    await connection.close()


@pytest.fixture(scope="session")
def settings(environment: dict[str, str]) -> Settings:
    """Those that a process would read."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return Settings()  # pyright: ignore[reportCallIssue] - filled from the environment


@pytest.fixture(scope="session")
async def portal(settings: Settings) -> AsyncGenerator[FastAPI]:
    """The running portal."""
    async with build(settings) as app:
        yield app


@pytest.fixture
async def client(portal: FastAPI, peers: Peers) -> AsyncGenerator[httpx.AsyncClient]:
    """A browser or script that talks to the portal; it keeps cookies and follows no redirect by itself."""
    del peers  # asked for so that the services begin anew
    transport = httpx.ASGITransport(portal, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as browser:
        yield browser


@pytest.fixture
def graphql(client: httpx.AsyncClient, issuer: IssuerServer) -> Callable[..., Any]:
    """Send a document as Ann: ``await graphql(query, variables, headers=…)``."""

    async def send(
        query: str, variables: dict[str, Any] | None = None, *, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        return await client.post(
            "/graphql/v1",
            json={"query": query, "variables": variables},
            headers={"Authorization": f"Bearer {issuer.token(ANN)}", **(headers or {})},
        )

    return send


@pytest.fixture
def sign_in(client: httpx.AsyncClient) -> Callable[..., Any]:
    """Go through the issuer's pages: ``await sign_in(account_id, next)``; returns the callback's answer."""

    async def go(account_id: str, next_path: str = "/") -> httpx.Response:
        begun = await client.get("/auth/login", params={"next": next_path})
        assert begun.status_code == 303, begun.text
        async with httpx.AsyncClient() as issuer_pages:
            chosen = await issuer_pages.post(
                begun.headers["location"].partition("?")[0],
                data={**httpx.URL(begun.headers["location"]).params, "account": account_id},
            )
        assert chosen.status_code == 303, chosen.text
        return await client.get(chosen.headers["location"])

    return go


@pytest.fixture
def csrf(client: httpx.AsyncClient) -> Callable[..., Any]:
    """The token in the forms of the signed-in browser: ``await csrf()``."""

    async def find() -> str:
        text = (await client.get("/done?outcome=rejected")).text
        return text.partition('name="csrf" value="')[2].partition('"')[0]

    return find
