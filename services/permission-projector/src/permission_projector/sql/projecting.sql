-- Statements of the projector (`project`). The sessions' search_path is the schema of the generation that is
-- written.

-- name: streams
-- Store.streams: the devices of a batch of share.events, each with those of its shares that the batch is about (or
-- with none). Primary keys of share_event, stream_quarantine and share.
select
    asked.device_id,
    (select max(event.version) from share_event as event where event.device_id = asked.device_id) as head,
    stream.code as quarantine,
    share.share_id, share.contact_id, share.owner_account_id, share.state, share.account_id,
    share.terms::text as terms, share.invitation_version, share.requested_at, share.since, share.expires_at,
    share.version
from unnest($1::text[], $2::uuid[]) as asked (device_id, share_id)
left join stream_quarantine as stream using (device_id)
left join share on share.device_id = asked.device_id and share.share_id = asked.share_id

-- name: recorded_events
-- Store.recorded: which events stand under versions that a batch brings again. Primary key of share_event.
select event.device_id, event.version, event.event_id
from unnest($1::text[], $2::bigint[]) as asked (device_id, version)
join share_event as event using (device_id, version)

-- name: quarantine_streams
-- Store.save_streams. Primary key of stream_quarantine.
insert into stream_quarantine (device_id, code, quarantine_offset)
select * from unnest($1::text[], $2::text[], $3::bigint[])

-- name: arrived_by_parameters
-- Store.save_streams puts it before save_arrived when there are few rows: emptying the table at the end of each
-- transaction would take longer than all the rest.
with arrived (
    device_id, version, event_id, share_id, kind, at, state, account_id, owner_account_id, contact_id, terms,
    brings_terms, reason, correlation_id, invitation_version, requested_at, since, expires_at, is_last
) as materialized (
    select
        row.device_id, row.version, row.event_id, row.share_id, row.kind, row.at, row.state, row.account_id,
        row.owner_account_id, row.contact_id, row.terms::jsonb, row.brings_terms, row.reason,
        row.correlation_id, row.invitation_version, row.requested_at, row.since, row.expires_at, row.is_last
    from unnest(
        $1::text[], $2::bigint[], $3::uuid[], $4::uuid[], $5::text[], $6::timestamptz[], $7::text[], $8::text[],
        $9::text[], $10::uuid[], $11::text[], $12::boolean[], $13::text[], $14::text[], $15::bigint[],
        $16::timestamptz[], $17::timestamptz[], $18::timestamptz[], $19::boolean[]
    ) as row (
        device_id, version, event_id, share_id, kind, at, state, account_id, owner_account_id, contact_id, terms,
        brings_terms, reason, correlation_id, invitation_version, requested_at, since, expires_at, is_last
    )
),

-- name: save_arrived
-- Store.save_streams. Primary keys of share_event, which no event of a new version can meet, and of share. Reads the
-- session's table `arrived` (sql/arrived.sql).
with recorded as (
    insert into share_event (
        device_id, version, event_id, share_id, kind, at, state, account_id, owner_account_id, contact_id, terms,
        reason, correlation_id
    )
    select
        device_id, version, event_id, share_id, kind, at, state, account_id, owner_account_id, contact_id,
        case when brings_terms then terms end, reason, correlation_id
    from arrived
)
insert into share (
    device_id, share_id, contact_id, owner_account_id, state, account_id, terms, invitation_version,
    requested_at, since, expires_at, version
)
select
    device_id, share_id, contact_id, owner_account_id, state, account_id, terms, invitation_version,
    requested_at, since, expires_at, version
from arrived
where is_last
on conflict (device_id, share_id) do update set
    contact_id = excluded.contact_id,
    owner_account_id = excluded.owner_account_id,
    state = excluded.state,
    account_id = excluded.account_id,
    terms = excluded.terms,
    invitation_version = excluded.invitation_version,
    requested_at = excluded.requested_at,
    since = excluded.since,
    expires_at = excluded.expires_at,
    version = excluded.version

