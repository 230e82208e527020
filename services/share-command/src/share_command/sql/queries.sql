-- Statements of share-command. Each names its caller and the index it needs.

-- name: claim_command
-- handlers.handle, first. Primary key; waits for a concurrent twin to end. No row: the id is taken.
insert into command (command_id, body_sha256) values ($1, $2)
on conflict (command_id) do nothing
returning command_id

-- name: stored_command
-- handlers.handle, when the id is taken. Primary key.
select body_sha256, result from command where command_id = $1

-- name: finish_command
-- handlers.handle, last. Primary key.
update command set result = $2::jsonb where command_id = $1

-- name: resolve_names
-- Handlers of requests, revocations and leaves. Primary key of device, index device_service_by_service.
-- A name is a device's id, or the id of a service, which stands for that service of its device.
select written.name, device.device_id, null as service_id, device.owner_account_id
from unnest($1::text[]) as written (name)
join device on device.device_id = written.name
union all
select written.name, device.device_id, device_service.service_id, device.owner_account_id
from unnest($1::text[]) as written (name)
join device_service on device_service.service_id = written.name
join device on device.device_id = device_service.device_id
order by name, device_id

-- name: devices
-- All handlers, after the streams are locked. Primary keys of device and device_service.
select
    device.device_id,
    device.owner_account_id,
    array(
        select device_service.service_id from device_service
        where device_service.device_id = device.device_id
    ) as services
from device
where device.device_id = any($1::text[])

-- name: verified_addresses
-- All handlers. Primary key of account_address.
select address from account_address where account_id = $1

-- name: add_contacts
-- Handler of requests. Unique address; in order of address, so that two commands never wait crosswise.
insert into contact (contact_id, address)
select new.contact_id, new.address
from unnest($1::uuid[], $2::text[]) as new (contact_id, address)
order by new.address
on conflict (address) do nothing
returning contact_id, address

-- name: lock_contacts
-- Handler of requests, before the devices' streams. Unique address. Shared: contacts may be used together.
select contact_id, address from contact where address = any($1::text[]) order by address for share

-- name: contacts
-- Handlers of the other commands. Unique address.
select contact_id, address from contact where address = any($1::text[])

-- name: use_contacts
-- Handler of requests. Primary key of contact_book.
insert into contact_book (owner_account_id, contact_id, last_used_at)
select $1, used.contact_id, $3
from unnest($2::uuid[]) as used (contact_id)
order by used.contact_id
on conflict (owner_account_id, contact_id) do update
set last_used_at = greatest(contact_book.last_used_at, excluded.last_used_at)

-- name: add_streams
-- All handlers, before lock_streams. Primary key; in order of id, as the locks.
insert into device_stream (device_id)
select missing.device_id from unnest($1::text[]) as missing (device_id)
order by missing.device_id
on conflict (device_id) do nothing

-- name: lock_streams
-- All handlers. Primary key; in order of id, so that two commands never wait crosswise.
select device_id, version from device_stream where device_id = any($1::text[]) order by device_id for update

-- name: advance_streams
-- All handlers that append. Primary key.
update device_stream set version = new.version
from unnest($1::text[], $2::bigint[]) as new (device_id, version)
where device_stream.device_id = new.device_id

-- name: shares_of_contacts
-- Handlers of requests and revocations. Unique (device_id, contact_id).
select share_id, device_id, contact_id, owner_account_id, state, terms, invitation_version, account_id
from share
where device_id = any($1::text[]) and contact_id = any($2::uuid[])

-- name: shares_of_recipient
-- Handler of leaves. Unique (device_id, contact_id) by its first column.
select share_id, device_id, contact_id, owner_account_id, state, terms, invitation_version, account_id
from share
where device_id = any($1::text[]) and (account_id = $2 or contact_id = any($3::uuid[]))

-- name: share
-- Handlers of acceptances and rejections. Primary key.
select
    share.share_id, share.device_id, share.contact_id, share.owner_account_id, share.state, share.terms,
    share.invitation_version, share.account_id, contact.address
from share
join contact on contact.contact_id = share.contact_id
where share.share_id = $1 and share.device_id = $2

-- name: save_shares
-- All handlers that append. Primary key.
insert into share (
    share_id, device_id, contact_id, owner_account_id, state, terms, invitation_version, account_id
)
select
    new.share_id, new.device_id, new.contact_id, new.owner_account_id, new.state, new.terms::jsonb,
    new.invitation_version, new.account_id
from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[])
    as new (share_id, device_id, contact_id, owner_account_id, state, terms, invitation_version, account_id)
on conflict (share_id) do update set
    owner_account_id = excluded.owner_account_id,
    state = excluded.state,
    terms = excluded.terms,
    invitation_version = excluded.invitation_version,
    account_id = excluded.account_id

