"""Who is told, through real processes, that his inbox or his choices may be other."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest
from share_events import accepted, revoked

if TYPE_CHECKING:
    from conftest import Running, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]  # the first one also starts the servers

ADDRESS = "bob@example.com"


class Stream:
    """The names of the events that an account is told, as they come."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def next(self, seconds: float = 20) -> str:
        async with asyncio.timeout(seconds):
            async for line in self._lines:
                if line.startswith("event: "):
                    return line.removeprefix("event: ")
        raise EOFError

    async def until_settings(self) -> list[str]:
        """What is told before the account's own change of its settings, which a test makes as a mark."""
        told: list[str] = []
        while (event := await self.next()) != "notice_settings":
            told.append(event)
        return told


@asynccontextmanager
async def following(world: "World", one: "Running", account_id: str) -> AsyncGenerator[Stream]:
    headers = {"Authorization": f"Bearer {world.tokens.token('notifier', account_id)}"}
    async with (
        httpx.AsyncClient(timeout=30) as client,
        client.stream("GET", f"{one.url}/v1/changes", headers=headers) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        stream = Stream(answer.aiter_lines())
        assert await stream.next() == "ready"
        yield stream


async def quiet(world: "World", one: "Running", account_id: str, stream: Stream) -> None:
    """Nothing was told to the account until now."""
    await world.ask(one, account_id, "PUT", "preferences", json={"language": "de"})
    assert await stream.until_settings() == []


async def shown(world: "World", one: "Running", account_id: str, stream: Stream, kinds: list[str]) -> None:
    """A hint comes after which the inbox has these kinds."""
    while True:
        assert await stream.next() == "notices"
        if await world.inbox(one, account_id) == kinds:
            return


async def first(world: "World", one: "Running", account_id: str, name: str) -> Any:
    """A field of the newest entry of an inbox."""
    return (await world.ask(one, account_id, "GET", "inbox")).json()["items"][0][name]


async def test_reader_and_sharer_are_told_by_every_instance_and_nobody_else_by_any(world: "World") -> None:
    one, other = await world.start(), await world.start()
    for account_id in ("bob", "eve"):
        await world.account(account_id, account_id.title(), f"{account_id}@example.com")
    contact = await world.contact(ADDRESS)
    await world.marker()  # names and addresses have arrived
    async with (
        following(world, one, "bob") as bob, following(world, other, "bob") as bobs_phone,
        following(world, other, "ann") as ann, following(world, one, "eve") as eve,
    ):  # fmt: skip
        event = await world.invite(contact)
        await shown(world, one, "bob", bob, ["invitation"])
        await shown(world, other, "bob", bobs_phone, ["invitation"])
        await world.event(accepted(event))
        await shown(world, other, "ann", ann, ["accepted"])
        while await first(world, one, "bob", "state") != "accepted":
            assert await bob.next() == "notices"
        await world.event(revoked(event))
        await shown(world, one, "bob", bob, ["revoked", "invitation"])
        await quiet(world, other, "eve", eve)


async def test_marks_are_told_to_the_other_instance_and_to_their_owner_alone(world: "World") -> None:
    one, other = await world.start(), await world.start()
    for account_id in ("bob", "eve"):
        await world.account(account_id, account_id.title(), f"{account_id}@example.com")
    await world.invite(await world.contact(ADDRESS))
    await world.mails(ADDRESS)
    ids = [item["notice_id"] for item in (await world.ask(one, "bob", "GET", "inbox")).json()["items"]]
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    async with following(world, other, "bob") as bob, following(world, other, "eve") as eve:
        for body in (
            {"mark": "read"}, {"mark": "unread"}, {"mark": "later", "until": later}
        ):  # fmt: skip
            marking = {"notice_ids": ids, **body}
            assert (await world.ask(one, "bob", "POST", "inbox/marks", json=marking)).status_code == 204
            assert await bob.next(5) == "notices"
        marking = {"notice_ids": ids, "mark": "read"}
        assert (await world.ask(one, "eve", "POST", "inbox/marks", json=marking)).status_code == 204
        await quiet(world, one, "bob", bob)  # nothing of his has changed
        await quiet(world, one, "eve", eve)


async def test_a_notice_to_an_address_is_told_to_who_has_verified_it_while_he_may_see_it(
    world: "World",
) -> None:
    one = await world.start()
    await world.account("bob", "Bob", ADDRESS)
    await world.account("eve", "Eve", "eve@example.com")
    contact = await world.contact(ADDRESS)
    event = await world.invite(contact)
    await world.mails(ADDRESS)
    await world.event(accepted(event))
    await world.mails("ann@example.com")
    async with following(world, one, "bob") as bob, following(world, one, "eve") as eve:
        await world.account("bob", "Bob", "bob@elsewhere.example")
        assert await bob.next() == "notices"
        await world.account("eve", "Eve", "eve@example.com", ADDRESS)  # the address passed to her
        assert await eve.next() == "notices"  # what she sees may be more; of this share it is nothing
        assert await world.inbox(one, "eve") == []
        await world.opened(event, "bob")
        await world.mails("ann@example.com", 2)
        await world.device("cam-1", "Back door")
        assert await bob.next() == "notices"
        await world.event(revoked(event))
        await shown(world, one, "bob", bob, ["revoked"])
        await quiet(world, one, "eve", eve)  # what Bob accepted is his
        second = await world.invite(contact, device_id="cam-1")
        await shown(world, one, "eve", eve, ["invitation"])
        await world.device("cam-1", "Side door")
        while await first(world, one, "eve", "device_name") != "Side door":
            assert await eve.next() == "notices"
        await world.event(revoked(second, None))
        while await world.inbox(one, "eve"):
            assert await eve.next() == "notices"


async def test_an_address_that_arrives_after_its_invitation_is_told(world: "World") -> None:
    one = await world.start()
    await world.account("bob", "Bob", ADDRESS)
    await world.marker()
    contact = uuid4()
    await world.invite(contact)
    await world.settled(contact, "waits")
    async with following(world, one, "bob") as bob:
        await world.contact(ADDRESS, contact)
        await shown(world, one, "bob", bob, ["invitation"])


async def test_after_a_lost_connection_to_the_database_everybody_is_told_to_look(world: "World") -> None:
    one = await world.start()
    async with following(world, one, "bob") as bob:
        await world.pool.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and application_name = 'notifier-listen'"
        )
        assert [await bob.next(), await bob.next()] == ["notices", "notice_settings"]
        await quiet(world, one, "bob", bob)


async def test_an_account_has_so_many_streams(world: "World") -> None:
    one = await world.start()
    async with AsyncExitStack() as opened:
        for _ in range(20):
            await opened.enter_async_context(following(world, one, "bob"))
        refused = await world.ask(one, "bob", "GET", "changes")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "TOO_MANY_STREAMS")
        async with following(world, one, "eve"):
            pass


async def test_no_payload_holds_an_address(world: "World") -> None:
    heard: list[str] = []
    async with world.pool.acquire() as connection:

        def hear(_connection: object, _process: int, _channel: str, payload: object) -> None:
            heard.append(str(payload))

        await connection.add_listener("notifier_changed", hear)
        one = await world.start()
        await world.account("bob", "Bob", ADDRESS)
        event = await world.invite(await world.contact(ADDRESS))
        await world.mails(ADDRESS)
        await world.event(accepted(event))
        await world.mails("ann@example.com")
        await world.ask(one, "bob", "PUT", "preferences", json={"language": "de"})
        assert heard
        assert not [payload for payload in heard if "@" in payload]
        await connection.remove_listener("notifier_changed", hear)
