"""check_grant_v1, freshness_v1 and changes_v1, asked as the gateway asks."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts import topics
from contracts.base import new_id
from contracts.events import RevokeReason, ShareAccepted, ShareLeft, ShareRequested, ShareRevoked
from contracts.permissions import AllServices, Permission, SomeServices, Terms, granted
from permission_projector.generation import create_indexes, create_tables

NOTHING = {
    "allowed": False, "device_id": None, "device_version": None, "share_id": None, "partition": None,
    "target_host": None, "target_port": None, "protocol": None, "lacking": None,
    "until": None,
}  # fmt: skip


def _some(*service_ids: str) -> Terms:
    return Terms(scope=SomeServices(services={service_id: "all" for service_id in service_ids}))


async def test_the_owner_may_use_what_the_service_supports(world: Any) -> None:
    await world.apply(world.device(services={"s": [Permission.CONNECT]}))
    answer = await world.check("olga", "s")
    assert answer == {
        "allowed": True, "reason": "owner", "device_id": "cam-1", "device_version": 0,
        "share_id": None, "partition": world.device().partition, "target_host": "10.0.0.1",
        "target_port": 22, "protocol": "tcp", "lacking": [], "until": None,
    }  # fmt: skip
    assert await world.reason("olga", "s", "scripting") == "owner"
    assert await world.reason("olga", "s", "ptz") == "no_grant"


async def test_a_share_gives_access_from_its_acceptance_to_its_end(world: Any) -> None:
    who: dict[str, Any] = {
        "share_id": new_id(), "device_id": "cam-1", "contact_id": new_id(), "owner_account_id": "olga",
    }  # fmt: skip
    await world.apply(world.device())
    await world.apply(world.event(ShareRequested(**who, terms=Terms(scope=AllServices())), 1))
    assert await world.check("ravi", "cam-1-ssh") == {**NOTHING, "reason": "no_grant"}
    await world.apply(world.event(ShareAccepted(**who, account_id="ravi"), 2))
    answer = await world.check("ravi", "cam-1-ssh")
    assert (answer["reason"], answer["share_id"], answer["device_version"]) == ("granted", who["share_id"], 2)
    assert await world.check("mallory", "cam-1-ssh") == {**NOTHING, "reason": "no_grant"}
    await world.apply(world.event(ShareRevoked(**who, reason=RevokeReason.BY_OWNER), 3))
    assert await world.check("ravi", "cam-1-ssh") == {**NOTHING, "reason": "no_grant"}


async def test_what_does_not_exist_answers_as_what_is_not_granted(world: Any) -> None:
    await world.apply(world.device())
    assert await world.check("ravi", "cam-1-ssh") == await world.check("ravi", "nothing-like-it")


async def test_several_shares_of_one_account_add_up(world: Any) -> None:
    await world.apply(
        world.device(services={"a": [Permission.CONNECT], "b": [Permission.CONNECT]}),
        *world.shared(terms=_some("a")),
        *world.shared(terms=_some("b"), first_version=3),
    )
    assert [await world.reason("ravi", service) for service in "ab"] == ["granted", "granted"]


async def test_a_former_owners_share_gives_nothing(world: Any) -> None:
    await world.apply(world.device(), *world.shared())
    assert await world.reason("ravi", "cam-1-ssh") == "granted"
    await world.apply(world.device(owner="nina"))
    assert await world.reason("ravi", "cam-1-ssh") == "no_grant"
    assert await world.reason("olga", "cam-1-ssh") == "no_grant"
    assert await world.reason("nina", "cam-1-ssh") == "owner"


async def told_grants(world: Any, service: str) -> list[tuple[str, list[str]]]:
    """What the gateway reads of a service's devices: the owner, and who has shares."""
    rows = await world.pool.fetch("select * from permissions_api.device_grants_v1($1, now())", service)
    return [
        (row["owner_account_id"], [share["account_id"] for share in json.loads(row["shares"])])
        for row in rows
    ]


async def changed(world: Any) -> list[str]:
    """The devices that the feed's last changes name, since it was asked for the last time."""
    rows = await world.pool.fetch("delete from change returning device_ids")
    return sorted({device for row in rows for device in row["device_ids"]})


