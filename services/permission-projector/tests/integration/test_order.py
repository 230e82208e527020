"""Whatever order the topics arrive in, the tables are the fold of the log, and bad input stays its own."""

from collections import defaultdict
from itertools import groupby
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts import topics
from contracts.base import new_id
from contracts.events import (
    AnyShareEvent,
    RevokeReason,
    ShareAccepted,
    ShareChanged,
    ShareLeft,
    ShareRejected,
    ShareRequested,
    ShareRevoked,
)
from contracts.permissions import AllServices, SomeServices, Terms
from permission_projector.projection import Share, Stream, Unreadable, project
from permission_projector.records import UnreadableError, UnreadableKeyError, read_share_event
from servicekit.kafka import Record

STREAMS = """
select device_id, coalesce(head.version, 0) as version, stream.code
from (select device_id, max(version) as version from share_event group by device_id) as head
full join stream_quarantine as stream using (device_id)
"""
DEVICES = ("cam-1", "cam-2", "pc-3")
SHARES = {(device, number): new_id() for device in DEVICES for number in range(2)}
CONTACTS = {number: new_id() for number in range(2)}
ACCOUNTS = ("ravi", "sara")
TERMS = (
    Terms(scope=AllServices()),
    Terms(scope=SomeServices(services={"cam-1-ssh": frozenset({"connect"})}), scripting=True),  # pyright: ignore[reportArgumentType] - pydantic makes the enum
)


def _events(device: str, number: int, pick: int) -> dict[str, AnyShareEvent]:
    who: dict[str, Any] = {
        "share_id": SHARES[device, number], "device_id": device, "contact_id": CONTACTS[number],
        "owner_account_id": "olga",
    }  # fmt: skip
    terms, account = TERMS[pick], ACCOUNTS[number]
    return {
        "request": ShareRequested(**who, terms=terms),
        "accept": ShareAccepted(**who, account_id=account),
        "reject": ShareRejected(**who, account_id=account),
        "change_invitation": ShareChanged(**who, state="requested", terms=terms),
        "change_grant": ShareChanged(**who, state="active", terms=terms),
        "revoke": ShareRevoked(**who, reason=RevokeReason.BY_OWNER),
        "leave": ShareLeft(**who, account_id=account),
    }


STEPS = {
    None: ["request"],
    "requested": ["accept", "accept", "reject", "change_invitation", "revoke"],
    "active": ["change_grant", "revoke", "leave"],
}
NOISE = ("", "", "", "", "", "again", "again", "gap", "conflict", "unreadable")


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Steps of a history: what is published, in an order that each topic alone keeps."""
    state: defaultdict[tuple[str, int], str | None] = defaultdict(lambda: None)
    steps: list[tuple[str, Any]] = []
    for _ in range(draw(st.integers(1, 25))):
        kind = draw(st.sampled_from(["share", "share", "share", "share", "device", "account", "contact"]))
        device, number = draw(st.sampled_from(DEVICES)), draw(st.integers(0, 1))
        if kind == "share":
            name = draw(st.sampled_from(STEPS[state[device, number]]))
            state[device, number] = {
                "request": "requested", "accept": "active",
                "change_invitation": "requested", "change_grant": "active",
            }.get(name)  # fmt: skip
            steps.append(
                (kind, (device, number, draw(st.integers(0, 1)), name, draw(st.sampled_from(NOISE))))
            )
        else:
            steps.append((kind, (device, number, draw(st.sampled_from(["a", "b", None])))))
    return steps


def _records(world: Any, steps: list[tuple[str, Any]]) -> list[Record]:
    sent: defaultdict[str, list[tuple[AnyShareEvent, int, UUID]]] = defaultdict(list)
    records: list[Record] = []
    for kind, step in steps:
        if kind == "share":
            records.extend(_share_records(world, sent, *step))
        else:
            records.append(_snapshot(world, kind, *step))
    return records


def _share_records(
    world: Any,
    sent: defaultdict[str, list[tuple[AnyShareEvent, int, UUID]]],
    device: str,
    *step: Any,
) -> list[Record]:
    number, pick, name, noise = step
    version = len(sent[device]) + 1
    event = _events(device, number, pick)[name]
    sent[device].append((event, version, new_id()))
    return [
        world.event(*sent[device][-1]),
        *(world.event(*old) for old in sent[device][-3:] if noise == "again"),
        *(world.event(event, version + 2) for _ in range(noise == "gap")),
        *(world.event(event, version) for _ in range(noise == "conflict")),
        *(world.raw(topics.SHARE_EVENTS, device.encode(), b"{}") for _ in range(noise == "unreadable")),
    ]


def _snapshot(world: Any, kind: str, device: str, number: int, value: str | None) -> Record:
    key = {"device": device, "account": ACCOUNTS[number], "contact": str(CONTACTS[number])}[kind]
    topic = {
        "device": topics.DIRECTORY_DEVICES,
        "account": topics.DIRECTORY_ACCOUNTS,
        "contact": topics.DIRECTORY_CONTACTS,
    }[kind]
    if value is None or (value == "b" and number):
        return world.raw(topic, key.encode(), None if value is None else b"{}")
    match kind:
        case "device":
            return world.device(device, name=value)
        case "account":
            return world.account(key, f"{value}@example.com")
        case _:
            return world.contact(CONTACTS[number], f"mailto:{value}@example.com")


def _fold(records: list[Record], topic: str) -> tuple[dict[str, tuple[int, str | None]], dict[UUID, Share]]:
    """The shares as the pure projection has them: each device's log from its beginning."""
    streams: defaultdict[str, Stream] = defaultdict(Stream)
    for record in records:
        if record.topic == topic:
            device = (record.key or b"").decode()
            try:
                entry = read_share_event(device, record.value).event
            except UnreadableError as error:
                entry = Unreadable(error.code, str(error))
            streams[device].advance(project(entry, streams[device]))
    return (
        {device: (stream.version, stream.quarantine) for device, stream in streams.items()},
        {share_id: share for stream in streams.values() for share_id, share in stream.shares.items()},
    )


