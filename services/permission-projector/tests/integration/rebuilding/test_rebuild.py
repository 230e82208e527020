"""Generations on a real broker: rebuilt, compared, swapped and gone back to, while all goes on."""

import asyncio
import json
import signal
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from histories import Histories
from installation import COMPARED, Place, bytes_of, device, eventually

from contracts import topics
from contracts.events import RevokeReason, ShareAccepted, ShareChanged, ShareRequested, ShareRevoked
from contracts.permissions import AllServices, Terms
from permission_projector.generation import LIVE
from permission_projector.reader import Reader, load_statements
from servicekit import pg
from servicekit.kafka import Partition, partition_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


async def test_live_is_the_fold_is_a_replay(place: Place) -> None:
    histories = Histories(place, 11)
    for _ in range(3):
        worker = await place.start("project")
        before = await place.pool.fetchval("select count(*) from share_event")
        writing = asyncio.create_task(histories.write(1_500))

        async def moved(before: int = before) -> bool:
            return await place.pool.fetchval("select count(*) from share_event") > before + 100

        await eventually(moved)
        await place.end(worker, signal.SIGKILL)
        await writing
    await place.watermark()
    await place.start("project")
    await eventually(place.caught_up)

    live = await place.rows(LIVE)
    assert all(live[table] for table in COMPARED)
    verified = await place.run("verify")
    assert (verified.code, verified.answer["equal"], verified.err) == (0, True, "")
    assert {item["table"] for item in verified.answer["comparison"]["tables"]} == {*COMPARED} - {
        "watermark", "kafka_offset",
    }  # fmt: skip
    assert await place.schemas() == {"permissions"}
    built = await place.run("replay", "--no-swap")
    assert (built.code, built.answer["equal"], built.answer["former"]) == (0, True, None)
    assert await place.rows(f"permissions_{built.answer['number']}") == live
    letters = await place.admin.end_offsets(
        [Partition(place.prefix + topics.dead_letters("permission-projector").name, 0)]
    )
    unreadable = await place.pool.fetchval(
        "select count(*) from stream_quarantine where code <> 'VERSION_GAP'"
    )
    assert sum(letters.values()) >= unreadable > 0
    await place.run("verify")
    assert letters == await place.admin.end_offsets(letters)

    for _ in range(2):  # what came since is caught up, and the swap and the way back lose nothing
        await histories.write(300)
        await eventually(place.caught_up)
        other = next(iter(await place.schemas() - {"permissions"}))
        swapped = await place.run("swap", other.removeprefix("permissions_"))
        assert (swapped.code, swapped.err) == (0, "")
        await eventually(place.caught_up)
        assert (await place.run("verify")).code == 0
    listed = (await place.run("generations")).answer["generations"]
    assert [(item["number"], item["live"]) for item in listed] == [(1, True), (built.answer["number"], False)]
    assert (await place.run("drop-generation", "1")).code == 2
    assert (await place.run("drop-generation", str(built.answer["number"]))).code == 0
    assert await place.schemas() == {"permissions"}


@asynccontextmanager
async def reading(place: Place, failures: list[str]) -> AsyncGenerator[dict[str, int]]:
    """Gateways and readers that ask without a pause; what they must never be told goes into ``failures``."""
    answers: defaultdict[str, int] = defaultdict(int)
    stop = asyncio.Event()

    async def gateway() -> None:
        connection = await asyncpg.connect(place.database.dsn("access_gateway"))
        check = await connection.prepare(
            "select reason, device_version from permissions_api.check_grant_v2($1, $2, 'connect', now())"
        )
        known = 0
        try:
            while not stop.is_set():
                row = await check.fetchrow("ravi", "cam-1-0")
                assert row is not None
                if row["reason"] != "granted" or row["device_version"] < known:
                    failures.append(f"{dict(row)} after version {known}")
                known = row["device_version"] or known
                if await check.fetchval("eve", "cam-1-0") != "no_grant":
                    failures.append("eve was let in")
                answers["checks"] += 1
        except asyncpg.PostgresError as error:
            failures.append(repr(error))
        finally:
            await connection.close()

    async def reader() -> None:
        sql = load_statements()
        async with await pg.open_pool(place.dsn, application="readers", search_path=LIVE, max_size=1) as pool:
            known = 0
            try:
                while not stop.is_set():
                    body = await Reader(pool, sql).device("ravi", "cam-1")
                    version = 0 if body is None else int(str(body.positions).rpartition("@")[2].strip("']"))
                    if version < known or not version:
                        failures.append(f"version {version} after {known}")
                    known = version
                    answers["pages"] += 1
            except asyncpg.PostgresError as error:
                failures.append(repr(error))

    async with asyncio.TaskGroup() as tasks:
        for ask in (gateway, gateway, reader):
            tasks.create_task(ask())
        try:
            yield answers
        finally:
            stop.set()


