-- name: ping
-- app, readiness. No table.
select 1

-- name: last_versions
-- consumer, once a batch of share events. Primary key of device_progress.
select device_id, last_version from device_progress where device_id = any($1::text[])

-- name: invitations
-- consumer, once a batch of share events. Primary key of invitation.
select share_id, device_id, contact_id, owner_account_id, state, invitation_version, announced_version, terms
from invitation
where share_id = any($1::uuid[])

-- name: save_progress
-- consumer, one row a device of the batch. Primary key of device_progress.
insert into device_progress (device_id, last_version) values ($1, $2)
on conflict (device_id) do update set last_version = excluded.last_version

-- name: save_invitation
-- consumer, one row a share of the batch. Primary key of invitation.
insert into invitation
    (share_id, device_id, contact_id, owner_account_id, state, invitation_version, announced_version, terms)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (share_id) do update set
    device_id = excluded.device_id,
    contact_id = excluded.contact_id,
    owner_account_id = excluded.owner_account_id,
    state = excluded.state,
    invitation_version = excluded.invitation_version,
    announced_version = excluded.announced_version,
    terms = excluded.terms

-- name: add_delivery
-- consumer, one row a notice. Unique one_delivery_per_event_contact_channel_template.
insert into delivery
    (event_id, contact_id, channel, template, share_id, version, event_time, correlation_id)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict on constraint one_delivery_per_event_contact_channel_template do nothing

-- name: announce
-- consumer, once a batch that planned something: wakes every instance when the transaction commits.
select pg_notify('notifier_due', '')

-- name: save_device
-- consumer. Primary key of device.
insert into device (device_id, name, service_names) values ($1, $2, $3)
on conflict (device_id) do update set name = excluded.name, service_names = excluded.service_names

-- name: delete_device
-- consumer. Primary key of device.
delete from device where device_id = $1

-- name: save_account
-- consumer. Primary key of account.
insert into account (account_id, name, verified_emails) values ($1, $2, $3)
on conflict (account_id) do update set name = excluded.name, verified_emails = excluded.verified_emails

-- name: delete_account
-- consumer. Primary key of account.
delete from account where account_id = $1

-- name: save_contact
-- consumer. Primary key of contact.
insert into contact (contact_id, address) values ($1, $2)
on conflict (contact_id) do update set address = excluded.address

-- name: delete_contact
-- consumer. Primary key of contact.
delete from contact where contact_id = $1

-- name: claim_delivery
-- delivery, whenever a worker is free. Index delivery_due. Until due_at nobody else claims it.
update delivery
set claim = $1, due_at = now() + $2
where delivery_id = (
    select delivery_id
    from delivery
    where state = 'due' and due_at <= now()
    order by due_at
    limit 1
    for update skip locked
)
returning
    delivery_id, event_id, contact_id, channel, template, share_id, version, event_time, correlation_id,
    attempts, waits, created_at, now() as claimed_at

-- name: delivery_facts
-- delivery, after each claim. Primary keys of invitation, device, account and contact.
select
    i.share_id, i.device_id, i.contact_id, i.owner_account_id, i.state, i.invitation_version,
    i.announced_version, i.terms,
    d.name as device_name, d.service_names,
    a.name as owner_name, a.verified_emails as owner_addresses,
    c.address
from invitation as i
left join device as d using (device_id)
left join account as a on a.account_id = i.owner_account_id
left join contact as c using (contact_id)
where i.share_id = $1

-- name: renew_claim
-- delivery, while a mail is handed over. Primary key of delivery. No row: the claim is lost.
update delivery
set due_at = now() + $3
where delivery_id = $1 and claim = $2 and state = 'due'
returning delivery_id

-- name: mark_sent
-- delivery, as soon as the server said 250; also when the claim was lost meanwhile. Primary key of delivery.
update delivery
set state = 'sent', claim = null, code = null, attempts = attempts + 1, finished_at = now()
where delivery_id = $1 and state <> 'sent'

-- name: finish
-- delivery, when it is not to be tried again. Primary key of delivery.
update delivery
set state = $3, code = $4, claim = null, finished_at = now()
where delivery_id = $1 and claim = $2 and state = 'due'

-- name: retry_sending
-- delivery, after a try that failed. Primary key of delivery.
update delivery
set due_at = now() + $3, code = $4, claim = null, attempts = attempts + 1
where delivery_id = $1 and claim = $2 and state = 'due'

-- name: wait_for_facts
-- delivery, when a name or the address has not arrived yet. Primary key of delivery.
update delivery
set due_at = now() + $3, code = $4, claim = null, waits = waits + 1
where delivery_id = $1 and claim = $2 and state = 'due'

-- name: backlog
-- delivery, every few seconds, for the metrics. Index delivery_due.
select
    coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as oldest_seconds,
    count(*) filter (where code = 'FACTS_MISSING' and created_at < now() - $1::interval) as long_without_facts
from delivery
where state = 'due'
