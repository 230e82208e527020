"""Live updates over real HTTP: who is told what, and that nothing is missed over a reconnect."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from contracts import topics
from contracts.base import new_id
from contracts.codec import encode, envelope
from contracts.directory import PresenceSnapshot
from contracts.events import AnyAccessEvent, ConnectionOpened, RevokeReason, ShareRevoked
from contracts.permissions import Permission
from permission_projector import live
from permission_projector.activity import ActivityStore
from servicekit import streams
from servicekit.kafka import Record

People = dict[str, UUID]


class Event(NamedTuple):
    """As a browser sees it."""

    name: str
    data: Any
    id: str


class Stream:
    """Reads a stream as the WHATWG says; `last_id` is what a browser would come again with."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.last_id = ""

    async def next(self, seconds: float = 10) -> Event:
        name, data = "message", ""
        async with asyncio.timeout(seconds):
            async for line in self._lines:
                field, _, value = line.partition(": ")
                if not line and data:
                    return Event(name, json.loads(data), self.last_id)
                if field == "id":
                    self.last_id = value
                elif field == "event":
                    name = value
                elif field == "data":
                    data = value
        raise EOFError


@asynccontextmanager
async def following(api: Any, account: str, last_id: str | None = None) -> AsyncGenerator[Stream]:
    """A stream; a new one is ready."""
    headers = api.headers(account) | ({} if last_id is None else {"Last-Event-ID": last_id})
    async with api.client.stream("GET", "/v1/changes", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        stream = Stream(answer.aiter_lines())
        if last_id is None:
            assert (await stream.next()).name == "ready"
        yield stream


def about(*device_ids: str) -> dict[str, list[str]]:
    """The data of an event `devices`."""
    return {"device_ids": list(device_ids)}


async def told_of(stream: Stream, seconds: float = 10) -> set[tuple[str, tuple[str, ...]]]:
    """Event names and devices up to the one about the device `end`, which the caller owns."""
    told: set[tuple[str, tuple[str, ...]]] = set()
    while True:
        event = await stream.next(seconds)
        devices = tuple(event.data.get("device_ids", ()))
        if devices == ("end",):
            return told
        told.add((event.name, devices))


async def test_the_owner_and_the_recipient_are_told_of_a_share_and_of_its_end(
    world: Any, api: Any, people: People
) -> None:
    async with following(api, "olga") as olga, following(api, "tara") as tara:
        records = world.shared("tara", device_id="pc-2")
        await world.apply(*records)
        for stream in (olga, tara):
            event = await stream.next()
            assert (event.name, event.data) == ("devices", about("pc-2"))
        (entry,) = (await api.get("olga", "/devices/pc-2")).json()["access"]
        assert (await tara.next()).name == "invitations"
        revoked = ShareRevoked(
            share_id=entry["share_id"], device_id="pc-2", contact_id=new_id(), owner_account_id="olga",
            reason=RevokeReason.BY_OWNER,
        )  # fmt: skip
        await world.apply(world.event(revoked, 3))
        assert (await olga.next()).data == about("pc-2")
        assert (await tara.next()).data == about("pc-2")


async def test_whom_it_does_not_concern_is_told_nothing(world: Any, api: Any, people: People) -> None:
    async with following(api, "mallory") as mallory, following(api, "ravi") as ravi:
        await world.apply(*world.shared("tara", device_id="pc-2"))
        await world.apply(world.device("pc-2", name="New name"))
        await world.apply(world.account("olga", "olga@new.example"))
        await world.apply(world.contact(new_id(), "mailto:tara@example.com"))
        await world.apply(world.device("end", owner="mallory"))
        assert await told_of(mallory) == set()
        await world.apply(world.device("end", owner="ravi"))
        assert await told_of(ravi) == set()


async def test_who_lost_a_share_hears_no_more_of_the_device(world: Any, api: Any, people: People) -> None:
    (entry, _) = (await api.get("olga", "/devices/cam-1")).json()["access"]
    revoked = ShareRevoked(
        share_id=entry["share_id"], device_id="cam-1", contact_id=people["ravi"], owner_account_id="olga",
        reason=RevokeReason.BY_OWNER,
    )  # fmt: skip
    await world.apply(world.event(revoked, 4))
    async with following(api, "ravi") as ravi:
        await world.apply(*world.shared("tara", first_version=5))
        await world.apply(world.device("cam-1", name="New name"))
        await world.apply(world.device("end", owner="ravi"))
        assert await told_of(ravi) == set()


async def test_an_invitation_is_told_to_whoever_has_verified_the_address(
    world: Any, api: Any, people: People
) -> None:
    contact = new_id()
    async with following(api, "mallory") as mallory:
        await world.apply(*world.shared(None, device_id="pc-2", contact_id=contact))
        await world.apply(world.contact(contact, "mailto:mallory@example.com"))
        assert (await mallory.next()).name == "invitations"
        await world.apply(world.device("pc-2", name="New name"))
        assert (await mallory.next()).name == "invitations"
        assert [
            item["device_name"] for item in (await api.get("mallory", "/invitations")).json()["items"]
        ] == ["New name"]


async def test_invitations_to_a_new_address_are_told_also_beside_a_change_of_a_device(
    world: Any, api: Any, people: People
) -> None:
    contact = new_id()
    await world.apply(world.contact(contact, "mailto:olga@new.example"))
    await world.apply(*world.shared(None, device_id="mal-9", owner="mallory", contact_id=contact))
    async with following(api, "olga") as olga:
        verified = world.account("olga", "olga@example.com", "olga@new.example")
        await world.together(*world.shared("tara", device_id="pc-2"), verified)
        await world.apply(world.device("end", owner="olga"))
        assert await told_of(olga) == {("devices", ("pc-2",)), ("devices", ()), ("invitations", ())}
    ((invitation,),) = await api.pages("olga", "/invitations")
    assert invitation["device_id"] == "mal-9"


async def test_a_removed_device_and_a_new_owner_are_told_to_those_who_had_it(
    world: Any, api: Any, people: People
) -> None:
    async with following(api, "olga") as olga, following(api, "mallory") as mallory:
        await world.apply(world.device("pc-2", owner="mallory"))
        assert (await olga.next()).name == "devices"
        assert (await mallory.next()).data == about("pc-2")
        await world.apply(world.raw(topics.DIRECTORY_DEVICES, b"pc-2", None))
        event = await mallory.next()
        assert (event.name, event.data) == ("devices", about())
        assert await api.ids("mallory") == ["mal-9"]


async def test_a_device_that_is_lost_is_told_also_beside_a_change_of_another(
    world: Any, api: Any, people: People
) -> None:
    for lost in (world.raw(topics.DIRECTORY_DEVICES, b"cam-2", None), world.device("cam-2", owner="mallory")):
        await world.apply(world.device("cam-2"), world.device("end"))
        async with following(api, "olga") as olga:
            await world.together(lost, world.device("pc-2", name="New name"))
            await world.apply(world.device("end"))
            assert ("devices", ()) in await told_of(olga)


async def test_whoever_comes_again_has_missed_nothing_and_hears_nothing_twice(
    world: Any, api: Any, people: People
) -> None:
    """A client that loses its connection again and again hears of each change once, in order."""
    async with following(api, "olga") as stream:
        last_id = stream.last_id
    names = [f"dev-{number:02}" for number in range(12)]
    heard: list[str] = []

    async def change() -> None:
        for name in names:
            await world.apply(world.device(name))
            await asyncio.sleep(0)

    changing = asyncio.create_task(change())
    while len(heard) < len(names):
        async with following(api, "olga", last_id) as stream:
            heard += (await stream.next()).data["device_ids"]
            last_id = stream.last_id
    await changing
    assert heard == names


@pytest.mark.parametrize("last_id", ["", "1", "x-1", "7-1", "1-999999999", "0-1"])
async def test_a_place_that_is_not_known_here_means_reload(
    world: Any, api: Any, people: People, last_id: str
) -> None:
    async with following(api, "olga", last_id) as stream:
        event = await stream.next()
        assert event.name == "reload"
        await world.apply(world.device("pc-2", name="After"))
        assert (await stream.next()).data == about("pc-2")


async def test_a_client_that_was_away_too_long_is_told_to_reload(
    world: Any, api: Any, people: People
) -> None:
    async with following(api, "olga") as stream:
        last_id = stream.last_id
    await world.apply(world.device("pc-2", name="New name"))
    await world.apply(world.device("pc-2", name="Newer name"))
    await world.pool.execute("delete from change where id < (select max(id) from change)")
    async with following(api, "olga", last_id) as stream:
        assert (await stream.next()).name == "reload"


async def test_another_generation_means_reload(world: Any, api: Any, people: People) -> None:
    async with following(api, "olga") as stream:
        await world.pool.execute("update generation set number = 2")
        await world.apply(world.device("pc-2", name="After"))
        event = await stream.next()
        assert (event.name, event.id.partition("-")[0]) == ("reload", "2")
        await world.apply(world.device("pc-2", name="Later"))
        assert (await stream.next()).data == about("pc-2")


async def test_a_client_that_does_not_keep_up_is_told_to_reload(
    world: Any, api: Any, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_MOST_WAITING", 3)
    async with following(api, "olga") as stream:
        async with world.pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "insert into change (device_ids, correlation_ids, account_ids, contact_ids)"
                " select array['pc-2'], array[null::text], '{}', '{}' from generate_series(1, 50)"
            )
            await connection.execute("notify permissions_changed")
        events = [await stream.next()]
        while events[-1].name != "reload":
            events.append(await stream.next())
        assert len(events) <= 4
        await world.apply(world.device("pc-2", name="After"))
        assert (await stream.next()).data == about("pc-2")


async def test_streams_that_are_quiet_are_kept_alive_and_end_in_time(
    world: Any, api: Any, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "KEEP_ALIVE_SECONDS", 0.05)
    monkeypatch.setattr(streams, "STREAM_SECONDS", 0.5)
    async with following(api, "mallory") as stream:
        before = stream.last_id
        assert await stream.next() == ("alive", {}, before)
        await world.apply(world.device("pc-2", name="Not mallory's"))
        with pytest.raises(EOFError):
            while True:
                assert (await stream.next()).name == "alive"
        assert stream.last_id != before, "a quiet stream's place moves on all the same"
    async with following(api, "mallory", stream.last_id) as stream:
        await world.apply(world.device("mal-9", owner="mallory", name="Mine"))
        while (event := await stream.next()).name == "alive":
            pass
        assert event.data == about("mal-9")


async def test_an_account_has_so_many_streams_and_others_have_theirs(
    api: Any, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "STREAMS_OF_AN_ACCOUNT", 1)
    async with following(api, "olga"):
        refused = await api.get("olga", "/changes")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "TOO_MANY_STREAMS")
        async with following(api, "ravi"):
            pass
    async with asyncio.timeout(10):
        while True:
            async with api.client.stream("GET", "/v1/changes", headers=api.headers("olga")) as answer:
                if answer.status_code == 200:
                    return