async def test_a_deleted_account_has_nothing_and_gives_nothing_whatever_arrives_first(world: Any) -> None:
    """The registry of devices, and the events that end its shares, may come long after."""
    await world.apply(
        world.account("olga"), world.account("ravi"), world.account("nina"),
        world.device("own-1"), world.device("nina-1", owner="nina"), world.device("far-1", owner="nina"),
        *world.shared("ravi", device_id="own-1"),
        *world.shared("olga", device_id="nina-1", owner="nina"),
        *world.shared("ravi", device_id="nina-1", owner="nina", first_version=3),
    )  # fmt: skip
    await changed(world)
    await world.apply(world.raw(topics.DIRECTORY_ACCOUNTS, b"olga", None))
    assert await changed(world) == ["nina-1", "own-1"], "the gateway judges anew what is open"
    for account, service in (("olga", "own-1-ssh"), ("ravi", "own-1-ssh"), ("olga", "nina-1-ssh")):
        assert await world.check(account, service) == {**NOTHING, "reason": "no_grant"}
    assert await world.reason("ravi", "nina-1-ssh") == "granted"
    assert await told_grants(world, "own-1-ssh") == []
    assert await told_grants(world, "nina-1-ssh") == [("nina", ["ravi"])]

    await world.apply(world.raw(topics.DIRECTORY_ACCOUNTS, b"olga", None))
    assert await changed(world) == [], "redelivered, it is known"
    await world.apply(world.account("olga"))
    assert await changed(world) == ["nina-1", "own-1"]
    assert await world.reason("olga", "own-1-ssh") == "owner", "it is there again"
    assert await told_grants(world, "own-1-ssh") == [("olga", ["ravi"])]


async def test_a_device_removed_from_the_directory_is_gone_for_all(world: Any) -> None:
    await world.apply(world.device(), *world.shared())
    await world.apply(world.raw(topics.DIRECTORY_DEVICES, b"cam-1", None))
    assert await world.reason("ravi", "cam-1-ssh") == "no_grant"
    assert await world.reason("olga", "cam-1-ssh") == "no_grant"


async def test_a_service_added_later_belongs_to_a_whole_device_share_only(world: Any) -> None:
    await world.apply(
        world.device(services={"a": [Permission.CONNECT]}),
        *world.shared("ravi"),
        *world.shared("sara", terms=_some("a"), first_version=3),
        world.device(services={"a": [Permission.CONNECT], "new": [Permission.CONNECT]}),
    )
    assert await world.reason("ravi", "new") == "granted"
    assert await world.reason("sara", "new") == "no_grant"


async def test_a_window_holds_from_its_start_up_to_its_end(world: Any) -> None:
    start, end = (datetime(2026, 3, 1, hour, tzinfo=UTC) for hour in (9, 17))
    moment = timedelta(microseconds=1)
    window = Terms(scope=AllServices(), starts_at=start, ends_at=end)
    await world.apply(world.device(), *world.shared(terms=window))
    for at, reason in (
        (start - moment, "no_grant"), (start, "granted"), (end - moment, "granted"), (end, "no_grant"),
    ):  # fmt: skip
        answer = await world.check("ravi", "cam-1-ssh", at=at)
        assert answer["reason"] == reason, at
        assert answer["until"] == (end if reason == "granted" else None)
        assert (await world.check("olga", "cam-1-ssh", at=at))["until"] is None


async def test_an_answer_lasts_until_the_first_of_its_shares_ends(world: Any) -> None:
    """When a share ends that only added to another, less is granted: the question must be asked again."""
    first, second = (datetime(2100, 1, day, tzinfo=UTC) for day in (1, 2))
    await world.apply(
        world.device(services={"a": [Permission.CONNECT, Permission.PTZ], "b": [Permission.CONNECT]}),
        *world.shared(terms=Terms(scope=AllServices(), ends_at=second)),
        *world.shared(terms=_some("a").model_copy(update={"ends_at": first}), first_version=3),
    )
    assert (await world.check("ravi", "a"))["until"] == first
    assert (await world.check("ravi", "a", at=first))["until"] == second
    assert (await world.check("ravi", "b"))["until"] == second


permissions = st.frozensets(st.sampled_from(Permission))
explicit = st.frozensets(
    st.sampled_from([item for item in Permission if item is not Permission.SCRIPTING]), min_size=1
)
permission_sets = st.just("all") | explicit
scopes = st.builds(AllServices, permissions=permission_sets) | st.builds(
    SomeServices,
    services=st.dictionaries(st.sampled_from(["a", "b", "elsewhere"]), permission_sets, min_size=1),
)


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
moments = st.none() | st.sampled_from([NOON + timedelta(microseconds=step) for step in (-1, 0, 1)])
all_terms = st.builds(Terms, scope=scopes, scripting=st.booleans(), starts_at=moments, ends_at=moments)


