create table kafka_offset (
    topic text not null,
    partition int not null,
    topic_id text not null,
    next_offset bigint not null,
    constraint one_offset_per_partition primary key (topic, partition)
);
comment on table kafka_offset is
    'How far each partition has been applied. Its loss is harmless: device_progress keeps replays silent.';

create table device_progress (
    device_id text constraint one_progress_per_device primary key,
    last_version bigint not null constraint versions_start_at_one check (last_version >= 1)
);
comment on table device_progress is
    'The last version of each device''s stream that was planned. Only what lies above is planned, for ever.';

create table invitation (
    share_id uuid constraint one_invitation_per_share primary key,
    device_id text not null,
    contact_id uuid not null,
    owner_account_id text not null,
    state text not null constraint invitation_state_is_known check (state in ('requested', 'accepted', 'ended')),
    invitation_version bigint not null,
    announced_version bigint not null,
    terms jsonb not null
);
comment on table invitation is
    'What became of each share, folded from share.events: decides whether a notice is still to be sent.';

create table device (
    device_id text constraint one_row_per_device primary key,
    name text not null,
    service_names jsonb not null
);
comment on table device is
    'Names from directory.devices; service_names maps service id to name. Written by strangers: clean when shown.';

create table account (
    account_id text constraint one_row_per_account primary key,
    name text not null,
    verified_emails text[] not null
);
comment on table account is 'Names and proved addresses from directory.accounts; a null record deletes the row.';

create table contact (
    contact_id uuid constraint one_row_per_contact primary key,
    address text not null
);
comment on table contact is
    'Addresses of recipients from directory.contacts; a null record deletes the row. Nowhere else is an address kept.';

create table delivery (
    delivery_id uuid constraint one_row_per_delivery primary key default gen_random_uuid(),
    event_id uuid not null,
    contact_id uuid not null,
    channel text not null,
    template text not null,
    share_id uuid not null
        constraint delivery_is_about_a_known_invitation references invitation (share_id),
    version bigint not null,
    event_time timestamptz not null,
    correlation_id text not null,
    state text not null default 'due'
        constraint delivery_state_is_known
        check (state in ('due', 'sent', 'failed', 'superseded', 'expired')),
    due_at timestamptz not null default now(),
    claim uuid,
    attempts int not null default 0,
    waits int not null default 0,
    code text,
    created_at timestamptz not null default now(),
    finished_at timestamptz,
    constraint one_delivery_per_event_contact_channel_template
        unique (event_id, contact_id, channel, template),
    constraint finished_means_no_longer_due check ((finished_at is null) = (state = 'due'))
);
comment on table delivery is
    'Each notice and what became of it. due_at is the next try, or the end of the present claim. No address, no text.';
comment on column delivery.code is 'Why the last try failed, or why it is not tried again: see docs/errors.md.';

create index delivery_due on delivery (due_at) where state = 'due';
