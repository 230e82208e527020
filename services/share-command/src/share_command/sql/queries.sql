-- Statements of share-command. Each names its caller and the index it needs.

-- name: claim_command
-- Handlers, first. Primary key; in order of id, since it waits for a concurrent twin to end. No row for an id:
-- it is taken.
insert into command (command_id, body_sha256)
select new.command_id, new.body_sha256
from unnest($1::text[], $2::bytea[]) as new (command_id, body_sha256)
order by new.command_id
on conflict (command_id) do nothing
returning command_id

-- name: stored_command
-- Handlers, when ids are taken. Primary key.
select command_id, body_sha256, result from command where command_id = any($1::text[])

-- name: finish_command
-- Handlers, last, when nothing is appended. Primary key.
update command set result = new.result::jsonb
from unnest($1::text[], $2::text[]) as new (command_id, result)
where command.command_id = new.command_id

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
-- All handlers and the directory, after the streams are locked. Primary keys of device and device_service.
select
    device.device_id,
    device.owner_account_id,
    (
        select coalesce(jsonb_object_agg(device_service.service_id, device_service.permissions), '{}')
        from device_service
        where device_service.device_id = device.device_id
    ) as services
from device
where device.device_id = any($1::text[])

-- name: accounts
-- All handlers, before the devices' streams: who commands ($1, no owner in the row), and who of some addresses
-- ($3) always accepts what an owner ($2) shares. Primary keys of account, account_address and always_accept. The
-- accounts cannot be deleted meanwhile; they are locked in order of id, and before their rules, as the directory
-- does that deletes both.
with commanding as materialized (
    select account.account_id, account_address.address
    from account
    left join account_address on account_address.account_id = account.account_id
    where account.account_id = any($1::text[])
    order by account.account_id
    for key share of account
), accepting as materialized (
    select always_accept.owner_account_id, account_address.address, account_address.account_id
    from always_accept
    join account on account.account_id = always_accept.account_id
    join account_address on account_address.account_id = always_accept.account_id
    where always_accept.owner_account_id = any($2::text[]) and account_address.address = any($3::text[])
    order by account.account_id
    for key share of account, always_accept
)
select null as owner, account_id, address from commanding
union all
select owner_account_id, account_id, address from accepting
order by account_id

-- name: deleted_accounts
-- All handlers, for those who command and of whom accounts found nothing, after it has waited for their locks.
-- Primary key.
select account_id from deleted_account where account_id = any($1::text[]) and not there_again

-- name: mark_deleted
-- Directory. Primary key. Numbers are given one transaction after the other, so that whoever goes on from one misses
-- none (`deletions`).
with turn as materialized (
    select pg_advisory_xact_lock(hashtextextended('deleted_account.number', 0))
)
insert into deleted_account as known (account_id)
select $1 from turn
on conflict (account_id) do update set number = default, there_again = false where known.there_again

-- name: unmark_deleted
-- Directory, when an account is there again. Primary key; numbers as in `mark_deleted`.
with gone as materialized (
    select account_id from deleted_account where account_id = $1 and not there_again
), turn as materialized (
    select pg_advisory_xact_lock(hashtextextended('deleted_account.number', 0)) from gone
)
update deleted_account set number = default, there_again = true
from turn
where account_id = $1

-- name: deletions
-- GET /v1/deleted-accounts. Unique deletions_have_an_order. $1 the last number that is known, $2 how many at most.
select number, account_id, there_again from deleted_account where number > $1 order by number limit $2

-- name: lock_account
-- Directory, before it looks for the shares of an account that is deleted. Primary key.
select from account where account_id = $1 for update

-- name: add_contacts
-- Handler of requests. Unique address; in order of address, so that two commands never wait crosswise.
insert into contact (contact_id, address)
select new.contact_id, new.address
from unnest($1::uuid[], $2::text[]) as new (contact_id, address)
order by new.address
on conflict (address) do nothing

-- name: book_contacts
-- Handler of requests, before the devices' streams. Unique address; primary key of contact_book. Contacts are
-- locked shared, as they may be used together, and go to the top of their owners' books. With `own`, only those
-- that are in the owner's book already.
with asked as materialized (
    select written.owner, written.address, written.at, contact.contact_id
    from unnest($1::text[], $2::text[], $3::timestamptz[], $4::boolean[]) as written (owner, address, at, own)
    join contact on contact.address = written.address
    left join contact_book
        on contact_book.owner_account_id = written.owner and contact_book.contact_id = contact.contact_id
    where not written.own or contact_book.contact_id is not null
), locked as materialized (
    select contact_id from contact
    where contact_id in (select contact_id from asked)
        and address not like 'erased:%' -- one that was erased while we waited for it is nobody's any more
    order by address
    for share
), used as (
    insert into contact_book (owner_account_id, contact_id, last_used_at)
    select asked.owner, asked.contact_id, asked.at
    from asked
    join locked using (contact_id)
    order by asked.owner, asked.contact_id
    on conflict (owner_account_id, contact_id) do update
    set last_used_at = greatest(contact_book.last_used_at, excluded.last_used_at)
)
select asked.owner, asked.address, asked.contact_id from asked join locked using (contact_id)

