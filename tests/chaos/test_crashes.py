"""Nothing is lost, doubled or out of order when services are killed under load, again and again.

Two processes that decide, two relays and two projectors, on a broker and a database of their own, are
killed (SIGKILL) eighty times in all while clients command over HTTP and Kafka and send again, with the same
command id, whatever they got no answer to, and while the registry changes devices. Meanwhile the broker is
frozen for half a minute, later stopped and started, and the database restarted. Who is killed when follows
from `SEED`; what that meets follows from the machine. Afterwards every accepted command has its events, once
a version, in order; and the read models are those that the log says, row by row, live, folded and rebuilt.
"""

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID

import httpx
import pytest
from crash_clients import ask, by_http, by_kafka, registry
from crash_world import Slot, World

from contracts import codec, topics
from contracts.commands import CommandAccepted, CommandRefused
from contracts.events import SHARE_EVENT_TYPES, InvitationResent
from contracts.permissions import Terms
from devstack.records import read_all
from permission_projector.consumer import TOPICS as PROJECTED
from servicekit.kafka import Admin, Partition, Record
from share_command import domain

SEED = 20_260
KILLS, PROJECTOR_KILLS = 50, 30
FREEZE_AFTER, FREEZE_SECONDS = 12, 30.0
BROKER_RESTART_AFTER, DATABASE_RESTART_AFTER = 24, 36
HTTP_CLIENTS, KAFKA_CLIENTS = 4, 2

OPEN = """
select exists (select from outbox) or exists (select from share where due_at < now() + interval '1 minute')
"""
"""Whether something is still to be sent, or time is about to end a share without anybody's command."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@contextlib.asynccontextmanager
async def watched(world: World) -> AsyncGenerator[None]:
    """Keeps `Slot.ready` true to life while the block runs."""

    async def look() -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
            while True:
                for slot in world.slots:
                    try:
                        slot.ready = (await client.get(f"{slot.url}/readyz")).status_code == 200
                    except httpx.TransportError:
                        slot.ready = False
                await asyncio.sleep(0.1)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()


async def kill_again_and_again(world: World) -> None:
    """Kill and restart, seeded; once the broker freezes for a while, and once the database restarts.

    Two kill at once, each a deciding process and a relay of its own, so that at times there is none; a third
    kills projectors, whose partitions go to the other one and back.
    """
    serving, relays, projectors = (world.of(verb) for verb in ("serve", "relay", "project"))
    async with asyncio.TaskGroup() as killers:
        for number in range(2):
            killers.create_task(
                _kill(random.Random(SEED + number), [serving[number], relays[number]], KILLS // 2)
            )
        killers.create_task(_kill(random.Random(SEED + 2), projectors, PROJECTOR_KILLS))
        while _killed(world) < FREEZE_AFTER:  # noqa: ASYNC110 - processes die meanwhile
            await asyncio.sleep(0.05)
        world.broker.signal(signal.SIGSTOP)
        await asyncio.sleep(FREEZE_SECONDS)
        world.broker.signal(signal.SIGCONT)
        while _killed(world) < BROKER_RESTART_AFTER:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)
        await world.broker.restart(5)
        while _killed(world) < DATABASE_RESTART_AFTER:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.05)
        await world.database.restart(1)


async def _kill(chance: random.Random, slots: list[Slot], times: int) -> None:
    for _ in range(times):
        victim = chance.choice(slots)
        with contextlib.suppress(TimeoutError):  # one that is only starting is killed too, now and then
            async with asyncio.timeout(6):
                while not victim.ready:  # noqa: ASYNC110 - another process gets ready
                    await asyncio.sleep(0.05)
        await asyncio.sleep(chance.random() * 0.3)
        victim.kill()
        victim.start()


def _killed(world: World) -> int:
    """Of share-command's processes."""
    return sum(slot.kills for slot in world.slots if slot.service == "share-command")


