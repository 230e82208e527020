"""Dead letters: what services could not read, with the reason, and sending commands again."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

from contracts import topics
from latchkey_ops.errors import Exit, OpsError
from servicekit.kafka import Admin, Headers, Partition, Producer, Reader, Record

_SUFFIX: Final = topics.dead_letters("").name
_OURS: Final = "latchkey-"
_CUT: Final = "latchkey-original-bytes"
_POLL_MS: Final = 500

WHY_NOT: Final[Mapping[str, str]] = {
    topics.SHARE_EVENTS.name: (
        "share.events is the log: sent again, the event would stand behind later ones. Mend what made "
        "it unreadable, then have the device's history folded again: ops quarantine release DEVICE."
    ),
    topics.DIRECTORY_DEVICES.name: (
        "A later snapshot of the device may be there, which this one would undo. Have the registry "
        "publish the device again; that also ends its quarantine."
    ),
    topics.DIRECTORY_ACCOUNTS.name: (
        "A later snapshot of the account may be there, which this one would undo. Have the registry "
        "publish the account again."
    ),
    topics.DIRECTORY_CONTACTS.name: (
        "A later snapshot of the contact may be there, which this one would undo. share-command is the "
        "one that writes it: see its log."
    ),
    topics.DIRECTORY_PRESENCE.name: (
        "A later snapshot may be there, which this one would undo. The gateway tells the next change by "
        "itself."
    ),
    topics.WATERMARKS.name: "The next watermark comes within a second and says all that this one did.",
    topics.ACCESS_EVENTS.name: (
        "It is history of a connection and decides nothing; it would be refused again. Mend the gateway."
    ),
}
"""Topics to which nothing is sent again, and what to do instead: only a command is idempotent by its id."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter. ``headers`` are the original's; ``whole`` is False when it was too large to be kept so.

    ``source_topic`` is without the installation's prefix.
    """

    service: str
    partition: int
    offset: int
    kept_at: datetime
    code: str
    message: str
    source_topic: str
    source_partition: int | None
    source_offset: int | None
    key: bytes | None
    value: bytes | None
    headers: Headers
    whole: bool

    @property
    def name(self) -> str:
        """How the verbs name it."""
        return f"{self.service}:{self.partition}:{self.offset}"

    @classmethod
    def of(cls, record: Record, prefix: str) -> Self:
        """What a record of a dead-letter topic says; one that no service of ours put there has no source."""
        told = {name: value or b"" for name, value in record.headers if name.startswith(_OURS)}

        def text(name: str) -> str:
            return told.get(f"{_OURS}{name}", b"").decode("utf-8", "backslashreplace")

        def number(name: str) -> int | None:
            return int(text(name)) if text(name).isdecimal() else None

        return cls(
            service=record.topic.removeprefix(prefix).removesuffix(_SUFFIX),
            partition=record.partition,
            offset=record.offset,
            kept_at=datetime.fromtimestamp(record.timestamp_ms / 1000, UTC),
            code=text("error-code"),
            message=text("error"),
            source_topic=text("source-topic").removeprefix(prefix),
            source_partition=number("source-partition"),
            source_offset=number("source-offset"),
            key=record.key,
            value=record.value,
            headers=[(name, value) for name, value in record.headers if not name.startswith(_OURS)],
            whole=_CUT not in told,
        )

    def refusal(self) -> str | None:
        """Why this letter is not sent again, and what to do; None: it may be."""
        if self.source_topic != topics.SHARE_COMMANDS.name:
            return WHY_NOT.get(self.source_topic, "It does not say which topic it came from.")
        if not self.whole:
            return "It was too large to be kept whole. Have the upstream service send a smaller command."
        return None


async def read(
    bootstrap: str, prefix: str, admin: Admin, *, service: str | None = None
) -> AsyncGenerator[Letter]:
    """All dead letters there are now, in the order of each topic.

    Raises:
        OpsError: no such service has dead letters.
        KafkaException, KafkaError: the broker does not answer.
    """
    places = await _places(prefix, admin, service)
    firsts, ends = await admin.first_offsets(places), await admin.end_offsets(places)
    left = {place for place in places if ends[place] > firsts[place]}
    if not left:
        return
    async with Reader(bootstrap, left) as reader:
        while left:
            batches = await reader.getmany(left, timeout_ms=_POLL_MS, max_records=500)
            for place, records in batches.items():
                for record in records:
                    if record.offset < ends[place]:
                        yield Letter.of(record, prefix)
            left = {place for place in left if await reader.position(place) < ends[place]}


async def find(bootstrap: str, prefix: str, admin: Admin, name: str) -> Letter:
    """The letter of this name.

    Raises:
        OpsError: there is none (any more), or it is no name of a letter.
        KafkaException, KafkaError: the broker does not answer.
    """
    service, _, rest = name.partition(":")
    partition, _, offset = rest.partition(":")
    if not (partition.isdecimal() and offset.isdecimal()):
        raise OpsError(
            f"{name} is no name of a dead letter (SERVICE:PARTITION:OFFSET). See: ops dead-letters list",
            Exit.USAGE,
        )
    place = next(
        (place for place in await _places(prefix, admin, service) if place.number == int(partition)), None
    )
    if place is not None:
        first, end = (await admin.first_offsets([place]))[place], (await admin.end_offsets([place]))[place]
        if first <= int(offset) < end:
            async with Reader(bootstrap, [place]) as reader:
                reader.seek(place, int(offset))
                while await reader.position(place) <= int(offset):
                    for records in (await reader.getmany(timeout_ms=_POLL_MS, max_records=1)).values():
                        if records[0].offset == int(offset):
                            return Letter.of(records[0], prefix)
    raise OpsError(f"There is no dead letter {name} (any more): they are kept for 14 days.")


async def send_again(producer: Producer, prefix: str, letter: Letter) -> None:
    """Send the original bytes and headers of a command; raises KafkaError when the broker does not."""
    key = None if letter.key is None else letter.key.decode("utf-8", "backslashreplace")
    await producer.send(prefix + letter.source_topic, key, letter.value, letter.headers)


async def _places(prefix: str, admin: Admin, service: str | None) -> list[Partition]:
    there = await admin.names()
    names = [
        name
        for name in sorted(prefix + topic.name for topic in topics.TOPICS if topic.name.endswith(_SUFFIX))
        if name in there and service in {None, name.removeprefix(prefix).removesuffix(_SUFFIX)}
    ]
    if service is not None and not names:
        known = ", ".join(
            topic.name.removesuffix(_SUFFIX) for topic in topics.TOPICS if topic.name.endswith(_SUFFIX)
        )
        raise OpsError(f"{service} has no dead letters. Services that have: {known}.", Exit.USAGE)
    return await admin.partitions(names)
