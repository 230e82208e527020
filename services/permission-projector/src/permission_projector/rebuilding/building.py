"""What replay, verify, swap and release share: their sessions, and the generations that there are."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg

from contracts import topics
from permission_projector.consumer import TOPICS
from permission_projector.generation import LIVE, SHAPE, schema_of
from permission_projector.rebuilding.log_reader import LogReader, Span
from permission_projector.settings import NAME
from permission_projector.store import ARRIVED
from servicekit import pg
from servicekit.kafka import Admin, Partition

SQL: Final = pg.load_queries("permission_projector", "rebuilding.sql")
_SETTINGS: Final = {
    "idle_in_transaction_session_timeout": "0",  # a comparison holds a snapshot for as long as it takes
    "statement_timeout": "0",
    "maintenance_work_mem": "256MB",
    "max_parallel_maintenance_workers": "0",  # one core at most is taken from those who answer
    "max_parallel_workers_per_gather": "0",
    "TimeZone": "UTC",
}
_UNFINISHED: Final = f"{LIVE}_unfinished_"

Report = Callable[..., None]
"""Takes the phase that is under way, and what there is to tell of it as keywords."""


class RebuildError(RuntimeError):
    """It could not be done, and nothing that is live was changed. The message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Which database and which topics."""

    dsn: str
    bootstrap: str
    prefix: str

    def name(self, topic: topics.Topic) -> str:
        """A topic's full name."""
        return self.prefix + topic.name

    def reader(self) -> LogReader:
        """A reader of its topics."""
        return LogReader(self.bootstrap, f"{self.prefix}{NAME}-rebuild")

    async def connect(self, schema: str, *, durable: bool = False) -> "asyncpg.Connection[asyncpg.Record]":
        """A session of its own that writes and reads the generation in ``schema``.

        Unless it is to be ``durable``, a server that crashes may lose its last commits.
        """
        connection = await asyncpg.connect(
            self.dsn,
            server_settings={
                **_SETTINGS,
                "synchronous_commit": "on" if durable else "off",
                "search_path": schema,
                "application_name": f"{NAME}-rebuild",
            },
        )
        await connection.execute(ARRIVED)
        return connection

    async def topic_ids(self) -> dict[str, str]:
        """The ids of the five topics by their full names."""
        return await Admin(self.bootstrap).topic_ids([self.name(topic) for topic in TOPICS])

    async def partitions(self) -> list[Partition]:
        """All partitions of the five topics."""
        return await Admin(self.bootstrap).partitions([self.name(topic) for topic in TOPICS])


@dataclass(frozen=True, slots=True)
class Log:
    """The topics of an installation as they are now: their ids by full names, and one who reads them."""

    installation: Installation
    reader: LogReader
    topic_ids: Mapping[str, str]

    @property
    def events(self) -> str:
        """The full name of share.events."""
        return self.installation.name(topics.SHARE_EVENTS)


@dataclass(frozen=True, slots=True)
class Generation:
    """One that can be read. ``shape``: see `permission_projector.generation.SHAPE`."""

    schema: str
    number: int
    shape: str

    @property
    def is_live(self) -> bool:
        """Whether it is the one that answers."""
        return self.schema == LIVE

    def require_shape(self) -> None:
        """Raises RebuildError unless this release can write it."""
        if self.shape != SHAPE:
            raise RebuildError(
                f"Generation {self.number} was made by another release. Build a new one: "
                "permission-projector replay"
            )


@asynccontextmanager
async def alone(installation: Installation) -> AsyncGenerator["asyncpg.Connection[asyncpg.Record]"]:
    """A session in which nobody else rebuilds; what a killed rebuild has left is dropped.

    Raises:
        RebuildError: somebody else does; or the database has never been migrated.
    """
    connection = await installation.connect("pg_temp")
    try:
        if not await connection.fetchval(SQL["begin_alone"]):
            raise RebuildError("Another rebuild, swap or verification is under way. Wait for it, or end it.")
        if not await connection.fetchval("select to_regnamespace($1) is not null", LIVE):
            raise RebuildError("There is no live generation. Run: permission-projector migrate")
        for row in await connection.fetch(SQL["unfinished"], f"^{_UNFINISHED}[0-9]+$"):
            await drop(connection, row["schema"])
        yield connection
    finally:
        await connection.close()


async def new_unfinished(connection: pg.Connection) -> tuple[str, int]:
    """Schema and number of a generation that is to be made."""
    number: int = await connection.fetchval(SQL["next_number"])
    return f"{_UNFINISHED}{number}", number


async def drop(connection: pg.Connection, schema: str) -> None:
    """Drop a generation."""
    await connection.execute(SQL["drop"].format(schema=schema))


async def generations(connection: pg.Connection) -> list[Generation]:
    """Those that are finished, by number."""
    found: list[Generation] = []
    for row in await connection.fetch(SQL["finished"], LIVE, f"^{LIVE}_[0-9]+$"):
        one = await connection.fetchrow(SQL["generation"].format(schema=row["schema"]))
        if one is not None:
            found.append(Generation(row["schema"], one["number"], one["shape"]))
    return sorted(found, key=lambda item: item.number)


async def live_generation(connection: pg.Connection) -> Generation:
    """The live one."""
    row = await connection.fetchrow(SQL["generation"].format(schema=LIVE))
    if row is None:
        raise RebuildError("The live generation has no number. Run: permission-projector migrate")
    return Generation(LIVE, row["number"], row["shape"])


async def generation_of(connection: pg.Connection, number: int) -> Generation:
    """The one with this number.

    Raises:
        RebuildError: there is none.
    """
    for item in await generations(connection):
        if item.number == number and (item.is_live or item.schema == schema_of(number)):
            return item
    raise RebuildError(f"There is no generation {number}. See: permission-projector generations")


async def offsets(
    connection: pg.Connection, schema: str, topic_ids: Mapping[str, str] | None = None
) -> dict[Partition, int]:
    """How far each partition is in a generation; with ``topic_ids``, of those topics as they are now only."""
    rows = await connection.fetch(SQL["offsets"].format(schema=schema))
    return {
        Partition(row["topic"], row["partition"]): row["next_offset"]
        for row in rows
        if topic_ids is None or topic_ids.get(row["topic"]) == row["topic_id"]
    }


async def is_of(connection: pg.Connection, schema: str, topic_ids: Mapping[str, str]) -> bool:
    """Whether a generation was read from the topics that there are now, and not from former ones."""
    rows = await connection.fetch(SQL["offsets"].format(schema=schema))
    return all(topic_ids.get(row["topic"]) == row["topic_id"] for row in rows)


async def save_offsets(
    connection: pg.Connection, reached: Mapping[Partition, int], topic_ids: Mapping[str, str]
) -> None:
    """Store how far partitions are in the session's generation."""
    places = sorted(reached)
    await connection.execute(
        SQL["save_offsets"],
        [place.topic for place in places],
        [place.number for place in places],
        [topic_ids[place.topic] for place in places],
        [reached[place] for place in places],
    )


async def released(connection: pg.Connection, topic_id: str) -> dict[str, list[int]]:
    """Devices whose history was released, each with how far the partitions of share.events were then."""
    rows = await connection.fetch(SQL["released"], topic_id)
    return {row["device_id"]: row["next_offsets"] for row in rows}


async def ends(installation: Installation, places: list[Partition]) -> dict[Partition, Span]:
    """What the broker has of each partition."""

    def ask() -> dict[Partition, Span]:
        with installation.reader() as reader:
            return {place: reader.whole(place) for place in places}

    return await asyncio.to_thread(ask)
