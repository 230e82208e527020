"""All doors of the gateway: which there are, and what serves those who come in."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx

from access_gateway.doors import Crowd, Door, Handle
from access_gateway.people import People
from access_gateway.protocols.access import AccessDoor, Reception
from access_gateway.protocols.connect import Connect
from access_gateway.protocols.rtsp.door import RtspDoor
from access_gateway.protocols.rtsp.passwords import StreamPasswords
from access_gateway.protocols.websocket import WebSocket
from access_gateway.server import Gateway
from access_gateway.settings import Settings
from access_gateway.tls import Certificate
from servicekit.auth import OidcVerifier

_ISSUER_SECONDS = 5.0
_CLOSING_SECONDS = 86_400.0
"""Longer than anybody waits: whoever relays ends what does not move any more."""


class Entrance:
    """The doors that the settings tell to open."""

    def __init__(
        self,
        settings: Settings,
        gateway: Gateway,
        *,
        passwords: StreamPasswords,
        crowd: Crowd,
        certificate: Certificate | None,
    ) -> None:
        self._settings, self._gateway, self._passwords = settings, gateway, passwords
        self._crowd, self._certificate = crowd, certificate

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Keep the doors open while the block runs; then close them, and whatever came in by them.

        Raises:
            OSError: a port is taken, or this process may not have it.
        """
        doors: list[Door] = []
        async with httpx.AsyncClient(timeout=_ISSUER_SECONDS) as client:
            try:
                for name, port, handle, certificate in self._plans(client):
                    doors.append(
                        Door(
                            name,
                            (self._settings.access_host, port),
                            handle,
                            crowd=self._crowd,
                            hello_seconds=self._settings.hello_seconds,
                            certificate=certificate,
                            closing_seconds=_CLOSING_SECONDS,
                        )
                    )
                yield
            finally:
                await asyncio.gather(*(door.close() for door in doors))

    def _plans(self, client: httpx.AsyncClient) -> list[tuple[str, int, Handle, Certificate | None]]:
        settings, plans = self._settings, list[tuple[str, int, Handle, Certificate | None]]()
        if settings.oidc_issuer is not None:
            people = People(
                OidcVerifier(
                    issuer=settings.oidc_issuer,
                    audience=settings.oidc_audience,
                    algorithms=settings.oidc_algorithms,
                    client=client,
                    asked_at=settings.oidc_internal_url,
                )
            )
            reception = Reception(
                people,
                self._gateway.refusals,
                connections_per_account=settings.connections_per_account,
            )
            rtsp = RtspDoor(
                self._gateway,
                reception,
                self._passwords,
                idle_seconds=settings.connection_idle_seconds,
            )
            access = AccessDoor(
                connect=Connect(self._gateway, reception),
                websocket=WebSocket(
                    self._gateway,
                    reception,
                    rtsp=rtsp,
                    origins=settings.web_origins,
                    idle_seconds=settings.connection_idle_seconds,
                ),
            )
            plans += [
                ("access", settings.access_port, access, None),
                ("access-tls", settings.access_tls_port, access, self._certificate),
                ("rtsp", settings.rtsp_port, rtsp, None),
                ("rtsps", settings.rtsps_port, rtsp, self._certificate),
            ]
        return [plan for plan in plans if plan[1]]
