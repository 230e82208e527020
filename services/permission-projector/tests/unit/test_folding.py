"""When a history counts as whole, and what a partition leaves behind."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from contracts.base import new_id
from contracts.codec import encode, envelope
from contracts.events import AnyShareEvent, RevokeReason, ShareAccepted, ShareRequested, ShareRevoked
from contracts.permissions import AllServices, Terms
from contracts.topics import DEVICE_PARTITIONS
from permission_projector.rebuilding.folding import Entry, Fault, Part, Stopped, StreamFold, Whole, refold
from servicekit.kafka import partition_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY = b"cam-1"
PLACE = partition_of(KEY, DEVICE_PARTITIONS)
WHO: dict[str, Any] = {
    "share_id": UUID(int=1), "device_id": "cam-1", "contact_id": UUID(int=2), "owner_account_id": "olga",
}  # fmt: skip
LIFE: list[AnyShareEvent] = [
    ShareRequested(**WHO, terms=Terms(scope=AllServices())),
    ShareAccepted(**WHO, account_id="ravi"),
    ShareRevoked(**WHO, reason=RevokeReason.BY_OWNER),
    ShareRequested(**WHO, terms=Terms(scope=AllServices())),
]
POISON = b'{"half":'
IDS = [new_id() for _ in LIFE]


def value(version: int, event_id: UUID | None = None) -> bytes:
    message = envelope(LIFE[version - 1], source="test", time=NOW, version=version)
    return encode(message.model_copy(update={"id": str(event_id or IDS[version - 1])}))


def log(*what: int | bytes) -> list[Entry]:
    """Records of the device: a version, or bytes."""
    return [
        Entry(offset, KEY, item if isinstance(item, bytes) else value(item))
        for offset, item in enumerate(what)
    ]


@pytest.mark.parametrize(
    ("what", "head"),
    [
        ((), 0),
        ((1, 2, 3), 3),
        ((1, 1, 2, 1, 2), 2),
        ((1, 3, 2), 3),
        ((3, 4, 1, 2), 4),
        ((1, POISON, 2), 2),
        ((1, POISON, 3, 2), 3),
        ((1, POISON, POISON, 2, 3), 3),
        ((POISON, 1, POISON, 2), 2),
    ],
)  # fmt: skip
def test_a_whole_history_is_folded_by_its_versions(what: tuple[int | bytes, ...], head: int) -> None:
    found = refold("cam-1", log(*what))
    assert isinstance(found, Whole)
    assert (found.stream.version, [row[1] for row in found.events]) == (head, list(range(1, head + 1)))


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ((1, 3), Fault("VERSION_GAP", 1)),
        ((2,), Fault("VERSION_GAP", 0)),
        ((1, 2, POISON), Fault("MALFORMED", 2)),
        ((1, POISON, POISON, 2), Fault("MALFORMED", 2)),
        ((1, 2, POISON, 2, 1), Fault("MALFORMED", 2)),
        ((1, 2, value(2, new_id())), Fault("VERSION_CONFLICT", 2)),
    ],
)  # fmt: skip
def test_what_is_not_whole_stays_in_quarantine(what: tuple[int | bytes, ...], fault: Fault) -> None:
    """A last event that cannot be read may have been the one that took the access away."""
    assert refold("cam-1", log(*what)) == fault


def test_a_release_counts_up_to_its_offset_and_no_further() -> None:
    offsets = [0] * DEVICE_PARTITIONS
    offsets[PLACE] = 3
    entries = log(1, 3, 2, POISON, 4)
    fold = StreamFold(PLACE, {"cam-1": offsets})
    rows = fold.fold(entries[:2]) + fold.fold(entries[2:])
    events, shares, quarantines = fold.end()
    assert [row[1] for row in rows + events] == [1, 2, 3]
    assert [share[4] for share in shares] == ["revoked"]
    assert quarantines == [("cam-1", "MALFORMED", 3)]
    assert StreamFold(PLACE, {}).fold(entries)[-1][1] == 1


def test_parts_of_a_partition_are_its_whole_together() -> None:
    keys = [key for key in (f"cam-{number}".encode() for number in range(400)) if _belongs(key)]
    entries = [Entry(offset, key, POISON) for offset, key in enumerate(keys)]
    found: list[set[str]] = []
    for number in range(3):
        fold = StreamFold(PLACE, {}, part=Part(number, 3))
        fold.fold(entries)
        found.append(set(fold.faults))
    assert {name for part in found for name in part} == {key.decode() for key in keys}
    assert sum(map(len, found)) == len(keys)
    assert all(found)


def _belongs(key: bytes) -> bool:
    return partition_of(key, DEVICE_PARTITIONS) == PLACE


def test_a_key_that_cannot_be_read_stops_the_partition_unless_it_was_passed_over() -> None:
    entries = [*log(1), Entry(1, None, b"{}"), Entry(2, KEY, value(2))]
    with pytest.raises(Stopped) as stopped:
        StreamFold(PLACE, {}).fold(entries)
    assert (stopped.value.offset, len(stopped.value.rows)) == (1, 1)
    assert len(StreamFold(PLACE, {}, skipped=2).fold(entries)) == 2


def test_a_device_in_the_partition_of_others_is_in_quarantine() -> None:
    other = (PLACE + 1) % DEVICE_PARTITIONS
    fold = StreamFold(other, {})
    assert fold.fold(log(1)) == []
    assert fold.strayed == {"cam-1": Fault("WRONG_PARTITION", 0)}
    released = StreamFold(other, {"cam-1": [1] * DEVICE_PARTITIONS})
    released.fold(log(1))
    assert released.strayed == {}
