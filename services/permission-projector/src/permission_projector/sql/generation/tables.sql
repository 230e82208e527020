-- The tables of one generation of the read models, made in a schema of its own (the session's search_path names
-- no other). Constraints and indexes are in indexes.sql, for when the rows are there.
--
-- One set of tables for each source topic, joined when read: the order in which topics arrive means nothing.
-- No foreign keys between them for the same reason.

create table generation (
    only_row boolean not null default true
        constraint a_schema_is_one_generation primary key
        constraint only_row_is_true check (only_row),
    number integer not null constraint generations_count_from_one check (number > 0),
    shape text not null,
    made_at timestamptz not null default now()
);
comment on table generation is
    'One row: the number of this generation. Its lock puts the change feed in the order of its commits.';
comment on column generation.shape is
    'Which definition of these tables it was made with; a release with another one needs a new generation.';

create table kafka_offset (
    topic text not null,
    partition integer not null,
    topic_id text not null,
    next_offset bigint not null constraint offsets_are_not_negative check (next_offset >= 0)
) with (fillfactor = 75);
comment on table kafka_offset is 'How far each partition is in these tables.';

-- share.events -------------------------------------------------------------------------------------------

create table share_event (
    device_id text not null,
    version bigint not null constraint versions_count_from_one check (version > 0),
    event_id uuid not null,
    share_id uuid not null,
    kind text not null,
    at timestamptz not null,
    state text not null,
    account_id text,
    owner_account_id text not null,
    contact_id uuid not null,
    terms jsonb,
    reason text,
    correlation_id text
);
comment on table share_event is
    'From share.events: the history. Each event that was applied, and what its share was after it.';
comment on column share_event.kind is 'The event: ShareRequested, ShareAccepted, …';
comment on column share_event.terms is
    'The terms from this event on; null: those of the share''s last event that has some.';
comment on column share_event.account_id is 'Who has accepted the share, if anybody had by then.';

create table stream_quarantine (
    device_id text not null,
    code text not null,
    quarantine_offset bigint not null
);
comment on table stream_quarantine is
    'From share.events: devices whose history cannot be trusted from this offset on; their shares give no access.';

create table share (
    device_id text not null,
    share_id uuid not null,
    contact_id uuid not null,
    owner_account_id text not null,
    state text not null
        constraint state_is_known
        check (state in ('requested', 'active', 'rejected', 'revoked', 'left', 'expired')),
    account_id text,
    terms jsonb not null,
    invitation_version bigint not null,
    requested_at timestamptz not null,
    since timestamptz not null,
    expires_at timestamptz,
    version bigint not null,
    constraint an_active_share_is_somebodys check (state <> 'active' or account_id is not null)
) with (fillfactor = 75);
comment on table share is
    'From share.events: every share there was, as it is now; those that ended stay, and give nothing.';
comment on column share.expires_at is
    'Until when an open invitation can be accepted; null: it has no end, or is none any more.';
comment on column share.version is
    'The version of the last event about this share; whoever edits it names the version that he saw.';

-- directory.devices --------------------------------------------------------------------------------------

create table device (
    device_id text not null,
    partition integer not null,
    owner_account_id text not null,
    name text not null,
    kind text not null,
    created_at timestamptz
);
comment on table device is
    'From directory.devices: each device, and the partition that is its own in both device topics.';

create table service (
    device_id text not null,
    service_id text not null,
    ordinal integer not null,
    name text not null,
    protocol text not null,
    channel integer,
    target_host text not null,
    target_port integer not null,
    permissions text[] not null,
    live_path text,
    recording_path text
);
comment on table service is 'From directory.devices: each service, in the order its registry gave.';
comment on column service.live_path is
    'Of a camera''s stream: path and query of its live picture; null: the registry names none.';
comment on column service.recording_path is
    'Of a camera''s stream: path and query under which recordings are played; null: there is none.';

create table device_quarantine (
    device_id text not null,
    code text not null,
    quarantine_offset bigint not null
);
comment on table device_quarantine is
    'From directory.devices: devices whose newest snapshot cannot be read, until one can.';

-- directory.accounts, directory.contacts -----------------------------------------------------------------

create table account (
    account_id text not null,
    name text not null
);
comment on table account is 'From directory.accounts: each account.';

create table account_address (
    account_id text not null,
    address text not null,
    ordinal integer not null
);
comment on table account_address is
    'From directory.accounts: addresses that an account has verified, in canonical form; the first is shown.';

create table contact (
    contact_id uuid not null,
    address text not null
);
comment on table contact is 'From directory.contacts: the address behind a contact id.';

-- share.watermarks ---------------------------------------------------------------------------------------

create table watermark (
    watermark_offset bigint not null,
    as_of timestamptz not null,
    events_topic text not null,
    events_topic_id text not null,
    events_ends bigint[] not null,
    devices_topic text not null,
    devices_topic_id text not null,
    devices_ends bigint[] not null
);
comment on table watermark is
    'From share.watermarks, the newest: what was committed by as_of lies below these end offsets. Element p + 1 of an array is partition p; null: not known.';

-- what others follow -------------------------------------------------------------------------------------

create table change (
    id bigint generated always as identity,
    at timestamptz not null default clock_timestamp(),
    device_ids text[] not null,
    correlation_ids text[] not null,
    account_ids text[] not null,
    contact_ids uuid[] not null
);
comment on table change is
    'The change feed, a row for each transaction in the order of the commits; the newest rows only.';
comment on column change.device_ids is
    'Devices whose grants may be others now. correlation_ids has, at the same place, the request it came from.';
comment on column change.account_ids is
    'Accounts whose lists may be others now, beside those that a share or a device names since before.';
comment on column change.contact_ids is
    'Contacts whose invitations may be others now: whoever has verified their addresses.';
