"""Replay, verify, going back and releasing, as an operator runs them on a projector that works."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import pytest

from contracts import topics
from contracts.base import new_id
from contracts.codec import encode, envelope
from contracts.events import ShareAccepted, ShareRequested
from contracts.permissions import AllServices, Terms
from servicekit.kafka import Partition

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
PROJECTOR_TOPICS = [
    topics.SHARE_EVENTS,
    topics.DIRECTORY_DEVICES,
    topics.DIRECTORY_ACCOUNTS,
    topics.DIRECTORY_CONTACTS,
    topics.WATERMARKS,
]


def history(device: str) -> list[bytes]:
    """An accepted share, as the relay publishes it."""
    who: dict[str, Any] = {
        "share_id": new_id(), "device_id": device, "contact_id": new_id(), "owner_account_id": "olga",
    }  # fmt: skip
    events = [
        ShareRequested(**who, terms=Terms(scope=AllServices())),
        ShareAccepted(**who, account_id="ravi"),
    ]
    return [
        encode(envelope(event, source="test", time=datetime(2026, 1, 1, tzinfo=UTC), version=version))
        for version, event in enumerate(events, 1)
    ]


async def send(place: Any, device: str, *values: bytes) -> None:
    for value in values:
        await place.producer.send(place.prefix + topics.SHARE_EVENTS.name, device, value)


async def caught_up(place: Any) -> None:
    async def reached() -> bool:
        places = await place.admin.partitions([place.prefix + topic.name for topic in PROJECTOR_TOPICS])
        ends = {at: end for at, end in (await place.admin.end_offsets(places)).items() if end}
        rows = await place.execute("select topic, partition, next_offset from permissions.kafka_offset")
        return ends == {Partition(row["topic"], row["partition"]): row["next_offset"] for row in rows}

    await place.eventually(reached, within=60)


@pytest.fixture
async def working(place: Any) -> AsyncGenerator[Any]:
    """An installation whose projector runs."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "permission_projector", "project",
        env={**place.env, "LATCHKEY_HTTP_PORT": "0", "LATCHKEY_LOG_LEVEL": "error"},
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield place
    finally:
        child.kill()
        await child.wait()


async def operations(place: Any) -> list[tuple[str, str]]:
    rows = (await place.ops("operations", "--json")).document["operations"]
    return [(row["what"], row["outcome"]) for row in reversed(rows)]


async def test_read_models_are_compared_rebuilt_and_swapped_back(working: Any) -> None:
    place = working
    for number in range(20):
        await send(place, f"cam-{number}", *history(f"cam-{number}"))
    await caught_up(place)
    answer = await place.ops("verify", "--json")
    assert json_of(answer)["equal"] is True
    assert answer.code == 0

    document = (await place.ops("replay", "--dry-run", "--json")).document
    assert {row["topic"]: row["records"] for row in document["topics"]}["share.events"] == 40
    assert len(json_of(await place.ops("generations", "--json"))["generations"]) == 1

    answer = await place.ops("replay", "--reason", "to see it", "--json")
    new = json_of(answer)["live"]
    assert (new > 1, json_of(answer)["former"], answer.code) == (True, 1, 0)
    answer = await place.ops("swap", "1", "--dry-run")
    assert (answer.code, "Generation 1 would catch up" in answer.out) == (0, True)
    answer = await place.ops("swap", "1")
    assert (answer.code, f"Generation 1 is live. Generation {new} is kept" in answer.out) == (0, True)
    answer = await place.ops("drop-generation", "1")
    assert (answer.code, "is the live one" in answer.err) == (2, True)
    assert (await place.ops("drop-generation", str(new))).code == 0
    assert [item["number"] for item in json_of(await place.ops("generations", "--json"))["generations"]] == [
        1
    ]
    assert await operations(place) == [
        ("replay", "done"), ("swap", "done"), ("drop-generation", "failed"), ("drop-generation", "done"),
    ]  # fmt: skip


def json_of(answer: Any) -> Any:
    """The document, whatever stands on stderr: there is told how far it is."""
    return type(answer)(answer.out, "", answer.code).document


async def test_what_differs_is_shown_and_not_swapped_in(working: Any) -> None:
    place = working
    await send(place, "cam-1", *history("cam-1"))
    await caught_up(place)
    await place.execute("update permissions.share set account_id = 'mallory'")
    answer = await place.ops("verify")
    assert answer.code == 1
    assert "mallory" in answer.out
    assert "They are different." in answer.out
    answer = await place.ops("replay")
    assert answer.code == 1
    assert "They differ." in answer.err
    assert "is ready and not live" in answer.out
    generations = json_of(await place.ops("generations", "--json"))["generations"]
    assert [item["live"] for item in generations] == [True, False]
    assert generations[0]["number"] == 1
    assert await operations(place) == [("replay", "failed")]


async def test_a_device_is_released_once_its_history_is_whole(working: Any) -> None:
    place = working
    first, second = history("cam-1")
    await send(place, "cam-1", second)

    async def quarantined() -> bool:
        devices = (await place.ops("quarantine", "list", "--json")).document["devices"]
        return [(item["device_id"], item["code"]) for item in devices] == [("cam-1", "VERSION_GAP")]

    await place.eventually(quarantined)
    answer = await place.ops("quarantine", "release", "cam-1")
    assert (answer.code, "cam-1 stays in quarantine: VERSION_GAP" in answer.err) == (1, True)
    await send(place, "cam-1", first, second)
    await caught_up(place)
    answer = await place.ops("quarantine", "release", "cam-1", "--reason", "it was sent again", "--json")
    assert (answer.code, answer.document["outcome"]) == (0, "released")
    assert not (await place.ops("quarantine", "list", "--json")).document["devices"]
    assert await operations(place) == [("quarantine release", "failed"), ("quarantine release", "done")]


async def test_a_replay_that_is_stopped_leaves_nothing_behind_and_is_recorded(working: Any) -> None:
    place = working
    for number in range(30):
        await send(place, f"cam-{number}", *history(f"cam-{number}"))
    await caught_up(place)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "latchkey_ops", "replay", "--rate", "1",
        env={**place.env, "PATH": os.environ["PATH"]}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert child.stderr is not None
    while b"Reading the topics" not in await child.stderr.readline():
        pass
    child.send_signal(signal.SIGTERM)
    assert b"Stopped by a signal" in await child.stderr.read()
    assert await child.wait() == 1
    assert await operations(place) == [("replay", "failed")]
    schemas = await place.execute("select nspname from pg_namespace where nspname like 'permissions\\_%'")
    assert [row["nspname"] for row in schemas] == ["permissions_api"]
