"""Puts the notifier together: the only place that knows concrete classes."""

from contextlib import AsyncExitStack

from contracts import topics
from notifier.channels.email import EmailChannel
from notifier.consumer import TOPICS, Consumer
from notifier.delivery import Deliveries
from notifier.letters import Renderer
from notifier.metrics import Metrics
from notifier.settings import Settings
from notifier.store import Store
from servicekit import pg, runtime
from servicekit.http import create_app
from servicekit.inbox import Inbox
from servicekit.kafka import Admin, DeadLetters, Producer

NAME = "notifier"


async def serve(settings: Settings) -> None:
    """Run the notifier until it is told to stop."""
    metrics = Metrics()
    email = EmailChannel(settings)
    renderer = Renderer(public_url=settings.public_url, link_secret=settings.link_secret.get_secret_value())
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            await pg.open_pool(
                settings.postgres_dsn.get_secret_value(),
                application=NAME,
                max_size=settings.delivery_concurrency + 6,
            )
        )
        producer = await stack.enter_async_context(Producer(settings.kafka_bootstrap, NAME))
        store = Store(pool)
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
        )
        deliveries = Deliveries(
            store=store, email=email, renderer=renderer, metrics=metrics, settings=settings
        )
        await runtime.serve(
            create_app(NAME, {"postgres": store.ping, "kafka": inbox.healthy}),
            host=settings.http_host,
            port=settings.http_port,
            background=[inbox.run, deliveries.run, deliveries.listen, deliveries.watch],
        )
