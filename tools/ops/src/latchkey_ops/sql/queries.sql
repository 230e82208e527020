-- Statements of ./latchkey ops. Those of `offsets` run in the schema of the service that is asked; the others as
-- permission-projector's role, whose tables are named in full.

-- name: offsets
-- lag: how far a service has read. Reads the whole table: one row a partition.
select topic, partition, topic_id, next_offset from kafka_offset

-- name: freshness
-- lag: the age of each device partition; null when it was never proved.
select partition, extract(epoch from now - as_of)::double precision as age_seconds
from permissions_api.freshness_v1()
order by partition

-- name: quarantine
-- quarantine list, release. Reads both quarantines whole: they are empty but for what needs a person.
select
    quarantined.device_id, quarantined.topic, quarantined.code, quarantined.quarantine_offset as "offset",
    device.name, device.owner_account_id,
    (
        select count(*) from permissions.share
        where share.device_id = quarantined.device_id and share.state = 'active'
    ) as active_shares
from (
    select device_id, 'share.events' as topic, code, quarantine_offset from permissions.stream_quarantine
    union all
    select device_id, 'directory.devices', code, quarantine_offset from permissions.device_quarantine
) as quarantined
left join permissions.device using (device_id)
where $1::text is null or quarantined.device_id = $1
order by quarantined.device_id, quarantined.topic

-- name: begin_operation
-- audit, before a change.
insert into permission_projector.operation (who, reason, what, arguments)
values ($1, $2, $3, $4::jsonb)
returning operation_id

-- name: end_operation
-- audit, after a change. Primary key of operation.
update permission_projector.operation
set ended_at = clock_timestamp(), outcome = $2, detail = $3
where operation_id = $1

-- name: operations
-- operations: the newest. Index operation_by_time.
select operation_id, at, who, what, arguments::text as arguments, reason, outcome, ended_at, detail
from permission_projector.operation
order by at desc, operation_id desc
limit $1

-- name: retried_letters
-- dead-letters: those that were sent again. Reads the retries of the 14 days that a dead letter is kept, by index
-- operation_by_time.
select arguments ->> 'letter' as letter, max(at) as at
from permission_projector.operation
where at > now() - interval '15 days' and what = 'dead-letters retry' and outcome = 'done'
group by 1
