"""Puts the portal together; the only place that knows concrete classes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Final

import httpx
from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from portal import app_page, auth_pages, changes, graphql_http, history_csv, pages, unsubscribe_pages
from portal.access_keys import AccessKeys, SecretBox
from portal.aliases import Aliases
from portal.authentication import Authentication
from portal.context import Peers
from portal.cookies import Cookies
from portal.deletions import Deletions
from portal.notices import Notifier
from portal.own_changes import OwnChanges
from portal.peers import Gateway, ShareCommand
from portal.read_api import ReadApi
from portal.registry import Registry
from portal.schema import build_schema
from portal.sessions import Sessions
from portal.settings import Settings
from portal.sign_in import SignIn
from portal.visiting import Visitors
from servicekit import pg
from servicekit.auth import InternalTokens, OidcVerifier
from servicekit.http import create_app
from servicekit.limiting import Frequency
from servicekit.listening import Listener, set_within

NAME = "portal"
"""How the portal names itself to other services: the issuer of internal tokens."""

_LISTEN_SECONDS: Final = 5.0
"""To wait, as the process starts, until it hears what its accounts change."""


@asynccontextmanager
async def build(settings: Settings) -> AsyncGenerator[FastAPI]:
    """The application, with its connections open while the block runs.

    Raises:
        OSError, asyncpg.PostgresError: the database cannot be reached or refuses the role.
    """
    pool = await pg.open_pool(settings.postgres_dsn.get_secret_value(), application=NAME)
    streams = httpx.AsyncClient(limits=httpx.Limits(max_connections=None))  # as many as follow what changes
    async with pool, httpx.AsyncClient(timeout=5.0) as client, streams:
        listener = Listener(settings.postgres_dsn.get_secret_value(), f"{NAME}-listen")
        own_changes = OwnChanges(pool, listener)
        sessions = Sessions(pool, timedelta(hours=settings.session_hours))
        access_keys = AccessKeys(pool, SecretBox(settings.access_key_secret.get_secret_value()))
        tokens = InternalTokens(settings.internal_key.get_secret_value(), NAME)
        peers = Peers(
            ShareCommand(client, tokens, name="share-command", url=settings.share_command_url),
            ReadApi(client, tokens, name="permission-projector", url=settings.read_api_url),
            Gateway(
                client,
                tokens,
                name="access-gateway",
                url=settings.gateway_url,
                others=settings.other_gateway_urls,
            ),
            Notifier(client, tokens, name="notifier", url=settings.notifier_url),
            _registry(settings, client),
        )
        read_streams = ReadApi(streams, tokens, name="permission-projector", url=settings.read_api_url)
        notice_streams = Notifier(streams, tokens, name="notifier", url=settings.notifier_url)
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
        visitors = Visitors(sessions, cookies)
        deletions = Deletions(pool, listener, peers.share_command, own_changes)
        authentication = Authentication(
            bearer_tokens, access_keys, settings.signed_hosts, sessions, cookies, deleted=deletions.accounts
        )
        app.include_router(
            graphql_http.router(
                build_schema(),
                authentication,
                peers,
                access_keys=access_keys,
                aliases=Aliases(pool),
                own_changes=own_changes,
                frequency=Frequency(settings.requests_per_minute),
            )
        )
        app.include_router(changes.router(authentication, read_streams, notice_streams, own_changes))
        app.include_router(history_csv.router(authentication, peers.read_api))
        app.include_router(auth_pages.router(sessions, cookies, sign_in))
        static = resources.files(NAME).joinpath("static")
        app.include_router(
            app_page.router(
                visitors, static, renames=peers.registry is not None, access_urls=settings.access_urls
            )
        )
        with resources.as_file(static) as folder:
            app.mount("/static", GZipMiddleware(app_page.BuiltFiles(directory=Path(folder))))
            app.include_router(unsubscribe_pages.router(peers.notifier))
            app.include_router(pages.router(visitors, peers))  # last: it answers every other path
            following = {asyncio.create_task(listener.run()), asyncio.create_task(deletions.follow())}
            try:
                await set_within(listener.listening, _LISTEN_SECONDS)
                yield app
            finally:
                for task in following:
                    task.cancel()
                await asyncio.wait(following)


def _registry(settings: Settings, client: httpx.AsyncClient) -> Registry | None:
    if settings.registry_url is None or settings.registry_token is None:
        return None
    return Registry(client, settings.registry_url, settings.registry_token.get_secret_value())


def _verifier(settings: Settings, audience: str, client: httpx.AsyncClient) -> OidcVerifier:
    return OidcVerifier(
        issuer=settings.oidc_issuer,
        audience=audience,
        algorithms=settings.oidc_algorithms,
        client=client,
        asked_at=settings.oidc_internal_url,
    )
