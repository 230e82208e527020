"""A claim, on a database without anything around it."""

from datetime import timedelta

import pytest

from devstack.pytest_plugin import Database
from notifier.planner import Channel
from notifier.store.outward import Store
from servicekit import pg

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]  # the first one also starts the server

_BACKLOG = """
with
    invitations as (
        insert into invitation
            (
                share_id, device_id, contact_id, owner_account_id, state,
                invitation_version, announced_version, terms
            )
        select gen_random_uuid(), 'cam-1', gen_random_uuid(), 'ann', 'requested', 1, 1, '{}'
        from generate_series(1, $1)
        returning *
    ),
    notices as (
        insert into notice
            (
                notice_id, event_id, reader, contact_id, template, share_id, device_id, owner_account_id,
                version, event_time, outside, correlation_id, outcome
            )
        select
            gen_random_uuid(), gen_random_uuid(), contact_id::text, contact_id, 'invitation', share_id,
            device_id, owner_account_id, 1, now(), true, 'c', 'routed'
        from invitations
        returning *
    )
insert into delivery (notice_id, channel, pair, lane)
select notice_id, 'email', contact_id::text, 'lane ' || (row_number() over ()) % 50 from notices
"""


async def rows_read(pool: pg.Pool) -> int:
    await pool.execute("select pg_stat_force_next_flush()")
    return await pool.fetchval(
        "select seq_tup_read + idx_tup_fetch from pg_stat_user_tables"
        " where schemaname = 'notifier' and relname = 'delivery'"
    )


async def test_a_claim_reads_what_it_may_take_and_not_all_that_waits(database: Database) -> None:
    await pg.migrate(database.dsn("notifier"), "notifier")
    async with await pg.open_pool(
        database.dsn("notifier"), application="test", max_size=1, settings={"enable_seqscan": "off"}
    ) as pool:
        store = Store(pool)
        for _ in range(10):  # so often that the server keeps the plan that is right for an empty table
            assert not await store.claim(Channel.EMAIL, 12, {}, 4, timedelta(seconds=60))
        await pool.execute(_BACKLOG, 3000)
        before = await rows_read(pool)
        assert len(await store.claim(Channel.EMAIL, 12, {}, 4, timedelta(seconds=60))) == 12
        assert await rows_read(pool) - before < 300