async def test_a_feed_reader_that_lost_its_connections_goes_on(world: Any, api: Any, people: People) -> None:
    async with following(api, "olga") as stream:
        await world.pool.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid() and usename = current_user"
        )
        async with asyncio.timeout(20):
            while True:
                try:
                    await world.apply(world.device("pc-2", name="After"))
                    break
                except Exception:
                    await asyncio.sleep(0.1)
        assert (await stream.next()).data == about("pc-2")


async def moved(world: Any, store: ActivityStore, *told: PresenceSnapshot | AnyAccessEvent) -> None:
    """Have the consumer of presence and of connections store what a gateway told, in one batch."""
    records: list[Record] = []
    for data in told:
        topic = topics.DIRECTORY_PRESENCE if isinstance(data, PresenceSnapshot) else topics.ACCESS_EVENTS
        value = encode(envelope(data, source="access-gateway/gw-1", time=datetime.now(UTC)))
        assert data.device_id is not None
        records.append(Record(world.prefix + topic.name, 0, 0, data.device_id.encode(), value, (), 0))
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute("set local search_path = permission_projector")
        await store.handle(connection, records)


def present(device_id: str, *, online: bool = True, second: int = 0) -> PresenceSnapshot:
    since = datetime(2026, 3, 1, 0, 0, second, tzinfo=UTC)
    return PresenceSnapshot(device_id=device_id, online=online, since=since, gateway_id="gw-1")


