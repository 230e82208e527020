"""Every Kafka topic: its name, partitions and retention. Provisioning creates exactly these."""

from typing import Final, NamedTuple

_DAY_MS: Final = 24 * 60 * 60 * 1000


class Topic(NamedTuple):
    """A topic as it is provisioned. ``config`` holds broker settings as Kafka spells them."""

    name: str
    partitions: int
    config: dict[str, str]


_COMPACTED: Final = {
    "cleanup.policy": "compact",
    # What was deleted must be gone some day; compaction leaves the newest segment alone, so it ends in time.
    "segment.ms": str(_DAY_MS),
    "max.compaction.lag.ms": str(7 * _DAY_MS),
}


def _kept(days: int) -> dict[str, str]:
    return {"retention.ms": str(days * _DAY_MS)}


DEVICE_PARTITIONS: Final = 24
"""What is known of devices has this many partitions for ever, so that one device has one partition number."""

COMMAND_PARTITIONS: Final = 6
"""Nothing is joined with commands and answers by partition, and each costs in every request (ADR 0028)."""

SHARE_COMMANDS: Final = Topic("share.commands", COMMAND_PARTITIONS, _kept(7))
COMMAND_RESULTS: Final = Topic("share.command-results", COMMAND_PARTITIONS, _kept(7))
SHARE_EVENTS: Final = Topic(
    "share.events", DEVICE_PARTITIONS, {"retention.ms": "-1", "retention.bytes": "-1"}
)
WATERMARKS: Final = Topic("share.watermarks", 1, _kept(1))
DIRECTORY_DEVICES: Final = Topic("directory.devices", DEVICE_PARTITIONS, _COMPACTED)
DIRECTORY_ACCOUNTS: Final = Topic("directory.accounts", 6, _COMPACTED)
DIRECTORY_CONTACTS: Final = Topic("directory.contacts", 6, _COMPACTED)
DIRECTORY_PRESENCE: Final = Topic("directory.presence", DEVICE_PARTITIONS, _COMPACTED)
ACCESS_EVENTS: Final = Topic("access.events", DEVICE_PARTITIONS, _kept(90))


def dead_letters(service: str) -> Topic:
    """Where ``service`` puts messages that it cannot read: original bytes and headers, and the reason."""
    return Topic(f"{service}.dead-letters", 1, {**_kept(14), "segment.ms": str(_DAY_MS)})


TOPICS: Final = (
    SHARE_COMMANDS,
    COMMAND_RESULTS,
    SHARE_EVENTS,
    WATERMARKS,
    DIRECTORY_DEVICES,
    DIRECTORY_ACCOUNTS,
    DIRECTORY_CONTACTS,
    DIRECTORY_PRESENCE,
    ACCESS_EVENTS,
    dead_letters("share-command"),
    dead_letters("permission-projector"),
    dead_letters("notifier"),
)
