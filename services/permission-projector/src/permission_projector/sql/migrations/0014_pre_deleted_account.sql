-- An account that its registry has deleted has no access, gives none, and is told nothing, whatever of it still stands
-- in the read models: the registry of devices may name it as an owner for long after. This belongs to no generation:
-- the topic forgets deletions, so that a rebuild would not find them.
create table permission_projector.deleted_account (
    account_id text constraint an_account_is_deleted_once primary key
);
comment on table permission_projector.deleted_account is
    'From directory.accounts: accounts that were deleted and are not there again, by their opaque ids.';

-- The functions are written before the tables are there.
set local check_function_bodies = off;

-- Indexes: as before, and the primary key of deleted_account.
create or replace function permissions_api.check_grant_v2(account text, service text, permission text, at timestamptz)
returns table (
    allowed boolean, reason text, device_id text, device_version bigint, share_id uuid, partition integer,
    target_host text, target_port integer, protocol text, lacking text[], until timestamptz
)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    with found as (
        select
            device.device_id, device.partition, device.owner_account_id,
            device.owner_account_id = check_grant_v2.account as owned,
            stream.device_id is not null or quarantine.device_id is not null as quarantined,
            coalesce(
                (
                    select max(event.version) from permissions.share_event as event
                    where event.device_id = device.device_id
                ),
                0
            ) as device_version,
            service.service_id, service.permissions, service.target_host, service.target_port, service.protocol
        from permissions.service as service
        join permissions.device as device using (device_id)
        left join permissions.stream_quarantine as stream using (device_id)
        left join permissions.device_quarantine as quarantine using (device_id)
        where service.service_id = check_grant_v2.service
            and not exists (
                select from permission_projector.deleted_account as gone
                where gone.account_id in (device.owner_account_id, check_grant_v2.account)
            )
    ),
    given as (
        -- An owner gives what he owns: shares of a former owner give nothing, whatever arrives first.
        select
            found.device_id, share.share_id, (share.terms ->> 'ends_at')::timestamptz as ends_at,
            permission_projector.granted_permissions(share.terms, found.service_id, found.permissions)
                as functions
        from found
        join permissions.share as share
            on share.account_id = check_grant_v2.account
            and share.device_id = found.device_id
            and share.state = 'active'
            and share.owner_account_id = found.owner_account_id
            and permission_projector.has_begun(share.terms, check_grant_v2.at)
            and not permission_projector.is_over(share.terms, check_grant_v2.at)
        where not found.owned
    ),
    candidate as (
        select
            found.*, by_share.share_id,
            case when owned then 'owner' when quarantined then 'quarantined' else 'granted' end as reason,
            case
                when owned then array[]::text[]
                else array(
                    select function
                    from unnest(found.permissions) as function
                    where not exists (
                        select from given
                        where given.device_id = found.device_id and function = any (given.functions)
                    )
                    order by function
                )
            end as lacking,
            -- `lacking` is what all of them together leave out, so the end of any of them changes the answer.
            (
                select min(given.ends_at) from given
                where given.device_id = found.device_id and given.functions is not null
            ) as until
        from found
        left join lateral (
            select given.share_id
            from given
            where given.device_id = found.device_id and check_grant_v2.permission = any (given.functions)
            order by given.ends_at desc nulls first, given.share_id
            limit 1
        ) as by_share on true
        where by_share.share_id is not null
            or found.owned and check_grant_v2.permission = any (found.permissions || array['scripting'])
    ),
    finding as (
        select candidate.*
        from candidate
        order by array_position(array['owner', 'granted', 'quarantined'], candidate.reason), candidate.device_id
        limit 1
    )
    select
        told.reason is not null, coalesce(finding.reason, 'no_grant'),
        told.device_id, told.device_version, told.share_id, told.partition,
        told.target_host, told.target_port, told.protocol, told.lacking, told.until
    from (select) as always_a_row
    left join finding on true
    left join finding as told on told.reason in ('owner', 'granted')
$$;

-- Indexes: as before, and the primary key of deleted_account.
create or replace function permissions_api.device_grants_v1(service text, at timestamptz)
returns table (
    device_id text, owner_account_id text, device_version bigint, partition integer, quarantined boolean,
    services jsonb, shares jsonb
)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select
        device.device_id,
        device.owner_account_id,
        coalesce(
            (
                select max(event.version) from permissions.share_event as event
                where event.device_id = device.device_id
            ),
            0
        ),
        device.partition,
        stream.device_id is not null or quarantine.device_id is not null,
        (
            select jsonb_agg(
                jsonb_build_object(
                    'service_id', each.service_id, 'protocol', each.protocol, 'channel', each.channel,
                    'target_host', each.target_host, 'target_port', each.target_port,
                    'live_path', each.live_path, 'recording_path', each.recording_path,
                    'permissions', to_jsonb(each.permissions)
                )
            )
            from permissions.service as each
            where each.device_id = device.device_id
        ),
        (
            -- An owner gives what he owns: shares of a former owner give nothing, whatever arrives first.
            select coalesce(
                jsonb_agg(
                    jsonb_build_object(
                        'share_id', share.share_id, 'account_id', share.account_id,
                        'terms', share.terms - 'starts_at' - 'ends_at',
                        'begins_in', extract(epoch from (share.terms ->> 'starts_at')::timestamptz - $2),
                        'ends_in', extract(epoch from (share.terms ->> 'ends_at')::timestamptz - $2)
                    )
                ),
                '[]'
            )
            from permissions.share as share
            where share.device_id = device.device_id
                and share.state = 'active'
                and share.owner_account_id = device.owner_account_id
                and not permission_projector.is_over(share.terms, $2)
                and not exists (
                    select from permission_projector.deleted_account as gone
                    where gone.account_id = share.account_id
                )
        )
    from (
        select distinct found.device_id from permissions.service as found where found.service_id = $1
    ) as wanted
    join permissions.device as device using (device_id)
    left join permissions.stream_quarantine as stream using (device_id)
    left join permissions.device_quarantine as quarantine using (device_id)
    where not exists (
        select from permission_projector.deleted_account as gone where gone.account_id = device.owner_account_id
    )
$$;
