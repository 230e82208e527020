-- name: claim_deliveries
-- delivery, whenever a worker is free. The function's comment says what it does.
select * from claim_deliveries($1, $2, $3, $4, $5, $6, $7)

-- name: next_due
-- delivery, when nothing was due: in how many seconds something is. Index delivery_due.
select extract(epoch from min(due_at) - now())::float8 from delivery where state = 'due' and channel = $1

-- name: delivery_facts
-- delivery, at the moment of sending: for all that are about to be. Primary keys, account_by_address.
select
    d.delivery_id, d.target, d.attempts, d.created_at, now() as looked_at, q.endpoint, q.public_key, q.auth_secret,
    n.notice_id, n.event_id, n.reader, n.contact_id, n.account_id, n.template, n.share_id, n.device_id,
    n.owner_account_id, n.version, n.event_time, n.outside, n.operation, n.correlation_id,
    n.device_name as former_device_name, n.created_at as planned_at,
    i.state, i.invitation_version, i.announced_version, i.terms, i.expires_at, i.account_id as accepted_by,
    i.notify, i.reminder_at,
    device.name as device_name, device.service_names,
    owner.name as owner_name, owner.addresses[1] as owner_address,
    c.address as contact_address,
    case when n.account_id is null then c.address else person.addresses[1] end as address,
    s.language, s.time_zone, s.quiet_from, s.quiet_until, person.account_id as person_account,
    (
        select bool_and(p.wanted)
        from preference as p
        where p.reader in ('account ' || person.account_id, n.contact_id::text)
            and p.template = n.template and p.channel = d.channel
    ) as wanted
from unnest($1::uuid[], $2::uuid[]) as held (delivery_id, claim)
join delivery as d on d.delivery_id = held.delivery_id and d.claim = held.claim and d.state = 'due'
join notice as n using (notice_id)
join invitation as i using (share_id)
left join device on device.device_id = n.device_id
left join account as owner on owner.account_id = n.owner_account_id
left join contact as c on c.contact_id = n.contact_id
left join lateral (
    select a.* from account as a where a.account_id = n.account_id
    union all
    (
        -- "offset 0": else all accounts are read in the order of their ids until one has the address
        select a.*
        from (select * from account where n.account_id is null and addresses @> array[c.address] offset 0) as a
        order by a.account_id
        limit 1
    )
) as person on true
left join account_setting as s on s.account_id = person.account_id
left join push_subscription as q
    on q.subscription_id = nullif(d.target, '')::uuid and q.account_id = person.account_id
order by n.created_at, n.event_time, d.delivery_id

-- name: renew_claims
-- delivery, while it is handed over. Primary key of delivery. What is not returned is lost.
update delivery
set due_at = now() + $3
where delivery_id = any($1::uuid[]) and claim = $2 and state = 'due'
returning delivery_id

-- name: mark_sent
-- delivery, as soon as it was taken; also when the claim was lost meanwhile. Primary key of delivery.
update delivery
set state = 'sent', claim = null, code = null, attempts = attempts + 1, finished_at = now()
where delivery_id = any($1::uuid[]) and state <> 'sent'

-- name: finish
-- delivery, when it is not to be tried again. Primary key of delivery.
update delivery
set state = $3, code = $4, claim = null, finished_at = now()
where delivery_id = any($1::uuid[]) and claim = $2 and state = 'due'
returning notice_id

-- name: told_otherwise
-- delivery, when one has failed for good: those of its notices that were delivered on another way. Unique
-- one_delivery_per_notice_channel_target.
select distinct notice_id from delivery where notice_id = any($1::uuid[]) and state = 'sent'

-- name: refuse_contact
-- delivery, when mail to a contact is refused for good. Primary key of contact.
update contact set refused_at = now() where contact_id = $1

-- name: refuse_account
-- delivery, when mail to an account is refused for good. Primary key of account.
update account set refused_at = now() where account_id = $1

-- name: retry_later
-- delivery, after a try that failed. Primary key of delivery.
update delivery
set due_at = now() + $3, code = $4, claim = null, attempts = attempts + 1
where delivery_id = any($1::uuid[]) and claim = $2 and state = 'due'

-- name: wait_until
-- delivery, when its reader is not to be disturbed now. Primary key of delivery.
update delivery
set due_at = $3, claim = null
where delivery_id = any($1::uuid[]) and claim = $2 and state = 'due'

-- name: delivery_backlog
-- delivery, every few seconds, for the metrics. Index delivery_due.
-- What waits for others, or for the end of quiet hours, is not late.
select coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as oldest_seconds
from delivery
where state = 'due' and (due_at <= now() or attempts > 0)

-- name: forget_subscription
-- delivery, when a push service says that it is gone. Primary key of push_subscription.
delete from push_subscription where subscription_id = $1

-- name: refuse_subscription
-- delivery, when a push service refuses us: how often in a row it has. Primary key of push_subscription.
update push_subscription set refusals = refusals + 1 where subscription_id = $1 returning refusals

-- name: accept_subscription
-- delivery, when a push was taken after refusals. Primary key of push_subscription.
update push_subscription set refusals = 0 where subscription_id = $1 and refusals > 0

-- name: failed_deliveries
-- the verb `redrive`: how many would be tried again, by code. No index; an operator asks.
select code, channel, count(*) as deliveries
from delivery
where state = 'failed' and ($1::text is null or code = $1)
group by code, channel
order by code, channel

-- name: redrive
-- the verb `redrive`. No index; an operator asks.
update delivery
set state = 'due', due_at = now(), claim = null, attempts = 0, finished_at = null, created_at = now()
where state = 'failed' and ($1::text is null or code = $1)
returning delivery_id
