"""What the projector is compared with that needs no program of its own: a plain handler, and bare rows."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
from _servers import SECONDS, Servers
from _topic import PARTITIONS, Happened, Totals, fill, happen
from faststream.kafka import KafkaBroker
from faststream.kafka.annotations import KafkaMessage

from contracts import codec, events
from servicekit.kafka import Admin

BATCH = 5_000
PLAIN_EVENTS = 30_000
PLAIN_TOPIC = "bench.plain"

_PLAIN_UPSERT = """
insert into share as old values
    ($1, $2, $3, $4, $5, $6, coalesce($7::jsonb, '{}'), $8, $9, $9, $10, $8)
on conflict (device_id, share_id) do update set
    state = excluded.state,
    account_id = coalesce(excluded.account_id, old.account_id),
    terms = coalesce($7::jsonb, old.terms),
    invitation_version = case when $5 = 'requested' then $8 else old.invitation_version end,
    requested_at = case when $5 = 'requested' then $9 else old.requested_at end,
    since = case when $5 = old.state then old.since else excluded.since end,
    expires_at = excluded.expires_at,
    version = excluded.version
where old.version < excluded.version
"""


async def plain(servers: Servers, run: int, seed: int) -> float:
    """Events a second of the plain handler. FastStream commits for it on a timer, which is its default."""
    topic = f"{PLAIN_TOPIC}-{run}"
    await Admin(servers.bootstrap).provision([(topic, PARTITIONS, {})])
    totals = fill(servers.bootstrap, topic, PLAIN_EVENTS, seed, with_rows=False).totals
    broker = KafkaBroker(servers.bootstrap, logger=None)
    done = asyncio.Event()
    times: list[float] = []
    async with servers.database(tables=True) as (name, connection):
        pool = await asyncpg.create_pool(servers.cluster.dsn(name), min_size=1, max_size=4)

        @broker.subscriber(topic, group_id=topic, auto_offset_reset="earliest")
        async def handle(message: KafkaMessage) -> None:
            envelope = codec.decode(message.body)
            data = envelope.data
            assert isinstance(data, events.SHARE_EVENT_TYPES)
            terms = expires_at = None
            match data:
                case events.ShareRequested():
                    state, terms, expires_at = "requested", data.terms, data.expires_at
                case events.ShareChanged():
                    state, terms, expires_at = data.state, data.terms, data.expires_at
                case events.ShareAccepted():
                    state = "active"
                case _:
                    state = "revoked"
            await pool.execute(
                _PLAIN_UPSERT,
                data.device_id,
                data.share_id,
                data.contact_id,
                data.owner_account_id,
                state,
                getattr(data, "account_id", None),
                terms.model_dump_json(exclude_none=True) if terms else None,
                envelope.version,
                envelope.time,
                expires_at,
            )
            times.append(time.perf_counter())
            if len(times) == totals.events:
                done.set()

        async with pool:
            async with broker:
                await broker.start()
                await asyncio.wait_for(done.wait(), SECONDS)
            await servers.check(connection, totals, "public", history=False)
    return (len(times) - 1) / (times[-1] - times[0])


_SHARE_TYPES = (
    *("text", "uuid", "uuid", "text", "text", "text", "jsonb", "bigint"),
    *("timestamptz", "timestamptz", "timestamptz", "bigint"),
)
_EVENT_TYPES = (
    *("text", "bigint", "uuid", "uuid", "text", "timestamptz", "text", "text"),
    *("text", "uuid", "jsonb", "text", "text"),
)
_NEWEST = """
on conflict (device_id, share_id) do update set
    contact_id = excluded.contact_id, owner_account_id = excluded.owner_account_id, state = excluded.state,
    account_id = excluded.account_id, terms = excluded.terms,
    invitation_version = excluded.invitation_version, requested_at = excluded.requested_at,
    since = excluded.since, expires_at = excluded.expires_at, version = excluded.version
"""


def _rows(batch: Sequence[Happened]) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """The rows of a batch for ``share``, the newest of each, and for ``share_event``."""
    read = datetime.fromisoformat
    shares: dict[str, tuple[Any, ...]] = {}
    history: list[tuple[Any, ...]] = []
    for e in batch:
        at = read(e.at)
        shares[e.share_id] = (
            e.device_id, e.share_id, e.contact_id, e.owner_account_id, e.state, e.account_id, e.terms,
            e.invitation_version, read(e.requested_at), read(e.since), None, e.version,
        )  # fmt: skip
        history.append(
            (e.device_id, e.version, e.event_id, e.share_id, e.kind, at, e.state, e.account_id,
             e.owner_account_id, e.contact_id, e.terms if e.says_terms else None, e.reason, e.correlation_id)
        )  # fmt: skip
    return list(shares.values()), history


async def bare(servers: Servers, total: int, seed: int, *, by_copy: bool) -> float:
    """Events a second of the bare writing; the time in which rows are made ready does not count."""
    totals, taken = Totals(), 0.0
    source = happen(total, seed, totals)

    def unnest(types: Sequence[str]) -> str:
        return ", ".join(f"${place}::{kind}[]" for place, kind in enumerate(types, 1))

    by_unnest = (
        f"insert into share_event select * from unnest({unnest(_EVENT_TYPES)})",
        f"insert into share select * from unnest({unnest(_SHARE_TYPES)}) {_NEWEST}",
    )
    async with servers.database(tables=True) as (_, connection):
        await connection.execute("create temporary table staging (like share)")
        while batch := list(itertools.islice(source, BATCH)):
            shares, history = _rows(batch)
            columns = [*zip(*history, strict=True)], [*zip(*shares, strict=True)]
            begun = time.perf_counter()
            async with connection.transaction():
                if by_copy:
                    await connection.copy_records_to_table("share_event", records=history)
                    await connection.copy_records_to_table("staging", records=shares)
                    await connection.execute(f"insert into share select * from staging {_NEWEST}")
                    await connection.execute("truncate staging")
                else:
                    for statement, values in zip(by_unnest, columns, strict=True):
                        await connection.execute(statement, *values)
            taken += time.perf_counter() - begun
        await servers.check(connection, totals, "public", history=True)
    return total / taken
