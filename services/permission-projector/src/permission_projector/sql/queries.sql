-- Statements of the projector (`project`) and of the read API (`serve`). The sessions' search_path is the
-- schema of the live generation.

-- name: streams
-- Store.streams, first read of a batch of share.events. Primary key of device_stream.
select stream.device_id, stream.version, stream.quarantine_code
from device_stream as stream
where stream.device_id = any ($1::text[])

-- name: recorded_events
-- Store.streams: which events stand under the versions of a batch. Primary key of stream_event.
select recorded.device_id, recorded.version, recorded.event_id
from unnest($1::text[], $2::bigint[]) as asked (device_id, version)
join stream_event as recorded using (device_id, version)

-- name: shares
-- Store.streams: the shares that a batch is about. Primary key of share.
select share.*
from unnest($1::text[], $2::uuid[]) as asked (device_id, share_id)
join share using (device_id, share_id)

-- name: save_streams
-- Store.save_streams. Primary key of device_stream.
insert into device_stream as stored (device_id, version, quarantine_code, quarantine_offset)
select * from unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[])
on conflict (device_id) do update set
    version = excluded.version,
    quarantine_code = excluded.quarantine_code,
    quarantine_offset = excluded.quarantine_offset

-- name: record_events
-- Store.save_streams. Primary key of stream_event, which no event of a new version can meet.
insert into stream_event (device_id, version, event_id)
select * from unnest($1::text[], $2::bigint[], $3::uuid[])

-- name: save_shares
-- Store.save_streams. Primary key of share.
insert into share as stored (
    device_id, share_id, contact_id, owner_account_id, state, account_id, terms, invitation_version,
    requested_at, since
)
select
    row.device_id, row.share_id, row.contact_id, row.owner_account_id, row.state, row.account_id,
    row.terms::jsonb, row.invitation_version, row.requested_at, row.since
from unnest(
    $1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[],
    $9::timestamptz[], $10::timestamptz[]
) as row (
    device_id, share_id, contact_id, owner_account_id, state, account_id, terms, invitation_version,
    requested_at, since
)
on conflict (device_id, share_id) do update set
    contact_id = excluded.contact_id,
    owner_account_id = excluded.owner_account_id,
    state = excluded.state,
    account_id = excluded.account_id,
    terms = excluded.terms,
    invitation_version = excluded.invitation_version,
    requested_at = excluded.requested_at,
    since = excluded.since

-- name: save_devices
-- Store.save_devices. Primary key of device.
insert into device (device_id, partition, owner_account_id, name, kind, created_at)
select row.device_id, $1, row.owner_account_id, row.name, row.kind, row.created_at
from unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])
    as row (device_id, owner_account_id, name, kind, created_at)
on conflict (device_id) do update set
    partition = excluded.partition,
    owner_account_id = excluded.owner_account_id,
    name = excluded.name,
    kind = excluded.kind,
    created_at = excluded.created_at

-- name: delete_devices
-- Store.save_devices: devices that were removed. Primary key of device.
delete from device where device_id = any ($1::text[])

-- name: delete_services
-- Store.save_devices: all services of the devices of a batch, before they are written anew. Primary key of
-- service, by its first column.
delete from service where device_id = any ($1::text[])

-- name: save_services
-- Store.save_devices. Primary key of service.
insert into service (
    device_id, service_id, ordinal, name, protocol, channel, target_host, target_port, permissions
)
select
    row.device_id, row.service_id, row.ordinal, row.name, row.protocol, row.channel, row.target_host,
    row.target_port, string_to_array(row.permissions, ',')
from unnest(
    $1::text[], $2::text[], $3::integer[], $4::text[], $5::text[], $6::integer[], $7::text[], $8::integer[],
    $9::text[]
) as row (
    device_id, service_id, ordinal, name, protocol, channel, target_host, target_port, permissions
)

-- name: release_devices
-- Store.save_devices: a newer snapshot could be read. Primary key of device_quarantine.
delete from device_quarantine where device_id = any ($1::text[])

-- name: quarantine_devices
-- Store.save_devices. Primary key of device_quarantine.
insert into device_quarantine (device_id, code, quarantine_offset)
select * from unnest($1::text[], $2::text[], $3::bigint[])
on conflict (device_id) do update set code = excluded.code, quarantine_offset = excluded.quarantine_offset

