"""Puts the portal together; the only place that knows concrete classes."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib import resources
from pathlib import Path

import httpx
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from portal import auth_pages, graphql_http, pages
from portal.context import Peers
from portal.cookies import Cookies
from portal.peers import Gateway, ReadApi, ShareCommand
from portal.schema import build_schema
from portal.sessions import Sessions
from portal.settings import Settings
from portal.sign_in import SignIn
from servicekit import pg
from servicekit.auth import InternalTokens, OidcVerifier
from servicekit.http import create_app

NAME = "portal"
"""How the portal names itself to other services: the issuer of internal tokens."""


@asynccontextmanager
async def build(settings: Settings) -> AsyncGenerator[FastAPI]:
    """The application, with its connections open while the block runs.

    Raises:
        OSError, asyncpg.PostgresError: the database cannot be reached or refuses the role.
    """
    pool = await pg.open_pool(settings.postgres_dsn.get_secret_value(), application=NAME)
    async with pool, httpx.AsyncClient(timeout=5.0) as client:
        sessions = Sessions(pool, timedelta(hours=settings.session_hours))
        tokens = InternalTokens(settings.internal_key.get_secret_value(), NAME)
        peers = Peers(
            ShareCommand(client, tokens, name="share-command", url=settings.share_command_url),
            ReadApi(client, tokens, name="permission-projector", url=settings.read_api_url),
            Gateway(client, tokens, name="access-gateway", url=settings.gateway_url),
        )
        bearer_tokens = _verifier(settings, settings.oidc_audience, client)
        id_tokens = _verifier(settings, settings.oidc_client_id, client)
        sign_in = SignIn(
            client,
            id_tokens,
            issuer=settings.oidc_issuer,
            client_id=settings.oidc_client_id,
            client_secret=settings.oidc_client_secret.get_secret_value(),
            redirect_uri=f"{settings.public_url}/auth/callback",
        )

        async def issuer_known() -> None:
            await bearer_tokens.discovery()

        app = create_app("Latchkey portal", {"postgres": sessions.ping, "issuer": issuer_known}, public=True)
        cookies = Cookies(secure=settings.secure)
        app.include_router(graphql_http.router(build_schema(), bearer_tokens, peers))
        app.include_router(auth_pages.router(sessions, cookies, sign_in))
        with resources.as_file(resources.files(NAME).joinpath("static")) as folder:
            app.mount("/static", StaticFiles(directory=Path(folder)))
            app.include_router(pages.router(sessions, cookies, peers))  # last: it answers every other path
            yield app


def _verifier(settings: Settings, audience: str, client: httpx.AsyncClient) -> OidcVerifier:
    return OidcVerifier(
        issuer=settings.oidc_issuer,
        audience=audience,
        algorithms=settings.oidc_algorithms,
        client=client,
    )
