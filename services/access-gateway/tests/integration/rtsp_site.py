"""A gateway that speaks RTSP, with cameras behind it and people before it."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rtsp_client import Person

from devstack.camera import Camera

if TYPE_CHECKING:
    from conftest import Running, World

    from devstack.issuer import IssuerServer


@dataclass(slots=True)
class Site:
    """See the module."""

    gateway: "Running"
    world: "World"
    issuer: "IssuerServer"
    port: int
    tls_port: int
    _people: list[Person] = field(default_factory=list[Person])
    _servers: list[asyncio.Server] = field(default_factory=list[asyncio.Server])

    async def camera(self, name: str, permissions: Iterable[str]) -> Camera:
        """A camera of its own, shared with Ann."""
        camera = Camera()
        server = await asyncio.start_server(camera, "127.0.0.1", 0)
        self._servers.append(server)
        await self.world.camera(name, server.sockets[0].getsockname(), "/ch1/live", "/ch1/recording")
        await self.world.share(name, "ann", json.dumps(sorted(permissions)))
        return camera

    async def person(self, name: str, token: str | None = None, account: str = "ann") -> Person:
        token = self.issuer.token(account) if token is None else token
        person = await Person.come(self.port, f"{name}-svc", token)
        self._people.append(person)
        return person

    async def password(self, name: str) -> str:
        """A stream password of Ann's."""
        answer = await self.gateway.http.post(
            "/v1/stream-passwords",
            json={"service_id": f"{name}-svc"},
            headers=self.gateway.headers("ann"),
        )
        assert answer.status_code == 201
        return answer.json()["password"]

    async def close(self) -> None:
        for person in self._people:
            await person.leave()
        for server in self._servers:
            server.close()
