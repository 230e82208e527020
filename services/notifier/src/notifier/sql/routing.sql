-- name: notices_to_route
-- routing, whenever there may be some. Index notice_to_route; the rest by primary keys, account_by_address,
-- subscription_of_account, one_delivery_per_notice_channel_target. Locked until the transaction ends.
with due as materialized (
    select *
    from notice
    where route_at <= now()
    order by route_at
    limit $1
    for update skip locked
)
select
    n.notice_id, n.event_id, n.reader, n.contact_id, n.account_id, n.template, n.share_id, n.device_id,
    n.owner_account_id, n.version, n.event_time, n.outside, n.operation, n.correlation_id, n.created_at, n.waits,
    now() as looked_at,
    i.state, i.invitation_version, i.announced_version, i.terms, i.expires_at, i.account_id as accepted_by,
    i.notify, i.reminder_at,
    coalesce(d.name, n.device_name) as device_name, d.service_names, owner.name as owner_name,
    case when n.account_id is null then c.address else person.addresses[1] end as address,
    coalesce(
        case when n.account_id is null then c.refused_at else person.refused_at end > now() - interval '30 days',
        false
    ) as refused,
    person.account_id is not null as has_account,
    s.time_zone, s.quiet_from, s.quiet_until,
    (
        select json_agg(json_build_array(p.template, p.channel, p.wanted))
        from preference as p
        where p.reader in ('account ' || person.account_id, n.contact_id::text)
    ) as choices,
    (
        select json_agg(json_build_array(q.subscription_id, q.channel))
        from push_subscription as q
        where q.account_id = person.account_id
    ) as subscriptions,
    case when n.template = 'revoked' and n.account_id is null then (
        select bool_or(earlier_delivery.state = 'sent')
        from notice as earlier
        join delivery as earlier_delivery using (notice_id)
        where earlier.share_id = n.share_id and earlier.account_id is null
            and (earlier_delivery.state = 'sent' or earlier_delivery.claim is not null)
    ) end as told_before
from due as n
join invitation as i using (share_id)
left join device as d on d.device_id = n.device_id
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
order by n.route_at

-- name: latest_of_pairs
-- routing, once a batch. Index delivery_of_pair.
select pair, channel, max(greatest(due_at, created_at)) as last
from delivery
where pair = any($1::text[]) and created_at > now() - $2::interval
    and (state in ('due', 'sent')) and attempts <= 1
group by pair, channel

-- name: add_deliveries
-- routing, once a batch. Unique one_delivery_per_notice_channel_target.
insert into delivery (notice_id, channel, target, due_at, pair, lane)
select * from unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::text[], $6::text[])
on conflict on constraint one_delivery_per_notice_channel_target do nothing

-- name: wait_for_bulk
-- routing, once a batch: more of an operation has come, so that those that wait for its end wait on.
update delivery as d
set due_at = greatest(d.due_at, least(now() + $2, n.created_at + $3))
from notice as n
where d.pair = any($1::text[]) and d.state = 'due' and d.claim is null and d.attempts = 0
    and n.notice_id = d.notice_id and n.operation is not null

-- name: routed
-- routing, once a batch. Primary key of notice.
update notice as n
set route_at = r.route_at, outcome = r.outcome, code = r.code, waits = n.waits + case when r.route_at is null then 0 else 1 end
from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[]) as r (notice_id, route_at, outcome, code)
where n.notice_id = r.notice_id

-- name: notice_backlog
-- routing, every few seconds, for the metrics. Index notice_to_route.
select
    coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as oldest_seconds,
    count(*) filter (where code = 'FACTS_MISSING' and created_at < now() - $1::interval) as long_without_facts
from notice
where route_at is not null