def opened(device_id: str, account: str) -> ConnectionOpened:
    return ConnectionOpened(
        connection_id=new_id(), device_id=device_id, account_id=account, service_id="ssh", gateway_id="gw-1",
        permission=Permission.CONNECT,
    )  # fmt: skip


async def test_what_comes_and_goes_is_told_to_those_who_may_see_it(
    world: Any, api: Any, people: People, dead_letters: Any
) -> None:
    store = ActivityStore(dead_letters, world.prefix)
    async with (
        following(api, "olga") as olga, following(api, "ravi") as ravi, following(api, "mallory") as mallory
    ):  # fmt: skip
        await moved(world, store, present("cam-1"))
        for stream in (olga, ravi):
            event = await stream.next()
            assert (event.name, event.data) == ("activity", about("cam-1"))
        assert (await api.get("ravi", "/devices/cam-1")).json()["online"] is True
        before = olga.last_id
        await moved(world, store, opened("cam-1", "ravi"), opened("pc-2", "olga"))
        event = await olga.next()
        assert (event.name, event.data, event.id) == ("activity", about("cam-1", "pc-2"), before)
        assert (await ravi.next()).data == about("cam-1")
        await moved(world, store, opened("cam-1", "olga"))
        assert (await olga.next()).data == about("cam-1")
        await world.apply(world.device("end", owner="ravi"))
        assert await told_of(ravi) == set(), "who else connects is the owner's to know"
        await world.apply(world.device("end", owner="mallory"))
        assert await told_of(mallory) == set()


