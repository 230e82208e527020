-- Statements of the read API about devices and who has access to them; see reading.sql. What stands in braces is
-- another piece of this file, put in by reader.load_statements and reader.device_statements.

-- name: devices
-- GET /v1/devices and /v1/devices/{device_id}, put together by reader.device_statements: what stands in braces is one
-- of the pieces below; filters and the place to go on from are left out when nothing is asked. device_by_owner,
-- share_by_account; for the page's devices the primary keys of share, share_event, service, contact, account and
-- presence. Always one row. $1 account, $2 size, $3 from, $4 whether to count; filters: $5 ids, $6 part of a name,
-- $7 owned, $8 kinds, $9 how it is shared, $10 and $11 an account and a contact with whom an own device is shared;
-- $12 and $13 where the page before ended; $14 how many entries of the access list to show; $15 services; $16
-- whether it is connected: online, offline or unknown. A share that is over by
-- the clock is as gone as one that has ended; one that has not begun shows its device to the recipient, and gives him
-- nothing on it.
with asked as not materialized (
    select
        $5::text[] as ids, $6::text as name, $7::boolean as owned, $8::text[] as kinds, $9::text as shared,
        $10::text as account_id, $11::uuid as contact_id, $12::text as key, $13::text as device_id,
        $15::text[] as services, $16::text as presence
),
page as materialized (
    select
        matching.device_id, matching.owned, matching.name, matching.kind, matching.created_at,
        matching.owner_account_id, {key} as key,
        row_number() over (order by {order}) as place
    from (
        {candidates}
    ) as matching
    order by {order}
    limit $2::integer + 1 offset $3
),
listed as (
    select
        page.place, page.key, page.device_id, known.version,
        json_build_object(
            'device_id', page.device_id,
            'name', page.name,
            'kind', page.kind,
            'created_at', page.created_at,
            'owner', json_build_object(
                'account_id', page.owner_account_id,
                'name', (select account.name from account where account.account_id = page.owner_account_id),
                'email', (
                    select substr(owners.address, 8) from account_address as owners
                    where owners.account_id = page.owner_account_id and owners.address like 'mailto:%'
                    order by owners.ordinal
                    limit 1
                )
            ),
            'owned', page.owned,
            'share_state', case when not page.owned then 'in' when access.total > 0 then 'out' else 'none' end,
            'scripting', page.owned or coalesce(access.scripting, false),
            'online', presence.online,
            'last_seen', presence.last_seen,
            'services', coalesce(services.items, '[]'::json),
            'access', coalesce(access.items, '[]'::json),
            'access_total', access.total,
            'invited_total', access.invited,
            'begins_at', access.begins_at
        ) as item
    from page
    cross join lateral (
        select coalesce(max(event.version), 0) as version
        from share_event as event
        where event.device_id = page.device_id
    ) as known
    cross join lateral (
        select
            count(*) as total,
            count(*) filter (where entry.state = 'requested') as invited,
            bool_or(
                (entry.terms ->> 'scripting')::boolean
                and (page.owned or permission_projector.has_begun(entry.terms, now()))
            ) as scripting,
            min((entry.terms ->> 'starts_at')::timestamptz) filter (
                where not page.owned and not permission_projector.has_begun(entry.terms, now())
            ) as begins_at,
            json_agg(
                {entry}
                order by entry.share_id
            ) filter (where entry.place <= $14::integer) as items
        from (
            select share.*, row_number() over (order by share.share_id) as place
            from share
            where share.device_id = page.device_id
                and share.owner_account_id = page.owner_account_id
                and (
                    page.owned and share.state in ('requested', 'active')
                    or not page.owned and share.account_id = $1 and share.state = 'active'
                )
                and not permission_projector.is_over(share.terms, now())
                and coalesce(share.expires_at > now(), true)
        ) as entry
    ) as access
    cross join lateral (
        select json_agg(
            json_build_object(
                'service_id', service.service_id,
                'name', service.name,
                'protocol', service.protocol,
                'channel', service.channel,
                'permissions', given.permissions
            )
            order by service.ordinal
        ) as items
        from service
        cross join lateral (
            select case
                when page.owned then service.permissions
                else (
                    select array_agg(distinct function order by function)
                    from share
                    cross join lateral unnest(permission_projector.granted_permissions(
                        share.terms, service.service_id, service.permissions
                    )) as function
                    where share.device_id = page.device_id
                        and share.owner_account_id = page.owner_account_id
                        and share.account_id = $1
                        and share.state = 'active'
                        and permission_projector.has_begun(share.terms, now())
                        and not permission_projector.is_over(share.terms, now())
                )
            end as permissions
        ) as given
        where service.device_id = page.device_id and given.permissions is not null
    ) as services
    left join lateral (
        select
            case when not status.in_doubt then status.online end as online,
            case when status.in_doubt then status.gateway_heard_at else status.since end as last_seen
        from permission_projector.presence_status as status
        where status.device_id = page.device_id and (page.owned or services.items is not null)
    ) as presence on true
    where page.place <= $2::integer + $3::bigint
)
select
    case when $4::boolean then ({count}) end as total,
    exists (select from page where page.place > $2::integer + $3::bigint) as more,
    coalesce(json_agg(listed.item order by listed.place), '[]'::json)::text as items,
    string_agg(listed.device_id || '@' || listed.version, ', ' order by listed.place) as positions,
    (array_agg(listed.key order by listed.place desc))[1] as last_key,
    (array_agg(listed.device_id order by listed.place desc))[1] as last_id
