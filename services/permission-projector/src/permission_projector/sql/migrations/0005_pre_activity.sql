-- What happened on connections, which devices are connected, and what operators changed. None of it follows from
-- share.events, so it belongs to no generation of the read models and outlives every one.

create table permission_projector.kafka_offset (
    topic text not null,
    partition integer not null,
    topic_id text not null,
    next_offset bigint not null constraint offsets_are_not_negative check (next_offset >= 0),
    constraint a_partition_has_one_offset primary key (topic, partition)
) with (fillfactor = 75);
comment on table permission_projector.kafka_offset is
    'How far access.events and directory.presence are in these tables; written with what came of them.';

create table permission_projector.connection (
    connection_id uuid not null constraint a_connection_is_one_row primary key,
    device_id text,
    service_id text not null,
    account_id text not null,
    share_id uuid,
    permission text not null,
    gateway_id text not null,
    opened_at timestamptz,
    ended_at timestamptz,
    outcome text not null
        constraint outcome_is_known check (outcome in ('open', 'closed', 'cut', 'refused')),
    reason text,
    bytes_to_device bigint,
    bytes_from_device bigint,
    seconds double precision,
    at timestamptz not null generated always as (coalesce(opened_at, ended_at)) stored,
    constraint what_is_open_has_no_end check ((outcome = 'open') = (ended_at is null))
);
comment on table permission_projector.connection is
    'From access.events: connections of the last 90 days, those refused included.';
comment on column permission_projector.connection.device_id is
    'Null: what was asked for was refused before it was known whose it is.';
comment on column permission_projector.connection.share_id is 'Null: the owner himself, or refused.';
comment on column permission_projector.connection.opened_at is
    'Null: it was refused, or the event of its opening has not arrived (a gateway may drop the oldest).';
comment on column permission_projector.connection.at is 'By what lists are ordered: when it opened, else ended.';
-- Connections of a device, of an account, and open ones: each newest first.
create index connection_by_device on permission_projector.connection (device_id, at desc, connection_id desc);
create index connection_by_account on permission_projector.connection (account_id, at desc, connection_id desc);
create index connection_open on permission_projector.connection (at desc, connection_id desc)
    where outcome = 'open';
-- What is to be deleted.
create index connection_by_last_news on permission_projector.connection (coalesce(ended_at, opened_at));

create table permission_projector.presence (
    device_id text not null constraint a_device_has_one_presence primary key,
    online boolean not null,
    since timestamptz not null,
    gateway_id text
);
comment on table permission_projector.presence is
    'From directory.presence: whether a device is connected to a gateway, and since when it is so.';

create table permission_projector.gateway (
    gateway_id text not null constraint a_gateway_is_one_row primary key,
    heard_at timestamptz not null
) with (fillfactor = 50);
comment on table permission_projector.gateway is
    'From both topics: when each gateway last told anything. One that has died says nothing of its connections.';

-- One hour without a word: a gateway that lives may be as silent while nobody comes or goes, so what it told last
-- is not wrong then, but nobody vouches for it.
create function permission_projector.is_silent(heard_at timestamptz)
returns boolean
language sql stable parallel safe
return heard_at is null or heard_at < now() - interval '1 hour';
comment on function permission_projector.is_silent is
    'Whether a gateway was last heard of so long ago that it may be dead.';

create view permission_projector.connection_status as
select
    connection.*, gateway.heard_at as gateway_heard_at,
    connection.outcome = 'open' and permission_projector.is_silent(gateway.heard_at) as in_doubt
from permission_projector.connection
left join permission_projector.gateway using (gateway_id);
comment on view permission_projector.connection_status is
    'Connections as they are to be told. in_doubt: it was open when its gateway was last heard of, and that is long ago.';

create view permission_projector.presence_status as
select
    presence.*, gateway.heard_at as gateway_heard_at,
    presence.online and permission_projector.is_silent(gateway.heard_at) as in_doubt
from permission_projector.presence
left join permission_projector.gateway using (gateway_id);
comment on view permission_projector.presence_status is
    'Presence as it is to be told. in_doubt: it was online when its gateway was last heard of, and that is long ago.';

create table permission_projector.operation (
    operation_id bigint not null generated always as identity
        constraint an_operation_is_one_row primary key,
    at timestamptz not null default clock_timestamp(),
    who text not null,
    reason text,
    what text not null,
    arguments jsonb not null,
    ended_at timestamptz,
    outcome text not null default 'begun'
        constraint outcome_of_an_operation_is_known check (outcome in ('begun', 'done', 'failed')),
    detail text,
    constraint what_has_an_outcome_has_ended check ((outcome = 'begun') = (ended_at is null))
);
comment on table permission_projector.operation is
    'What operators changed, written before the change and again after it; begun: under way, or broken off.';
comment on column permission_projector.operation.who is 'The operating system''s user and host.';
create index operation_by_time on permission_projector.operation (at desc);
