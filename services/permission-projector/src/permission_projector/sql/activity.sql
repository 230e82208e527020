-- Statements of the activity inbox of `project`. The sessions' search_path is permission_projector. Rows are written
-- in the order of their keys, so that two workers never wait crosswise.

-- name: save_opened
-- ActivityStore.save. Primary key of connection. An end that came first stays.
insert into connection as stored (
    connection_id, device_id, service_id, account_id, share_id, permission, gateway_id, opened_at, outcome
)
select
    row.connection_id, row.device_id, row.service_id, row.account_id, row.share_id, row.permission,
    row.gateway_id, row.opened_at, 'open'
from unnest(
    $1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::timestamptz[]
) as row (
    connection_id, device_id, service_id, account_id, share_id, permission, gateway_id, opened_at
)
order by row.connection_id
on conflict (connection_id) do update set opened_at = excluded.opened_at
where stored.opened_at is null or excluded.opened_at < stored.opened_at
returning device_id, account_id

-- name: save_ended
-- ActivityStore.save. Primary key of connection. Of two ends the first holds, in the order of activity.Ending.
insert into connection as stored (
    connection_id, device_id, service_id, account_id, share_id, permission, gateway_id, ended_at, outcome,
    reason, bytes_to_device, bytes_from_device, seconds
)
select
    row.connection_id, row.device_id, row.service_id, row.account_id, row.share_id, row.permission,
    row.gateway_id, row.ended_at, row.outcome, row.reason, row.bytes_to_device, row.bytes_from_device,
    row.seconds
from unnest(
    $1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::timestamptz[],
    $9::text[], $10::text[], $11::bigint[], $12::bigint[], $13::double precision[]
) as row (
    connection_id, device_id, service_id, account_id, share_id, permission, gateway_id, ended_at, outcome,
    reason, bytes_to_device, bytes_from_device, seconds
)
order by row.connection_id
on conflict (connection_id) do update set
    ended_at = excluded.ended_at,
    outcome = excluded.outcome,
    reason = excluded.reason,
    bytes_to_device = excluded.bytes_to_device,
    bytes_from_device = excluded.bytes_from_device,
    seconds = excluded.seconds
where stored.ended_at is null
    or (
        excluded.ended_at, excluded.outcome collate "C", coalesce(excluded.reason, '') collate "C",
        coalesce(excluded.bytes_to_device, -1), coalesce(excluded.bytes_from_device, -1),
        coalesce(excluded.seconds, -1)
    ) < (
        stored.ended_at, stored.outcome collate "C", coalesce(stored.reason, '') collate "C",
        coalesce(stored.bytes_to_device, -1), coalesce(stored.bytes_from_device, -1),
        coalesce(stored.seconds, -1)
    )
returning device_id, account_id

-- name: delete_presence
-- ActivityStore.save: devices that are gone. Primary key of presence.
delete from presence where device_id = any ($1::text[])
returning device_id

-- name: save_presence
-- ActivityStore.save. Primary key of presence. What another gateway tells late of an earlier time
-- changes nothing, nor does what is told again.
insert into presence as stored (device_id, online, since, gateway_id)
select row.device_id, row.online, row.since, row.gateway_id
from unnest($1::text[], $2::boolean[], $3::timestamptz[], $4::text[])
    as row (device_id, online, since, gateway_id)
order by row.device_id
on conflict (device_id) do update set
    online = excluded.online, since = excluded.since, gateway_id = excluded.gateway_id
where excluded.since >= stored.since
    and (excluded.online, excluded.since, excluded.gateway_id)
        is distinct from (stored.online, stored.since, stored.gateway_id)
returning device_id

-- name: hint
-- ActivityStore.save: told to those who follow, once this transaction is committed (activity_hints.py).
select pg_notify('device_activity', hint.payload) from unnest($1::text[]) as hint (payload)

-- name: save_heard
-- ActivityStore.save. Primary key of gateway. A clock that is ahead does not make a gateway heard for ever.
insert into gateway as stored (gateway_id, heard_at)
select row.gateway_id, least(row.heard_at, clock_timestamp())
from unnest($1::text[], $2::timestamptz[]) as row (gateway_id, heard_at)
order by row.gateway_id
on conflict (gateway_id) do update set heard_at = excluded.heard_at
where excluded.heard_at > stored.heard_at

-- name: save_started
-- ActivityStore.save, after save_heard. Primary key of gateway; then what it had open, of which those are told who
-- follow: indexes of open connections, read whole. What is only now being told of it is as little open, which
-- connection_status knows.
with started as (
    update gateway
    set started_at = row.started_at
    from unnest($1::text[], $2::timestamptz[]) as row (gateway_id, started_at)
    where gateway.gateway_id = row.gateway_id
        and (gateway.started_at is null or gateway.started_at < row.started_at)
    returning gateway.gateway_id, gateway.started_at
)
select connection.device_id, connection.account_id
from connection
join started using (gateway_id)
where connection.outcome = 'open' and connection.opened_at < started.started_at

-- name: forget_connections
-- ActivityInbox, each hour: a portion of what the topic has forgotten too. Index connection_by_last_news.
with old as materialized (
    select connection_id
    from connection
    where coalesce(ended_at, opened_at) < now() - make_interval(days => $1)
    order by coalesce(ended_at, opened_at)
    limit $2
    for update skip locked
),
gone as (
    delete from connection using old where connection.connection_id = old.connection_id returning 1
)
select count(*) from gone

-- name: forget_offsets
-- ActivityInbox: offsets in topics that were made anew. Reads the whole table: one row a partition.
delete from kafka_offset
using unnest($1::text[], $2::text[]) as now (topic, topic_id)
where kafka_offset.topic = now.topic and kafka_offset.topic_id <> now.topic_id
returning kafka_offset.topic

-- name: forget_presence
-- ActivityInbox: what a topic said that is no more. The topic that took its place says what holds.
delete from presence
