"""What the gateway works out in memory is what check_grant_v2 says, whatever the database holds."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from access_gateway.policy import AccessRequest, carried_by, find
from access_gateway.rows import device_grants
from contracts.permissions import Permission
from servicekit import pg

if TYPE_CHECKING:
    from conftest import World

    from devstack.pytest_plugin import Database

pytestmark = pytest.mark.slow

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CLOCK = 5_000.0
"""Our monotonic clock when it is noon."""
ACCOUNTS, SERVICES, DEVICES = ["ann", "bob", "eve"], ["a", "b"], ["dev-1", "dev-2"]

functions = st.lists(st.sampled_from([str(each) for each in Permission]), unique=True, max_size=4)
chosen = st.just("all") | functions.map(lambda each: [one for one in each if one != "scripting"] or ["ptz"])
scopes: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"kind": st.just("all"), "permissions": chosen}
) | st.fixed_dictionaries(
    {
        "kind": st.just("some"),
        "services": st.dictionaries(st.sampled_from([*SERVICES, "elsewhere"]), chosen, min_size=1),
    }
)
moments = st.none() | st.integers(-3, 3)
"""Minutes from noon."""
shares: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "device": st.sampled_from(DEVICES),
        "account": st.sampled_from(ACCOUNTS),
        "owner": st.sampled_from(["olga", "olga", "nina"]),
        "state": st.sampled_from(["active", "active", "active", "revoked", "expired"]),
        "scope": scopes,
        "scripting": st.booleans(),
        "starts_at": moments,
        "ends_at": moments,
    }
)
services: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "device": st.sampled_from(DEVICES),
        "service": st.sampled_from(SERVICES),
        "protocol": st.sampled_from(["tcp", "rtsp"]),
        "permissions": functions,
    }
)


def moment(minutes: int | None) -> str | None:
    return None if minutes is None else (NOON + timedelta(minutes=minutes)).isoformat()


async def write(world: "World", owners: Mapping[str, str], has: list[Any], held: list[Any]) -> None:
    for table in ("device", "service", "share", "stream_quarantine", "device_quarantine"):
        await world.run(f"truncate permissions.{table}")
    for device, owner in owners.items():
        await world.run(
            "insert into permissions.device values ($1, 5, $2, 'n', 'computer', now())", device, owner
        )
    for each in has:
        await world.run(
            "insert into permissions.service values ($1, $2, 0, 'n', $3, null, '127.0.0.1', 22, $4)"
            " on conflict do nothing",
            each["device"], each["service"], each["protocol"], each["permissions"],
        )  # fmt: skip
    for number, each in enumerate(held):
        terms = {
            "scope": each["scope"], "scripting": each["scripting"],
            "starts_at": moment(each["starts_at"]), "ends_at": moment(each["ends_at"]),
        }  # fmt: skip
        await world.run(
            "insert into permissions.share values ($1, $2, gen_random_uuid(), $3, $4, $5, $6::text::jsonb,"
            " 1, now(), now(), null, 1)",
            each["device"], UUID(int=number + 1), each["owner"], each["state"], each["account"],
            json.dumps(terms),
        )  # fmt: skip


@pytest.mark.timeout(120)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    owners=st.fixed_dictionaries(dict.fromkeys(DEVICES, st.sampled_from(["olga", "nina", "ann"]))),
    has=st.lists(services, max_size=4),
    held=st.lists(shares, max_size=6),
    quarantined=st.sets(st.sampled_from(["stream", "device"])),
    minutes=st.integers(0, 4),
)
async def test_memory_means_what_the_database_means(
    world: "World",
    database: "Database",
    *,
    owners: dict[str, str],
    has: list[Any],
    held: list[Any],
    quarantined: set[str],
    minutes: int,
) -> None:
    """It is read at noon, and asked about some minutes later."""
    await write(world, owners, has, held)
    for which in quarantined:
        await world.run(f"insert into permissions.{which}_quarantine values ('dev-1', 'VERSION_GAP', 1)")
    connection = await asyncpg.connect(database.dsn("access_gateway"))
    try:
        read = await connection.fetch(
            "select s as service_id, g.* from unnest($1::text[]) as s,"
            " permissions_api.device_grants_v1(s, $2) as g",
            SERVICES, NOON,
        )  # fmt: skip
        asked = await connection.fetch(
            "select a, s, p, v.* from unnest($1::text[]) as a, unnest($2::text[]) as s,"
            " unnest($3::text[]) as p, permissions_api.check_grant_v2(a, s, p, $4) as v",
            [*ACCOUNTS, "olga", "nina"], SERVICES, list(Permission), NOON + timedelta(minutes=minutes),
        )  # fmt: skip
    finally:
        await connection.close()
    now = CLOCK + 60 * minutes
    for row in asked:
        devices = [
            device_grants(each, began=CLOCK, answered=CLOCK)
            for each in read
            if each["service_id"] == row["s"]
        ]
        found = find(devices, row["a"], row["s"], now)
        permission = Permission(row["p"])
        request = AccessRequest(row["a"], row["s"], permission)
        access = next((each for each in found.accesses if carried_by(request, each)), None)
        assert (access is not None) == row["allowed"], row
        if access is None:
            continue
        assert access.functions[permission] == row["share_id"], row
        assert (access.device_id, access.device_version, access.partition) == (
            row["device_id"], row["device_version"], row["partition"],
        )  # fmt: skip
        assert (access.protocol, access.target_host, access.target_port) == (
            row["protocol"], row["target_host"], row["target_port"],
        )  # fmt: skip
        assert access.withheld == frozenset(map(Permission, row["lacking"])), row
        assert access.owned == (row["reason"] == "owner")
        if row["until"] is not None:  # a start that is to come is told besides
            assert access.until is not None
            assert access.until <= CLOCK + (row["until"] - NOON).total_seconds()


def test_the_statement_is_the_one_that_the_gateway_sends() -> None:
    assert (
        "permissions_api.device_grants_v1(wanted.service_id, now())"
        in (pg.load_queries("access_gateway")["device_grants"])
    )
