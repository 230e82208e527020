-- Statements about the past, of the read API and of who asks `who-had-access` and `why`; see reading.sql.

-- name: visible
-- Of the lists of one device: whether it is the account's, or he has a share of it. Primary keys of device and of both
-- quarantines, share_by_account.
exists (
    select from device
    where device.device_id = $2
        and (
            device.owner_account_id = $1
            or exists (
                select from share
                where share.account_id = $1
                    and share.device_id = $2
                    and share.owner_account_id = device.owner_account_id
                    and share.state = 'active'
                    and not permission_projector.is_over(share.terms, now())
            )
            and not exists (select from stream_quarantine where stream_quarantine.device_id = $2)
            and not exists (select from device_quarantine where device_quarantine.device_id = $2)
        )
)

-- name: device_history
-- GET /v1/devices/{device_id}/history, newest first. Primary keys of share_event, account and contact; see `visible`.
-- $1 account, $2 device, $3 the version before which the page begins, $4 size. Who gave a share sees its events; who
-- had it sees them from the request that he accepted on. Always a row; each says whether the caller sees the device.
with told as (
    select event.*
    from share_event as event
    where event.device_id = $2
        and event.version < $3
        and (
            event.owner_account_id = $1
            or event.account_id = $1
            or (
                event.account_id is null
                and event.share_id in (
                    select mine.share_id from share_event as mine
                    where mine.device_id = $2 and mine.account_id = $1
                )
                and $1 = (
                    select later.account_id from share_event as later
                    where later.device_id = $2
                        and later.share_id = event.share_id
                        and later.version > event.version
                        and (later.kind = 'ShareRequested' or later.account_id is not null)
                    order by later.version
                    limit 1
                )
            )
        )
    order by event.version desc
    limit $4::integer + 1
)
select
    {visible} as visible,
    told.version, told.kind, told.at, told.share_id, told.state, told.account_id, account.name as account_name,
    case when told.owner_account_id = $1 then contact.address end as address,
    told.terms::text as terms, told.reason
from (select) as always_a_row
left join told on true
left join account on account.account_id = told.account_id
left join contact on contact.contact_id = told.contact_id
order by told.version desc

-- name: share_history
-- GET /v1/history: shares that the account gave and had, the newest first, as they are now. share_by_owner,
-- share_by_account; primary keys of device, account and contact. $1 account, $2 the share before which the page
-- begins, or null, $3 size, $4 given only, had only, or null.
select
    share.share_id, share.device_id, device.name as device_name, share.given, share.state, share.owner_account_id,
    owner.name as owner_name, share.account_id, recipient.name as account_name,
    case when share.given then contact.address end as address,
    share.terms::text as terms, share.requested_at, share.since, share.expires_at, share.version
from (
    (
        select mine.*, true as given
        from share as mine
        where mine.owner_account_id = $1
            and mine.share_id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
            and coalesce($4::boolean, true)
        order by mine.share_id desc
        limit $3::integer + 1
    )
    union all
    (
        select mine.*, false
        from share as mine
        where mine.account_id = $1
            and mine.owner_account_id <> $1
            and mine.share_id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
            and not coalesce($4::boolean, false)
        order by mine.share_id desc
        limit $3::integer + 1
    )
) as share
left join device on device.device_id = share.device_id
    and (
        device.owner_account_id = $1
        or share.state = 'active' and not permission_projector.is_over(share.terms, now())
    )
left join account as owner on owner.account_id = share.owner_account_id
left join account as recipient on recipient.account_id = share.account_id
left join contact on contact.contact_id = share.contact_id
order by share.share_id desc
limit $3::integer + 1

-- name: connection_told
-- Of the lists of connections: what is told of a row `told`. Whoever shared sees the address that he shared with, and
-- whoever has the service now its name. Primary keys of share, contact, device and service, share_by_account.
told.connection_id, told.device_id, told.service_id, told.account_id, account.name as account_name, told.share_id,
told.permission, told.opened_at, told.ended_at, told.outcome, told.reason, told.in_doubt, told.bytes_to_device,
told.bytes_from_device, told.at,
(
    select contact.address
    from share
    join contact using (contact_id)
    where share.device_id = told.device_id and share.share_id = told.share_id and share.owner_account_id = $1
) as address,
(
    select service.name
    from device
    join service using (device_id)
    where device.device_id = told.device_id
        and service.service_id = told.service_id
        and (
            device.owner_account_id = $1
            or exists (
                select from share
                where share.account_id = $1
                    and share.device_id = device.device_id
                    and share.owner_account_id = device.owner_account_id
                    and share.state = 'active'
                    and permission_projector.has_begun(share.terms, now())
                    and not permission_projector.is_over(share.terms, now())
                    and permission_projector.granted_permissions(
                        share.terms, service.service_id, service.permissions
                    ) is not null
            )
        )
) as service_name

