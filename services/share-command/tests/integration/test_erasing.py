"""A person's address is erased: what is shared with it ends, and nothing here leads from it to anything."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from contracts import topics
from contracts.commands import ChangeShare, RemoveRecipient, RequestShare
from devstack.records import read_all
from servicekit.kafka import Admin, Producer, Record, partition_of
from share_command.erasing import HEARTBEAT_KEYS, Erased, Heartbeat, erase
from share_command.errors import ShareCommandError

ANN = "mailto:ann@x.test"


async def shared(world: Any) -> None:
    """Ann has accepted one device, is invited to another, and was once invited to a third."""
    for device in ("d0", "d1", "d2"):
        await world.handle(
            RequestShare, f"share-{device}", "owner", device_ids=(device,),
            recipients=("ann@x.test", "bob@x.test"), message=f"For Ann of {device}",
        )  # fmt: skip
    await world.accept("d0")
    async with world.api("owner") as owner:
        contacts = (await owner.get("/v1/contacts")).json()["contacts"]
        ann = next(item["contact_id"] for item in contacts if item["address"] == "ann@x.test")
        assert (await owner.put(f"/v1/contacts/{ann}/remark", json={"remark": "met in May"})).is_success
    await world.handle(RequestShare, "theirs", "rival", device_ids=("foreign",), recipients=("ann@x.test",))


async def erased(world: Any, address: str = ANN, **options: Any) -> Erased:
    async with world.pool.acquire() as connection:
        return await erase(connection, address, clock=world.clock, **options)


async def test_everything_that_is_kept_of_a_person_goes_and_nobody_else_loses_anything(world: Any) -> None:
    await shared(world)
    before = await world.dump()
    told = await erased(world, dry_run=True)
    assert await world.dump() == before
    done = await erased(world)
    assert done == told
    assert (done.shares_ended, done.books) == (4, 2)

    kept = json.dumps({table: rows for table, rows in (await world.dump()).items()
                       if table not in {"account_address", "outbox"}})  # fmt: skip
    assert "ann@x.test" not in kept  # what the registry says of Ann's account is the registry's to delete
    assert "met in May" not in kept
    assert await world.live() == [("d0", "requested"), ("d1", "requested"), ("d2", "requested")]  # Bob's
    assert await world.said("d0") == ["ShareRequested", "ShareRequested", "ShareAccepted",
                                      "ShareRevoked:address_erased"]  # fmt: skip
    tombstone = await world.pool.fetchrow("select topic, key from outbox where value is null")
    assert tuple(tombstone) == (topics.DIRECTORY_CONTACTS.name, str(done.contact_id))
    assert await erased(world) == Erased(None)
    assert await erased(world, "mailto:nobody@x.test") == Erased(None)


async def test_the_same_address_is_somebody_new_afterwards(world: Any) -> None:
    await shared(world)
    former = (await erased(world)).contact_id
    await world.handle(RequestShare, "again", "owner", device_ids=("d0",), recipients=("ann@x.test",))
    contact = await world.pool.fetchval("select contact_id from contact where address = $1", ANN)
    assert contact not in {None, former}
    await world.accept("d0")
    assert ("d0", "active") in await world.live()


async def test_what_names_an_erased_contact_is_refused_and_harms_nothing(world: Any) -> None:
    await shared(world)
    share = await world.pool.fetchrow(
        "select share_id, version from share join contact using (contact_id)"
        " where device_id = 'd0' and address = $1", ANN,
    )  # fmt: skip
    former = (await erased(world)).contact_id
    named = {"device_id": "d0", "share_id": share["share_id"], "expected_version": share["version"],
             "terms": {"scope": {"kind": "all"}}}  # fmt: skip
    with pytest.raises(ShareCommandError):
        await world.handle(ChangeShare, "late-change", "owner", **named)
    for command_id, recipients in (("by-id", (f"contact:{former}",)), ("by-text", (f"erased:{former}",))):
        with pytest.raises(ShareCommandError):
            await world.handle(RequestShare, command_id, "owner", device_ids=("d3",), recipients=recipients)
    await world.handle(RemoveRecipient, "remove", "owner", recipient="ann@x.test")
    assert await world.said("d3") == []


async def test_a_share_that_is_asked_for_meanwhile_is_with_somebody_new(world: Any) -> None:
    await shared(world)
    async with world.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        former = await connection.fetchval(
            "select contact_id from contact where address = $1 for update", ANN
        )
        asking = asyncio.create_task(
            world.handle(RequestShare, "meanwhile", "owner", device_ids=("d3",), recipients=("ann@x.test",))
        )
        async with asyncio.timeout(20):
            while not await connection.fetchval(  # noqa: ASYNC110 - another session waits for our lock
                "select exists (select from pg_locks where not granted)"
            ):
                await asyncio.sleep(0.01)
        await connection.execute(
            "update contact set address = 'erased:' || contact_id where contact_id = $1", former
        )
        await transaction.commit()
    await asking
    assert await world.said("d3") == ["ShareRequested"]
    assert (await world.events("d3"))[0].data.contact_id != former


async def test_each_partition_of_the_contacts_has_a_heartbeat(world: Any, dsn: str) -> None:
    count = topics.DIRECTORY_CONTACTS.partitions
    assert {partition_of(key.encode(), count) for key in HEARTBEAT_KEYS} == set(range(count))
    beating = asyncio.create_task(Heartbeat(dsn, 0.01).run())
    try:
        async with asyncio.timeout(20):
            while not await world.pool.fetchval("select count(*) from outbox where value is null") >= count:  # noqa: ASYNC110 - it writes
                await asyncio.sleep(0.01)
    finally:
        beating.cancel()


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_kafka_loses_what_was_deleted_when_something_is_written_after_it(
    kafka_bootstrap: str, topic_prefix: str, until: Callable[..., Awaitable[None]]
) -> None:
    """The topic's settings, in milliseconds for days: the heartbeat is what makes the deleted value go."""
    config = {**topics.DIRECTORY_CONTACTS.config, "segment.ms": "100", "max.compaction.lag.ms": "100",
              "delete.retention.ms": "100"}  # fmt: skip
    topic = f"{topic_prefix}contacts"
    await Admin(kafka_bootstrap).provision([(topic, 1, config)])

    def records() -> list[Record]:
        return read_all(kafka_bootstrap, topic)

    async with Producer(kafka_bootstrap, "test") as producer:
        await producer.send(topic, "ann", b"mailto:ann@x.test")
        await producer.send(topic, "ann", None)

        async def gone() -> bool:
            await producer.send(topic, HEARTBEAT_KEYS[0], None)
            return all(b"ann@x.test" not in (item.value or b"") for item in await asyncio.to_thread(records))

        await until(gone, 120)
