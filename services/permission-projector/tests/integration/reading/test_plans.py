"""With a million devices, every statement of the read API goes by the indexes named here and no other way."""

import json
import re
import secrets
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from permission_projector import events, generation
from permission_projector.app import SERVE_SESSION
from permission_projector.reader import Variant, device_statements, load_statements
from servicekit import pg

SQL = load_statements()
EVENTS = events.load_statements()
DEVICES = {
    f"devices {f'by {variant.by}' if variant.by else variant.sort}"
    f"{' filtered' if variant.filtered else ''}{' on' if variant.goes_on else ''}": text
    for variant, text in device_statements(SQL).items()
    if not (variant.by and (variant.goes_on or variant.sort != "name"))
}
WHOLE = EVENTS | {
    name: SQL[name]
    for name in (
        "known_positions", "me", "access", "invitations", "device_history", "share_history",
        "device_connections", "connections", "open_connections", "who_had_access", "why", "feed", "activity",
        "alive", "is_deleted",
    )
}  # fmt: skip
PIECES = {
    "devices", "entry", "candidates", "count", "candidates_by_id", "count_by_id", "own", "given", "by_id",
    "by_service", "filters", "visible", "connection_told", "since", "by_share",
    *(f"{piece}_{order}" for piece in ("order", "key", "after")
      for order in ("name", "name_back", "created", "created_back")),
}  # fmt: skip

SMALL = {"generation", "stream_quarantine", "device_quarantine", "gateway"}
"""Tables of a few rows, which may be read from end to end."""

DEVICE, SHARE, EVENT = "a_device_is_one_row", "a_share_is_one_row", "a_version_is_one_event"
PERSON = {"an_account_is_one_row", "an_address_is_once_an_accounts"}
QUARANTINE = {"a_stream_is_quarantined_once", "a_device_is_quarantined_once"}
GATEWAY = {"a_gateway_is_one_row"}
OF_DEVICES = {
    DEVICE, SHARE, EVENT, "share_by_account", "a_service_is_once_on_a_device", "a_contact_is_one_row",
    "a_device_has_one_presence", *PERSON, *QUARANTINE, *GATEWAY,
}  # fmt: skip
OF_CONNECTIONS = {
    DEVICE, SHARE, "share_by_owner", "share_by_account", "a_contact_is_one_row",
    "a_service_is_once_on_a_device", "service_by_id", "an_account_is_one_row", *GATEWAY,
}  # fmt: skip
INDEXES = {
    "known_positions": {
        DEVICE, SHARE, EVENT, "an_address_is_once_an_accounts", "contact_by_address", "share_by_account",
        "share_by_contact", "share_by_owner",
    },
    "is_deleted": {"an_account_is_deleted_once"},
    "me": PERSON,
    "access": {DEVICE, SHARE, EVENT, "share_by_account", "a_contact_is_one_row", *QUARANTINE},
    "invitations": {
        "contact_by_address", "share_by_contact", DEVICE, EVENT, "a_service_is_once_on_a_device", *PERSON,
        *QUARANTINE,
    },
    "device_history": {
        DEVICE, EVENT, "an_account_is_one_row", "a_contact_is_one_row", "share_by_account", *QUARANTINE
    },
    "share_history": {
        "share_by_owner", "share_by_account", DEVICE, "an_account_is_one_row", "a_contact_is_one_row"
    },
    "device_connections": {EVENT, "connection_by_device", *OF_CONNECTIONS, *QUARANTINE},
    "connections": {
        EVENT, "device_by_owner", "connection_by_account", "connection_by_device", *OF_CONNECTIONS
    },
    "open_connections": {
        "device_by_owner", "connection_open_by_account", "connection_open_by_device", *OF_CONNECTIONS
    },
    "events": {
        "share_event_by_owner", "share_event_by_account", EVENT, "device_by_owner", "connection_by_account",
        "connection_by_device", "a_connection_is_one_row", *PERSON, *OF_CONNECTIONS,
    },
    "device_events": {
        EVENT, "connection_by_device", "a_connection_is_one_row", *PERSON, *OF_CONNECTIONS
    },
    "who_had_access": {DEVICE, EVENT, "an_account_is_one_row", "a_contact_is_one_row"},
    "why": {DEVICE, EVENT},
    "feed": {
        "a_change_is_one_row", DEVICE, SHARE, "a_contact_is_one_row", "account_address_by_address",
    },
    "activity": {DEVICE, SHARE},
    "alive": set[str](),
}  # fmt: skip


@pytest.fixture(scope="module")
async def million(postgres_cluster: Any) -> AsyncGenerator[pg.Connection]:
    """A session like those of `serve`, in a database with a million devices."""
    name = f"million_{secrets.token_hex(4)}"
    postgres_cluster.create(name)
    dsn = postgres_cluster.dsn(name, "permission_projector")
    await pg.migrate(dsn, "permission_projector")
    filling = await asyncpg.connect(dsn)
    async with filling.transaction():
        await generation.create_tables(filling, generation.LIVE, 1)
        await filling.execute(Path(__file__).with_name("million.sql").read_text())
        await generation.create_indexes(filling, generation.LIVE)
    await filling.execute("analyze")
    await filling.close()
    connection = await asyncpg.connect(dsn, server_settings={**SERVE_SESSION, "search_path": generation.LIVE})
    yield connection
    await connection.close()
    postgres_cluster.drop(name)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


async def plan_of(connection: pg.Connection, statement: str) -> list[dict[str, Any]]:
    """The nodes of the plan that `serve` uses for all values."""
    await connection.execute(f"prepare looked_at as {statement}")
    count = len(set(re.findall(r"\$\d+", statement)))
    values = f"({', '.join(['null'] * count)})" if count else ""
    text = await connection.fetchval(f"explain (format json) execute looked_at {values}")
    await connection.execute("deallocate looked_at")
    return list(nodes(json.loads(text)[0]["Plan"]))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", [*WHOLE, *DEVICES])
async def test_a_statement_goes_by_its_indexes(million: pg.Connection, name: str) -> None:
    plan = await plan_of(million, (WHOLE | DEVICES)[name])
    read_whole = {node["Relation Name"] for node in plan if node["Node Type"] == "Seq Scan"}
    assert read_whole <= SMALL
    used = {node["Index Name"] for node in plan if "Index Name" in node}
    assert used <= INDEXES.get(name, OF_DEVICES | _found_by(name))


def _found_by(name: str) -> set[str]:
    found = (
        {"service_by_id"} if "by service" in name else set[str]() if "by id" in name else {"device_by_owner"}
    )
    return found | ({"share_by_contact", "share_by_owner"} if "filtered" in name else set())


async def test_a_page_of_own_devices_by_name_is_read_in_order_and_not_sorted(
    million: pg.Connection,
) -> None:
    """What it costs is the page, however many there are."""
    for sort in ("name", "-name"):
        for goes_on in (False, True):
            statement = device_statements(SQL)[Variant(sort, by=None, filtered=False, goes_on=goes_on)]
            plan = await plan_of(million, statement)
            (limited,) = (
                node for node in plan
                if node["Node Type"] == "Limit" and node["Plans"][0].get("Index Name") == "device_by_owner"
            )  # fmt: skip
            scan = limited["Plans"][0]
            assert scan["Node Type"] in {"Index Scan", "Index Only Scan"}
            assert ("ROW" in scan["Index Cond"]) == goes_on


def test_every_statement_is_looked_at() -> None:
    assert set(SQL) | set(EVENTS) == WHOLE.keys() | PIECES