def _holds(terms: Terms) -> bool:
    begun = terms.starts_at is None or terms.starts_at <= NOON
    return begun and (terms.ends_at is None or terms.ends_at > NOON)


def _in_scope(terms: Terms, service: str) -> bool:
    return isinstance(terms.scope, AllServices) or service in terms.scope.services


@pytest.mark.slow
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    terms=st.lists(all_terms, min_size=1, max_size=3),
    supported=st.fixed_dictionaries({"a": permissions, "b": permissions}),
)
async def test_terms_mean_in_sql_what_they_mean_in_the_contracts(
    world: Any, terms: list[Terms], supported: dict[str, frozenset[Permission]]
) -> None:
    await world.empty()
    await world.apply(
        world.device(services=supported),
        *(
            record
            for place, item in enumerate(terms)
            for record in world.shared(terms=item, first_version=2 * place + 1)
        ),
    )
    rows = await world.pool.fetch(
        "select s, p, answer.*, first.reason as first_reason, first.lacking as first_lacking"
        " from unnest($1::text[]) s, unnest($2::text[]) p,"
        " lateral permissions_api.check_grant_v2('ravi', s, p, $3) as answer,"
        " lateral permissions_api.check_grant_v1('ravi', s, p, $3) as first",
        list(supported),
        list(Permission),
        NOON,
    )
    for row in rows:
        held = [item for item in terms if _holds(item)]
        given_to = {
            permission for item in held for permission in granted(item, row["s"], supported[row["s"]])
        }
        ends = [item.ends_at for item in held if item.ends_at and _in_scope(item, row["s"])]
        allowed = row["p"] in given_to
        assert row["reason"] == ("granted" if allowed else "no_grant"), (row, terms)
        assert row["lacking"] == (sorted(supported[row["s"]] - given_to) if allowed else None), (row, terms)
        assert row["until"] == (min(ends, default=None) if allowed else None), (row, terms)
        assert (row["first_reason"], row["first_lacking"]) == (row["reason"], row["lacking"])


@pytest.fixture
async def gateway(world: Any) -> Any:
    connection = await asyncpg.connect(world.database.dsn("access_gateway"))
    yield connection
    await connection.close()


async def _as_of(gateway: Any) -> dict[int, datetime | None]:
    rows = await gateway.fetch("select * from permissions_api.freshness_v1()")
    assert all(row["now"] is not None for row in rows)
    return {row["partition"]: row["as_of"] for row in rows}


async def test_a_partition_is_as_fresh_as_the_newest_watermark_it_has_reached(
    world: Any, gateway: Any
) -> None:
    assert await _as_of(gateway) == dict.fromkeys(range(24))
    first, second, third = (datetime.now(UTC) + timedelta(seconds=number) for number in range(3))
    await world.apply(world.watermark(first))
    assert await _as_of(gateway) == dict.fromkeys(range(24), first)

    device = world.device()
    await world.apply(world.watermark(second))
    assert await _as_of(gateway) == {
        number: first if number == device.partition else second for number in range(24)
    }
    asked, accepted = world.shared()
    await world.apply(world.watermark(third), device)
    assert (await _as_of(gateway))[device.partition] == second
    await world.apply(asked)
    assert (await _as_of(gateway))[device.partition] == second
    await world.apply(accepted)
    assert await _as_of(gateway) == dict.fromkeys(range(24), third)


async def test_a_watermark_of_a_topic_made_anew_proves_nothing(world: Any, gateway: Any) -> None:
    device = world.device()
    await world.apply(device, world.watermark(datetime.now(UTC), devices_id="made-anew"))
    assert (await _as_of(gateway))[device.partition] is None


async def test_only_the_newest_watermarks_are_kept(world: Any) -> None:
    await world.apply(*(world.watermark(datetime.now(UTC)) for _ in range(300)))
    await world.apply(*(world.watermark(datetime.now(UTC)) for _ in range(5)))
    assert await world.pool.fetchval("select count(*) from watermark") == 120


async def _changes(gateway: Any, generation: int, after: int, rows: int = 100) -> list[tuple[Any, ...]]:
    return [
        tuple(row)
        for row in await gateway.fetch(
            "select generation, id, device_id from permissions_api.changes_v1($1, $2, $3)",
            generation,
            after,
            rows,
        )
    ]


