"""Builds the processes; the only place that knows concrete classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from fastapi import FastAPI
from faststream.kafka import KafkaBroker

from servicekit import pg
from servicekit.auth import InternalCallers
from servicekit.http import create_app
from servicekit.inbox import Inbox
from servicekit.kafka import Admin
from servicekit.runtime import Background
from share_command import http
from share_command.consumer import CommandConsumer
from share_command.directory import Directory
from share_command.domain import Rules
from share_command.erasing import Heartbeat
from share_command.handlers import Expiry, Handlers, Limits, system_clock
from share_command.outbox import Waker
from share_command.publisher import Publisher
from share_command.relay import Relay
from share_command.settings import RelaySettings, Settings
from share_command.store import SOURCE

_STOP_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class App:
    """What a process serves and runs."""

    web: FastAPI
    background: Sequence[Background]


def build(settings: Settings, pool: pg.Pool) -> App:
    """The serving process: HTTP, commands from Kafka, and the directories."""
    prefix = settings.topic_prefix
    waker = Waker(pool)
    rules = Rules(invitation_life=timedelta(days=settings.invitation_days))
    limits = Limits(settings.shares_per_device, settings.shares_per_owner)
    handlers = Handlers(pool, waker.wake, clock=system_clock, rules=rules, limits=limits)
    expiry = Expiry(pool, waker.wake, system_clock)
    consumer = CommandConsumer(
        broker=KafkaBroker(
            settings.kafka_bootstrap,
            client_id=SOURCE,
            consumer_only=True,
            allow_auto_create_topics=False,
            graceful_timeout=_STOP_SECONDS,
            logger=None,
        ),
        topic_prefix=prefix,
        handlers=handlers,
        answers=Publisher(settings.kafka_bootstrap, prefix),
        dead_letters=Publisher(settings.kafka_bootstrap, prefix),
    )
    directory = Directory(
        prefix,
        Publisher(settings.kafka_bootstrap, prefix).put_aside,
        committed=waker.wake,
        clock=system_clock,
    )
    inbox = Inbox(
        bootstrap=settings.kafka_bootstrap,
        group=f"{prefix}{SOURCE}-directory",
        topics=directory.topics,
        pool=pool,
        handle=directory.apply,
        admin=Admin(settings.kafka_bootstrap),
    )

    async def database() -> None:
        await pool.fetchval(pg.load_queries("share_command")["ping"])

    web = create_app(
        "share-command", {"database": database, "directory": inbox.healthy, "commands": consumer.healthy}
    )
    http.add_routes(
        web,
        handlers=handlers,
        caller=InternalCallers(settings.internal_keys, SOURCE),
        settings=settings,
    )
    return App(web, (waker.run, consumer.run, inbox.run, expiry.run))


def build_relay(settings: RelaySettings) -> App:
    """The relay: health and metrics over HTTP, the outbox to Kafka."""
    relay = Relay(
        dsn=settings.postgres_dsn.get_secret_value(),
        bootstrap=settings.kafka_bootstrap,
        topic_prefix=settings.topic_prefix,
        admin=Admin(settings.kafka_bootstrap),
    )
    heartbeat = Heartbeat(settings.postgres_dsn.get_secret_value())
    return App(create_app("share-command relay", {"relay": relay.healthy}), (relay.run, heartbeat.run))