async def test_killed_under_load(world: World) -> None:
    began = time.monotonic()
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client, watched(world):
        async with asyncio.timeout(60):
            while not all(slot.ready for slot in world.slots):  # noqa: ASYNC110 - other processes
                await asyncio.sleep(0.1)
        async with asyncio.TaskGroup() as clients:
            for number in range(HTTP_CLIENTS):
                clients.create_task(by_http(world, f"http{number}", client, SEED))
            for number in range(KAFKA_CLIENTS):
                clients.create_task(by_kafka(world, f"kafka{number}", SEED))
            clients.create_task(registry(world, SEED))
            await kill_again_and_again(world)
            world.stopping = True
        killed = time.monotonic()
        await _until_done(world)
        done = time.monotonic()
        assert _killed(world) == KILLS
        await _check(world, client)
        await _check_read_models(world)
    print(  # noqa: T201 - what a person wants to know of such a run
        f"{KILLS} + {PROJECTOR_KILLS} kills {[slot.kills for slot in world.slots]} "
        f"in {killed - began:.0f} s, "
        f"{len(world.answers)} commands ({world.attempts} attempts over HTTP), "
        f"caught up after {done - killed:.1f} s, checked in {time.monotonic() - done:.0f} s"
    )


async def _until_done(world: World) -> None:
    """Everything is up, every command over Kafka is answered, nothing is left to be relayed."""
    async with asyncio.timeout(90):
        while not all(slot.ready for slot in world.slots):  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.1)
        async with world.connect() as connection:
            while await connection.fetchval(OPEN):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.1)
        while world.by_kafka - (await asyncio.to_thread(_results, world.bootstrap)).keys():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.5)


async def _check(world: World, client: httpx.AsyncClient) -> None:
    async with world.connect() as connection:
        events = await connection.fetch("select * from event order by device_id, version")
        shares = {
            (row["device_id"], row["contact_id"]): _share(row)
            for row in await connection.fetch("select * from share")
        }
        versions = {
            row["device_id"]: row["version"] for row in await connection.fetch("select * from device_stream")
        }
        stored = {(row["device_id"], row["version"]): str(row["event_id"]) for row in events}
        _check_fold(events, shares, versions)
        doubled = _check_broker(
            await asyncio.to_thread(read_all, world.bootstrap, topics.SHARE_EVENTS.name), stored
        )

        # each command is answered as it was, and does nothing more; but what came too often may come again
        by_results = await asyncio.to_thread(_results, world.bootstrap)
        for command_id, (_, answer) in list(world.answers.items()):
            if "RATE_LIMITED" in ((answer or (0, None))[1], *by_results.get(command_id, ())):
                del world.answers[command_id]
        again = await _all_again(world, client)
        by_commands = sum(row["command_id"] in again for row in events)
        assert by_commands == await connection.fetchval(
            "select count(*) from event where command_id = any($1)", list(again)
        )
        for command_id, (_, answer) in world.answers.items():
            assert answer is None or again[command_id] == answer, command_id
            for result in by_results.get(command_id, ()):
                assert result == _plain(again[command_id]), command_id
        # what was accepted has its events, what was refused has none; time and the registry have theirs
        others = ("clock", topics.DIRECTORY_DEVICES.name)
        caused = Counter(row["command_id"] for row in events if not row["command_id"].startswith(others))
        accepted = {command_id for command_id, (status, _) in again.items() if status == 200}
        assert caused.keys() <= accepted
        assert accepted - caused.keys(), "a command that changes nothing is there too"
        assert again.keys() - accepted, "a command that is refused is there too"
    outcomes = Counter("accepted" if status == 200 else str(code) for status, code in again.values())
    kinds = Counter(codec.decode(row["envelope"].encode()).type.split(".")[1] for row in events)
    print(f"{len(events)} events {dict(kinds)}, {doubled} sent more than once; {dict(outcomes)}")  # noqa: T201 - as above
    assert len(events) > 300, "hardly anything happened"
    # An invitation is sent again at most once a minute, and the clients have less time than that.
    wanted = {kind.__name__ for kind in SHARE_EVENT_TYPES if kind is not InvitationResent}
    assert kinds.keys() >= wanted, "something never happened"


