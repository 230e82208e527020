-- Statements of the read API about events: what happened to shares and on connections, of an account as a whole and of
-- single devices; see reading.sql. Who may see what is as in history.sql: of shares the events of those that he gave,
-- and of those that he had from the request that he accepted on; of connections his own, and all to his devices since
-- they are his (`since` and `by_share` of history.sql).
-- What stands in braces is another piece of this file, put in by events.load_statements. In all of them: $1 account,
-- $2 and $3 the earliest and the latest time, or null, $4 whether shares and $5 whether connections are asked for,
-- $6 and $7 the time and the id of the event before which the page begins, or null, $8 size, $9 how many to pass over,
-- $10 whether to count, $11 devices.

-- name: events
-- GET /v1/events, the newest first. share_event_by_owner, share_event_by_account, connection_by_account,
-- device_by_owner with connection_by_device; what is told of the page's events by primary keys. Whoever has accepted
-- many shares pays for each of them, since what he was asked lies before what he accepted. Always a row.
with page as materialized (
    select found.*
    from (
        (select found.* from ({given}) as found where {within} {before} {first})
        union all
        (select found.* from ({had}) as found where {within} {before} {first})
        union all
        (select found.* from ({asked}) as found where {within} {before} {first})
        union all
        (select found.* from ({mine}) as found where {within} {before} {first})
        union all
        (
            select found.*
            from device
            cross join lateral (
                select found.* from ({theirs}) as found where {within} {before} {first}
            ) as found
            where device.owner_account_id = $1
        )
    ) as found
    order by found.at desc, found.id desc
    limit $8::integer + 1 offset $9::bigint
)
select
    case when $10::boolean then (
        (select count(*) from ({given}) as found where {within})
        + (select count(*) from ({had}) as found where {within})
        + (select count(*) from ({asked}) as found where {within})
        + (select count(*) from ({mine}) as found where {within})
        + (
            select count(*)
            from device
            cross join lateral (select from ({theirs}) as found where {within} offset 0) as found
            where device.owner_account_id = $1
        )
    ) end as total,
    null as asked_device_id,
    {told}
from (select) as always_a_row
left join page as found on true
{joined}
order by found.at desc, found.id desc