from listed

-- name: candidates
-- Of `devices`: enough of the own ones, in the order of device_by_owner, and of those shared with the account.
(
    select matching.* from ({own}) as matching
    where true {filters} {after}
    order by {order}
    limit $2::integer + $3::bigint + 1
)
union all
(
    select matching.* from ({given}) as matching
    where true {filters} {after}
    order by {order}
    limit $2::integer + $3::bigint + 1
)

-- name: count
-- Of `devices`: how many match.
select
    (select count(*) from ({own}) as matching where true {filters})
    + (select count(*) from ({given}) as matching where true {filters})

-- name: candidates_by_id
-- Of `devices`: those of the ids asked for.
select matching.* from ({by_id}) as matching where true {filters}

-- name: count_by_id
-- Of `devices`: how many of the ids asked for match.
select count(*) from ({by_id}) as matching where true {filters}

-- name: own
-- Of `devices`: the account's own. device_by_owner.
select
    device.device_id, device.name, device.kind, device.created_at, device.owner_account_id, true as owned,
    "left"(lower(device.name), 100) as folded
from device
where device.owner_account_id = $1

-- name: given
-- Of `devices`: those of others that the account has a share of. share_by_account, primary keys of device and of
-- both quarantines.
select
    device.device_id, device.name, device.kind, device.created_at, device.owner_account_id, false as owned,
    "left"(lower(device.name), 100) as folded
from (
    select distinct share.device_id, share.owner_account_id
    from share
    where share.account_id = $1
        and share.state = 'active'
        and not permission_projector.is_over(share.terms, now())
) as given
join device using (device_id, owner_account_id)
where device.owner_account_id <> $1
    and not exists (select from stream_quarantine where stream_quarantine.device_id = given.device_id)
    and not exists (select from device_quarantine where device_quarantine.device_id = given.device_id)

-- name: by_id
-- Of `devices`: both kinds, of some ids. Primary keys of device and of both quarantines, share_by_account.
select
    device.device_id, device.name, device.kind, device.created_at, device.owner_account_id,
    device.owner_account_id = $1 as owned,
    "left"(lower(device.name), 100) as folded
from (select distinct each.device_id from unnest($5::text[]) as each (device_id)) as named
join device using (device_id)
where device.owner_account_id = $1
    or (
        exists (
            select from share
            where share.account_id = $1
                and share.device_id = device.device_id
                and share.owner_account_id = device.owner_account_id
                and share.state = 'active'
                and not permission_projector.is_over(share.terms, now())
        )
        and not exists (select from stream_quarantine where stream_quarantine.device_id = device.device_id)
        and not exists (select from device_quarantine where device_quarantine.device_id = device.device_id)
    )

-- name: by_service
-- Of `devices`: both kinds, of the devices of some services; of those shared with the account only where the service
-- is his to use. service_by_id, primary keys of device and of both quarantines, share_by_account.
select
    device.device_id, device.name, device.kind, device.created_at, device.owner_account_id,
    device.owner_account_id = $1 as owned,
    "left"(lower(device.name), 100) as folded
from (
    select distinct service.device_id from service
    where service.service_id = any ($15::text[]) and ($5::text[] is null or service.device_id = any ($5))
) as named
join device using (device_id)
where device.owner_account_id = $1
    or (
        exists (
            select from service
            join share using (device_id)
            where service.service_id = any ($15::text[])
                and service.device_id = device.device_id
                and share.account_id = $1
                and share.owner_account_id = device.owner_account_id
                and share.state = 'active'
                and permission_projector.has_begun(share.terms, now())
                and not permission_projector.is_over(share.terms, now())
                and permission_projector.granted_permissions(
                    share.terms, service.service_id, service.permissions
                ) is not null
        )
        and not exists (select from stream_quarantine where stream_quarantine.device_id = device.device_id)
        and not exists (select from device_quarantine where device_quarantine.device_id = device.device_id)
    )

