-- The live generation of the read models. Its schema is always called `permissions`: another generation is
-- filled in a schema of its own and swapped in by renaming both, with the offsets it was read up to. For that,
-- nothing outside names these tables but the functions of permissions_api, whose bodies are strings.
--
-- One set of tables for each source topic, joined when read: the order in which topics arrive means nothing.
-- No foreign keys between them for the same reason.
create schema permissions;
comment on schema permissions is 'The live generation of the permission read models.';

create table permissions.generation (
    only_row boolean not null default true
        constraint a_schema_is_one_generation primary key
        constraint only_row_is_true check (only_row),
    number integer not null constraint generations_count_from_one check (number > 0)
);
comment on table permissions.generation is
    'One row: the number of this generation. Its lock puts the change feed in the order of its commits.';
insert into permissions.generation (number) values (1);

create table permissions.kafka_offset (
    topic text not null,
    partition integer not null,
    topic_id text not null,
    next_offset bigint not null constraint offsets_are_not_negative check (next_offset >= 0),
    constraint a_partition_has_one_offset primary key (topic, partition)
) with (fillfactor = 75);
comment on table permissions.kafka_offset is 'How far each partition is in these tables.';

-- share.events -------------------------------------------------------------------------------------------

create table permissions.device_stream (
    device_id text not null constraint a_device_has_one_stream primary key,
    version bigint not null constraint a_stream_starts_before_its_first_event check (version >= 0),
    quarantine_code text,
    quarantine_offset bigint,
    constraint a_quarantine_says_why_and_where check ((quarantine_code is null) = (quarantine_offset is null))
) with (fillfactor = 75);
comment on table permissions.device_stream is
    'From share.events: the last event of each device, and why its shares give no access, if so.';

create table permissions.stream_event (
    device_id text not null,
    version bigint not null constraint versions_count_from_one check (version > 0),
    event_id uuid not null,
    constraint a_version_is_one_event primary key (device_id, version)
);
comment on table permissions.stream_event is
    'From share.events: which event was applied as which version, to tell a redelivery from a conflict.';

create table permissions.share (
    device_id text not null,
    share_id uuid not null,
    contact_id uuid not null,
    owner_account_id text not null,
    state text not null
        constraint state_is_known check (state in ('requested', 'active', 'rejected', 'revoked', 'left')),
    account_id text,
    terms jsonb not null,
    invitation_version bigint not null,
    requested_at timestamptz not null,
    since timestamptz not null,
    constraint a_share_is_one_row primary key (device_id, share_id),
    constraint an_active_share_is_somebodys check (state <> 'active' or account_id is not null)
) with (fillfactor = 75);
comment on table permissions.share is
    'From share.events: every share there was; those that ended stay, and give nothing.';
create index share_by_account on permissions.share (account_id, device_id) where account_id is not null;
create index share_by_contact on permissions.share (contact_id);

-- directory.devices --------------------------------------------------------------------------------------

create table permissions.device (
    device_id text not null constraint a_device_is_one_row primary key,
    partition integer not null,
    owner_account_id text not null,
    name text not null,
    kind text not null,
    created_at timestamptz
);
comment on table permissions.device is
    'From directory.devices: each device, and the partition that is its own in both device topics.';
create index device_by_owner on permissions.device (owner_account_id);

create table permissions.service (
    device_id text not null,
    service_id text not null,
    ordinal integer not null,
    name text not null,
    protocol text not null,
    channel integer,
    target_host text not null,
    target_port integer not null,
    permissions text[] not null,
    constraint a_service_is_once_on_a_device primary key (device_id, service_id)
);
comment on table permissions.service is 'From directory.devices: each service, in the order its registry gave.';
create index service_by_id on permissions.service (service_id);

create table permissions.device_quarantine (
    device_id text not null constraint a_device_is_quarantined_once primary key,
    code text not null,
    quarantine_offset bigint not null
);
comment on table permissions.device_quarantine is
    'From directory.devices: devices whose newest snapshot cannot be read, until one can.';

-- directory.accounts, directory.contacts -----------------------------------------------------------------

create table permissions.account (
    account_id text not null constraint an_account_is_one_row primary key,
    name text not null
);
comment on table permissions.account is 'From directory.accounts: each account.';

create table permissions.account_address (
    account_id text not null,
    address text not null,
    ordinal integer not null,
    constraint an_address_is_once_an_accounts primary key (account_id, address)
);
comment on table permissions.account_address is
    'From directory.accounts: addresses that an account has verified, in canonical form; the first is shown.';

create table permissions.contact (
    contact_id uuid not null constraint a_contact_is_one_row primary key,
    address text not null
);
comment on table permissions.contact is 'From directory.contacts: the address behind a contact id.';
create index contact_by_address on permissions.contact (address);

-- share.watermarks ---------------------------------------------------------------------------------------

create table permissions.watermark (
    watermark_offset bigint not null constraint a_watermark_is_one_row primary key,
    as_of timestamptz not null,
    events_topic text not null,
    events_topic_id text not null,
    events_ends bigint[] not null,
    devices_topic text not null,
    devices_topic_id text not null,
    devices_ends bigint[] not null
);
comment on table permissions.watermark is
    'From share.watermarks, the newest: what was committed by as_of lies below these end offsets. Element p + 1 of an array is partition p; null: not known.';
create index watermark_by_time on permissions.watermark (as_of);

-- what others follow -------------------------------------------------------------------------------------

create table permissions.change (
    id bigint generated always as identity constraint a_change_is_one_row primary key,
    generation integer not null,
    topic text not null,
    partition integer not null,
    record_offset bigint not null,
    device_id text not null,
    correlation_id text
);
comment on table permissions.change is
    'The change feed: devices whose grants may be others now, in the order of the commits; the newest rows only.';