-- name: save_accounts
-- Store.save_accounts. Primary key of account.
insert into account (account_id, name)
select * from unnest($1::text[], $2::text[])
on conflict (account_id) do update set name = excluded.name

-- name: delete_accounts
-- Store.save_accounts. Primary key of account.
delete from account where account_id = any ($1::text[])

-- name: delete_addresses
-- Store.save_accounts: all addresses of the accounts of a batch. Primary key of account_address, by its first
-- column.
delete from account_address where account_id = any ($1::text[])

-- name: save_addresses
-- Store.save_accounts. Primary key of account_address.
insert into account_address (account_id, address, ordinal)
select * from unnest($1::text[], $2::text[], $3::integer[])

-- name: save_contacts
-- Store.save_contacts. Primary key of contact.
insert into contact (contact_id, address)
select * from unnest($1::uuid[], $2::text[])
on conflict (contact_id) do update set address = excluded.address

-- name: delete_contacts
-- Store.save_contacts. Primary key of contact.
delete from contact where contact_id = any ($1::uuid[])

-- name: save_watermark
-- Store.save_watermarks. Primary key of watermark.
insert into watermark (
    watermark_offset, as_of, events_topic, events_topic_id, events_ends, devices_topic, devices_topic_id,
    devices_ends
)
values ($1, $2, $3, $4, $5, $6, $7, $8)

-- name: forget_watermarks
-- Store.save_watermarks: what is older than the newest that are kept. Primary key of watermark.
delete from watermark where watermark_offset <= $1

-- name: lock_generation
-- Store.announce, last before the feed is written: ids are then given in the order of the commits, so that a
-- reader's cursor never passes a row that is not there yet. One row.
select number from generation for update

-- name: append_changes
-- Store.announce. Appends.
insert into change (generation, topic, partition, record_offset, device_id, correlation_id)
select $1, $2, $3, row.record_offset, row.device_id, row.correlation_id
from unnest($4::bigint[], $5::text[], $6::text[]) as row (record_offset, device_id, correlation_id)
returning id

-- name: forget_changes
-- Store.announce, now and then. Primary key of change.
delete from change where id <= $1

-- name: notify
-- Store.announce, once a batch; only a hint.
notify permissions_changed

-- name: observe
-- The metrics of `project`, every few seconds. Sequential over the two quarantines' rows.
select
    (
        select count(*) from (
            select device_id from device_stream where quarantine_code is not null
            union
            select device_id from device_quarantine
        ) as quarantined
    ) as quarantined,
    (
        select case when count(as_of) = count(*) then extract(epoch from max(now - as_of))::double precision end
        from permissions_api.freshness_v1()
    ) as age_seconds

