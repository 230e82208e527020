-- name: stored_offsets
-- Inbox, on assignment. Reads the whole table: one row a partition.
select topic, partition, topic_id, next_offset from kafka_offset

-- name: advance_offsets
-- Inbox, before the records of a batch are applied. Primary key; in order of it, so that two workers never wait
-- crosswise. Leaves out, and gives no row for, a partition where another worker was here first.
insert into kafka_offset as stored (topic, partition, topic_id, next_offset)
select asked.topic, asked.partition, asked.topic_id, asked.following
from unnest($1::text[], $2::integer[], $3::text[], $4::bigint[], $5::bigint[])
    as asked (topic, partition, topic_id, expected, following)
order by asked.topic, asked.partition
on conflict (topic, partition) do update set next_offset = excluded.next_offset
where stored.topic_id = excluded.topic_id
    and stored.next_offset = (
        select asked.expected
        from unnest($1::text[], $2::integer[], $4::bigint[]) as asked (topic, partition, expected)
        where asked.topic = stored.topic and asked.partition = stored.partition
    )
returning stored.topic, stored.partition
