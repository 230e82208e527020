"""Puts the notifier together: the only place that knows concrete classes."""

import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final, cast

import asyncpg
import httpx
from fastapi import FastAPI, Request, Response

from contracts import topics
from notifier import http
from notifier.changes import Changes
from notifier.changes import build_router as build_changes
from notifier.channels.email import EmailChannel
from notifier.channels.fcm import FcmChannel, ServiceAccount
from notifier.channels.sms import SmsChannel
from notifier.channels.web_push import WebPushChannel
from notifier.consumer import TOPICS, Consumer
from notifier.delivery import Deliveries, Way
from notifier.letters import Renderer
from notifier.metrics import Metrics
from notifier.router import Router
from notifier.settings import Settings
from notifier.store.inbox import Inboxes
from notifier.store.outward import Store
from notifier.together import looking, marking
from notifier.watching import Watch
from notifier.ways import EmailWay, FcmWay, SmsWay, WebPushWay
from servicekit import pg, runtime
from servicekit.auth import InternalCallers
from servicekit.deleted import DeletedAccounts, LivingCallers
from servicekit.http import ApiError, ReadyCheck, create_app, error_answer
from servicekit.inbox import Inbox
from servicekit.kafka import Admin, DeadLetters, Producer
from servicekit.listening import Listener

NAME: Final = "notifier"
_SESSIONS_BESIDE: Final = 10
_BY_INDEX: Final = {"enable_seqscan": "off"}
"""A statement that was planned while its table was small must not read it whole once it is large."""
_APART_SECONDS: Final = 0.015
"""What comes within this time is planned in one transaction; so much later may a notice go out."""


async def serve(settings: Settings) -> None:
    """Run the notifier until it is told to stop."""
    metrics = Metrics()
    renderer = Renderer(public_url=settings.public_url, link_secret=settings.link_secret.get_secret_value())
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            await pg.open_pool(
                settings.postgres_dsn.get_secret_value(),
                application=NAME,
                max_size=settings.delivery_concurrency + _SESSIONS_BESIDE,
                settings=_BY_INDEX,
                stateless=True,
            )
        )
        producer = await stack.enter_async_context(Producer.lasting(settings.kafka_bootstrap, NAME))
        client = await stack.enter_async_context(
            httpx.AsyncClient(timeout=settings.handover_seconds, follow_redirects=False)
        )
        store = Store(pool)
        listener = Listener(settings.postgres_dsn.get_secret_value(), f"{NAME}-listen")
        changes = Changes(pool, listener)
        web_push = _web_push(settings, client)
        email = EmailChannel(settings)
        stack.push_async_callback(email.close)
        ways: list[Way] = [EmailWay(email, renderer)]
        if web_push is not None:
            ways.append(WebPushWay(web_push, store, renderer))
        if settings.fcm_account_file is not None:
            fcm = FcmChannel(client, ServiceAccount.read(settings.fcm_account_file), settings.fcm_url)
            ways.append(FcmWay(fcm, store, renderer))
        if settings.sms_url is not None and settings.sms_token is not None:
            token = settings.sms_token.get_secret_value()
            sms = SmsChannel(client, url=settings.sms_url, token=token, sender=settings.sms_sender)
            ways.append(SmsWay(sms, settings.public_url))
        consumer = Consumer(
            store=store,
            dead_letters=DeadLetters(producer, settings.topic_prefix + topics.dead_letters(NAME).name),
            metrics=metrics,
            topic_prefix=settings.topic_prefix,
        )
        inbox = Inbox(
            bootstrap=settings.kafka_bootstrap,
            group=settings.topic_prefix + NAME,
            topics=[settings.topic_prefix + name for name in TOPICS],
            pool=pool,
            handle=consumer.apply,
            admin=Admin(settings.kafka_bootstrap),
            apart=_APART_SECONDS,
        )
        marker, looker = marking(store), looking(store)
        deliveries = [
            Deliveries(
                way,
                store=store, marker=marker, looker=looker, metrics=metrics, settings=settings,
                at_once=settings.delivery_concurrency,
            )
            for way in ways
        ]  # fmt: skip
        router = Router(
            store=store, metrics=metrics, settings=settings, ways=frozenset(way.channel for way in ways)
        )
        watch = Watch(
            store=store, router=router, deliveries=deliveries, metrics=metrics, settings=settings,
            listener=listener,
        )  # fmt: skip
        checks: dict[str, ReadyCheck] = {"postgres": store.ping, "kafka": inbox.healthy}
        await runtime.serve(
            build_api(
                InternalCallers(settings.internal_keys, NAME),
                Inboxes(pool, most_subscriptions=20),
                changes,
                settings,
                web_push,
                checks,
            ),
            host=settings.http_host,
            port=settings.http_port,
            background=[
                inbox.run,
                router.run,
                router.remind,
                listener.run,
                changes.follow,
                watch.observe,
                *(sending.run for sending in deliveries),
            ],
        )


def _web_push(settings: Settings, client: httpx.AsyncClient) -> WebPushChannel | None:
    if settings.push_key is None or settings.push_contact is None:
        return None
    return WebPushChannel(
        client,
        private_jwk=settings.push_key.get_secret_value(),
        contact=settings.push_contact,
        hosts=settings.push_hosts,
    )


def build_api(  # noqa: PLR0917 - what it serves from
    callers: InternalCallers,
    inboxes: Inboxes,
    changes: Changes,
    settings: Settings,
    web_push: WebPushChannel | None,
    checks: dict[str, ReadyCheck],
) -> FastAPI:
    """The HTTP API."""
    app = create_app(NAME, checks)
    living = LivingCallers(callers, DeletedAccounts(inboxes.is_deleted))
    app.include_router(build_changes(living, changes))
    app.include_router(
        http.build_router(
            living,
            inboxes,
            link_secret=settings.link_secret.get_secret_value(),
            push_key=web_push.public_key if web_push is not None else None,
            push_hosts=settings.push_hosts,
            app_pushes=settings.fcm_account_file is not None,
        )
    )

    async def unavailable(_request: Request, _error: Exception) -> Response:
        return error_answer(ApiError("UNAVAILABLE", 503, "The inbox does not answer. Try again."))

    kinds: Sequence[type[Exception]] = (*pg.TRANSIENT, asyncpg.QueryCanceledError)
    for kind in kinds:
        app.add_exception_handler(kind, unavailable)
    return app


def openapi() -> str:
    """The OpenAPI document of the HTTP API, as JSON with sorted keys."""
    described = create_app(NAME, {})
    described.include_router(build_changes(cast("LivingCallers", lambda: ""), cast("Changes", None)))
    described.include_router(
        http.build_router(
            cast("LivingCallers", lambda: ""),  # the routes are described, none is served
            cast("Inboxes", None),
            link_secret="",
            push_key=None,
            push_hosts=(),
            app_pushes=False,
        )
    )
    return json.dumps(described.openapi(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


async def redrive(settings: Settings, code: str | None, *, dry_run: bool) -> list[str]:
    """Have deliveries that have failed for good (with ``code``) tried again; a line for each kind of them."""
    pool = await pg.open_pool(
        settings.postgres_dsn.get_secret_value(), application=f"{NAME}-redrive", max_size=1
    )
    async with pool:
        store = Store(pool)
        lines = [f"{count} by {channel}: {why}" for why, channel, count in await store.failed(code)]
        if not dry_run and lines:
            lines.append(f"{await store.redrive(code)} are due again.")
        return lines or ["Nothing has failed."]
