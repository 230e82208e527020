-- Statements of the read API (`serve`), with those of devices.sql and history.sql. The search_path is the schema of
-- the live generation. An answer is one statement, so that it is of one generation and of one instant; `serve` plans
-- each once for all values, so that the plans which a test pins are those that run.

-- name: known_positions
-- Reader.wait_for. Primary keys of share_event, device and share. For an account that has nothing to do
-- with a device its version is 0, as for a device that does not exist.
select
    asked.device_id,
    coalesce((
        select max(event.version)
        from share_event as event
        where event.device_id = asked.device_id
            and (
                exists (
                    select from device
                    where device.device_id = asked.device_id and device.owner_account_id = $1
                )
                or exists (
                    select from share
                    where share.device_id = asked.device_id
                        and (
                            share.owner_account_id = $1
                            or share.account_id = $1
                            or share.contact_id in (
                                select contact.contact_id
                                from account_address as mine
                                join contact on contact.address = mine.address
                                where mine.account_id = $1
                            )
                        )
                )
            )
    ), 0) as version
from unnest($2::text[]) as asked (device_id)

-- name: is_deleted
-- Every request of an account that was not looked at for seconds. Primary key of deleted_account.
select exists (select from permission_projector.deleted_account where account_id = $1)

-- name: me
-- GET /v1/me. Primary keys of account and account_address. Always one row.
select
    $1::text as account_id,
    (select account.name from account where account.account_id = $1) as name,
    (
        select mine.address from account_address as mine
        where mine.account_id = $1 and mine.address like 'mailto:%'
        order by mine.ordinal
        limit 1
    ) as address

-- name: invitations
-- GET /v1/invitations, the newest first. Primary key of account_address, contact_by_address, share_by_contact, primary
-- key of service. $1 account, $2 and $3 when the last share of the page before was asked for, and its id, or null, $4
-- size. What has run out by the clock can be accepted no more, told by an event or not yet.
select
    share.share_id,
    share.device_id,
    device.name as device_name,
    share.owner_account_id,
    account.name as owner_name,
    (
        select owners.address from account_address as owners
        where owners.account_id = share.owner_account_id and owners.address like 'mailto:%'
        order by owners.ordinal
        limit 1
    ) as owner_address,
    share.terms::text as terms,
    (
        select coalesce(jsonb_object_agg(service.service_id, service.name), '{}'::jsonb)::text
        from service
        where service.device_id = share.device_id
            and share.terms -> 'scope' -> 'services' ? service.service_id
    ) as service_names,
    share.invitation_version,
    share.requested_at,
    share.expires_at,
    (select max(event.version) from share_event as event where event.device_id = share.device_id) as version
from account_address as mine
join contact on contact.address = mine.address
join share on share.contact_id = contact.contact_id and share.state = 'requested'
join device on device.device_id = share.device_id and device.owner_account_id = share.owner_account_id
left join account on account.account_id = share.owner_account_id
where mine.account_id = $1
    and share.owner_account_id <> $1
    and (share.requested_at, share.share_id) < (
        coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    )
    and coalesce(share.expires_at > now(), true)
    and not permission_projector.is_over(share.terms, now())
    and not exists (select from device_quarantine where device_quarantine.device_id = share.device_id)
    and not exists (select from stream_quarantine where stream_quarantine.device_id = share.device_id)
order by share.requested_at desc, share.share_id desc
limit $4::integer + 1

-- name: feed
-- live.Feed: what came after a place in the change feed, for those who follow it. Primary key of change; for the
-- devices named device's and share's, for the contacts contact's and account_address_by_address. $1 the place,
-- $2 accounts, $3 how many changes at most. Always a row: which generation is live, which places are kept, and how
-- far this answer goes. Who lost a share by a change is named by it; whoever lost one before is told nothing.
with following as materialized (
    select change.id, change.device_ids, change.account_ids, change.contact_ids
    from change
    where change.id > $1
    order by change.id
    limit $3
),
touched as (
    select following.id, following.account_ids, named.device_id
    from following
    cross join lateral unnest(following.device_ids) as named (device_id)
),
concerned as (
    -- Whoever follows may own any number of devices, so the way is always from what was touched (offset 0).
    select touched.id, owning.account_id, touched.device_id, false as invited
    from touched
    cross join lateral (
        select device.owner_account_id as account_id from device
        where device.device_id = touched.device_id
        offset 0
    ) as owning
    union all
    select touched.id, sharing.account_id, touched.device_id, sharing.invited
    from touched
    cross join lateral (
        select each.account_id, each.invited and each.account_id = any (touched.account_ids) as invited
        from share
        cross join lateral (
            values
                (share.account_id, share.state = 'active', true),
                (share.owner_account_id, false, false)
        ) as each (account_id, holds, invited)
        where share.device_id = touched.device_id
            and each.account_id is not null
            and (each.holds or each.account_id = any (touched.account_ids))
        offset 0
    ) as sharing
    union all
    select touched.id, waiting.account_id, null, true
    from touched
    cross join lateral (
        select invited.account_id
        from share
        join contact using (contact_id)
        join account_address as invited using (address)
        where share.device_id = touched.device_id and share.state = 'requested'
        offset 0
    ) as waiting
    union all
    select following.id, waiting.account_id, null, true
    from following
    cross join lateral unnest(following.contact_ids) as named (contact_id)
    cross join lateral (
        select invited.account_id
        from contact
        join account_address as invited using (address)
        where contact.contact_id = named.contact_id
        offset 0
    ) as waiting
    union all
    select following.id, named.account_id, null, null
    from following
    cross join lateral unnest(following.account_ids) as named (account_id)
),
told as (
    select
        concerned.id, concerned.account_id,
        coalesce(
            array_agg(distinct concerned.device_id order by concerned.device_id)
                filter (where concerned.device_id is not null),
            '{}'
        ) as device_ids,
        coalesce(bool_or(concerned.invited), false) as invited,
        bool_or(concerned.invited is null) as named
    from concerned
    where concerned.account_id = any ($2::text[])
    group by concerned.id, concerned.account_id
)
select
    generation.number as generation,
    coalesce((select min(change.id) from change), 1) as oldest,
    coalesce((select max(change.id) from change), 0) as newest,
    coalesce((select max(following.id) from following), $1) as reached,
    told.id, told.account_id, told.device_ids, told.invited, told.named
from generation
left join told on true
order by told.id

-- name: activity
-- live.Live: whom it concerns that devices came or went ($2), and that connections began or ended ($3 their devices, $4
-- who connected), of those who follow ($1). Primary keys of device and share. The owner is told of both, who has a
-- share that has begun of the first, and whoever connected of his own.
select each.account_id, array_agg(distinct each.device_id order by each.device_id) as device_ids
from (
    select owning.account_id, named.device_id
    from unnest($2::text[] || $3::text[]) as named (device_id)
    cross join lateral (
        select device.owner_account_id as account_id from device
        where device.device_id = named.device_id
        offset 0
    ) as owning
    union all
    select sharing.account_id, named.device_id
    from unnest($2::text[]) as named (device_id)
    cross join lateral (
        select share.account_id from share
        where share.device_id = named.device_id
            and share.state = 'active'
            and share.owner_account_id = (
                select device.owner_account_id from device where device.device_id = named.device_id
            )
            and permission_projector.has_begun(share.terms, now())
            and not permission_projector.is_over(share.terms, now())
        offset 0
    ) as sharing
    union all
    select used.account_id, used.device_id
    from unnest($3::text[], $4::text[]) as used (device_id, account_id)
) as each
where each.account_id = any ($1::text[])
group by each.account_id

-- name: alive
-- /readyz.
select number from generation