async def test_readers_and_the_projector_do_not_notice_a_swap(place: Place) -> None:
    await place.raw(topics.DIRECTORY_DEVICES, "cam-1", bytes_of(device("cam-1", "olga")))
    who: dict[str, Any] = {"device_id": "cam-1", "owner_account_id": "olga"}
    for number, account in enumerate(("ravi", "uma")):
        ids: dict[str, Any] = {"share_id": UUID(int=number), "contact_id": UUID(int=number)}
        await place.event(ShareRequested(**who, **ids, terms=Terms(scope=AllServices())), 2 * number + 1)
        await place.event(ShareAccepted(**who, **ids, account_id=account), 2 * number + 2)
    await place.sent()
    await Histories(place, 3).write(800)
    worker = await place.start("project")
    await eventually(place.caught_up)
    version, stop = 4, asyncio.Event()

    async def keep_sending() -> None:
        nonlocal version
        ids: dict[str, Any] = {"share_id": UUID(int=1), "contact_id": UUID(int=1)}
        while not stop.is_set():
            version += 1
            terms = Terms(scope=AllServices(), scripting=version % 2 == 0)
            await place.event(ShareChanged(**who, **ids, state="active", terms=terms), version)
            await place.sent()

    failures: list[str] = []
    sending = asyncio.create_task(keep_sending())
    async with reading(place, failures) as answers:
        feed = await place.pool.fetchrow("select * from permissions_api.changes_v1(null, null, 10)")
        assert feed is not None
        for number in ("replay", "1"):
            done = await place.run(*([number] if number == "replay" else ["swap", number]), "--most", "5")
            assert (done.code, done.answer["equal"]) == (0, True), (done.err, done.answer)
            before = dict(answers)

            async def asked_more(before: dict[str, int] = before) -> bool:
                return all(count > before[name] + 50 for name, count in answers.items())

            await eventually(asked_more)
            live = await place.live_number()
            assert live == done.answer["live"]
            rows = await place.pool.fetch(
                "select * from permissions_api.changes_v1($1, $2, 10)", done.answer["former"], feed["id"]
            )
            assert (rows[0]["generation"], rows[0]["device_id"]) == (live, None)
        stop.set()
        await sending
    assert failures == []
    assert worker.returncode is None
    await place.watermark()
    await eventually(place.caught_up)
    assert (
        await place.pool.fetchval("select max(version) from share_event where device_id = 'cam-1'") == version
    )
    assert (await place.run("verify")).code == 0

    newest = (
        "select count(*) from permissions_api.freshness_v1() where as_of = (select max(as_of) from watermark)"
    )
    assert await place.pool.fetchval(newest) == topics.DEVICE_PARTITIONS


async def test_a_killed_rebuild_leaves_the_live_generation_as_it_was(place: Place) -> None:
    await Histories(place, 5).write(1_000)
    await place.start("project")
    await eventually(place.caught_up)
    live = await place.rows(LIVE)

    async def begun() -> bool:
        return any("unfinished" in schema for schema in await place.schemas())

    for sign in (signal.SIGKILL, signal.SIGTERM):
        building = await place.start("replay", "--json", "--rate", "100")
        assert building.stdout is not None
        assert json.loads(await building.stdout.readline())["phase"] == "reading"
        assert await begun()
        if sign is signal.SIGTERM:
            refused = await place.run("replay")
            assert (refused.code, "under way" in refused.err) == (2, True)
        code = await place.end(building, sign)
        assert code == (2 if sign is signal.SIGTERM else -signal.SIGKILL)
        assert await place.live_number() == 1
        assert await begun() == (sign is signal.SIGKILL)

        async def alone() -> bool:
            return not await place.pool.fetchval(
                "select exists (select from pg_stat_activity"
                " where datname = current_database() and application_name = 'permission-projector-rebuild')"
            )

        await eventually(alone, 10)  # its processes ended with it
    done = await place.run("replay")
    assert (done.code, done.answer["former"]) == (0, 1)
    assert await place.schemas() == {"permissions", "permissions_1"}
    assert await place.rows(LIVE) == live
    assert {line["phase"] for line in done.lines[:-1]} >= {"reading", "indexing", "comparing", "swapping"}


