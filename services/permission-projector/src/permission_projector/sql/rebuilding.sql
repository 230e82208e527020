-- Statements of replay, verify, swap and release. {schema} is the schema of a generation; where none is named, it
-- is the session's search_path.

-- name: begin_alone
-- building.alone: one rebuild at a time, for as long as the session lasts.
select pg_try_advisory_lock(32331)

-- name: next_number
-- building.new_unfinished.
select nextval('permission_projector.generation_number')::integer

-- name: unfinished
-- building.alone. The catalogue of schemas.
select nspname as schema from pg_namespace where nspname ~ $1

-- name: finished
-- building.generations. The catalogue of schemas: the live one, and those beside it.
select nspname as schema from pg_namespace where nspname = $1 or nspname ~ $2

-- name: drop
-- building.drop.
drop schema {schema} cascade

-- name: rename
-- replay, when a generation is finished, and the swap.
alter schema {former} rename to {schema}

-- name: search
-- filling.fill, for its transaction.
set local search_path = {schema}

-- name: generation
-- building.generations. One row.
select number, shape from {schema}.generation

-- name: described
-- The verb `generations`. One row of generation; reads the catalogue for the size.
select
    generation.made_at,
    (
        select coalesce(sum(pg_total_relation_size(class.oid)), 0)::bigint
        from pg_class as class
        where class.relnamespace = '{schema}'::regnamespace and class.relkind = 'r'
    ) as bytes,
    (select coalesce(sum(next_offset), 0)::bigint from {schema}.kafka_offset) as records
from {schema}.generation as generation

-- name: offsets
-- building.offsets. Reads the whole table: one row a partition.
select topic, partition, topic_id, next_offset from {schema}.kafka_offset

-- name: save_offsets
-- building.save_offsets. A generation that is filled does not have the primary key yet; nobody else writes it.
merge into kafka_offset as stored
using unnest($1::text[], $2::integer[], $3::text[], $4::bigint[]) as asked (topic, partition, topic_id, next_offset)
on stored.topic = asked.topic and stored.partition = asked.partition
when matched then update set next_offset = asked.next_offset
when not matched then
    insert (topic, partition, topic_id, next_offset)
    values (asked.topic, asked.partition, asked.topic_id, asked.next_offset)

-- name: released
-- building.released. Reads the whole table: one row for each device that a person released.
select device_id, next_offsets from permission_projector.released_stream where topic_id = $1

-- name: stray_streams
-- filling.fill: devices whose key stood in the partition of others; what their own says goes before it.
insert into stream_quarantine (device_id, code, quarantine_offset)
select asked.device_id, asked.code, asked.quarantine_offset
from unnest($1::text[], $2::text[], $3::bigint[]) as asked (device_id, code, quarantine_offset)
where not exists (select from stream_quarantine as there where there.device_id = asked.device_id)

-- name: stray_devices
-- filling.fill: as stray_streams.
insert into device_quarantine (device_id, code, quarantine_offset)
select asked.device_id, asked.code, asked.quarantine_offset
from unnest($1::text[], $2::text[], $3::bigint[]) as asked (device_id, code, quarantine_offset)
where not exists (select from device_quarantine as there where there.device_id = asked.device_id)

-- name: settle
-- replay: what the planner and an index-only scan need to know of rows that were just written.
vacuum (analyze) {schema}.{table}

-- name: append_change
-- catching_up: as in projecting.sql, of a generation that nobody follows, so that nobody is woken.
insert into change (device_ids, correlation_ids, account_ids, contact_ids)
values ($1::text[], $2::text[], $3::text[], $4::uuid[])
returning id

-- name: still_quarantined
-- catching_up: released devices that are in quarantine in the session's generation, unless the live one has the same
-- row. Primary keys of stream_quarantine.
select here.device_id
from stream_quarantine as here
join permission_projector.released_stream as released using (device_id)
where released.topic_id = $1
    and not exists (
        select from permissions.stream_quarantine as live
        where live.device_id = here.device_id and live.code = here.code
            and live.quarantine_offset = here.quarantine_offset
    )

-- name: readers
-- The swap: transactions of this database that are under way, which may have begun before the last rows were there.
-- The lock table. Not those of background workers, which read no row for anybody, nor those of the sessions $1.
select lock.virtualxid
from pg_locks as lock
join pg_stat_activity as session using (pid)
where lock.locktype = 'virtualxid' and session.datname = current_database() and session.usesysid is not null
    and lock.pid <> all ($1::integer[])

-- name: pid
-- The swap.
select pg_backend_pid()

-- name: bound_turn
-- The swap and a release, before they take the turn alone: how long they wait for who is writing, and for how long
-- a process that was stopped can hold up the others.
set local lock_timeout = '1s';
set local idle_in_transaction_session_timeout = '5s'

-- name: notify
-- The swap and a release.
notify permissions_changed

-- name: columns
-- comparing: the columns of a table, in their order. The catalogue.
select attname as name
from pg_attribute
where attrelid = to_regclass($1) and attnum > 0 and not attisdropped
order by attnum

-- name: buckets
-- comparing: count and hash of a table's rows, by a hash of their key, whatever their order. Reads the whole table.
select
    hashtextextended(row({key})::text, 0) & {mask} as bucket,
    count(*) as rows,
    sum(hashtextextended(row({columns})::text, 0)::numeric)::text as hash
from {schema}.{table}
group by 1

-- name: rows_of_buckets
-- comparing: the rows of a few buckets. Reads the whole table.
select array[{key_texts}] as key, array[{column_texts}] as columns
from {schema}.{table}
where hashtextextended(row({key})::text, 0) & {mask} = any ($1::bigint[])

-- name: quarantine
-- releasing: why a device is in quarantine. Primary keys of both quarantines.
select code, quarantine_offset from {schema}.stream_quarantine where device_id = $1

-- name: device_quarantine
-- releasing. Primary key of device_quarantine.
select code, quarantine_offset from permissions.device_quarantine where device_id = $1

-- name: forget_events
-- releasing.replace. Primary key of share_event, by its first column.
delete from share_event where device_id = $1

-- name: forget_shares
-- releasing.replace. Primary key of share. Tells whose lists had them.
delete from share where device_id = $1 returning owner_account_id, account_id, contact_id

-- name: forget_quarantine
-- releasing.replace. Primary key of stream_quarantine.
delete from stream_quarantine where device_id = $1

-- name: add_quarantine
-- releasing.replace. Primary key of stream_quarantine.
insert into stream_quarantine (device_id, code, quarantine_offset) values ($1, $2, $3)

-- name: save_release
-- releasing.release. Primary key of released_stream.
insert into permission_projector.released_stream as stored (device_id, topic_id, next_offsets)
values ($1, $2, $3)
on conflict (device_id) do update set
    topic_id = excluded.topic_id,
    next_offsets = excluded.next_offsets,
    released_at = excluded.released_at
