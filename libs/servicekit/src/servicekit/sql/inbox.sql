-- name: stored_offsets
-- Inbox, on assignment. Reads the whole table: one row a partition.
select topic, partition, topic_id, next_offset from kafka_offset

-- name: advance_offset
-- Inbox, first statement of each batch. Primary key. Writes nothing when another worker was here first.
insert into kafka_offset as stored (topic, partition, topic_id, next_offset)
values ($1, $2, $3, $5)
on conflict (topic, partition) do update set next_offset = excluded.next_offset
where stored.next_offset = $4 and stored.topic_id = $3
returning next_offset