async def test_a_reader_of_the_feed_learns_of_every_touched_device(world: Any, gateway: Any) -> None:
    heard: list[object] = []

    def hear(*told: object) -> None:
        heard.append(told)

    await gateway.add_listener("permissions_changed", hear)
    ((generation, cursor, device),) = await _changes(gateway, 0, 0)
    assert (generation, cursor, device) == (1, 0, None)
    await world.apply(world.device("a"), world.device("b"), *world.shared(device_id="a"))
    await world.apply(world.account("ravi"))
    changes = await _changes(gateway, generation, cursor)
    assert [change[2] for change in changes] == ["a", "b", "a"]
    assert await _changes(gateway, 1, changes[0][1], 1) == [changes[1]]
    assert await _changes(gateway, 1, changes[-1][1]) == []
    assert heard


@pytest.mark.parametrize(("generation", "after"), [(2, 3), (1, 10_000), (None, 3), (1, None), (1, 1)])
async def test_a_cursor_of_no_use_says_check_everything(
    world: Any, gateway: Any, generation: int, after: int
) -> None:
    await world.apply(*(world.device(f"d{number}") for number in range(6)))
    await world.pool.execute("delete from change where id <= 2")
    assert await _changes(gateway, generation, after) == [(1, 6, None)]
    assert len(await _changes(gateway, 1, 2)) == 4


async def test_ids_of_the_feed_follow_the_order_of_commits(world: Any, gateway: Any) -> None:
    """A reader that has seen an id has been able to see every smaller one."""
    first, second = world.device("a"), world.device("b")
    async with world.pool.acquire() as one, world.pool.acquire() as other:
        transaction = one.transaction()
        await transaction.start()
        await world.projector.handle(one, [first])
        async with other.transaction():
            await other.execute("set local lock_timeout = '100ms'")
            with pytest.raises(asyncpg.LockNotAvailableError):
                async with other.transaction():
                    await world.projector.handle(other, [second])
        await transaction.commit()
        async with other.transaction():
            await world.projector.handle(other, [second])
    assert [change[2] for change in (await _changes(gateway, 1, 0))] == ["a", "b"]


async def test_the_functions_follow_a_generation_that_is_swapped_in_by_renaming(
    world: Any, gateway: Any
) -> None:
    await world.apply(world.device(), *world.shared())
    question = await gateway.prepare(
        "select reason from permissions_api.check_grant_v1($1, $2, 'connect', now())"
    )
    for _ in range(7):  # past the point where plans become generic
        assert await question.fetchval("ravi", "cam-1-ssh") == "granted"
    async with world.pool.acquire() as connection, connection.transaction():
        await create_tables(connection, "permissions_2", 2)
        await create_indexes(connection, "permissions_2")
        await connection.execute("alter schema permissions rename to permissions_1")
        await connection.execute("alter schema permissions_2 rename to permissions")
    assert await question.fetchval("ravi", "cam-1-ssh") == "no_grant"
    assert await _changes(gateway, 1, 1) == [(2, 0, None)]
    world.ends.clear()
    await world.apply(world.device(), *world.shared())
    assert await question.fetchval("ravi", "cam-1-ssh") == "granted"


async def test_a_reader_may_call_the_functions_and_read_no_table(world: Any, gateway: Any) -> None:
    tables = await world.pool.fetch(
        "select schemaname, tablename from pg_tables where tableowner = current_user"
    )
    assert len(tables) > 10
    for role in ("access_gateway", "portal", "notifier", "share_command"):
        connection = await asyncpg.connect(world.database.dsn(role))
        try:
            for row in tables:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.fetch(f"select * from {row['schemaname']}.{row['tablename']}")
            if role != "access_gateway":
                for call in (
                    "check_grant_v1('a','b','c',now())", "check_grant_v2('a','b','c',now())",
                    "device_grants_v1('a',now())", "freshness_v1()", "changes_v1(1,0,1)",
                ):  # fmt: skip
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await connection.fetch(f"select * from permissions_api.{call}")
        finally:
            await connection.close()


async def test_a_share_that_was_left_gives_nothing(world: Any) -> None:
    who: dict[str, Any] = {
        "share_id": new_id(), "device_id": "cam-1", "contact_id": new_id(), "owner_account_id": "olga",
    }  # fmt: skip
    await world.apply(
        world.device(),
        world.event(ShareRequested(**who, terms=Terms(scope=AllServices())), 1),
        world.event(ShareAccepted(**who, account_id="ravi"), 2),
        world.event(ShareLeft(**who, account_id="ravi"), 3),
    )
    assert await world.reason("ravi", "cam-1-ssh") == "no_grant"
