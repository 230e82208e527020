"""An installation for each test, with the modules beside, which several tests use."""

import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from contracts import topics
from permission_projector.consumer import TOPICS
from permission_projector.generation import LIVE, ensure_live
from servicekit import pg
from servicekit.kafka import Admin, Producer

sys.path.insert(0, str(Path(__file__).parent))

from installation import Place, eventually


@pytest.fixture
async def place(database: Any, kafka_bootstrap: str, topic_prefix: str) -> AsyncGenerator[Place]:
    dsn = database.dsn("permission_projector")
    await pg.migrate(dsn, "permission_projector")
    await ensure_live(dsn)
    wanted = [*TOPICS, topics.dead_letters("permission-projector")]
    admin = Admin(kafka_bootstrap)
    await admin.provision([(topic_prefix + topic.name, topic.partitions, topic.config) for topic in wanted])
    async with (
        await pg.open_pool(dsn, application="test", search_path=LIVE) as pool,
        Producer(kafka_bootstrap, "test") as producer,
    ):
        one = Place(database, kafka_bootstrap, topic_prefix, pool, producer, admin)
        await eventually(one.led)
        yield one
        for process in list(one.running):
            await one.end(process, signal.SIGKILL)
