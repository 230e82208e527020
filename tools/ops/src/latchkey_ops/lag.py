"""How far each service is behind the broker, and how fresh the permissions are."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from contracts import topics
from latchkey_ops.database import Database
from latchkey_ops.settings import OpsSettings
from servicekit.kafka import Admin, Partition, committed

_DIRECTORIES: Final = (topics.DIRECTORY_DEVICES, topics.DIRECTORY_ACCOUNTS, topics.DIRECTORY_CONTACTS)
COMMANDS_GROUP: Final = "share-command"
"""The consumer group of share.commands, which keeps its offsets with the broker."""


class Reads(NamedTuple):
    """Who keeps offsets in the table ``kafka_offset`` of a schema, and for which topics."""

    service: str
    setting: str
    schema: str
    topics: tuple[topics.Topic, ...]


READS: Final = (
    Reads(
        "permission-projector",
        "postgres_dsn",
        "permissions",
        (topics.SHARE_EVENTS, *_DIRECTORIES, topics.WATERMARKS),
    ),
    Reads(
        "permission-projector-activity",
        "postgres_dsn",
        "permission_projector",
        (topics.ACCESS_EVENTS, topics.DIRECTORY_PRESENCE),
    ),
    Reads(
        "share-command", "share_command_dsn", "share_command",
        (topics.DIRECTORY_DEVICES, topics.DIRECTORY_ACCOUNTS),
    ),
    Reads(
        "notifier", "notifier_dsn", "notifier",
        (topics.SHARE_EVENTS, *_DIRECTORIES, topics.ACCESS_EVENTS),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Lag:
    """One partition as one service has read it. ``next_offset`` is None when it has read nothing yet.

    ``state``: ``ok``; ``made_anew`` (the stored offset is of a topic that is no more); ``records_lost``
    (records of a topic that must be whole were deleted before they were read).
    """

    service: str
    topic: str
    partition: int
    next_offset: int | None
    end_offset: int
    behind: int
    state: str = "ok"


@dataclass(slots=True)
class Findings:
    """What `measure` found. ``ages`` are seconds for each device partition, None: never proved."""

    lags: list[Lag] = field(default_factory=list[Lag])
    ages: dict[int, float | None] = field(default_factory=dict[int, float | None])
    not_asked: list[str] = field(default_factory=list[str])
    missing_topics: list[str] = field(default_factory=list[str])

    def problems(self, max_seconds: float | None, max_records: int | None) -> list[str]:
        """What is not as it should be, each with what to do."""
        found = [
            f"The topic {name} does not exist. Provision it; until then nothing is read from it."
            for name in self.missing_topics
        ]
        for lag in self.lags:
            place = f"{lag.service}: {lag.topic}, partition {lag.partition}"
            if lag.state == "made_anew":
                found.append(f"{place}: the topic was made anew. Rebuild what was read from it (ops replay).")
            elif lag.state == "records_lost":
                found.append(
                    f"{place}: records were deleted before they were read. Bring them back, or rebuild."
                )
            elif max_records is not None and lag.behind > max_records:
                found.append(
                    f"{place} is {lag.behind} records behind. Look at the log and /readyz of the service."
                )
        unproved = [number for number, age in self.ages.items() if age is None]
        if max_seconds is not None:
            late = {number: age for number, age in self.ages.items() if age is not None and age > max_seconds}
            if unproved:
                found.append(
                    f"{len(unproved)} device partitions were never proved fresh, so gateways refuse. "
                    "Look whether share-command relay and permission-projector project run."
                )
            if late:
                worst = max(late, key=lambda number: late[number])
                found.append(
                    f"{len(late)} device partitions are older than {max_seconds:g} s, the worst is {worst} "
                    f"with {late[worst]:.1f} s. Look at share-command relay, the broker and the projector."
                )
        return found

    def by_topic(self) -> list[dict[str, Any]]:
        """For each service and topic: its partitions, how far they are behind together, and the worst."""
        groups: dict[tuple[str, str], list[Lag]] = {}
        for lag in self.lags:
            groups.setdefault((lag.service, lag.topic), []).append(lag)
        return [
            {
                "service": service,
                "topic": topic,
                "partitions": len(group),
                "records_behind": sum(lag.behind for lag in group),
                "worst_partition": max(group, key=lambda lag: lag.behind).partition,
                "its_records_behind": max(lag.behind for lag in group),
                "state": next((lag.state for lag in group if lag.state != "ok"), "ok"),
            }
            for (service, topic), group in groups.items()
        ]

    def oldest(self) -> float | None:
        """Age of the stalest device partition; None when one was never proved."""
        ages = list(self.ages.values())
        return None if None in ages or not ages else max(age for age in ages if age is not None)


async def measure(settings: OpsSettings, admin: Admin) -> Findings:
    """Ask every service's table and the broker.

    Raises:
        OSError, asyncpg.PostgresError: a database does not answer or refuses.
        KafkaException, KafkaError: the broker does not answer.
    """
    findings = Findings()
    prefix = settings.topic_prefix
    wanted = {topic.name for reads in READS for topic in reads.topics} | {topics.SHARE_COMMANDS.name}
    there = await admin.names()
    findings.missing_topics = sorted(prefix + name for name in wanted if prefix + name not in there)
    known = [prefix + name for name in sorted(wanted) if prefix + name in there]
    places = await admin.partitions(known)
    ids = await admin.topic_ids(known) if known else {}
    # First what was read, then the ends: what comes in between makes the lag greater, never less than none.
    read: list[tuple[Reads, dict[Partition, Mapping[str, Any]]]] = []
    for reads in READS:
        dsn = getattr(settings, reads.setting)
        if dsn is None:
            findings.not_asked.append(reads.service)
            continue
        rows = await Database(dsn, reads.schema).rows("offsets")
        read.append((reads, {Partition(row["topic"], row["partition"]): row for row in rows}))
    commands = [place for place in places if place.topic == prefix + topics.SHARE_COMMANDS.name]
    stored_by_broker = (
        await committed(settings.kafka_bootstrap, prefix + COMMANDS_GROUP, commands) if commands else {}
    )
    rows = await Database(settings.postgres_dsn).rows("freshness")
    findings.ages = {row["partition"]: row["age_seconds"] for row in rows}
    firsts, ends = await admin.first_offsets(places), await admin.end_offsets(places)
    for reads, stored in read:
        names = {prefix + topic.name for topic in reads.topics}
        for place in (place for place in places if place.topic in names):
            row = stored.get(place)
            at = None if row is None else row["next_offset"]
            lag = _lag(reads.service, place, at, kept=(firsts[place], ends[place]), prefix=prefix)
            if row is not None and row["topic_id"] != ids[place.topic]:
                lag = replace(lag, state="made_anew")
            findings.lags.append(lag)
    for place in commands:
        at = stored_by_broker.get(place)
        findings.lags.append(
            _lag(COMMANDS_GROUP, place, at, kept=(firsts[place], ends[place]), prefix=prefix)
        )
    return findings


def _lag(service: str, place: Partition, at: int | None, *, kept: tuple[int, int], prefix: str) -> Lag:
    first, end = kept
    name = place.topic.removeprefix(prefix)
    lost = name == topics.SHARE_EVENTS.name and (at or 0) < first
    behind = max(0, end - max(first, at or 0))
    return Lag(service, name, place.number, at, end, behind, "records_lost" if lost else "ok")