async def test_what_is_told_again_is_no_news(world: Any, api: Any, people: People, dead_letters: Any) -> None:
    """A gateway repeats the presence of its devices every few seconds."""
    store = ActivityStore(dead_letters, world.prefix)
    connection = opened("cam-1", "ravi")
    await moved(world, store, present("cam-1"), connection)
    async with following(api, "olga") as olga:
        await moved(world, store, present("cam-1"), connection)
        await moved(world, store, present("cam-1", online=False, second=1))
        assert (await olga.next()).data == about("cam-1")
        await moved(world, store, present("pc-2"))
        assert (await olga.next()).data == about("pc-2"), "and nothing in between"


async def test_a_process_that_may_have_missed_hints_says_so(world: Any, api: Any, people: People) -> None:
    async with following(api, "mallory") as mallory:
        await world.pool.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and application_name = 'permission-projector-listen'"
        )
        event = await mallory.next(30)
        assert (event.name, event.data) == ("activity", about())


async def test_very_many_hints_are_told_as_one(
    world: Any, api: Any, people: People, dead_letters: Any
) -> None:
    store = ActivityStore(dead_letters, world.prefix)
    async with following(api, "olga") as olga:
        await moved(world, store, *(present(f"dev-{number}") for number in range(6_000)))
        event = await olga.next(30)
        assert (event.name, event.data) == ("activity", about())
