"""The verbs, put together: the only place that chooses concrete classes."""

import asyncpg
from fastapi import FastAPI, Request, Response

from contracts import topics
from permission_projector.consumer import TOPICS, Projector, observe
from permission_projector.errors import UnavailableError
from permission_projector.read_api import build_router
from permission_projector.reader import Reader
from permission_projector.settings import NAME, ProjectSettings, ServeSettings
from permission_projector.store import SCHEMA, Store
from permission_projector.waiting import Positions
from servicekit import pg, runtime
from servicekit.auth import InternalCallers
from servicekit.http import create_app, error_answer
from servicekit.inbox import Inbox
from servicekit.kafka import Admin, DeadLetters, Producer
from servicekit.logging import get_logger

log = get_logger(__name__)


async def project(settings: ProjectSettings) -> None:
    """Run the verb ``project`` until a signal."""
    dsn = settings.postgres_dsn.get_secret_value()
    prefix = settings.topic_prefix
    pool = await pg.open_pool(dsn, application=f"{NAME}-project", search_path=SCHEMA, max_size=4)
    async with pool, Producer(settings.kafka_bootstrap, NAME) as producer:
        store = Store()
        dead_letters = DeadLetters(producer, prefix + topics.dead_letters(NAME).name)
        inbox = Inbox(
            bootstrap=settings.kafka_bootstrap,
            group=prefix + NAME,
            topics=[prefix + topic.name for topic in TOPICS],
            pool=pool,
            handle=Projector(store, dead_letters, prefix).handle,
            admin=Admin(settings.kafka_bootstrap),
            whole=[prefix + topics.SHARE_EVENTS.name],
        )

        async def observed() -> None:
            await observe(store, pool)

        await runtime.serve(
            create_app(NAME, {"inbox": inbox.healthy}),
            host=settings.http_host,
            port=settings.http_port,
            background=[inbox.run, observed],
        )


async def serve(settings: ServeSettings) -> None:
    """Run the verb ``serve`` until a signal."""
    dsn = settings.postgres_dsn.get_secret_value()
    pool = await pg.open_pool(
        dsn,
        application=f"{NAME}-serve",
        search_path=SCHEMA,
        settings={"default_transaction_read_only": "on"},
    )
    async with pool:
        app, positions = build_read_api(InternalCallers(settings.internal_keys, NAME), pool, dsn)
        await runtime.serve(
            app, host=settings.http_host, port=settings.http_port, background=[positions.listen]
        )


def build_read_api(callers: InternalCallers, pool: pg.Pool, dsn: str) -> tuple[FastAPI, Positions]:
    """The read API, and what must `listen` beside it."""
    sql = pg.load_queries("permission_projector")
    reader = Reader(pool, sql)
    positions = Positions(pool, dsn, sql["known_positions"])
    app = create_app(NAME, {"read_models": reader.alive})
    app.include_router(build_router(callers, positions, reader))

    async def unavailable(_request: Request, error: Exception) -> Response:
        log.warning("database_away", error=repr(error))
        return error_answer(UnavailableError())

    for kind in (*pg.TRANSIENT, asyncpg.QueryCanceledError):
        app.add_exception_handler(kind, unavailable)
    return app, positions