async def _check_read_models(world: World) -> None:
    """Caught up, they are what the log says: compared with a fold of it, rebuilt, and compared again."""
    names = [topic.name for topic in PROJECTED if topic != topics.WATERMARKS]
    admin = Admin(world.bootstrap)
    ends = await admin.end_offsets(await admin.partitions(names))
    wanted = {place: end for place, end in ends.items() if end}
    async with asyncio.timeout(90), world.connect("permission_projector") as connection:
        while True:
            rows = await connection.fetch(
                "select topic, partition, next_offset from permissions.kafka_offset"
            )
            reached = {Partition(row["topic"], row["partition"]): row["next_offset"] for row in rows}
            if wanted.items() <= reached.items():
                break
            await asyncio.sleep(0.1)
        assert await connection.fetchval("select count(*) from permissions.stream_quarantine") == 0
        for arguments in (["verify"], ["replay"], ["verify"]):
            assert await world.projector(*arguments) == 0, arguments
        assert await connection.fetchval("select number from permissions.generation") > 1


def _check_fold(
    events: list[Any], shares: dict[tuple[str, UUID], domain.Share], versions: dict[str, int]
) -> None:
    """The states are what the events make of them; versions have no gap."""
    folded: dict[tuple[str, UUID], domain.Share] = {}
    at: Counter[str] = Counter()
    for row in events:
        message, event = codec.decode_as(row["envelope"].encode(), SHARE_EVENT_TYPES)
        assert message.version == row["version"] == at[event.device_id] + 1
        at[event.device_id] = row["version"]
        key = event.device_id, event.contact_id
        folded[key] = domain.evolve(folded.get(key), event, row["version"], message.time)
    assert folded == shares
    assert {name: version for name, version in versions.items() if version} == dict(at)


def _check_broker(records: list[Record], stored: dict[tuple[str, int], str]) -> int:
    """Every event at least once, the same under each version, in order; how many came more than once."""
    found: dict[tuple[str, int], str] = {}
    newest: Counter[str] = Counter()
    doubled = 0
    for record in records:
        message, event = codec.decode_as(record.value, SHARE_EVENT_TYPES)
        assert message.version is not None
        assert message.version <= newest[event.device_id] + 1, "an event overtook another"
        place = event.device_id, message.version
        doubled += place in found
        assert found.setdefault(place, message.id) == message.id, "two events have one version"
        newest[event.device_id] = max(newest[event.device_id], message.version)
    assert found == stored
    return doubled


async def _all_again(world: World, client: httpx.AsyncClient) -> dict[str, tuple[int, object]]:
    again: dict[str, tuple[int, object]] = {}
    waiting = [command for command, _ in world.answers.values()]

    async def some() -> None:
        while waiting:
            command = waiting.pop()
            again[command.command_id] = await ask(world, client, command)

    await asyncio.gather(*(some() for _ in range(8)))
    return again


def _plain(answer: tuple[int, object]) -> object:
    return answer[1]


def _results(bootstrap: str) -> dict[str, list[object]]:
    """Command id → all answers on the topic: positions, or the code."""
    found: dict[str, list[object]] = {}
    for record in read_all(bootstrap, topics.COMMAND_RESULTS.name):
        _, result = codec.decode_as(record.value, (CommandAccepted, CommandRefused))
        assert result.command_id is not None
        said = (
            [str(position) for position in result.positions]
            if isinstance(result, CommandAccepted)
            else result.code
        )
        found.setdefault(result.command_id, []).append(said)
    return found


def _share(row: Any) -> domain.Share:
    fields: dict[str, Any] = {name: row[name] for name in domain.Share.__dataclass_fields__}
    fields["terms"] = Terms.model_validate_json(row["terms"])
    return domain.Share(**fields)
