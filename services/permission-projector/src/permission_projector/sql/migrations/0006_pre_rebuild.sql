-- What outlives every generation of the read models.

create sequence permission_projector.generation_number as integer start 2;
comment on sequence permission_projector.generation_number is
    'The number of the next generation. None is given twice, so that nobody takes a new one for one he knew.';

create table permission_projector.released_stream (
    device_id text not null constraint a_stream_is_released_once primary key,
    topic_id text not null,
    next_offsets bigint[] not null,
    released_at timestamptz not null default clock_timestamp()
);
comment on table permission_projector.released_stream is
    'Devices whose history was found whole and folded again: below these offsets it counts by its versions, in every generation.';
comment on column permission_projector.released_stream.next_offsets is
    'How far share.events was applied: element p + 1 is partition p.';