-- name: filters
-- Of `devices`. With whom an own device is shared is asked by the index of that account or contact. To whom a
-- device's presence is told is as in `devices` itself.
and (
    $16::text is null
    or $16 = coalesce(
        (
            select case when status.in_doubt then null when status.online then 'online' else 'offline' end
            from permission_projector.presence_status as status
            where status.device_id = matching.device_id
                and (
                    matching.owned
                    or exists (
                        select from share
                        join service using (device_id)
                        where share.account_id = $1
                            and share.device_id = matching.device_id
                            and share.owner_account_id = matching.owner_account_id
                            and share.state = 'active'
                            and permission_projector.has_begun(share.terms, now())
                            and not permission_projector.is_over(share.terms, now())
                            and permission_projector.granted_permissions(
                                share.terms, service.service_id, service.permissions
                            ) is not null
                    )
                )
        ),
        'unknown'
    )
)
and ($6::text is null or position(lower($6) in lower(matching.name)) > 0)
and ($7::boolean is null or matching.owned = $7)
and ($8::text[] is null or matching.kind = any ($8))
and (
    $9::text is null
    or $9 = case
        when not matching.owned then 'in'
        when exists (
            select from share
            where share.device_id = matching.device_id
                and share.owner_account_id = $1
                and share.state in ('requested', 'active')
                and not permission_projector.is_over(share.terms, now())
                and coalesce(share.expires_at > now(), true)
        ) then 'out'
        else 'none'
    end
)
and (
    $10::text is null
    or matching.owned and exists (
        select from share
        where share.account_id = $10
            and share.device_id = matching.device_id
            and share.owner_account_id = $1
            and share.state = 'active'
            and not permission_projector.is_over(share.terms, now())
    )
)
and (
    $11::uuid is null
    or matching.owned and matching.device_id in (
        select share.device_id from share
        where share.contact_id = $11
            and share.owner_account_id = $1
            and share.state in ('requested', 'active')
            and not permission_projector.is_over(share.terms, now())
            and coalesce(share.expires_at > now(), true)
    )
)

-- name: order_name
-- Of `devices`: by name.
matching.folded, matching.device_id
-- name: key_name
-- Of `devices`: what a cursor keeps of it.
matching.folded
-- name: after_name
-- Of `devices`: what comes after a cursor.
and (matching.folded, matching.device_id) > ($12, $13)

-- name: order_name_back
-- Of `devices`: by name, backwards.
matching.folded desc, matching.device_id desc
-- name: key_name_back
-- Of `devices`: what a cursor keeps of it.
matching.folded
-- name: after_name_back
-- Of `devices`: what comes after a cursor.
and (matching.folded, matching.device_id) < ($12, $13)

-- name: order_created
-- Of `devices`: the oldest first.
coalesce(matching.created_at, 'infinity'), matching.device_id
-- name: key_created
-- Of `devices`: what a cursor keeps of it.
coalesce(matching.created_at, 'infinity')::text
-- name: after_created
-- Of `devices`: what comes after a cursor.
and (coalesce(matching.created_at, 'infinity'), matching.device_id) > ($12::timestamptz, $13)

-- name: order_created_back
-- Of `devices`: the newest first.
coalesce(matching.created_at, '-infinity') desc, matching.device_id desc
-- name: key_created_back
-- Of `devices`: what a cursor keeps of it.
coalesce(matching.created_at, '-infinity')::text
-- name: after_created_back
-- Of `devices`: what comes after a cursor.
and (coalesce(matching.created_at, '-infinity'), matching.device_id) < ($12::timestamptz, $13)

-- name: entry
-- Of `devices` and `access`: one entry of an access list, of a row `entry` of share. Primary key of contact.
json_build_object(
    'share_id', entry.share_id,
    'state', entry.state,
    'account_id', entry.account_id,
    'email', (
        select substr(contact.address, 8) from contact
        where contact.contact_id = entry.contact_id and contact.address like 'mailto:%'
    ),
    'phone', (
        select substr(contact.address, 5) from contact
        where contact.contact_id = entry.contact_id and contact.address like 'tel:%'
    ),
    'terms', entry.terms,
    'since', entry.since,
    'expires_at', entry.expires_at,
    'version', entry.version
)

-- name: access
-- GET /v1/devices/{device_id}/access. Primary keys of device, share and contact; no row: the device is not to be
-- seen. $1 account, $2 device, $3 the share after which the page begins, $4 size. Who owns the device sees all
-- entries, who has a share of it his own.
with seen as (
    select device.device_id, device.owner_account_id, device.owner_account_id = $1 as owned
    from device
    where device.device_id = $2
),
entry as (
    select share.*, row_number() over (order by share.share_id) as place
    from seen
    join share on share.device_id = $2 and share.owner_account_id = seen.owner_account_id
    where share.share_id > $3
        and (
            seen.owned and share.state in ('requested', 'active')
            or not seen.owned and share.account_id = $1 and share.state = 'active'
        )
        and not permission_projector.is_over(share.terms, now())
        and coalesce(share.expires_at > now(), true)
    order by share.share_id
    limit $4::integer + 1
),
page as (
    select entry.* from entry where entry.place <= $4::integer
)
select
    (select coalesce(max(event.version), 0) from share_event as event where event.device_id = $2) as version,
    coalesce((
        select json_agg(
            {entry}
            order by entry.share_id
        )
        from page as entry
    ), '[]'::json)::text as items,
    (
        select page.share_id from page
        where page.place = $4::integer and exists (select from entry where entry.place > $4::integer)
    ) as last_id
from seen
where seen.owned
    or (
        exists (
            select from share
            where share.account_id = $1
                and share.device_id = $2
                and share.owner_account_id = seen.owner_account_id
                and share.state = 'active'
                and not permission_projector.is_over(share.terms, now())
        )
        and not exists (select from stream_quarantine where stream_quarantine.device_id = $2)
        and not exists (select from device_quarantine where device_quarantine.device_id = $2)
    )