-- name: known_positions
-- Reader.wait_for. Primary keys of device_stream, device and share. For an account that has nothing to do
-- with a device its version is 0, as for a device that does not exist.
select
    asked.device_id,
    coalesce((
        select stream.version
        from device_stream as stream
        where stream.device_id = asked.device_id
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

-- name: me
-- GET /v1/me. Primary keys of account and account_address. Always one row.
select
    $1::text as account_id,
    (select account.name from account where account.account_id = $1) as name,
    (
        select mine.address from account_address as mine
        where mine.account_id = $1
        order by mine.ordinal
        limit 1
    ) as address

-- name: devices
-- GET /v1/devices and /v1/devices/{device_id}. device_by_owner, share_by_account; for the page's devices the
-- primary keys of share, service, contact and account. Always one row. $1 account, $2 ids or null, $3 part of a
-- name or null, $4 owned or null, $5 order, $6 size, $7 from.
with visible as (
    select device.device_id, true as owned
    from device
    where device.owner_account_id = $1
    union all
    select device.device_id, false
    from (
        select distinct share.device_id, share.owner_account_id
        from share
        where share.account_id = $1 and share.state = 'active'
    ) as given
    join device using (device_id, owner_account_id)
    where device.owner_account_id <> $1
        and not exists (
            select from device_stream as stream
            where stream.device_id = given.device_id and stream.quarantine_code is not null
        )
        and not exists (select from device_quarantine where device_quarantine.device_id = given.device_id)
),
matching as (
    select visible.owned, device.*
    from visible
    join device using (device_id)
    where ($2::text[] is null or device.device_id = any ($2::text[]))
        and ($3::text is null or position(lower($3) in lower(device.name)) > 0)
        and ($4::boolean is null or visible.owned = $4)
),
page as (
    select
        matching.*,
        row_number() over (
            order by
                case when $5 = 'name' then lower(matching.name) end,
                case when $5 = '-name' then lower(matching.name) end desc,
                case when $5 = 'created' then matching.created_at end,
                case when $5 = '-created' then matching.created_at end desc nulls last,
                matching.device_id
        ) as place
    from matching
    order by place
    limit $6 offset $7
)
select
    (select count(*) from matching) as total,
    coalesce((
        select jsonb_agg(
            jsonb_build_object(
                'device_id', page.device_id,
                'name', page.name,
                'kind', page.kind,
                'created_at', page.created_at,
                'version', coalesce(stream.version, 0),
                'owner', jsonb_build_object(
                    'account_id', page.owner_account_id, 'name', account.name, 'address', owner_address.address
                ),
                'owned', page.owned,
                'scripting', page.owned or coalesce(access.scripting, false),
                'services', services.items,
                'access', coalesce(access.items, '[]'::jsonb)
            )
            order by page.place
        )
        from page
        left join device_stream as stream using (device_id)
        left join account on account.account_id = page.owner_account_id
        left join lateral (
            select mine.address from account_address as mine
            where mine.account_id = page.owner_account_id
            order by mine.ordinal
            limit 1
        ) as owner_address on true
        cross join lateral (
            select
                bool_or((share.terms ->> 'scripting')::boolean) as scripting,
                jsonb_agg(
                    jsonb_build_object(
                        'share_id', share.share_id,
                        'state', share.state,
                        'account_id', share.account_id,
                        'address', contact.address,
                        'terms', share.terms,
                        'since', share.since
                    )
                    order by share.since, share.share_id
                ) as items
            from share
            left join contact using (contact_id)
            where share.device_id = page.device_id
                and share.owner_account_id = page.owner_account_id
                and (
                    page.owned and share.state in ('requested', 'active')
                    or not page.owned and share.account_id = $1 and share.state = 'active'
                )
        ) as access
        cross join lateral (
            select coalesce(
                jsonb_agg(
                    jsonb_build_object(
                        'service_id', service.service_id,
                        'name', service.name,
                        'protocol', service.protocol,
                        'channel', service.channel,
                        'permissions', given.permissions
                    )
                    order by service.ordinal
                ),
                '[]'::jsonb
            ) as items
            from service
            cross join lateral (
                select array_agg(distinct function order by function) as permissions
                from (
                    select unnest(service.permissions) as function
                    where page.owned
                    union
                    select unnest(permission_projector.granted_permissions(
                        share.terms, service.service_id, service.permissions
                    ))
                    from share
                    where not page.owned
                        and share.device_id = page.device_id
                        and share.owner_account_id = page.owner_account_id
                        and share.account_id = $1
                        and share.state = 'active'
                ) as each
            ) as given
            where service.device_id = page.device_id and (page.owned or given.permissions is not null)
        ) as services
    ), '[]'::jsonb)::text as items

-- name: invitations
-- GET /v1/invitations. Primary key of account_address, contact_by_address, share_by_contact, primary key of
-- service.
select
    share.share_id,
    share.device_id,
    device.name as device_name,
    share.owner_account_id,
    account.name as owner_name,
    (
        select owners.address from account_address as owners
        where owners.account_id = share.owner_account_id
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
    stream.version
from account_address as mine
join contact on contact.address = mine.address
join share on share.contact_id = contact.contact_id and share.state = 'requested'
join device on device.device_id = share.device_id and device.owner_account_id = share.owner_account_id
join device_stream as stream on stream.device_id = share.device_id and stream.quarantine_code is null
left join account on account.account_id = share.owner_account_id
where mine.account_id = $1
    and share.owner_account_id <> $1
    and not exists (select from device_quarantine where device_quarantine.device_id = share.device_id)
order by share.requested_at desc, share.share_id

-- name: alive
-- /readyz.
select number from generation
