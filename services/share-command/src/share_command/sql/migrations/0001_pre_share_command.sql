-- Everything share-command owns, in the schema of its role (search_path).

create table kafka_offset (
    topic text not null,
    partition int not null,
    topic_id text not null,
    next_offset bigint not null,
    constraint one_offset_per_partition primary key (topic, partition)
);
comment on table kafka_offset is 'How far the directories were read; written with what came of it.';

create table device (
    device_id text not null,
    owner_account_id text not null,
    name text not null,
    constraint one_row_per_device primary key (device_id)
);
comment on table device is 'Newest snapshot from directory.devices: whose a device is.';

create table device_service (
    device_id text not null,
    service_id text not null,
    name text not null,
    constraint one_row_per_service_of_a_device primary key (device_id, service_id),
    constraint a_service_goes_with_its_device foreign key (device_id) references device on delete cascade
);
comment on table device_service is 'Services of the newest snapshot from directory.devices.';
create index device_service_by_service on device_service (service_id);

create table account (
    account_id text not null,
    name text not null,
    constraint one_row_per_account primary key (account_id)
);
comment on table account is 'Newest snapshot from directory.accounts.';

create table account_address (
    account_id text not null,
    address text not null,
    constraint an_address_is_verified_once_per_account primary key (account_id, address),
    constraint addresses_go_with_their_account foreign key (account_id) references account on delete cascade
);
comment on table account_address is 'Canonical addresses that an account has verified; personal data.';

create table contact (
    contact_id uuid not null,
    address text not null,
    constraint one_row_per_contact primary key (contact_id),
    constraint one_contact_per_address unique (address)
);
comment on table contact is 'The only place that links an address to the contact id of events; personal data.';

create table contact_book (
    owner_account_id text not null,
    contact_id uuid not null,
    last_used_at timestamptz not null,
    constraint a_contact_is_in_a_book_once primary key (owner_account_id, contact_id),
    constraint a_book_names_known_contacts foreign key (contact_id) references contact
);
comment on table contact_book is 'Whom an account has shared with, and when last; personal data.';

create table command (
    command_id text not null,
    body_sha256 bytea not null,
    result jsonb,
    received_at timestamptz not null default now(),
    constraint a_command_runs_once primary key (command_id)
);
comment on table command is 'Idempotency keys with the answer given; result is null only inside the transaction.';

create table device_stream (
    device_id text not null,
    version bigint not null default 0,
    constraint one_stream_per_device primary key (device_id),
    constraint versions_count_from_zero check (version >= 0)
);
comment on table device_stream is 'Last version of each device''s events; locked before an event gets its version.';

create table share (
    share_id uuid not null,
    device_id text not null,
    contact_id uuid not null,
    owner_account_id text not null,
    state text not null,
    terms jsonb not null,
    invitation_version bigint not null,
    account_id text,
    constraint one_row_per_share primary key (share_id),
    constraint one_share_per_device_and_contact unique (device_id, contact_id),
    constraint a_share_names_a_known_contact foreign key (contact_id) references contact,
    constraint a_share_has_a_known_state check (
        state in ('requested', 'active', 'rejected', 'revoked', 'left')
    ),
    constraint an_active_share_names_its_account check (state <> 'active' or account_id is not null)
);
comment on table share is 'State of every share: the fold of its events.';

create table event (
    device_id text not null,
    version bigint not null,
    event_id uuid not null,
    share_id uuid not null,
    command_id text not null,
    envelope jsonb not null,
    constraint one_event_per_version primary key (device_id, version),
    constraint an_event_has_one_id unique (event_id),
    constraint an_event_belongs_to_a_share foreign key (share_id) references share
);
comment on table event is 'Every event as it was published, for ever. Holds no address.';

create table outbox (
    id bigserial not null,
    topic text not null,
    key text not null,
    value bytea not null,
    correlation_id text,
    created_at timestamptz not null default clock_timestamp(),
    constraint outbox_rows_are_sent_by_id primary key (id)
);
comment on table outbox is 'Messages not yet acknowledged by the broker; the relay sends them in order of id.';
-- A queue is nearly empty or long, never what statistics say: vacuum early, so that reading its head is cheap.
alter table outbox set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