-- name: append_events
-- All handlers that append. Primary key (device_id, version) refuses a version that is taken.
insert into event (device_id, version, event_id, share_id, command_id, envelope)
select new.device_id, new.version, new.event_id, new.share_id, $5, new.envelope::jsonb
from unnest($1::text[], $2::bigint[], $3::uuid[], $4::uuid[], $6::text[])
    as new (device_id, version, event_id, share_id, envelope)

-- name: append_outbox
-- All handlers that append. Ids are given in the order of the arrays.
insert into outbox (topic, key, value, correlation_id)
select new.topic, new.key, new.value, $4
from unnest($1::text[], $2::text[], $3::bytea[]) with ordinality as new (topic, key, value, place)
order by new.place

-- name: contact_book
-- GET /v1/contacts. Primary key of contact_book by its first column.
select contact.contact_id, contact.address
from contact_book
join contact on contact.contact_id = contact_book.contact_id
where contact_book.owner_account_id = $1
order by contact_book.last_used_at desc, contact.contact_id

-- name: invitation
-- POST /v1/invitation-links. Primary keys, and that of account_address: a row only for who may see it, while
-- the device is still whose it was. Names of the device and its services only while the share is open.
select
    share.share_id, share.device_id, account.name as owner_name, share.state, share.invitation_version,
    share.terms,
    case when share.state in ('requested', 'active') then device.name else share.device_id end as device_name,
    (
        select coalesce(jsonb_object_agg(device_service.service_id, device_service.name), '{}')
        from device_service
        where device_service.device_id = share.device_id
            and share.state in ('requested', 'active')
            and share.terms -> 'scope' -> 'services' ? device_service.service_id
    ) as service_names
from share
join contact on contact.contact_id = share.contact_id
join account_address
    on account_address.account_id = $4 and account_address.address = contact.address
join device on device.device_id = share.device_id and device.owner_account_id = share.owner_account_id
left join account on account.account_id = share.owner_account_id
where share.share_id = $1 and share.device_id = $2 and share.contact_id = $3
    and (share.account_id is null or share.account_id = $4)

-- name: save_device
-- Directory inbox. Primary key.
insert into device (device_id, owner_account_id, name) values ($1, $2, $3)
on conflict (device_id) do update set owner_account_id = excluded.owner_account_id, name = excluded.name

-- name: drop_other_services
-- Directory inbox. Primary key of device_service by its first column.
delete from device_service where device_id = $1 and service_id <> all($2::text[])

-- name: add_services
-- Directory inbox. Primary key of device_service.
insert into device_service (device_id, service_id, name)
select $1, new.service_id, new.name from unnest($2::text[], $3::text[]) as new (service_id, name)
on conflict (device_id, service_id) do update set name = excluded.name

-- name: drop_device
-- Directory inbox. Primary key; its services go with it.
delete from device where device_id = $1

-- name: save_account
-- Directory inbox. Primary key.
insert into account (account_id, name) values ($1, $2)
on conflict (account_id) do update set name = excluded.name

-- name: drop_other_addresses
-- Directory inbox. Primary key of account_address by its first column.
delete from account_address where account_id = $1 and address <> all($2::text[])

-- name: add_addresses
-- Directory inbox. Primary key of account_address.
insert into account_address (account_id, address)
select $1, new.address from unnest($2::text[]) as new (address)
on conflict (account_id, address) do nothing

-- name: drop_account
-- Directory inbox. Primary key; its addresses go with it.
delete from account where account_id = $1

-- name: ping
-- Readiness, and the relay's keep-alive while it waits for the broker.
select 1

-- name: wake_relay
-- Waker.
notify share_command_outbox

-- name: become_the_relay
-- Relay. A session lock, given back by the server when the session ends.
select pg_try_advisory_lock($1)

-- name: lowest_outbox_rows
-- Relay. Primary key; leaves out the topics and keys that are held, in two arrays.
select id, topic, key, value, correlation_id from outbox
where (topic, key) not in (select held.topic, held.key from unnest($2::text[], $3::text[]) as held (topic, key))
order by id
limit $1

-- name: held_outbox_rows
-- Relay, while it holds keys. Primary key.
select id from outbox where id = any($1::bigint[]) and octet_length(value) > $2

-- name: drop_outbox_rows
-- Relay, after the broker's acknowledgement. Primary key.
delete from outbox where id = any($1::bigint[])

-- name: database_clock
-- Relay, for a watermark, before highest_outbox_id.
select clock_timestamp()

-- name: highest_outbox_id
-- Relay, for a watermark. Primary key, backwards.
select max(id) from outbox

-- name: oldest_outbox_age
-- Relay's metric. Primary key; the row of the lowest id is the oldest but for a few ms.
select extract(epoch from clock_timestamp() - created_at)::float8 from outbox order by id limit 1
