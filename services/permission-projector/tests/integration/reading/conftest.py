"""The read API as `serve` has it, on the database of a test, asked over HTTP as any account."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
import uvicorn

from contracts.base import new_id
from contracts.permissions import Permission, SomeServices, Terms
from permission_projector.app import SERVE_SESSION, build_read_api
from permission_projector.generation import LIVE
from permission_projector.settings import NAME
from servicekit import pg
from servicekit.auth import InternalCallers


class Api:
    """Asks as an account."""

    def __init__(self, client: httpx.AsyncClient, tokens: Any) -> None:
        self.client, self._tokens = client, tokens

    def headers(self, account: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._tokens.token(NAME, account)}"}

    async def get(
        self, account: str, path: str, *, position: str | None = None, known: str | None = None, **query: Any
    ) -> httpx.Response:
        headers = self.headers(account)
        if position is not None:
            headers["Latchkey-Position"] = position
        if known is not None:
            headers["If-None-Match"] = known
        if "start" in query:
            query["from"] = query.pop("start")
        # An empty dictionary would take away what stands in the path.
        return await self.client.get(f"/v1{path}", params=query or None, headers=headers)

    async def ids(self, account: str, **query: Any) -> list[str]:
        answer = await self.get(account, "/devices", **query)
        assert answer.status_code == 200, answer.text
        return [item["device_id"] for item in answer.json()["items"]]

    async def pages(self, account: str, path: str, **query: Any) -> list[list[Any]]:
        """All pages of a list, one after the other by their cursors."""
        pages: list[list[Any]] = []
        cursor: dict[str, str] = {}
        while True:
            answer = await self.get(account, path, **query, **cursor)
            assert answer.status_code == 200, answer.text
            pages.append(answer.json()["items"])
            if answer.json()["next"] is None:
                return pages
            cursor = {"cursor": answer.json()["next"]}


@pytest.fixture
async def api(world: Any, internal_tokens: Any) -> AsyncGenerator[Api]:
    dsn = world.database.dsn("permission_projector")
    pool = await pg.open_pool(dsn, application="t", search_path=LIVE, settings=SERVE_SESSION, stateless=True)
    app, background = build_read_api(InternalCallers(internal_tokens.public_jwks, NAME), pool, dsn)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1, timeout_keep_alive=60)
    )
    serving = asyncio.create_task(server.serve([listening]))
    running = [asyncio.create_task(task()) for task in background]
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with pool, httpx.AsyncClient(base_url=url, timeout=20) as client:
        yield Api(client, internal_tokens)
        server.should_exit = True
        await serving
    for task in running:
        task.cancel()


@pytest.fixture
async def people(world: Any) -> dict[str, UUID]:
    """olga owns two devices; ravi has a service of one; sara is invited to it; mallory is nobody.

    Returns the contacts of ravi and sara.
    """
    ssh_only = Terms(scope=SomeServices(services={"ssh": "all"}), scripting=True)
    contacts = {"ravi": new_id(), "sara": new_id()}
    await world.apply(
        world.account("olga", "Olga@Example.com", "olga@second.example"),
        world.account("ravi"),
        world.account("sara"),
        world.account("mallory"),
        world.device("cam-1", services={"ssh": [Permission.CONNECT], "web": [Permission.PTZ]}),
        world.device("pc-2", name="Zweites Büro_1", created_at=datetime(2026, 1, 2, tzinfo=UTC)),
        world.device("mal-9", owner="mallory", name="Mallory's"),
        world.contact(contacts["ravi"], "mailto:ravi@example.com"),
        world.contact(contacts["sara"], "mailto:sara@example.com"),
        *world.shared(
            "ravi",
            terms=ssh_only,
            contact_id=contacts["ravi"],
        ),
        *world.shared(None, first_version=3, contact_id=contacts["sara"]),
    )
    return contacts