async def test_a_difference_is_found_shown_and_not_swapped_in(place: Place) -> None:
    await Histories(place, 6).write(600)
    worker = await place.start("project")
    await eventually(place.caught_up)
    await place.pool.execute(
        "with one as (select device_id, share_id from share limit 1)"
        " update share set account_id = 'mallory', state = 'active' from one"
        " where share.device_id = one.device_id and share.share_id = one.share_id"
    )
    gone = await place.pool.fetchval(
        "delete from contact where contact_id = (select contact_id from contact limit 1) returning contact_id"
    )
    verified = await place.run("verify")
    assert (verified.code, verified.answer["equal"]) == (1, False)
    shown = {item["table"]: item for item in verified.answer["comparison"]["differences"]}
    assert shown.keys() == {"share", "contact"}
    assert shown["share"]["columns"]["account_id"][0] == "mallory"
    assert (shown["contact"]["where"], shown["contact"]["key"]) == ("only in log", {"contact_id": str(gone)})
    built = await place.run("replay")
    assert (built.code, await place.live_number()) == (1, 1)
    await place.end(worker, signal.SIGTERM)  # a swap needs no projector
    forced = await place.run("swap", str(built.answer["number"]), "--force")
    assert (forced.code, await place.live_number()) == (1, built.answer["number"])
    assert (await place.run("verify")).code == 0


async def test_a_device_is_released_when_its_history_is_whole(place: Place) -> None:
    who: dict[str, Any] = {
        "device_id": "cam-1", "owner_account_id": "olga", "share_id": UUID(int=1), "contact_id": UUID(int=1),
    }  # fmt: skip
    asked = ShareRequested(**who, terms=Terms(scope=AllServices()))
    accepted = ShareAccepted(**who, account_id="ravi")
    await place.raw(topics.DIRECTORY_DEVICES, "cam-1", bytes_of(device("cam-1", "olga")))
    await place.event(asked, 1)
    await place.event(accepted, 2)
    await place.event(ShareRevoked(**who, reason=RevokeReason.BY_OWNER), 3)
    await place.event(accepted, 5)
    await place.sent()
    await place.start("project")
    await eventually(place.caught_up)
    assert (await place.run("release", "cam-2")).answer["outcome"] == "not_quarantined"
    kept = await place.run("release", "cam-1")
    assert (kept.code, kept.answer["outcome"], kept.answer["code"]) == (1, "kept", "VERSION_GAP")
    assert "partition" in kept.err
    older = (await place.run("replay", "--no-swap")).answer["number"]

    await place.event(asked, 4)
    await place.sent()
    await eventually(place.caught_up)
    assert await place.reason("ravi", "cam-1-0") == "no_grant"
    before = await place.pool.fetchval("select max(id) from change")
    released = await place.run("release", "cam-1")
    assert (released.code, released.answer["outcome"]) == (0, "released")
    assert await place.reason("ravi", "cam-1-0") == "granted"
    change = await place.pool.fetchrow("select * from change where id > $1", before)
    assert change is not None
    assert (change["device_ids"], set(change["account_ids"])) == (["cam-1"], {"olga", "ravi"})

    await place.event(ShareChanged(**who, state="active", terms=Terms(scope=AllServices())), 6)
    await place.sent()
    await eventually(place.caught_up)
    assert await place.pool.fetchval("select max(version) from share_event") == 6
    verified = await place.run("verify")
    assert (verified.code, verified.answer["comparison"]["differences"]) == (0, [])
    swapped = await place.run("swap", str(older))
    assert (swapped.code, swapped.err) == (0, "")
    assert await place.reason("ravi", "cam-1-0") == "granted"

    await place.raw(topics.SHARE_EVENTS, "cam-1", b'{"half":')
    await place.sent()
    await eventually(place.caught_up)
    assert await place.reason("ravi", "cam-1-0") == "quarantined"
    kept = await place.run("release", "cam-1")
    assert (kept.code, kept.answer["code"]) == (1, "MALFORMED")
    assert (await place.run("verify")).code == 0
    assert partition_of(b"cam-1", topics.DEVICE_PARTITIONS) == int(
        kept.err.partition("partition ")[2].split(",")[0]
    )
