"""Who commands while processes are killed: owners and recipients over HTTP and Kafka, and the registry."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
from crash_world import DEVICES, OWNERS, RECIPIENTS, World, device, encoded

from contracts import topics
from contracts.commands import (
    AcceptShare,
    AnyCommand,
    ChangeShare,
    LeaveShare,
    RejectShare,
    RemoveRecipient,
    RequestShare,
    ResendInvitation,
    RevokeShare,
    ServiceChange,
)
from contracts.permissions import TermsOrder
from servicekit.kafka import KafkaError, Producer

OPEN_SHARES = """
select share_id, device_id, owner_account_id, state, version, invitation_version, contact.address
from share join contact using (contact_id) where state in ('requested', 'active') order by random() limit 1
"""


async def commands(world: World, chance: random.Random, client: str) -> AsyncIterator[AnyCommand]:
    """What a client asks for, for ever; some of it is refused, some of it has come too late."""
    for number in itertools.count():
        command_id = f"{client}-{number}"
        command = await _on_an_open_share(world, chance, command_id) if chance.random() < 0.45 else None
        yield command or _on_devices(chance, command_id)


def _on_devices(chance: random.Random, command_id: str) -> AnyCommand:
    number = chance.randrange(DEVICES)
    common: dict[str, Any] = {
        "command_id": command_id,
        "device_ids": tuple({f"d{number}", f"d{(number + OWNERS * chance.randrange(2)) % DEVICES}"}),
    }
    owner = f"owner{number % OWNERS}"
    people = tuple(f"{name}@x.test" for name in chance.sample(RECIPIENTS, chance.choice((1, 1, 2))))
    kind = chance.random()
    if kind < 0.5:
        ends_at = datetime.now(UTC) + timedelta(seconds=chance.randrange(2, 9))
        return RequestShare(
            **common, actor=owner, recipients=people, scripting=chance.random() < 0.5,
            ends_at=ends_at if chance.random() < 0.3 else None,
        )  # fmt: skip
    if kind < 0.6:
        service = ServiceChange(service_id=f"d{number}-{chance.choice('ab')}", action="REMOVE")
        return RequestShare(**common, actor=owner, recipients=people, services=(service,))
    if kind < 0.75:
        return RevokeShare(**common, actor=owner, recipients=people)
    if kind < 0.85:
        return LeaveShare(**common, actor=chance.choice(RECIPIENTS))
    if kind < 0.9:
        return RemoveRecipient(command_id=command_id, actor=owner, recipient=people[0])
    return RequestShare(**common, actor=chance.choice(RECIPIENTS), recipients=people)  # not his to share


async def _on_an_open_share(world: World, chance: random.Random, command_id: str) -> AnyCommand | None:
    """Answer, edit or resend a share as it is now; None when there is none, or the database is away."""
    try:
        async with world.connect() as connection:
            row = await connection.fetchrow(OPEN_SHARES)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return None
    if row is None:
        return None
    which: dict[str, Any] = {
        "command_id": command_id, "device_id": row["device_id"], "share_id": row["share_id"],
    }  # fmt: skip
    recipient = row["address"].removeprefix("mailto:").partition("@")[0]
    kind = chance.random()
    if row["state"] == "requested" and kind < 0.6:
        return AcceptShare(**which, actor=recipient, invitation_version=row["invitation_version"])
    if row["state"] == "requested" and kind < 0.7:
        return RejectShare(**which, actor=recipient)
    if row["state"] == "requested" and kind < 0.8:
        return ResendInvitation(**which, actor=row["owner_account_id"])
    terms = TermsOrder.model_validate({"scope": {"kind": "all"}, "scripting": chance.random() < 0.5})
    return ChangeShare(**which, actor=row["owner_account_id"], expected_version=row["version"], terms=terms)


def _key(command: AnyCommand) -> str:
    match command:
        case RequestShare() | RevokeShare() | LeaveShare():
            return command.device_ids[0]
        case RemoveRecipient():
            return command.actor
        case _:
            return command.device_id


async def ask(world: World, client: httpx.AsyncClient, command: AnyCommand) -> tuple[int, object]:
    """Send a command over HTTP until there is an answer, here or there."""
    name, body = type(command).__name__, command.model_dump(mode="json", exclude={"actor"}, exclude_none=True)
    for slot in itertools.cycle(world.of("serve")):
        world.attempts += 1
        token = world.tokens.token("share-command", command.actor)
        try:
            answer = await client.post(
                f"{slot.url}/v1/commands/{name}", json=body, headers={"Authorization": f"Bearer {token}"}
            )
        except httpx.TransportError:
            await asyncio.sleep(0.1)
            continue
        if answer.status_code == 503:
            await asyncio.sleep(0.2)
            continue
        assert answer.status_code < 500, answer.text
        document = answer.json()
        if answer.status_code == 200:
            return 200, document["positions"]
        return answer.status_code, document["error"]["code"]
    raise AssertionError("there are always two")


async def by_http(world: World, name: str, client: httpx.AsyncClient, seed: int) -> None:
    """A client that commands over HTTP until it is told to stop."""
    async for command in commands(world, random.Random(f"{seed}{name}"), name):
        if world.stopping:
            return
        world.answers[command.command_id] = command, await ask(world, client, command)
        await asyncio.sleep(0.12)


async def by_kafka(world: World, name: str, seed: int) -> None:
    """A client that commands over Kafka, and sends one in five twice."""
    chance = random.Random(f"{seed}{name}")
    async for command in commands(world, chance, name):
        if world.stopping:
            return
        world.answers[command.command_id] = command, None
        for _ in range(2 if chance.random() < 0.2 else 1):
            await _sent(world, topics.SHARE_COMMANDS.name, _key(command), encoded(command))
        world.by_kafka.add(command.command_id)
        await asyncio.sleep(0.2)


async def registry(world: World, seed: int) -> None:
    """Devices lose and get services, and now and then another owner, until it is told to stop."""
    chance = random.Random(seed)
    while not world.stopping:
        number = chance.randrange(DEVICES)
        owner = number % OWNERS if chance.random() < 0.8 else (number + 1) % OWNERS
        snapshot = device(number, owner, chance.choice(("ab", "ab", "a", "abc")))
        await _sent(world, topics.DIRECTORY_DEVICES.name, snapshot.device_id, encoded(snapshot))
        await asyncio.sleep(0.7)


async def _sent(world: World, topic: str, key: str, value: bytes) -> None:
    while True:
        try:
            async with Producer(world.bootstrap, "clients") as producer:
                await producer.send(topic, key, value)
                return
        except KafkaError:
            await asyncio.sleep(0.5)