-- name: lock_owner
-- Handler of requests that may make new shares, before the counts. No table: locks of the transaction's.
select asked.owner, true as locked, pg_advisory_xact_lock(hashtextextended('owner:' || asked.owner, 0))
from (select owner from unnest($1::text[]) as owners (owner) order by owner) as asked

-- name: lock_owner_if_free
-- As lock_owner, for commands that share a transaction.
select asked.owner, pg_try_advisory_xact_lock(hashtextextended('owner:' || asked.owner, 0)) as locked
from (select owner from unnest($1::text[]) as owners (owner) order by owner) as asked

-- name: lock_contact_alone
-- Handler of RemoveRecipient, before the devices' streams: no new share with him is under way. Unique address, primary
-- key of contact_book.
select contact.contact_id
from contact
join contact_book on contact_book.contact_id = contact.contact_id and contact_book.owner_account_id = $1
where contact.address = $2
for update of contact

-- name: contacts
-- Handlers of the other commands. Unique address.
select contact_id, address from contact where address = any($1::text[])

-- name: add_streams
-- All handlers, when lock_streams found less than was asked for. Primary key; in order of id, as the locks.
insert into device_stream (device_id)
select missing.device_id from unnest($1::text[]) as missing (device_id)
order by missing.device_id
on conflict (device_id) do nothing

-- name: lock_streams
-- All handlers. Primary key; in order of id, so that two commands never wait crosswise.
select device_id, version from device_stream where device_id = any($1::text[]) order by device_id for update

-- name: lock_streams_if_free
-- Expiry, and commands that share a transaction. Primary key; no row while somebody else has it.
select device_id, version from device_stream
where device_id = any($1::text[])
order by device_id
for update skip locked

-- name: shares_of_contacts
-- Handlers of requests and revocations. Unique (device_id, contact_id).
select
    share.share_id, share.device_id, share.contact_id, share.owner_account_id, share.state, share.terms,
    share.version, share.invitation_version, share.told_at, share.expires_at, share.account_id
from unnest($1::text[], $2::uuid[]) as asked (device_id, contact_id)
join share on share.device_id = asked.device_id and share.contact_id = asked.contact_id

-- name: shares_of_recipient
-- Handlers of leaves, and of revocations by others than the owner. Unique (device_id, contact_id) by its first
-- column.
select
    share_id, device_id, contact_id, owner_account_id, state, terms, version, invitation_version, told_at,
    expires_at, account_id
from share
where device_id = any($1::text[]) and (account_id = any($2::text[]) or contact_id = any($3::uuid[]))
order by device_id, share_id

-- name: share
-- Handlers of what names one share. Primary key.
select
    share.share_id, share.device_id, share.contact_id, share.owner_account_id, share.state, share.terms,
    share.version, share.invitation_version, share.told_at, share.expires_at, share.account_id,
    contact.address
from unnest($1::uuid[], $2::text[]) as asked (share_id, device_id)
join share on share.share_id = asked.share_id and share.device_id = asked.device_id
join contact on contact.contact_id = share.contact_id

-- name: live_shares
-- Directory and expiry, on locked streams. Unique (device_id, contact_id) by its first column.
select
    share_id, device_id, contact_id, owner_account_id, state, terms, version, invitation_version, told_at,
    expires_at, account_id
from share
where device_id = any($1::text[]) and state in ('requested', 'active')
order by device_id, share_id

-- name: live_counts
-- Handler of requests that make new shares, under the owners' locks. Unique (device_id, contact_id), and share_given.
select device_id, null as owner, count(*) as shares
from share
where device_id = any($1::text[]) and state in ('requested', 'active')
group by device_id
union all
select
    null, asked.owner,
    (
        select count(*) from share
        where share.owner_account_id = asked.owner and share.state in ('requested', 'active')
    )
from unnest($2::text[]) as asked (owner)

-- name: devices_shared
-- Handler of RemoveRecipient, under the contact's exclusive lock. Index share_given.
select device_id from share
where owner_account_id = $1 and contact_id = $2 and state in ('requested', 'active')
order by device_id

-- name: devices_of_account
-- Directory, when an account is deleted: devices with live shares that it gives or has. Indexes share_given and
-- share_accepted.
select device_id from share where owner_account_id = $1 and state in ('requested', 'active')
union
select device_id from share where account_id = $1 and state in ('requested', 'active')

