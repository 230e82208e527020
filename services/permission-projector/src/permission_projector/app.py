"""The verbs, put together: the only place that chooses concrete classes."""

import gc
import json
from collections.abc import Sequence
from typing import Final, cast

import asyncpg
from fastapi import FastAPI, Request, Response

from contracts import topics
from permission_projector import activity, events
from permission_projector.consumer import TOPICS, Projector, observe
from permission_projector.errors import UnavailableError
from permission_projector.events import Events
from permission_projector.generation import LIVE, TURN, require_shape
from permission_projector.history import History
from permission_projector.live import Live
from permission_projector.read_api import build_router
from permission_projector.reader import Reader, load_statements
from permission_projector.settings import NAME, ProjectSettings, ServeSettings
from permission_projector.store import ARRIVED, Store
from permission_projector.waiting import Notifications, Positions
from servicekit import pg, runtime
from servicekit.auth import InternalCallers
from servicekit.deleted import DeletedAccounts, LivingCallers
from servicekit.http import create_app, error_answer
from servicekit.inbox import Inbox
from servicekit.kafka import Admin, DeadLetters, Producer
from servicekit.logging import get_logger

log = get_logger(__name__)


async def project(settings: ProjectSettings) -> None:
    """Run the verb ``project`` until a signal."""
    # A batch is many small objects and no cycle, so that looking for cycles is work for nothing.
    gc.set_threshold(100_000, 50, 50)
    dsn = settings.postgres_dsn.get_secret_value()
    prefix = settings.topic_prefix
    pool = await pg.open_pool(
        dsn,
        application=f"{NAME}-project",
        search_path=LIVE,
        max_size=4,
        on_connect=ARRIVED,
        stateless=True,
    )
    activity_pool = await pg.open_pool(
        dsn, application=f"{NAME}-activity", search_path=activity.SCHEMA, max_size=2
    )
    async with pool, activity_pool, Producer.lasting(settings.kafka_bootstrap, NAME) as producer:
        await pg.when_up(pool, require_shape)
        store = Store()
        dead_letters = DeadLetters(producer, prefix + topics.dead_letters(NAME).name)
        projector = Projector(store, dead_letters, prefix)
        inbox = Inbox(
            bootstrap=settings.kafka_bootstrap,
            group=prefix + NAME,
            topics=[prefix + topic.name for topic in TOPICS],
            pool=pool,
            handle=projector.handle,
            admin=Admin(settings.kafka_bootstrap),
            whole=[prefix + topics.SHARE_EVENTS.name],
            first=TURN,
            at_once=2,
        )
        activity_inbox = activity.build_inbox(
            settings, activity_pool, dead_letters, Admin(settings.kafka_bootstrap)
        )

        async def observed() -> None:
            await observe(store, pool)

        async def forgotten() -> None:
            await projector.forget(pool)

        await runtime.serve(
            create_app(NAME, {"inbox": inbox.healthy}),
            host=settings.http_host,
            port=settings.http_port,
            background=[inbox.run, activity_inbox.run, observed, forgotten],
        )


SERVE_SESSION: Final = {
    "default_transaction_read_only": "on",
    "jit": "off",  # compiling would take longer than any of these statements
    "plan_cache_mode": "force_generic_plan",  # one plan for all values: the one that a test pins
    "timezone": "UTC",
}


async def serve(settings: ServeSettings) -> None:
    """Run the verb ``serve`` until a signal."""
    dsn = settings.postgres_dsn.get_secret_value()
    pool = await pg.open_pool(
        dsn, application=f"{NAME}-serve", search_path=LIVE, settings=SERVE_SESSION, stateless=True
    )
    async with pool:
        app, background = build_read_api(InternalCallers(settings.internal_keys, NAME), pool, dsn)
        await runtime.serve(app, host=settings.http_host, port=settings.http_port, background=background)


def build_read_api(
    callers: InternalCallers, pool: pg.Pool, dsn: str
) -> tuple[FastAPI, Sequence[runtime.Background]]:
    """The read API, and what must run beside it. The pool's sessions have `SERVE_SESSION`."""
    sql = load_statements()
    notifications = Notifications(dsn)
    reader, live = Reader(pool, sql), Live(pool, notifications, sql["feed"], sql["activity"])
    positions = Positions(pool, notifications, sql["known_positions"])
    app = create_app(NAME, {"read_models": reader.alive})
    past = History(pool, sql), Events(pool, events.load_statements())

    async def is_deleted(account_id: str) -> bool:
        return await pool.fetchval(sql["is_deleted"], account_id)

    living = LivingCallers(callers, DeletedAccounts(is_deleted))
    app.include_router(build_router(living, positions, reader, *past, live))

    async def unavailable(_request: Request, error: Exception) -> Response:
        log.warning("database_away", error=repr(error))
        return error_answer(UnavailableError())

    for kind in (*pg.TRANSIENT, asyncpg.QueryCanceledError):
        app.add_exception_handler(kind, unavailable)
    return app, [notifications.listen, live.follow, live.follow_activity]


def openapi() -> str:
    """The OpenAPI document of the read API, as JSON with sorted keys."""
    described = create_app(NAME, {})
    described.include_router(
        # The routes are described, none is served.
        build_router(*cast("tuple[LivingCallers, Positions, Reader, History, Events, Live]", (None,) * 6))
    )
    return json.dumps(described.openapi(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