async def _saved(world: Any) -> tuple[dict[str, tuple[int, str | None]], dict[UUID, tuple[Any, ...]]]:
    tables = await world.tables()
    return (
        {row["device_id"]: (row["version"], row["code"]) for row in await world.pool.fetch(STREAMS)},
        {
            UUID(row["share_id"]): (
                row["state"], row["account_id"], Terms.model_validate(row["terms"]),
                row["invitation_version"],
            )
            for row in tables["share"]
        },
    )  # fmt: skip


@pytest.mark.slow
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=histories(), data=st.data())
async def test_the_order_of_arrival_across_topics_does_not_matter(
    world: Any, steps: list[tuple[str, Any]], data: st.DataObject
) -> None:
    await world.empty()
    log = _records(world, steps)
    by_partition = {
        place: list(records)
        for place, records in groupby(
            sorted(log, key=lambda record: (record.topic, record.partition)),
            key=lambda record: (record.topic, record.partition),
        )
    }
    for records in by_partition.values():
        await world.apply(*records)
    expected = await world.tables()
    streams, shares = _fold(log, world.prefix + topics.SHARE_EVENTS.name)
    assert await _saved(world) == (
        streams,
        {
            share.share_id: (
                share.state,
                share.account_id,
                Terms.model_validate_json(share.terms),
                share.invitation_version,
            )
            for share in shares.values()
        },
    )

    ends = dict(world.ends)
    await world.empty()
    world.ends.update(ends)
    waiting = {place: list(records) for place, records in by_partition.items()}
    while waiting:
        batch: list[Record] = []
        for place in data.draw(
            st.lists(st.sampled_from(sorted(waiting)), min_size=1, max_size=4, unique=True)
        ):
            size = data.draw(st.integers(1, len(waiting[place])))
            batch += waiting[place][:size]
            waiting[place] = waiting[place][size:]
            if not waiting[place]:
                del waiting[place]
        await world.together(*batch)
    assert await world.tables() == expected


@pytest.mark.parametrize("fault", ["gap", "conflict", "unreadable", "null"])
async def test_a_fault_takes_the_device_from_its_recipients_and_from_nobody_else(
    world: Any, fault: str
) -> None:
    shared, other = world.shared(), world.shared(device_id="cam-2")
    revoked = ShareRevoked(
        share_id=new_id(), device_id="cam-1", contact_id=new_id(), owner_account_id="olga",
        reason=RevokeReason.BY_OWNER,
    )  # fmt: skip
    await world.apply(world.device(), world.device("cam-2"), *shared)
    bad = {
        "gap": lambda: world.event(revoked, 9),
        "conflict": lambda: world.event(revoked, 1),
        "unreadable": lambda: world.raw(topics.SHARE_EVENTS, b"cam-1", b'{"secret":'),
        "null": lambda: world.raw(topics.SHARE_EVENTS, b"cam-1", None),
    }[fault]()
    await world.apply(bad, *other)
    answer = await world.check("ravi", "cam-1-ssh")
    assert (answer["allowed"], answer["reason"], answer["target_host"]) == (False, "quarantined", None)
    assert await world.reason("mallory", "cam-1-ssh") == "no_grant"
    assert await world.reason("olga", "cam-1-ssh") == "owner"
    assert await world.reason("ravi", "cam-2-ssh") == "granted"


@pytest.mark.parametrize("topic", [topics.SHARE_EVENTS, topics.DIRECTORY_DEVICES])
async def test_a_record_in_another_partition_than_its_keys_is_not_believed(
    world: Any, topic: topics.Topic
) -> None:
    """An upstream with another partitioner: freshness would be claimed for the wrong partition."""
    shared = world.shared()
    await world.apply(world.device(), *shared)
    moved = world.device(owner="nina") if topic is topics.DIRECTORY_DEVICES else shared[-1]
    await world.apply(moved._replace(partition=(moved.partition + 5) % topic.partitions, offset=0))
    assert await world.reason("ravi", "cam-1-ssh") == "quarantined"
    assert (await world.check("olga", "cam-1-ssh"))["partition"] == world.device().partition
    tables = await world.tables()
    codes = [row["code"] for row in tables["stream_quarantine"] + tables["device_quarantine"]]
    assert "WRONG_PARTITION" in codes


async def test_an_unreadable_device_is_quarantined_until_its_next_good_snapshot(world: Any) -> None:
    await world.apply(world.device(), *world.shared())
    await world.apply(world.raw(topics.DIRECTORY_DEVICES, b"cam-1", b"{}"))
    assert await world.reason("ravi", "cam-1-ssh") == "quarantined"
    assert await world.reason("olga", "cam-1-ssh") == "owner"
    await world.apply(world.device())
    assert await world.reason("ravi", "cam-1-ssh") == "granted"


@pytest.mark.parametrize("topic", [topics.SHARE_EVENTS, topics.DIRECTORY_DEVICES])
async def test_a_record_about_nobody_knows_which_device_changes_nothing(
    world: Any, topic: topics.Topic
) -> None:
    await world.apply(world.device(), *world.shared())
    before = await world.tables()
    with pytest.raises(UnreadableKeyError):
        await world.apply(world.raw(topic, b"\xff", b"{}"))
    assert await world.tables() == before