-- name: overdue_shares
-- Expiry. Index share_due. Devices, each once, so that one with many does not hide the others; what is held by
-- another process is looked for again.
select device_id from share where due_at <= $1 group by device_id order by min(due_at) limit $2

-- name: append
-- All that append, once. Primary keys; that of event (device_id, version) refuses a version that is taken. Outbox
-- ids are given in the order of the arrays. The owner's words go with the share. A command's answer is stored too.
with saved as (
    insert into share (
        share_id, device_id, contact_id, owner_account_id, state, terms, version, invitation_version, told_at,
        expires_at, account_id, due_at
    )
    select
        new.share_id, new.device_id, new.contact_id, new.owner_account_id, new.state, new.terms::jsonb,
        new.version, new.invitation_version, new.told_at, new.expires_at, new.account_id, new.due_at
    from unnest(
        $1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[],
        $9::timestamptz[], $10::timestamptz[], $11::text[], $12::timestamptz[]
    ) as new (
        share_id, device_id, contact_id, owner_account_id, state, terms, version, invitation_version, told_at,
        expires_at, account_id, due_at
    )
    on conflict (share_id) do update set
        owner_account_id = excluded.owner_account_id,
        state = excluded.state,
        terms = excluded.terms,
        version = excluded.version,
        invitation_version = excluded.invitation_version,
        told_at = excluded.told_at,
        expires_at = excluded.expires_at,
        account_id = excluded.account_id,
        due_at = excluded.due_at,
        message = case when excluded.state in ('requested', 'active') then share.message end
), appended as (
    insert into event (device_id, version, event_id, share_id, command_id, envelope)
    select new.device_id, new.version, new.event_id, new.share_id, new.command_id, new.envelope::jsonb
    from unnest($13::text[], $14::bigint[], $15::uuid[], $16::uuid[], $17::text[], $18::text[])
        as new (device_id, version, event_id, share_id, command_id, envelope)
), advanced as (
    update device_stream set version = new.version
    from unnest($21::text[], $22::bigint[]) as new (device_id, version)
    where device_stream.device_id = new.device_id
), answered as (
    update command set result = new.result::jsonb
    from unnest($23::text[], $24::text[]) as new (command_id, result)
    where command.command_id = new.command_id
)
insert into outbox (topic, key, value, correlation_id)
select new.topic, new.key, convert_to(new.value, 'UTF8'), new.correlation_id
from unnest($19::text[], $13::text[], $18::text[], $20::text[])
    with ordinality as new (topic, key, value, correlation_id, place)
order by new.place

-- name: save_message
-- Handlers of requests and changes. Primary key. Empty words are none.
update share set message = nullif(new.message, '')
from unnest($1::uuid[], $2::text[]) as new (share_id, message)
where share.share_id = new.share_id and share.state in ('requested', 'active')

-- name: append_outbox
-- Handler of requests and contact book, for contacts that are new in a book. Appends.
insert into outbox (topic, key, value, correlation_id)
select new.topic, new.key, new.value, new.correlation_id
from unnest($1::text[], $2::text[], $3::bytea[], $4::text[]) as new (topic, key, value, correlation_id)

-- name: book_addresses
-- Handlers, for recipients named as contacts. Primary keys of contact_book and contact.
select asked.owner, contact.contact_id, contact.address
from unnest($1::text[], $2::uuid[]) as asked (owner, contact_id)
join contact_book
    on contact_book.owner_account_id = asked.owner and contact_book.contact_id = asked.contact_id
join contact on contact.contact_id = asked.contact_id

-- name: forget_contact
-- Handler of RemoveRecipient. Primary key of contact_book.
delete from contact_book where owner_account_id = $1 and contact_id = $2

-- name: forget_book
-- Directory, when an account is deleted. Primary key of contact_book by its first column.
delete from contact_book where owner_account_id = $1

-- name: forget_rules
-- Directory, when an account is deleted. Primary key of always_accept by its first column.
delete from always_accept where owner_account_id = $1

-- name: save_device
-- Directory inbox. Primary key.
insert into device (device_id, owner_account_id, name) values ($1, $2, $3)
on conflict (device_id) do update set owner_account_id = excluded.owner_account_id, name = excluded.name

-- name: drop_other_services
-- Directory inbox. Primary key of device_service by its first column.
delete from device_service where device_id = $1 and service_id <> all($2::text[])

-- name: add_services
-- Directory inbox. Primary key of device_service.
insert into device_service (device_id, service_id, name, permissions)
select $1, new.service_id, new.name, string_to_array(new.permissions, ',')
from unnest($2::text[], $3::text[], $4::text[]) as new (service_id, name, permissions)
on conflict (device_id, service_id) do update set name = excluded.name, permissions = excluded.permissions

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
-- Waker. Nothing is lost with it, so that it waits for no disk.
set local synchronous_commit = off;
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