-- name: device_events
-- GET /v1/device-events: the same of each of some devices, a page of each. The primary key of share_event by its
-- first column (all events of a device's shares are looked at), connection_by_device; the rest as in `events`.
-- A row at least for each device asked for.
with asked_device as materialized (
    select each.device_id, array(
        select distinct mine.share_id from share_event as mine
        where mine.device_id = each.device_id and mine.account_id = $1
    ) as accepted, (
        select {since} from device
        where device.device_id = each.device_id and device.owner_account_id = $1
    ) as since
    from (select distinct named.device_id from unnest($11::text[]) as named (device_id)) as each
),
page as materialized (
    select asked_device.device_id as asked_device_id, found.*
    from asked_device
    cross join lateral (
        select found.*
        from (
            (select found.* from ({of_device}) as found where {within} {before} {first})
            union all
            (select found.* from ({to_device}) as found where {within} {before} {first})
        ) as found
        order by found.at desc, found.id desc
        limit $8::integer + 1 offset $9::bigint
    ) as found
)
select
    case when $10::boolean then (
        (select count(*) from ({of_device}) as found where {within})
        + (select count(*) from ({to_device}) as found where {within})
    ) end as total,
    asked_device.device_id as asked_device_id,
    {told}
from asked_device
left join page as found on found.asked_device_id = asked_device.device_id
{joined}
order by asked_device.device_id, found.at desc, found.id desc

-- name: within
-- Of `events`: the times asked for.
found.at >= coalesce($2::timestamptz, '-infinity') and found.at <= coalesce($3::timestamptz, 'infinity')

-- name: before
-- Of `events`: the page.
and (found.at, found.id) < (
    coalesce($6::timestamptz, 'infinity'), coalesce($7::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
)

-- name: first
-- Of `events`: as many as the page may need.
order by found.at desc, found.id desc limit $8::integer + $9::bigint + 1

-- name: given
-- Of `events`: of shares that the account gave. share_event_by_owner.
select event.at, event.event_id as id, event.device_id, event.version
from share_event as event
where event.owner_account_id = $1 and $4::boolean

-- name: had
-- Of `events`: of shares that it had accepted by then. share_event_by_account.
select event.at, event.event_id as id, event.device_id, event.version
from share_event as event
where event.account_id = $1 and event.owner_account_id <> $1 and $4::boolean

-- name: asked
-- Of `events`: what led to each acceptance, from the request on. share_event_by_account, primary key of share_event.
select event.at, event.event_id as id, event.device_id, event.version
from share_event as accepted
cross join lateral (
    select earlier.version from share_event as earlier
    where earlier.device_id = accepted.device_id
        and earlier.version < accepted.version
        and earlier.share_id = accepted.share_id
        and (earlier.kind = 'ShareRequested' or earlier.account_id is not null)
    order by earlier.version desc
    limit 1
) as begun
join share_event as event
    on event.device_id = accepted.device_id
    and event.version >= begun.version
    and event.version < accepted.version
    and event.share_id = accepted.share_id
    and event.account_id is null
where accepted.account_id = $1
    and accepted.owner_account_id <> $1
    and accepted.kind = 'ShareAccepted'
    and $4::boolean

-- name: mine
-- Of `events`: the account's own connections. connection_by_account.
select connection.at, connection.connection_id as id, connection.device_id, null::bigint as version
from permission_projector.connection
where connection.account_id = $1 and $5::boolean

-- name: theirs
-- Of `events`: connections of others to a device of the account's. connection_by_device.
select connection.at, connection.connection_id as id, connection.device_id, null::bigint as version
from permission_projector.connection
where connection.device_id = device.device_id and connection.account_id <> $1 and $5::boolean
    and {by_share}
    and connection.at > {since}

-- name: of_device
-- Of `device_events`: of shares of a device that the account gave or had. Primary key of share_event.
select event.at, event.event_id as id, event.device_id, event.version
from share_event as event
where event.device_id = asked_device.device_id
    and $4::boolean
    and (
        event.owner_account_id = $1
        or event.account_id = $1
        or (
            event.account_id is null
            and event.share_id = any (asked_device.accepted)
            and $1 = (
                select later.account_id from share_event as later
                where later.device_id = asked_device.device_id
                    and later.share_id = event.share_id
                    and later.version > event.version
                    and (later.kind = 'ShareRequested' or later.account_id is not null)
                order by later.version
                limit 1
            )
        )
    )

-- name: to_device
-- Of `device_events`: connections to a device: all for its owner, else the account's own. connection_by_device.
select connection.at, connection.connection_id as id, connection.device_id, null::bigint as version
from permission_projector.connection
where connection.device_id = asked_device.device_id
    and $5::boolean
    and (
        connection.account_id = $1
        or {by_share} and connection.at > asked_device.since
    )

-- name: told
-- Of `events`: what is told of an event. Recipients' addresses go to the one who shared, the names of a device and
-- of its services to those who have it now, and its owner's address too.
found.id, found.at, coalesce(event.device_id, connection.device_id) as device_id, seen.name as device_name,
coalesce(event.owner_account_id, seen.owner_account_id) as owner_id, owner.name as owner_name,
case
    when coalesce(event.owner_account_id, seen.owner_account_id) in ($1, seen.owner_account_id) then (
        select owners.address from account_address as owners
        where owners.account_id = coalesce(event.owner_account_id, seen.owner_account_id)
            and owners.address like 'mailto:%'
        order by owners.ordinal
        limit 1
    )
end as owner_address,
coalesce(event.account_id, connection.account_id) as account_id, account.name as account_name,
(
    select contact.address
    from share
    join contact using (contact_id)
    where share.device_id = coalesce(event.device_id, connection.device_id)
        and share.share_id = coalesce(event.share_id, connection.share_id)
        and share.owner_account_id = $1
) as address,
coalesce(event.share_id, connection.share_id) as share_id,
event.version, event.kind, event.state, in_force.terms::text as terms,
coalesce(event.reason, connection.reason) as reason,
connection.connection_id, connection.service_id, connection.permission, connection.opened_at, connection.ended_at,
connection.outcome, connection.in_doubt, connection.bytes_to_device, connection.bytes_from_device,
services.items::text as services

-- name: joined
-- Of `events`: from where that comes. Primary keys of share_event, connection, gateway, device, share, account,
-- contact, account_address and service.
left join share_event as event on event.device_id = found.device_id and event.version = found.version
left join permission_projector.connection_status as connection
    on connection.connection_id = found.id and found.version is null
left join lateral (
    select known.terms from share_event as known
    where known.device_id = event.device_id
        and known.share_id = event.share_id
        and known.version <= event.version
        and known.terms is not null
    order by known.version desc
    limit 1
) as in_force on true
left join lateral (
    select device.device_id, device.name, device.owner_account_id, device.owner_account_id = $1 as owned
    from device
    where device.device_id = coalesce(event.device_id, connection.device_id)
        and (
            device.owner_account_id = $1
            or exists (
                select from share
                where share.account_id = $1
                    and share.device_id = device.device_id
                    and share.owner_account_id = device.owner_account_id
                    and share.state = 'active'
                    and not permission_projector.is_over(share.terms, now())
            )
        )
) as seen on true
left join account as owner on owner.account_id = coalesce(event.owner_account_id, seen.owner_account_id)
left join account on account.account_id = coalesce(event.account_id, connection.account_id)
left join lateral (
    select json_agg(
        json_build_object('service_id', named.service_id, 'name', service.name) order by named.service_id
    ) as items
    from (
        select connection.service_id where connection.service_id is not null
        union all
        select key.service_id
        from jsonb_object_keys(in_force.terms -> 'scope' -> 'services') as key (service_id)
    ) as named
    left join service
        on service.device_id = seen.device_id
        and service.service_id = named.service_id
        and (
            seen.owned
            or exists (
                select from share
                where share.account_id = $1
                    and share.device_id = seen.device_id
                    and share.owner_account_id = seen.owner_account_id
                    and share.state = 'active'
                    and permission_projector.has_begun(share.terms, now())
                    and not permission_projector.is_over(share.terms, now())
                    and permission_projector.granted_permissions(
                        share.terms, service.service_id, service.permissions
                    ) is not null
            )
        )
) as services on true