-- name: save_devices
-- Store.save_devices. Primary key of device. Tells the owners that a device had before, if it has another now.
insert into device as stored (device_id, partition, owner_account_id, name, kind, created_at)
select row.device_id, row.partition, row.owner_account_id, row.name, row.kind, row.created_at
from unnest($1::text[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
    as row (device_id, partition, owner_account_id, name, kind, created_at)
on conflict (device_id) do update set
    partition = excluded.partition,
    owner_account_id = excluded.owner_account_id,
    name = excluded.name,
    kind = excluded.kind,
    created_at = excluded.created_at
returning old.owner_account_id as former_owner, new.owner_account_id as owner

-- name: delete_devices
-- Store.save_devices: devices that were removed. Primary key of device. Tells whose they were.
delete from device where device_id = any ($1::text[]) returning owner_account_id

-- name: delete_services
-- Store.save_devices: all services of the devices of a batch, before they are written anew. Primary key of
-- service, by its first column.
delete from service where device_id = any ($1::text[])

-- name: save_services
-- Store.save_devices. Primary key of service.
insert into service (
    device_id, service_id, ordinal, name, protocol, channel, target_host, target_port, permissions, live_path,
    recording_path
)
select
    row.device_id, row.service_id, row.ordinal, row.name, row.protocol, row.channel, row.target_host,
    row.target_port, string_to_array(row.permissions, ','), row.live_path, row.recording_path
from unnest(
    $1::text[], $2::text[], $3::integer[], $4::text[], $5::text[], $6::integer[], $7::text[], $8::integer[],
    $9::text[], $10::text[], $11::text[]
) as row (
    device_id, service_id, ordinal, name, protocol, channel, target_host, target_port, permissions, live_path,
    recording_path
)

-- name: release_devices
-- Store.save_devices: a newer snapshot could be read. Primary key of device_quarantine.
delete from device_quarantine where device_id = any ($1::text[])

-- name: quarantine_devices
-- Store.save_devices. Primary key of device_quarantine.
insert into device_quarantine (device_id, code, quarantine_offset)
select * from unnest($1::text[], $2::text[], $3::bigint[])
on conflict (device_id) do update set code = excluded.code, quarantine_offset = excluded.quarantine_offset

-- name: save_accounts
-- Store.save_accounts. Primary key of account.
insert into account (account_id, name)
select * from unnest($1::text[], $2::text[])
on conflict (account_id) do update set name = excluded.name

-- name: delete_accounts
-- Store.save_accounts. Primary key of account.
delete from account where account_id = any ($1::text[])

-- name: note_deletions
-- Store.save_accounts. Primary key of deleted_account; device_by_owner, share_by_account. $1 accounts that are deleted,
-- $2 those that are there. Tells the devices of which they own or have something, when that was otherwise before.
with gone as (
    insert into permission_projector.deleted_account (account_id)
    select unnest($1::text[])
    on conflict (account_id) do nothing
    returning account_id
),
back as (
    delete from permission_projector.deleted_account where account_id = any ($2::text[]) returning account_id
),
changed as (
    select account_id from gone
    union all
    select account_id from back
)
select device.device_id from changed join device on device.owner_account_id = changed.account_id
union
select share.device_id from changed join share using (account_id) where share.state = 'active'

-- name: delete_addresses
-- Store.save_accounts: all addresses of the accounts of a batch. Primary key of account_address, by its first
-- column.
delete from account_address where account_id = any ($1::text[])

-- name: save_addresses
-- Store.save_accounts. Primary key of account_address.
insert into account_address (account_id, address, ordinal)
select * from unnest($1::text[], $2::text[], $3::integer[])

-- name: save_contacts
-- Store.save_contacts. Primary key of contact.
insert into contact (contact_id, address)
select * from unnest($1::uuid[], $2::text[])
on conflict (contact_id) do update set address = excluded.address

-- name: devices_of_contacts
-- Store.save_contacts: where an address is shown. share_by_contact.
select distinct share.device_id from share
where share.contact_id = any ($1::uuid[]) and share.state in ('requested', 'active')

-- name: delete_contacts
-- Store.save_contacts. Primary key of contact.
delete from contact where contact_id = any ($1::uuid[])

-- name: save_watermark
-- Store.save_watermarks. Primary key of watermark.
insert into watermark (
    watermark_offset, as_of, events_topic, events_topic_id, events_ends, devices_topic, devices_topic_id,
    devices_ends
)
values ($1, $2, $3, $4, $5, $6, $7, $8)

-- name: forget_watermarks
-- Store.save_watermarks: what is older than the newest that are kept. Primary key of watermark.
delete from watermark where watermark_offset <= $1

-- name: append_change
-- Store.announce, last. The lock on the generation is taken before the row gets its id, and held until the commit:
-- ids are then in the order of the commits, so that a reader's cursor never passes a row that is not there yet.
with turn as materialized (
    select number from generation for update
)
insert into change (device_ids, correlation_ids, account_ids, contact_ids)
select $1::text[], $2::text[], $3::text[], $4::uuid[]
from turn
returning id, pg_notify('permissions_changed', '')

-- name: forget_changes
-- Store.announce, now and then. Primary key of change.
delete from change where id <= $1

-- name: notify
-- Store.announce, when no list changed, but maybe the freshness; only a hint.
notify permissions_changed

-- name: observe
-- The metrics of `project`, every few seconds. Sequential over the two quarantines' rows.
select
    (
        select count(*) from (
            select device_id from stream_quarantine
            union
            select device_id from device_quarantine
        ) as quarantined
    ) as quarantined,
    (
        select case when count(as_of) = count(*) then extract(epoch from max(now - as_of))::double precision end
        from permissions_api.freshness_v1()
    ) as age_seconds