-- name: since
-- Of connections of others to a device, in `events` too: from when on it is its present owner's, as far as its shares
-- tell: what lies before the last event of one that somebody else gave was under him. Primary key of share_event.
coalesce(
    (
        select max(former.at) from share_event as former
        where former.device_id = device.device_id and former.owner_account_id <> device.owner_account_id
    ),
    '-infinity'
)

-- name: by_share
-- Of the same: whoever was let in without a share owned the device.
(connection.share_id is not null or connection.outcome = 'refused')

-- name: device_connections
-- GET /v1/devices/{device_id}/connections, newest first. connection_by_device, primary key of device; see `visible`.
-- $1 account, $2 device, $3 and $4 the time and the connection before which the page begins, or null, $5 size. The
-- owner sees all since it is his, anybody else his own. Always a row; each says whether the caller sees the device.
with owned as materialized (
    select {since} as since from device where device.device_id = $2 and device.owner_account_id = $1
),
told as (
    select connection.*
    from permission_projector.connection_status as connection
    where connection.device_id = $2
        and (connection.at, connection.connection_id) < (
            coalesce($3::timestamptz, 'infinity'), coalesce($4::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        )
        and (
            connection.account_id = $1
            or {by_share} and connection.at > (select owned.since from owned)
        )
    order by connection.at desc, connection.connection_id desc
    limit $5::integer + 1
)
select
    {visible} as visible,
    {connection_told}
from (select) as always_a_row
left join told on true
left join account on account.account_id = told.account_id
order by told.at desc, told.connection_id desc

-- name: connections
-- GET /v1/connections: of the caller, and of the devices that he owns, since they are his, newest first.
-- connection_by_account, device_by_owner, connection_by_device. $1 account, $2 and $3 the time and the connection before which the page
-- begins, or null, $4 size.
select
    {connection_told}
from (
    (
        select mine.*
        from permission_projector.connection_status as mine
        where mine.account_id = $1
            and (mine.at, mine.connection_id) < (
                coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            )
        order by mine.at desc, mine.connection_id desc
        limit $4::integer + 1
    )
    union all
    (
        select theirs.*
        from device
        cross join lateral (
            select connection.*
            from permission_projector.connection_status as connection
            where connection.device_id = device.device_id
                and connection.account_id <> $1
                and {by_share}
                and connection.at > {since}
                and (connection.at, connection.connection_id) < (
                    coalesce($2::timestamptz, 'infinity'),
                    coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
                )
            order by connection.at desc, connection.connection_id desc
            limit $4::integer + 1
        ) as theirs
        where device.owner_account_id = $1
    )
) as told
left join account on account.account_id = told.account_id
order by told.at desc, told.connection_id desc
limit $4::integer + 1

-- name: open_connections
-- GET /v1/connections?open=true: those that are open, whoever the device was of; $5 of these devices alone, or null.
-- connection_open_by_account, device_by_owner, connection_open_by_device; see `connection_told`.
select
    {connection_told}
from (
    (
        select mine.*
        from permission_projector.connection_status as mine
        where mine.account_id = $1
            and mine.without_end
            and mine.outcome = 'open'
            and ($5::text[] is null or mine.device_id = any ($5))
            and (mine.at, mine.connection_id) < (
                coalesce($2::timestamptz, 'infinity'), coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
            )
        order by mine.at desc, mine.connection_id desc
        limit $4::integer + 1
    )
    union all
    (
        select theirs.*
        from device
        cross join lateral (
            select each.*
            from permission_projector.connection_status as each
            where each.device_id = device.device_id
                and each.without_end
                and each.outcome = 'open'
                and each.account_id <> $1
                and (each.at, each.connection_id) < (
                    coalesce($2::timestamptz, 'infinity'),
                    coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
                )
            order by each.at desc, each.connection_id desc
            limit $4::integer + 1
        ) as theirs
        where device.owner_account_id = $1 and ($5::text[] is null or device.device_id = any ($5))
    )
) as told
left join account on account.account_id = told.account_id
order by told.at desc, told.connection_id desc
limit $4::integer + 1

-- name: who_had_access
-- looking_back.who_had_access. Primary keys of share_event, device, account and contact. $1 device, $2 service or null,
-- $3 time, $4 whose shares alone, or null. The owner's row comes first. Always a row; `owned` in each is whether the
-- device is that account's now.
with by_share as (
    select
        event.share_id, max(event.version) as version,
        (array_agg(event.terms order by event.version desc) filter (where event.terms is not null))[1] as terms
    from share_event as event
    where event.device_id = $1 and event.at <= $3
    group by event.share_id
),
given as (
    select
        event.share_id, event.account_id, event.contact_id, event.event_id, event.kind, event.version, event.at,
        by_share.terms,
        case by_share.terms -> 'scope' ->> 'kind'
            when 'all' then by_share.terms -> 'scope' -> 'permissions'
            else by_share.terms -> 'scope' -> 'services' -> $2
        end as permissions
    from by_share
    join share_event as event on event.device_id = $1 and event.version = by_share.version
    where event.state = 'active'
        and ($4::text is null or event.owner_account_id = $4)
        and permission_projector.has_begun(by_share.terms, $3)
        and not permission_projector.is_over(by_share.terms, $3)
        and (
            $2::text is null
            or by_share.terms -> 'scope' ->> 'kind' = 'all'
            or by_share.terms -> 'scope' -> 'services' ? $2
        )
),
owning as (
    select coalesce(
        (
            select event.owner_account_id from share_event as event
            where event.device_id = $1 and event.at <= $3
            order by event.version desc
            limit 1
        ),
        (select device.owner_account_id from device where device.device_id = $1)
    ) as account_id
)
select
    exists (select from device where device.device_id = $1 and device.owner_account_id = $4) as owned,
    told.role, told.account_id, account.name, contact.address, told.share_id, told.event_id, told.kind,
    told.version, told.at, told.permissions::text as permissions, told.terms::text as terms
from (select) as always_a_row
left join (
    select
        'owner' as role, owning.account_id, null::uuid as contact_id, null::uuid as share_id,
        null::uuid as event_id, null as kind, null::bigint as version, null::timestamptz as at,
        '"all"'::jsonb as permissions, null::jsonb as terms
    from owning
    where owning.account_id is not null and ($4::text is null or owning.account_id = $4)
    union all
    select
        'recipient', given.account_id, given.contact_id, given.share_id, given.event_id, given.kind,
        given.version, given.at, given.permissions, given.terms
    from given
) as told on true
left join account on account.account_id = told.account_id
left join contact on contact.contact_id = told.contact_id
order by told.role, told.version

-- name: why
-- looking_back.why: every event up to a time of the shares of a device that an account had accepted by then, and the
-- owner at that time in each row. Primary keys of share_event and device. Always a row. $1 account, $2 device,
-- $3 service, $4 permission, $5 time. `verdict` stands at the last event of each share.
with past as (
    select event.*
    from share_event as event
    where event.device_id = $2 and event.at <= $5
),
mine as (
    select
        past.*,
        max(past.version) over (partition by past.share_id) = past.version as last,
        bool_or(past.account_id = $1) over (partition by past.share_id) as accepted,
        (
            select known.terms from past as known
            where known.share_id = past.share_id and known.version <= past.version and known.terms is not null
            order by known.version desc
            limit 1
        ) as in_force
    from past
    where past.share_id in (select having_it.share_id from past as having_it where having_it.account_id = $1)
),
judged as (
    select
        mine.*,
        case mine.in_force -> 'scope' ->> 'kind'
            when 'all' then mine.in_force -> 'scope' -> 'permissions'
            else mine.in_force -> 'scope' -> 'services' -> $3
        end as chosen
    from mine
)
select
    coalesce(
        (select past.owner_account_id from past order by past.version desc limit 1),
        (select device.owner_account_id from device where device.device_id = $2)
    ) as owner_account_id,
    judged.share_id, judged.event_id, judged.kind, judged.version, judged.at, judged.state, judged.account_id,
    judged.in_force::text as terms, judged.reason,
    case
        when not judged.last then null
        when judged.account_id is distinct from $1 then 'not_his_any_more'
        when judged.state <> 'active' then judged.state
        when not permission_projector.has_begun(judged.in_force, $5) then 'not_begun'
        when permission_projector.is_over(judged.in_force, $5) then 'over'
        when judged.chosen is null then 'service_not_shared'
        when $4 = 'scripting' and not coalesce((judged.in_force ->> 'scripting')::boolean, false)
            then 'permission_not_given'
        when $4 = 'scripting' or judged.chosen = '"all"'::jsonb or judged.chosen ? $4 then 'granted'
        else 'permission_not_given'
    end as verdict
from (select) as always_a_row
left join judged on judged.accepted
order by judged.version
