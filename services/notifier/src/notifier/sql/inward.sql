-- name: ping
-- app, readiness. No table.
select 1

-- name: last_versions
-- consumer, once a batch of share events. Primary key of device_progress.
select device_id, last_version from device_progress where device_id = any($1::text[])

-- name: invitations
-- consumer, once a batch of share events. Primary key of invitation.
select
    share_id, device_id, contact_id, owner_account_id, state, invitation_version, announced_version, terms,
    expires_at, account_id, notify, reminder_at
from invitation
where share_id = any($1::uuid[])

-- name: save_progress
-- consumer, once a batch. Primary key of device_progress.
insert into device_progress (device_id, last_version)
select * from unnest($1::text[], $2::bigint[])
on conflict (device_id) do update set last_version = excluded.last_version

-- name: save_invitation
-- consumer, once a batch, one row a share of it. Primary key of invitation.
insert into invitation
    (
        share_id, device_id, contact_id, owner_account_id, state, invitation_version, announced_version, terms,
        expires_at, account_id, notify, reminder_at
    )
select *
from unnest(
    $1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::jsonb[],
    $9::timestamptz[], $10::text[], $11::boolean[], $12::timestamptz[]
)
on conflict (share_id) do update set
    device_id = excluded.device_id,
    contact_id = excluded.contact_id,
    owner_account_id = excluded.owner_account_id,
    state = excluded.state,
    invitation_version = excluded.invitation_version,
    announced_version = excluded.announced_version,
    terms = excluded.terms,
    expires_at = excluded.expires_at,
    account_id = excluded.account_id,
    notify = excluded.notify,
    reminder_at = excluded.reminder_at

-- name: add_notices
-- consumer, reminding, delivery: once a batch. Unique one_notice_per_event_reader_template.
insert into notice
    (
        notice_id, event_id, reader, contact_id, account_id, template, share_id, device_id, owner_account_id,
        version, event_time, outside, operation, correlation_id, device_name, route_at, outcome
    )
select
    told.*, (select name from device where device.device_id = told.device_id),
    case when told.outside then now() end, case when not told.outside then 'inbox' end
from unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::uuid[], $8::text[], $9::text[],
    $10::bigint[], $11::timestamptz[], $12::boolean[], $13::text[], $14::text[]
) as told (
    notice_id, event_id, reader, contact_id, account_id, template, share_id, device_id, owner_account_id, version,
    event_time, outside, operation, correlation_id
)
where told.account_id is null or not exists (select from deleted_account as gone where gone.account_id = told.account_id)
on conflict on constraint one_notice_per_event_reader_template do nothing

-- name: announce
-- whoever planned or routed something, once a transaction: wakes every instance when it commits.
select pg_notify('notifier_due', $1)

-- name: tell
-- whoever changed what people read, once a transaction: told to those who follow when it commits (hints.py).
select pg_notify('notifier_changed', hint.payload) from unnest($1::text[]) as hint (payload)

-- name: look_again
-- consumer, once a batch that holds snapshots. Index notice_to_route.
with woken as (
    update notice
    set route_at = now()
    where route_at > now() and code = 'FACTS_MISSING' and created_at > now() - interval '1 minute'
    returning 1
)
select count(*) from woken

-- name: note_first_uses
-- consumer, once a batch of access events: keeps the first of each share. Primary key of first_use.
insert into first_use (share_id, account_id, event_id, event_time, told)
select distinct on (used.share_id) used.*, false
from unnest($1::uuid[], $2::text[], $3::uuid[], $4::timestamptz[])
    as used (share_id, account_id, event_id, event_time)
order by used.share_id, used.event_time
on conflict (share_id) do nothing

-- name: tell_first_uses
-- consumer, after what it has applied: first uses that are known together with their share. Primary keys.
update first_use as f
set told = true
from invitation as i
where f.share_id = any($1::uuid[]) and not f.told and i.share_id = f.share_id and i.account_id = f.account_id
returning f.share_id, f.event_id, f.event_time

-- name: forget_first_uses
-- consumer, for shares that begin anew. Primary key of first_use.
delete from first_use where share_id = any($1::uuid[]) and event_time < $2

-- name: due_reminders
-- reminding, every poll. Index invitation_to_remind_of.
update invitation
set reminder_at = null
where share_id in (
    select share_id
    from invitation
    where reminder_at <= now()
    order by reminder_at
    limit 500
    for update skip locked
)
returning
    share_id, device_id, contact_id, owner_account_id, state, invitation_version, announced_version, terms,
    expires_at, account_id, notify, reminder_at

-- name: save_devices
-- consumer, once a batch. Primary key of device.
insert into device (device_id, name, service_names)
select * from unnest($1::text[], $2::text[], $3::jsonb[])
on conflict (device_id) do update set name = excluded.name, service_names = excluded.service_names

-- name: delete_device
-- consumer. Primary key of device.
delete from device where device_id = $1

-- name: save_accounts
-- consumer, once a batch. Primary key of account. Another first address may be one that takes mail. Arrays of
-- arrays must be even, so that the addresses come as JSON.
with back as (delete from deleted_account where account_id = any ($1::text[]))
insert into account (account_id, name, verified_emails, addresses)
select
    said.account_id, said.name, array(select jsonb_array_elements_text(said.verified_emails)),
    array(select jsonb_array_elements_text(said.addresses))
from unnest($1::text[], $2::text[], $3::jsonb[], $4::jsonb[]) as said (account_id, name, verified_emails, addresses)
on conflict (account_id) do update set
    name = excluded.name,
    verified_emails = excluded.verified_emails,
    addresses = excluded.addresses,
    refused_at = case
        when account.addresses[1] is not distinct from excluded.addresses[1] then account.refused_at
    end

-- name: lock_account
-- consumer, before delete_account: nothing more is kept of it beside (inbox.sql). No table.
select pg_advisory_xact_lock(hashtextextended('account ' || $1, 0))

-- name: delete_account
-- consumer: an account that is gone leaves nothing here. Primary keys, notice_of_account, subscription_of_account.
with
    gone as (insert into deleted_account (account_id) values ($1) on conflict (account_id) do nothing),
    notices as (delete from notice where account_id = $1),
    preferences as (delete from preference where reader = 'account ' || $1),
    settings as (delete from account_setting where account_id = $1),
    subscriptions as (delete from push_subscription where account_id = $1)
delete from account where account_id = $1

-- name: save_contacts
-- consumer, once a batch. Primary key of contact.
insert into contact (contact_id, address)
select * from unnest($1::uuid[], $2::text[])
on conflict (contact_id) do update set address = excluded.address

-- name: delete_contact
-- consumer. Primary keys of contact and preference.
with choices as (delete from preference where reader = $1::text)
delete from contact where contact_id = $1::text::uuid
