"""A person is erased: docs/ops/erasure.md, followed on the whole stack, leaves the address nowhere."""

import json
from uuid import uuid4

import asyncpg
import pytest

from contracts.directory import AccountSnapshot
from devstack import postgres, seed
from devstack.services import DATABASE
from devstack.world import World, until


async def rows_that_hold(world: World, text: str) -> list[str]:
    """Every table of every service, of every generation, with a row that holds a text."""
    port = int(world.status.addresses["postgres"].rpartition(":")[2])
    cluster = postgres.Cluster(port, world.state.load_secrets().postgres)
    connection = await asyncpg.connect(cluster.dsn(DATABASE))
    try:
        tables = await connection.fetch(
            "select schemaname, tablename from pg_tables"
            " where schemaname not in ('pg_catalog', 'information_schema') and schemaname not like 'pg_temp%'"
        )
        assert len(tables) > 40
        return [
            f"{table['schemaname']}.{table['tablename']}"
            for table in tables
            if await connection.fetchval(
                f'select exists (select from "{table["schemaname"]}"."{table["tablename"]}" as t'
                " where position(lower($1) in lower(t::text)) > 0)",
                text,
            )
        ]
    finally:
        await connection.close()


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_an_erased_address_is_nowhere_and_everything_still_answers(world: World) -> None:
    name = f"zoe-{uuid4().hex[:8]}"
    email = f"{name}@erase.test"
    device = await world.device()
    owner = await world.account(seed.OWNER_EMAIL)
    await world.add_account(AccountSnapshot(account_id=name, name="Zoe", verified_emails=(email,)))
    await owner.share(device, email)
    await until(lambda: world.mails(email, device), 60)
    code, found = await world.ops("replay")  # so that a former generation has her too
    assert code == 0, found
    assert {table.partition(".")[0] for table in await rows_that_hold(world, email)} >= {
        "share_command", "permissions", "permissions_1", "notifier",
    }  # fmt: skip

    await world.producer.send("directory.accounts", name, None)  # the registry deletes the account
    code, found = await world.ops("erase", email, "--dry-run")
    assert (code, found["shares_ended"], found["books"]) == (0, 1, 1), found
    code, found = await world.ops("erase", email, "--reason", "she asked for it")
    assert (code, found["shares_ended"], found["books"]) == (0, 1, 1), found

    async def nowhere() -> bool:
        return not await rows_that_hold(world, email)

    await until(nowhere, 120)
    code, found = await world.ops("operations", "--limit", "1")
    assert (found["operations"][0]["what"], email in json.dumps(found)) == ("erase", False)
    assert (await world.ops("verify"))[0] == 0
    listed = await owner.ask(
        "query($id: [String!]) { login { devices(id: $id) { items { access { user { email } } } } } }",
        id=[device],
    )
    assert listed["login"]["devices"]["items"] == [{"access": []}]
    code, found = await world.ops("who-had-access", device, "--at", "2099-01-01T00:00:00Z")
    assert code == 0, found
    assert not await world.mails(email, "taken back"), "nobody writes to an address that was erased"
